//! Numbers that a run counts while it goes, for progress and for the summary.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::model::Progress;

/// Counters that only grow. Read at any time, exact at the end.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    read_bytes: AtomicU64,
    listed_entries: AtomicU64,
    listed_bytes: AtomicU64,
    finished_entries: AtomicU64,
    finished_bytes: AtomicU64,
    listing_done: AtomicU64,
    slowed_down: AtomicBool,
}

macro_rules! counter {
    ($add:ident, $field:ident) => {
        pub(crate) fn $add(&self, count: u64) {
            self.$field.fetch_add(count, Ordering::Relaxed);
        }

        pub(crate) fn $field(&self) -> u64 {
            self.$field.load(Ordering::Relaxed)
        }
    };
}

impl Counters {
    // Bytes that came from the source, or from the repository in a restore.
    counter!(add_read, read_bytes);
    counter!(add_listed, listed_entries);
    counter!(add_listed_bytes, listed_bytes);
    counter!(add_finished, finished_entries);
    counter!(add_finished_bytes, finished_bytes);

    /// All of them, with `problems` counted elsewhere.
    pub(crate) fn progress(&self, problems: u64) -> Progress {
        Progress {
            listed_entries: self.listed_entries(),
            listed_bytes: self.listed_bytes(),
            listing_done: self.listing_done.load(Ordering::Relaxed) == 1,
            finished_entries: self.finished_entries(),
            finished_bytes: self.finished_bytes(),
            read_bytes: self.read_bytes(),
            problems,
            is_slowed_down: self.slowed_down.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn set_slowed_down(&self, is_slowed_down: bool) {
        self.slowed_down.store(is_slowed_down, Ordering::Relaxed);
    }

    pub(crate) fn set_listing_done(&self) {
        self.listing_done.store(1, Ordering::Relaxed);
    }
}
