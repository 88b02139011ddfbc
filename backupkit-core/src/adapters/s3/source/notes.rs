//! What a view tells at its end.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::found::Past;
use crate::source::SourceNotes;

/// Keys named in one sentence; the others are counted.
const NAMED: usize = 5;

#[derive(Debug, Default)]
pub(super) struct Notes(Mutex<Collected>);

#[derive(Debug, Default)]
struct Collected {
    left_out: BTreeSet<String>,
    vanished: Counted,
    thawing: Counted,
    incomplete: Counted,
    filled: Counted,
    filtered: u64,
    filtered_versions: u64,
    vanished_versions: Counted,
    older: Older,
    tags: Option<&'static str>,
    access_lists: Option<&'static str>,
    denied_settings: Vec<&'static str>,
    failed_settings: Vec<&'static str>,
}

/// How much of the past a listing has had so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Older {
    #[serde(rename = "v")]
    pub(super) versions: u64,
    /// Marks of them.
    #[serde(rename = "d")]
    pub(super) deletions: u64,
}

#[derive(Debug, Default)]
struct Counted {
    all: u64,
    named: Vec<String>,
}

impl Notes {
    /// A prefix was met that is left out.
    pub(super) fn left_out(&self, prefix: &str) {
        let mut collected = self.collected();
        if !collected.left_out.contains(prefix) {
            collected.left_out.insert(prefix.to_owned());
        }
    }

    /// An object was deleted before it was read.
    pub(super) fn vanished(&self, key: &str) {
        self.collected().vanished.add(key);
    }

    /// An object was asked for from its archive.
    pub(super) fn thawing(&self, key: &str) {
        self.collected().thawing.add(key);
    }

    /// An older version was removed before it was read.
    pub(super) fn vanished_version(&self, key: &str) {
        self.collected().vanished_versions.add(key);
    }

    /// The listing has had so many older versions and deletions.
    pub(super) fn older(&self, older: Older) {
        self.collected().older = older;
    }

    /// Something is left out by the filter.
    pub(super) fn filtered(&self, past: Option<Past>) {
        let mut collected = self.collected();
        match past {
            None => collected.filtered += 1,
            Some(_) => collected.filtered_versions += 1,
        }
    }

    /// Metadata of an object could not be read or kept.
    pub(super) fn incomplete(&self, key: &str) {
        self.collected().incomplete.add(key);
    }

    /// An object without bytes, which stood for a directory, got some.
    pub(super) fn filled(&self, key: &str) {
        self.collected().filled.add(key);
    }

    /// Tags cannot be read, for this reason.
    pub(super) fn no_tags(&self, why: &'static str) {
        self.collected().tags = Some(why);
    }

    /// Access lists cannot be read, for this reason.
    pub(super) fn no_access_lists(&self, why: &'static str) {
        self.collected().access_lists = Some(why);
    }

    /// These settings of the bucket may not be read, and those could not be.
    pub(super) fn settings(&self, denied: Vec<&'static str>, failed: Vec<&'static str>) {
        let mut collected = self.collected();
        (collected.denied_settings, collected.failed_settings) = (denied, failed);
    }

    pub(super) fn sentences(&self) -> SourceNotes {
        let collected = self.collected();
        let mut notes = SourceNotes::default();
        for prefix in &collected.left_out {
            notes.remarks.push(format!(
                "{}: left out, because it belongs to the backup itself",
                prefix.escape_debug()
            ));
        }
        notes.remarks.extend(collected.older_sentence());
        let filtered =
            [(collected.filtered, "object"), (collected.filtered_versions, "older version")];
        for (count, what) in filtered.into_iter().filter(|(count, _)| *count > 0) {
            let are = if count == 1 { "is" } else { "are" };
            let counted = counted(count, what);
            notes.remarks.push(format!("{counted} {are} left out by the filter of the source"));
        }
        let vanished = "deleted while the backup ran, and left out";
        notes.remarks.extend(collected.vanished.sentence(vanished));
        let vanished = "an older version was removed while the backup ran, and is left out";
        notes.remarks.extend(collected.vanished_versions.sentence(vanished));
        let thawing = "asked for from the archive, and left to a later backup";
        notes.remarks.extend(collected.thawing.sentence(thawing));
        let filled = "replaced while the backup ran, and left to the next one";
        notes.remarks.extend(collected.filled.sentence(filled));
        let incomplete = "backed up without all of its metadata";
        notes.warnings.extend(collected.incomplete.sentence(incomplete));
        notes.warnings.extend(collected.tags.map(|why| format!("backed up without tags: {why}")));
        let access_lists = collected.access_lists;
        notes
            .warnings
            .extend(access_lists.map(|why| format!("backed up without access lists: {why}")));
        let (denied, failed) = (&collected.denied_settings, &collected.failed_settings);
        if !denied.is_empty() {
            let named = denied.join(", ");
            notes
                .remarks
                .push(format!("settings of the bucket that this key may not read: {named}"));
        }
        if !failed.is_empty() {
            let named = failed.join(", ");
            notes.warnings.push(format!(
                "backed up without settings of the bucket, as the server failed: {named}"
            ));
        }
        notes
    }

    fn collected(&self) -> MutexGuard<'_, Collected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collected {
    /// What of the past is in the backup.
    fn older_sentence(&self) -> Option<String> {
        let Older { versions, deletions } = self.older;
        let versions = versions.saturating_sub(self.vanished_versions.all);
        let versions = (versions > 0).then(|| counted(versions, "older version"));
        let deletions = (deletions > 0).then(|| counted(deletions, "deletion"));
        let parts: Vec<String> = versions.into_iter().chain(deletions).collect();
        (!parts.is_empty()).then(|| format!("with {} of objects", parts.join(" and ")))
    }
}

fn counted(count: u64, what: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {what}{end}")
}

impl Counted {
    fn add(&mut self, key: &str) {
        self.all += 1;
        if self.named.len() < NAMED {
            self.named.push(key.escape_debug().to_string());
        }
    }

    fn sentence(&self, what: &str) -> Option<String> {
        let others = self.all.saturating_sub(self.named.len() as u64);
        let named = self.named.join(", ");
        match (self.all, others) {
            (0, _) => None,
            (1, _) => Some(format!("{named}: {what}")),
            (_, 0) => Some(format!("{} objects: {what}: {named}", self.all)),
            _ => Some(format!("{} objects: {what}: {named} and {others} others", self.all)),
        }
    }
}
