//! A restore from request to report.
//!
//! ```text
//! plan -> windows of steps -> blobs, read by pack and verified -> write, phase by phase -> compare -> finish
//! ```
//! While one window is written the next ones are read. A file larger than a window spans several, in
//! one long write.
//!
//! A restore rests between windows. What it needs to go on is one row in its journal: which steps of the
//! plan are done, and how far a large file is.

mod ahead;
mod checkpoint;
mod done;
mod fingerprint;
mod flow;
mod keeper;
mod outcome;
mod readable;
mod verify;
mod window;
mod write;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::reading::under_shared_lock;
use super::{RunContext, RunStatus};
use crate::counters::Counters;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::model::{Event, EventKind, Level, SnapshotId};
use crate::pipeline::control::Control;
use crate::pipeline::guard::{AlwaysAlive, Liveness, check_alive};
use crate::repo::reader::RepositoryReader;
use crate::repo::repository::Repository;
use crate::state::RunJournal;
use crate::store::{AdapterStore, InMemoryAdapterStore};
use crate::target::{RestoreOptions, RestoreTarget, Step, VerifyLevel};
use crate::token::CancelToken;
use flow::{abort_restore, run_restore};

/// What to restore, and into what.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    pub(crate) repository: Repository,
    pub(crate) reader: Option<RepositoryReader>,
    pub(crate) snapshot: SnapshotId,
    pub(crate) target: Arc<dyn RestoreTarget>,
    pub(crate) options: RestoreOptions,
    pub(crate) verify: Option<VerifyLevel>,
    pub(crate) dry_run: bool,
    pub(crate) preview: Option<mpsc::Sender<Step>>,
    pub(crate) store: Arc<dyn AdapterStore>,
    pub(crate) journal: Option<Arc<dyn RunJournal>>,
    pub(crate) liveness: Arc<dyn Liveness>,
}

impl RestoreRequest {
    /// Returns a request to restore all of a snapshot, and to compare every byte afterwards.
    pub fn new(
        repository: Repository,
        snapshot: SnapshotId,
        target: Arc<dyn RestoreTarget>,
    ) -> Self {
        Self {
            repository,
            reader: None,
            snapshot,
            target,
            options: RestoreOptions::default(),
            verify: Some(VerifyLevel::default()),
            dry_run: false,
            preview: None,
            store: Arc::new(InMemoryAdapterStore::default()),
            journal: None,
            liveness: Arc::new(AlwaysAlive),
        }
    }

    /// Uses a reader of the repository that is open already, so that the index is not loaded again.
    #[must_use]
    pub fn with_reader(mut self, reader: RepositoryReader) -> Self {
        self.repository = reader.repository().clone();
        self.reader = Some(reader);
        self
    }

    /// Says what to restore and what to do with what the target already has.
    #[must_use]
    pub fn with_options(mut self, options: RestoreOptions) -> Self {
        self.options = options;
        self
    }

    /// Says how closely to compare afterwards; `None`: not at all.
    #[must_use]
    pub fn with_verify(mut self, level: Option<VerifyLevel>) -> Self {
        self.verify = level;
        self
    }

    /// Only plans: the report says what would be done, and nothing is written.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Sends each step of the plan as it is taken. Whoever receives them slowly slows the restore; the
    /// receiver may be dropped.
    #[must_use]
    pub fn with_preview(mut self, steps: mpsc::Sender<Step>) -> Self {
        self.preview = Some(steps);
        self
    }

    /// Gives the target its small store. A restore that is run again with the same store follows the
    /// decisions taken before.
    #[must_use]
    pub fn with_adapter_store(mut self, store: Arc<dyn AdapterStore>) -> Self {
        self.store = store;
        self
    }

    /// Gives the run a memory, so that it can go on after a pause, a crash or a failure: a restore of
    /// the same snapshot into the same target with the same options, journal and adapter store passes
    /// over what is done and durable, and goes on within large files. Only a cancelled restore is over:
    /// it removes what is incomplete.
    ///
    /// Without a journal, what is whole stays after a pause, and the next restore starts from the
    /// beginning. A journal belongs to one run.
    #[must_use]
    pub fn with_journal(mut self, journal: Arc<dyn RunJournal>) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Asks before it writes into the target whether this run still may write.
    #[must_use]
    pub fn with_liveness(mut self, liveness: Arc<dyn Liveness>) -> Self {
        self.liveness = liveness;
        self
    }
}

/// What came of a restore, with what earlier runs did that it goes on from. For a dry run, what would
/// come.
#[derive(Debug)]
#[non_exhaustive]
pub struct RestoreReport {
    /// How it ended: never `Partial`.
    pub status: RunStatus,
    /// What became of the entries.
    pub counts: RestoreCounts,
    /// What the comparison found; `None` if there was none.
    pub verified: Option<VerifyCounts>,
    /// What the target has to tell.
    pub notes: Vec<String>,
    /// The first 1,000 warnings and errors of each code.
    pub problems: Vec<Event>,
    /// How many there were in all.
    pub problem_count: u64,
}

impl RestoreReport {
    /// Calls it succeeded if it is, unless it rests.
    fn settle(&mut self) {
        if self.is_complete() && self.problem_count == 0 {
            self.status = RunStatus::Succeeded;
        }
    }

    /// Whether everything was restored, and nothing differs. Not so while it is paused.
    pub fn is_complete(&self) -> bool {
        self.status != RunStatus::Paused
            && self.counts.refused == 0
            && self.counts.failed == 0
            && self.verified.is_none_or(|counts| counts.differs == 0)
    }
}

/// What became of the entries of a restore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RestoreCounts {
    /// Entries that were made.
    pub created: u64,
    /// Entries that replaced what was there.
    pub overwritten: u64,
    /// Entries that were made under another name.
    pub renamed: u64,
    /// Entries that were left alone.
    pub skipped: u64,
    /// Entries that the target cannot hold.
    pub refused: u64,
    /// Entries, or whole directories, that could not be restored.
    pub failed: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
}

/// What a comparison of the target with the snapshot found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VerifyCounts {
    /// Entries that are the same.
    pub same: u64,
    /// Entries that differ.
    pub differs: u64,
    /// Entries that cannot be compared.
    pub cannot: u64,
}

pub(super) async fn run(run: RunContext, request: RestoreRequest) -> Result<RestoreReport> {
    let repository = request.repository.clone();
    let work = async {
        let reader = open_reader(&run, &request).await?;
        run_restore(&Tools::new(&run, &request), &reader, request).await
    };
    under_shared_lock(&run, &repository, work).await
}

/// Ends a restore that rests, for good.
pub(super) async fn abort(run: RunContext, request: RestoreRequest) -> Result<()> {
    let repository = request.repository.clone();
    let work = async {
        let reader = open_reader(&run, &request).await?;
        abort_restore(&Tools::new(&run, &request), &reader, &request).await
    };
    under_shared_lock(&run, &repository, work).await
}

async fn open_reader(run: &RunContext, request: &RestoreRequest) -> Result<RepositoryReader> {
    if let Some(reader) = &request.reader {
        return Ok(reader.clone());
    }
    let parts = run.engine.parts();
    let cache_folder = parts.settings.cache_folder.as_deref();
    let opening = RepositoryReader::open(&request.repository, &parts.pool, cache_folder);
    run.control.cancel_token().unless_cancelled(opening).await
}

/// What a restore tells and asks while it goes.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    pub(crate) events: Events,
    pub(crate) counters: Arc<Counters>,
    pub(crate) cancel: CancelToken,
    pub(crate) control: Control,
    pub(crate) liveness: Arc<dyn Liveness>,
}

impl Tools {
    fn new(run: &RunContext, request: &RestoreRequest) -> Self {
        Self {
            events: run.events.clone(),
            counters: Arc::clone(&run.counters),
            cancel: run.control.cancel_token().clone(),
            control: run.control.clone(),
            liveness: Arc::clone(&request.liveness),
        }
    }

    /// Returns an error if nothing more may be written into the target.
    async fn check_may_write(&self) -> Result<()> {
        self.cancel.check()?;
        check_alive(&*self.liveness).await
    }

    fn entry_failed(&self, step: &Step, error: &Error) {
        let (reason, kind) = (error.report(), error.kind().as_str());
        self.not_restored(step, reason, kind);
    }

    fn not_restored(&self, step: &Step, reason: String, error: &'static str) {
        let path = step.entry.path.clone();
        self.events.tell(Level::Error, EventKind::EntryNotRestored { path, reason, error });
    }
}
