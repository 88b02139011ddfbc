//! A restore from request to report.
//!
//! ```text
//! plan -> windows of steps -> blobs, read by pack and verified -> write, phase by phase -> compare -> finish
//! ```
//! While one window is written the next one is read. A file larger than a window spans several, in
//! one long write.

mod outcome;
mod readable;
mod verify;
mod window;
mod write;

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::mpsc;

use super::RunContext;
use super::reading::under_shared_lock;
use crate::counters::Counters;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Events;
use crate::model::{Event, EventKind, Level, SnapshotId};
use crate::repo::reader::RepositoryReader;
use crate::repo::repository::Repository;
use crate::store::{AdapterStore, InMemoryAdapterStore};
use crate::target::{
    RestoreContext, RestoreOptions, RestoreSession, RestoreTarget, Step, VerifyLevel,
};
use crate::token::CancelToken;
use outcome::{Outcome, Outcomes};
use readable::ReadableSnapshot;
use window::{Gatherer, Next};
use write::Writer;

/// What to restore, and into what.
#[derive(Debug)]
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
}

/// What came of a restore. For a dry run, what would come.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct RestoreReport {
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
    pub bytes: u64,
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
    /// Whether everything was restored, and nothing differs.
    pub fn is_complete(&self) -> bool {
        self.refused == 0
            && self.failed == 0
            && self.verified.is_none_or(|counts| counts.differs == 0)
    }
}

/// What a comparison of the target with the snapshot found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
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
        let parts = run.engine.parts();
        let reader = if let Some(reader) = &request.reader {
            reader.clone()
        } else {
            let cache_folder = parts.settings.cache_folder.as_deref();
            let opening = RepositoryReader::open(&repository, &parts.pool, cache_folder);
            run.control.cancel_token().unless_cancelled(opening).await?
        };
        let tools = Tools {
            events: run.events.clone(),
            counters: Arc::clone(&run.counters),
            cancel: run.control.cancel_token().clone(),
        };
        run_restore(&tools, &reader, request).await
    };
    under_shared_lock(&run, &repository, work).await
}

/// What a restore tells and asks while it goes.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    pub(crate) events: Events,
    pub(crate) counters: Arc<Counters>,
    pub(crate) cancel: CancelToken,
}

impl Tools {
    fn entry_failed(&self, step: &Step, error: &Error) {
        let (reason, kind) = (error.report(), error.kind().as_str());
        self.not_restored(step, reason, kind);
    }

    fn not_restored(&self, step: &Step, reason: String, error: &'static str) {
        let path = step.entry.path.clone();
        self.events.tell(Level::Error, EventKind::EntryNotRestored { path, reason, error });
    }
}

/// Restores, and compares. Entries that fail are told and counted, and the rest goes on.
///
/// # Errors
/// What ends the whole restore: no space, target or repository out of reach, `Cancelled`. What is
/// whole stays in the target.
pub(crate) async fn run_restore(
    tools: &Tools,
    reader: &RepositoryReader,
    request: RestoreRequest,
) -> Result<RestoreReport> {
    // A dry run leaves no decisions behind.
    let store: Arc<dyn AdapterStore> =
        if request.dry_run { Arc::new(InMemoryAdapterStore::default()) } else { request.store };
    let snapshot = tools.cancel.unless_cancelled(reader.snapshot(request.snapshot)).await?;
    let path = &request.options.path;
    if tools.cancel.unless_cancelled(snapshot.find(path)).await?.is_none() {
        let message = format!("{path} is not in snapshot {}", request.snapshot.short());
        return Err(Error::new(ErrorKind::NotFound, message)
            .with_code("path-not-found")
            .with_hint("list what is there with `ls`"));
    }
    let outcomes = Arc::new(Outcomes::default());
    let snapshot = Arc::new(ReadableSnapshot::new(snapshot, tools, &outcomes));
    let session = request
        .target
        .open(RestoreContext {
            snapshot,
            options: request.options.clone(),
            store,
            cancel: tools.cancel.clone(),
        })
        .await?;
    let gatherer = Gatherer::new(session.plan(), reader, tools, &outcomes, request.preview);
    let mut report = RestoreReport::default();
    if request.dry_run {
        plan_only(tools, gatherer).await?;
    } else {
        let writer = Writer::new(&session, &request.target, tools, &outcomes);
        let written = async {
            write_all(&session, tools, gatherer, writer).await?;
            refuse_open_steps(&outcomes)?;
            // Before the end, as the session then forgets its decisions.
            let Some(level) = request.verify else {
                return Ok(None);
            };
            let concurrency = request.target.capabilities().concurrency;
            let comparison = verify::Comparison { tools, outcomes: &outcomes, level };
            comparison.run(&session, concurrency).await.map(Some)
        };
        report.verified = match written.await {
            Ok(counts) => counts,
            Err(error) => {
                if let Err(abort) = session.abort().await {
                    let abort = abort.while_doing("end the restore");
                    tools.events.note(Level::Warning, abort.report());
                }
                return Err(error);
            }
        };
        report.notes = session.finish().await?.warnings;
        for note in &report.notes {
            tools.events.note(Level::Warning, note.clone());
        }
    }
    outcomes.fill(&mut report);
    report.problems = tools.events.problems();
    report.problem_count = tools.events.problem_count();
    Ok(report)
}

/// A step of which nobody knows what became of it must never pass for a success.
fn refuse_open_steps(outcomes: &Outcomes) -> Result<()> {
    match outcomes.open_steps() {
        0 => Ok(()),
        open => {
            let message = format!("{open} steps of the restore were lost; this is a defect");
            Err(Error::new(crate::ErrorKind::Internal, message))
        }
    }
}

/// Takes the whole plan, as if every step of it succeeded.
async fn plan_only(tools: &Tools, mut gatherer: Gatherer) -> Result<()> {
    while let Some(next) = gatherer.next().await? {
        let Next::Window(window) = next else { continue };
        for item in window.items.iter().filter(|item| item.is_last) {
            gatherer.outcomes().set(item.number, Outcome::of(&item.step.action), item.step.bytes);
        }
    }
    tools.counters.set_listing_done();
    Ok(())
}

async fn write_all(
    session: &Arc<dyn RestoreSession>,
    tools: &Tools,
    mut gatherer: Gatherer,
    mut writer: Writer,
) -> Result<()> {
    let mut ready = None;
    loop {
        // The window that was read is written while the next one is read. Both end before anything
        // is decided, so that no write is torn off in the middle.
        let (written, next) =
            futures::future::join(writer.write(ready.take()), gatherer.next_fetched()).await;
        written?;
        match next? {
            Some((Next::Window(window), fetched)) => ready = Some((window, fetched)),
            Some((Next::PhaseEnd(phase), _)) => {
                tools.cancel.check()?;
                session.end_phase(phase).await?;
            }
            None => break,
        }
    }
    Ok(())
}
