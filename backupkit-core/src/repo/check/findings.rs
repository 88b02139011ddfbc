//! Collecting what was found: all told and counted, the first kept.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::CheckReport;
use crate::events::Events;
use crate::model::{EntryPath, EventKind, Finding, Level};

const MAX_KEPT: usize = 1000;

/// Clones share what was found.
#[derive(Debug, Clone)]
pub(super) struct Findings {
    events: Events,
    found: Arc<Mutex<Found>>,
}

#[derive(Debug, Default)]
struct Found {
    kept: Vec<Finding>,
    count: u64,
    notes: Vec<String>,
}

impl Findings {
    pub(super) fn new(events: &Events) -> Self {
        Self { events: events.clone(), found: Arc::default() }
    }

    /// Adds damage.
    pub(super) fn add(
        &self,
        object: impl Into<String>,
        problem: &dyn fmt::Display,
        path: Option<&EntryPath>,
    ) {
        let finding =
            Finding { object: object.into(), problem: problem.to_string(), path: path.cloned() };
        self.events.tell(Level::Error, EventKind::Finding(finding.clone()));
        let mut found = self.found();
        found.count += 1;
        if found.kept.len() < MAX_KEPT {
            found.kept.push(finding);
        }
    }

    /// Adds what is no damage.
    pub(super) fn note(&self, text: String) {
        self.events.note(Level::Info, text.clone());
        self.found().notes.push(text);
    }

    pub(super) fn finish(&self, report: &mut CheckReport) {
        let mut found = self.found();
        report.findings = std::mem::take(&mut found.kept);
        report.notes = std::mem::take(&mut found.notes);
        report.finding_count = found.count;
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
