//! What a restore has to tell at its end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::target::RestoreNotes;

/// So many keys are named.
const NAMED: usize = 3;

/// What is counted on the way.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Of a snapshot of folders.
    pub(super) is_of_folders: AtomicBool,
    pub(super) n_empty_folders: AtomicU64,
    pub(super) n_thawed: AtomicU64,
    /// The snapshot has the settings of a bucket.
    pub(super) has_settings: AtomicBool,
    /// Older versions that were put into the bucket.
    pub(super) n_replayed: AtomicU64,
    /// Older versions that nobody asked for.
    pub(super) n_older: AtomicU64,
    pub(super) n_unlocked: AtomicU64,
    pub(super) n_without_access_lists: AtomicU64,
    /// Something was written without a condition, as the server keeps none.
    pub(super) is_unconditional: AtomicBool,
    /// Keys of objects beside directories of their names.
    beside: Mutex<Vec<String>>,
    warnings: Mutex<Vec<String>>,
}

impl Notes {
    pub(super) fn add_beside(&self, key: &str) {
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        if beside.len() < NAMED && beside.iter().all(|known| known != key) {
            beside.push(key.to_owned());
        }
    }

    pub(super) fn beside(&self) -> Vec<String> {
        self.beside.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn warn(&self, warning: String) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// All as sentences. What nobody asked for is no warning.
    pub(super) fn sentences(&self) -> RestoreNotes {
        let warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = warnings.clone();
        if self.is_unconditional.load(Ordering::Relaxed) {
            told.push(
                "this server keeps no conditions of writes: what others wrote into the target at the \
                 same time may have been replaced"
                    .to_owned(),
            );
        }
        match self.n_empty_folders.load(Ordering::Relaxed) {
            0 => {}
            n => told.push(format!("a bucket knows no folders: {n} empty ones were left out")),
        }
        match self.n_thawed.load(Ordering::Relaxed) {
            0 => {}
            n => told.push(format!(
                "{n} objects that were in an archive are in the usual storage class now"
            )),
        }
        let mut remarks = Vec::new();
        if self.has_settings.load(Ordering::Relaxed) {
            remarks.push(
                "the settings of the bucket were not restored: they are in the snapshot, in the file \
                 %bucket.json beside it"
                    .to_owned(),
            );
        }
        match self.n_replayed.load(Ordering::Relaxed) {
            0 => {}
            n => remarks.push(format!(
                "{n} older versions and deletions were put into the bucket: their times and ids are new"
            )),
        }
        match self.n_older.load(Ordering::Relaxed) {
            0 => {}
            n => remarks.push(format!(
                "{n} older versions are in the snapshot and were not restored: they are given back only \
                 if asked for (versions)"
            )),
        }
        match self.n_unlocked.load(Ordering::Relaxed) {
            0 => {}
            n => remarks.push(format!(
                "{n} objects are not locked as they were: locks are given back only if asked for \
                 (restore_locks)"
            )),
        }
        match self.n_without_access_lists.load(Ordering::Relaxed) {
            0 => {}
            n => remarks.push(format!(
                "{n} objects are without their access lists: these are given back only if asked for \
                 (restore_acls)"
            )),
        }
        RestoreNotes { warnings: told, remarks }
    }
}
