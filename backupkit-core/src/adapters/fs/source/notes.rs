//! What a view tells at its end.

use std::sync::{Mutex, PoisonError};

use crate::model::EntryPath;
use crate::source::SourceNotes;

/// Paths named in one sentence; the others are counted.
const NAMED: usize = 5;

#[derive(Debug, Default)]
pub(super) struct Notes(Mutex<Collected>);

#[derive(Debug, Default)]
struct Collected {
    left_out: Counted,
    sockets: Counted,
    attributes: Counted,
}

#[derive(Debug, Default)]
struct Counted {
    n_all: u64,
    named: Vec<String>,
}

impl Notes {
    /// An excluded path was met.
    pub(super) fn left_out(&self, path: &EntryPath) {
        self.with(|collected| collected.left_out.add(|| path.to_string()));
    }

    /// A socket was met.
    pub(super) fn socket(&self, path: &EntryPath) {
        self.with(|collected| collected.sockets.add(|| path.to_string()));
    }

    /// Extended attributes could not be read.
    pub(super) fn attributes(&self, path: &EntryPath, error: &std::io::Error) {
        self.with(|collected| collected.attributes.add(|| format!("{path} ({error})")));
    }

    pub(super) fn sentences(&self) -> SourceNotes {
        let mut notes = SourceNotes::default();
        self.with(|collected| {
            let own = "left out, because it belongs to the backup itself";
            notes.remarks.extend(collected.left_out.sentence(own));
            let sockets = "left out, because sockets hold no data";
            notes.remarks.extend(collected.sockets.sentence(sockets));
            let attributes = "backed up without its extended attributes";
            notes.warnings.extend(collected.attributes.sentence(attributes));
        });
        notes
    }

    fn with(&self, work: impl FnOnce(&mut Collected)) {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Counted {
    fn add(&mut self, name: impl FnOnce() -> String) {
        self.n_all += 1;
        if self.named.len() < NAMED {
            let name = name();
            if !self.named.contains(&name) {
                self.named.push(name);
            }
        }
    }

    fn sentence(&self, what: &str) -> Option<String> {
        let named = self.named.join(", ");
        match self.n_all.saturating_sub(self.named.len() as u64) {
            _ if self.named.is_empty() => None,
            0 => Some(format!("{what}: {named}")),
            others => Some(format!("{what}: {named} and {others} more")),
        }
    }
}
