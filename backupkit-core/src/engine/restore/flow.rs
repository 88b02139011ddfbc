//! The course of a restore: plan, write, compare, finish, or rest on the way.

use std::sync::Arc;

use super::ahead::{ReadAhead, Ready};
use super::checkpoint::{Finished, Row, is_plan_changed};
use super::keeper::Keeper;
use super::outcome::{Outcome, Outcomes};
use super::readable::ReadableSnapshot;
use super::verify::Comparison;
use super::window::{Gatherer, Next};
use super::write::Writer;
use super::{RestoreReport, RestoreRequest, Tools, VerifyCounts};
use crate::engine::RunStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Level;
use crate::repo::reader::RepositoryReader;
use crate::snapshot::SnapshotReader;
use crate::store::{AdapterStore, InMemoryAdapterStore};
use crate::target::{RestoreContext, RestoreNotes, RestoreSession};
use crate::token::CancelToken;

/// Restores, and compares. Entries that fail are told and counted, and the rest goes on.
///
/// # Errors
/// What ends the whole restore: no space, target or repository out of reach, `Cancelled`. What is
/// whole stays in the target.
pub(super) async fn run_restore(
    tools: &Tools,
    reader: &RepositoryReader,
    request: RestoreRequest,
) -> Result<RestoreReport> {
    let mut keeper = Keeper::new(&request, tools);
    let mut earlier = keeper.load().await;
    if let Some(finished) = earlier.finished.take() {
        return end(tools, reader, &request, &keeper, finished).await;
    }
    loop {
        match go(tools, reader, &request, &mut keeper, earlier).await {
            // Each step can be done again, so nothing is lost but time.
            Err(error) if is_plan_changed(&error) => keeper.tell_dropped(&error),
            result => return result,
        }
        earlier = Row::default();
    }
}

/// Ends a restore that crashed after all was done: only the target has to be told.
async fn end(
    tools: &Tools,
    reader: &RepositoryReader,
    request: &RestoreRequest,
    keeper: &Keeper,
    finished: Finished,
) -> Result<RestoreReport> {
    let (session, cancel) = open_again(tools, reader, request).await?;
    keeper.begin_commit().await?;
    let notes = finish(tools, &session, keeper).await?;
    cancel.cancel();
    let Finished { counts, verified, problem_count } = finished;
    let told = tools.events.problem_count();
    let problem_count = problem_count.saturating_add(told);
    let status = RunStatus::Warnings;
    let problems = tools.events.problems();
    let mut report = RestoreReport { status, counts, verified, notes, problems, problem_count };
    report.settle();
    Ok(report)
}

/// How far a restore came.
enum End {
    /// All is written, and compared if that was asked for.
    Whole(Option<VerifyCounts>),
    Paused,
}

async fn go(
    tools: &Tools,
    reader: &RepositoryReader,
    request: &RestoreRequest,
    keeper: &mut Keeper,
    earlier: Row,
) -> Result<RestoreReport> {
    let snapshot = tools.cancel.unless_cancelled(reader.snapshot(request.snapshot)).await?;
    let path = &request.options.path;
    if tools.cancel.unless_cancelled(snapshot.find(path)).await?.is_none() {
        let message = format!("{path} is not in snapshot {}", request.snapshot.short());
        return Err(Error::new(ErrorKind::NotFound, message)
            .with_code("path-not-found")
            .with_hint("list what is there with `ls`"));
    }
    let outcomes = Arc::new(Outcomes::default());
    outcomes.add_warnings(earlier.warnings);
    let snapshot = Arc::new(ReadableSnapshot::new(snapshot, tools, &outcomes));
    // Also ends what is still under way in the target when the run rests.
    let cancel = tools.cancel.child();
    let session = open_session(request, snapshot, &cancel).await?;
    let earlier = Arc::new(earlier);
    let preview = request.preview.clone();
    let gatherer = Gatherer::new(&session, reader, tools, &outcomes, &earlier, preview);
    if request.dry_run {
        plan_only(tools, gatherer).await?;
        return Ok(report(tools, &outcomes, &earlier, &End::Whole(None), Vec::new()));
    }
    let kept = keeper.is_kept().then_some(&*earlier);
    let writer = Writer::new(&session, &request.target, tools, &outcomes, kept);
    let ahead = ReadAhead::new(gatherer, reader.fetcher(), tools);
    let mut work = Work { request, tools, keeper, session, outcomes, earlier, ahead, writer };
    let end = match work.run().await {
        Ok(end) => end,
        Err(error) => {
            work.end_early(&error).await;
            cancel.cancel();
            return Err(error);
        }
    };
    let notes = match &end {
        End::Whole(verified) => work.finish(*verified).await?,
        End::Paused => Vec::new(),
    };
    cancel.cancel();
    Ok(report(tools, &work.outcomes, &work.earlier, &end, notes))
}

async fn open_session(
    request: &RestoreRequest,
    snapshot: Arc<dyn SnapshotReader>,
    cancel: &CancelToken,
) -> Result<Arc<dyn RestoreSession>> {
    // A dry run leaves no decisions behind.
    let store: Arc<dyn AdapterStore> = if request.dry_run {
        Arc::new(InMemoryAdapterStore::default())
    } else {
        Arc::clone(&request.store)
    };
    let (options, cancel) = (request.options.clone(), cancel.clone());
    request.target.open(RestoreContext { snapshot, options, store, cancel }).await
}

/// Opens a session in which nothing is written any more, and what ends it.
async fn open_again(
    tools: &Tools,
    reader: &RepositoryReader,
    request: &RestoreRequest,
) -> Result<(Arc<dyn RestoreSession>, CancelToken)> {
    let snapshot = tools.cancel.unless_cancelled(reader.snapshot(request.snapshot)).await?;
    let outcomes = Arc::new(Outcomes::default());
    let snapshot = Arc::new(ReadableSnapshot::new(snapshot, tools, &outcomes));
    let cancel = tools.cancel.child();
    Ok((open_session(request, snapshot, &cancel).await?, cancel))
}

/// Removes what earlier runs of a restore left incomplete, and what they would go on from.
pub(super) async fn abort_restore(
    tools: &Tools,
    reader: &RepositoryReader,
    request: &RestoreRequest,
) -> Result<()> {
    let (session, cancel) = open_again(tools, reader, request).await?;
    tools.check_may_write().await?;
    session.abort().await?;
    cancel.cancel();
    Keeper::new(request, tools).forget().await
}

fn report(
    tools: &Tools,
    outcomes: &Outcomes,
    earlier: &Row,
    end: &End,
    notes: Vec<String>,
) -> RestoreReport {
    let (status, verified) = match end {
        End::Whole(verified) => (RunStatus::Warnings, *verified),
        End::Paused => (RunStatus::Paused, None),
    };
    let mut report = RestoreReport {
        status,
        counts: outcomes.counts(),
        verified,
        notes,
        problems: tools.events.problems(),
        problem_count: tools.events.problem_count().saturating_add(earlier.warnings),
    };
    report.settle();
    report
}

/// Takes the whole plan, as if every step of it succeeded.
async fn plan_only(tools: &Tools, mut gatherer: Gatherer) -> Result<()> {
    while let Some(next) = gatherer.next().await? {
        tools.cancel.check()?;
        let Next::Window(window) = next else { continue };
        for item in window.items.iter().filter(|item| item.is_last) {
            gatherer.outcomes().set(item.number, Outcome::of(&item.step.action), item.step.bytes);
        }
    }
    tools.counters.set_listing_done();
    Ok(())
}

/// A restore that writes.
struct Work<'a> {
    request: &'a RestoreRequest,
    tools: &'a Tools,
    keeper: &'a mut Keeper,
    session: Arc<dyn RestoreSession>,
    outcomes: Arc<Outcomes>,
    /// What an earlier run did.
    earlier: Arc<Row>,
    ahead: ReadAhead,
    writer: Writer,
}

impl Work<'_> {
    async fn run(&mut self) -> Result<End> {
        if self.write_all().await? {
            self.writer.rest().await;
            self.save().await?;
            return Ok(End::Paused);
        }
        self.refuse_open_steps()?;
        // Before the end, as the session then forgets its decisions.
        let Some(level) = self.request.verify else {
            self.keeper.begin_commit().await?;
            return Ok(End::Whole(None));
        };
        // A comparison takes long.
        if self.keeper.is_periodic() {
            self.save().await?;
        }
        let concurrency = self.request.target.capabilities().concurrency;
        let comparison = Comparison { tools: self.tools, outcomes: &self.outcomes, level };
        let Some(counts) = comparison.run(&self.session, concurrency).await? else {
            self.save().await?;
            return Ok(End::Paused);
        };
        self.keeper.begin_commit().await?;
        Ok(End::Whole(Some(counts)))
    }

    /// Returns whether it was asked to rest before all was written.
    async fn write_all(&mut self) -> Result<bool> {
        loop {
            // What was read before a pause is written: it is in memory.
            match self.ahead.next().await? {
                Some(Ready::Window(window, fetched)) => {
                    self.tools.cancel.check()?;
                    // It ends before anything is decided, so that no write is torn off in the middle.
                    self.ahead.during(self.writer.write(window, fetched)).await?;
                }
                Some(Ready::PhaseEnd(phase)) => {
                    self.tools.check_may_write().await?;
                    if !self.earlier.has_ended(phase) {
                        self.session.end_phase(phase).await?;
                    }
                    self.outcomes.set_ended(phase);
                }
                Some(Ready::Pause) => return Ok(true),
                None => return Ok(false),
            }
            if self.keeper.is_due() {
                self.save().await?;
            }
        }
    }

    /// Saves what is done. Nothing is under way but a large file.
    async fn save(&mut self) -> Result<()> {
        let (restore, gatherer) = (self.keeper.restore(), self.ahead.rest().await);
        let (plan, tokens) = (gatherer.fingerprint(), self.writer.tokens());
        let row = Row::collect(restore, &self.earlier, &self.outcomes, plan, tokens);
        drop(gatherer);
        self.keeper.save(&self.session, &row).await
    }

    /// A step of which nobody knows what became of it must never pass for a success.
    fn refuse_open_steps(&self) -> Result<()> {
        match self.outcomes.open_steps() {
            0 => Ok(()),
            open => {
                let message = format!("{open} steps of the restore were lost; this is a defect");
                Err(Error::new(ErrorKind::Internal, message))
            }
        }
    }

    async fn finish(&mut self, verified: Option<VerifyCounts>) -> Result<Vec<String>> {
        let told = self.tools.events.problem_count();
        let problem_count = told.saturating_add(self.earlier.warnings);
        let counts = self.outcomes.counts();
        self.keeper.save_finished(Finished { counts, verified, problem_count }).await?;
        finish(self.tools, &self.session, self.keeper).await
    }

    /// After a failure: the restore rests if it can go on later, else it is over.
    async fn end_early(&mut self, error: &Error) {
        self.writer.rest().await;
        if is_plan_changed(error) {
            return;
        }
        let ended = if self.keeper.is_kept() && !error.is(ErrorKind::Cancelled) {
            self.save().await.map_err(|error| error.while_doing("save how far the restore is"))
        } else {
            let aborted = self.session.abort().await;
            self.forget().await;
            aborted.map_err(|error| error.while_doing("end the restore"))
        };
        if let Err(error) = ended {
            self.tools.events.note(Level::Warning, error.report());
        }
    }

    /// What is over is not gone on with, also if this fails: the plan is another one then.
    async fn forget(&mut self) {
        tell_kept(self.tools, self.keeper.forget().await);
    }
}

/// Tells the target that all is done, and returns what it has to tell.
async fn finish(
    tools: &Tools,
    session: &Arc<dyn RestoreSession>,
    keeper: &Keeper,
) -> Result<Vec<String>> {
    tools.check_may_write().await?;
    let RestoreNotes { warnings: mut notes, remarks } = session.finish().await?;
    for note in &notes {
        tools.events.note(Level::Warning, note.clone());
    }
    for remark in &remarks {
        tools.events.note(Level::Info, remark.clone());
    }
    notes.extend(remarks);
    tell_kept(tools, keeper.forget_finished().await);
    Ok(notes)
}

fn tell_kept(tools: &Tools, forgotten: Result<()>) {
    if let Err(error) = forgotten {
        let error = error.while_doing("remove the checkpoint of the restore");
        tools.events.note(Level::Warning, error.report());
    }
}
