//! Executes a run that was claimed, and says what came of it.

mod maintain;
mod parts;

use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::HeldPart;
use super::journal::StoreJournal;
use super::keeper::LeaseKeeper;
use super::record::{RestoreRecord, to_json};
use super::recorder::Recorder;
use super::values::RunValues;
use crate::engine::{Engine, RestoreReport, RestoreRequest, RunControl, RunHandle, RunStatus};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EventKind, Level, Refusal, RunInput, RunOutcome, RunState, Wanted};
use crate::repo::checkpoint_tags::RUN_TAG;
use crate::repo::repository::Repository;
use crate::state::{
    Cause, CheckpointInterval, Claim, Lease, Renewal, Report, Run, StateStore, refusal,
};
use crate::token::CancelToken;

/// How runs are held, apart from what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldRunOptions {
    /// How often checkpoints are taken.
    pub checkpoints: CheckpointInterval,
    /// How long a lease lasts that nobody renews. It is renewed four times as often.
    pub lease: Duration,
}

impl Default for HeldRunOptions {
    /// Checkpoints each 60 s or 1 GiB, and a lease of 60 s.
    fn default() -> Self {
        Self { checkpoints: CheckpointInterval::default(), lease: Duration::from_mins(1) }
    }
}

/// A run that this process has claimed. Its lease is renewed until this is dropped; then it runs out, as
/// after a crash, unless the run was reported on.
pub struct HeldRun {
    engine: Engine,
    store: Arc<dyn StateStore>,
    lease: Lease,
    keeper: LeaseKeeper,
    control: Arc<Mutex<Option<RunControl>>>,
    options: HeldRunOptions,
}

impl Engine {
    /// Claims a run and keeps its lease; nothing if there is none to claim.
    ///
    /// # Errors
    /// Those of the store; `Unavailable` if the system gives no thread.
    pub async fn claim(
        &self,
        store: &Arc<dyn StateStore>,
        claim: &Claim,
        options: HeldRunOptions,
    ) -> Result<Option<HeldRun>> {
        // Before it is asked for: the store counts from a later moment.
        let asked_at = self.env().clock().elapsed_since_boot();
        let Some(lease) = store.claim(claim).await? else { return Ok(None) };
        let control = Arc::new(Mutex::new(None::<RunControl>));
        let watched = Arc::clone(&control);
        let progress = move || {
            let control = watched.lock().unwrap_or_else(PoisonError::into_inner);
            let progress = control.as_ref()?.progress();
            serde_json::value::to_raw_value(&progress).ok().map(Arc::from)
        };
        let first = Renewal { wanted: lease.run.wanted, state: lease.run.state };
        let keeper = LeaseKeeper::start(
            store,
            lease.lease,
            self.env(),
            (asked_at, claim.time),
            first,
            Box::new(progress),
        )?;
        let (engine, store) = (self.clone(), Arc::clone(store));
        Ok(Some(HeldRun { engine, store, lease, keeper, control, options }))
    }
}

impl HeldRun {
    /// The run as it was when it was claimed.
    pub fn run(&self) -> &Run {
        &self.lease.run
    }

    /// Executes the run as a restore, as [`back_up`](Self::back_up) does for backups. What a cancelled
    /// run left incomplete in the target is removed.
    ///
    /// # Errors
    /// As for [`back_up`](Self::back_up).
    pub async fn restore(self, request: RestoreRequest, stop: &CancelToken) -> Result<Run> {
        let (snapshot, target) = (request.snapshot, request.target.location());
        let request = self.prepare_restore(request);
        let again = request.clone();
        let came = |report: RestoreReport| {
            Ok((report.status, to_json(&RestoreRecord::of(&report, snapshot, target))?))
        };
        let ended = self.attend(self.engine.restore(request), Some(stop)).await?;
        let (input, report) = self.conclude(ended, came, stop).await?;
        if input == RunInput::CancelFinished {
            // It may have been cancelled before it came to look at the target.
            self.remove_incomplete(again).await?;
        }
        self.report(input, report).await
    }

    /// Ends a backup that was cancelled before it was claimed, and removes what it left in the
    /// repositories to go on from.
    ///
    /// # Errors
    /// Those of the store; `Conflict` with code `run-refused` if nobody wants it cancelled, or with code
    /// `lease-lost`.
    pub async fn cancel_backup(self, repositories: Vec<Repository>) -> Result<Run> {
        self.remove_checkpoints(repositories).await?;
        self.cancel().await
    }

    /// Ends a restore that was cancelled before it was claimed, and removes what it left incomplete in
    /// the target. If that fails, the log says so.
    ///
    /// # Errors
    /// As for [`cancel_backup`](Self::cancel_backup).
    pub async fn cancel_restore(self, request: RestoreRequest) -> Result<Run> {
        let request = self.prepare_restore(request);
        self.remove_incomplete(request).await?;
        self.cancel().await
    }

    /// Ends a run that was cancelled before it was claimed, and leaves alone what it left elsewhere.
    ///
    /// # Errors
    /// As for [`cancel_backup`](Self::cancel_backup).
    pub async fn cancel(self) -> Result<Run> {
        self.report(RunInput::CancelFinished, Report::default()).await
    }

    /// Ends the run, or this attempt of it, with an error: where it could not even begin.
    ///
    /// # Errors
    /// Those of the store; `Conflict` with code `lease-lost`.
    pub async fn fail(self, error: &Error) -> Result<Run> {
        let input = RunInput::Failed { kind: error.kind(), retry: error.retry() };
        self.report(input, Report { body: None, cause: Some(Cause::of(error)) }).await
    }

    /// Writes a line into the log of the run.
    ///
    /// # Errors
    /// Those of the store; `Conflict` with code `lease-lost`.
    pub async fn note(&self, level: Level, text: String) -> Result<()> {
        Recorder(self.part(0))
            .append_one(self.engine.env().now(), level, EventKind::Note { text })
            .await
    }

    /// Follows what the run does to its end, and writes its log. With `stop` it passes on what a person
    /// wants and that the process is to end; without, nobody is heard.
    ///
    /// # Errors
    /// `Conflict` with code `lease-lost`.
    async fn attend<T: Send + 'static>(
        &self,
        mut handle: RunHandle<T>,
        stop: Option<&CancelToken>,
    ) -> Result<Result<T>> {
        let (events, over) = (handle.events(), CancellationToken::new());
        let control = handle.control();
        let steering = async {
            match stop {
                Some(stop) => self.steer(&control, stop).await,
                None => pending().await,
            }
        };
        let course = async {
            let ended = tokio::select! {
                biased;
                () = self.keeper.gone().cancelled() => Err(self.lease_lost()),
                ended = handle.wait() => ended,
                () = steering => Err(Error::cancelled()),
            };
            over.cancel();
            ended
        };
        let recorder = Recorder(self.part(0));
        let (ended, ()) = tokio::join!(course, recorder.record(events, &over));
        match ended {
            Err(error) if error.code() == refusal::LEASE_LOST => Err(self.lease_lost()),
            ended => Ok(ended),
        }
    }

    /// Removes what a restore left incomplete in its target. If that fails, the log says so.
    async fn remove_incomplete(&self, request: RestoreRequest) -> Result<()> {
        let target = request.target.location();
        let removing = self.attend(self.engine.abort_restore(request), None).await?;
        if let Err(error) = removing {
            let error = error.while_doing(format!("remove what is incomplete in {target}"));
            self.note(Level::Warning, error.report()).await?;
        }
        Ok(())
    }

    async fn remove_checkpoints(&self, repositories: Vec<Repository>) -> Result<()> {
        let liveness = self.keeper.liveness();
        let handle = self.engine.remove_checkpoints(repositories, self.tag(), liveness);
        // What it could not remove it has told.
        self.attend(handle, None).await?
    }

    fn prepare_restore(&self, request: RestoreRequest) -> RestoreRequest {
        let part = self.part(0);
        request
            .with_journal(Arc::new(self.journal(&part)))
            .with_adapter_store(Arc::new(RunValues(part)))
            .with_liveness(self.keeper.liveness())
    }

    fn journal(&self, part: &HeldPart) -> StoreJournal {
        let interval = self.options.checkpoints;
        StoreJournal { held: part.clone(), interval, is_last: true }
    }

    /// One for each source; what has none has one part.
    fn part(&self, number: u32) -> HeldPart {
        HeldPart {
            store: Arc::clone(&self.store),
            lease: self.lease.lease,
            part: number,
            env: self.engine.env().clone(),
            gone: self.keeper.gone().clone(),
        }
    }

    /// Under which its snapshots are found.
    fn tag(&self) -> String {
        format!("{RUN_TAG}{}", self.lease.run.new.id)
    }

    fn lease_lost(&self) -> Error {
        refusal::lease_lost(self.lease.run.new.id)
    }

    /// What is said of the run after what it does came to an end. `came` tells the status of what was
    /// done, and its record.
    async fn conclude<T>(
        &self,
        ended: Result<T>,
        came: impl FnOnce(T) -> Result<(RunStatus, Arc<RawValue>)>,
        stop: &CancelToken,
    ) -> Result<(RunInput, Report)> {
        let wanted = self.part(0).insist(|| self.store.renewal(&self.lease.lease)).await?.wanted;
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let was_steered = control.is_some_and(|control| control.was_steered());
        let stopped = stop.is_cancelled();
        conclude(ended, came, Asked { wanted, stopped, was_steered })
    }

    async fn report(&self, input: RunInput, report: Report) -> Result<Run> {
        let call = || self.store.report(&self.lease.lease, input, report.clone());
        self.part(0).insist(call).await
    }

    /// Passes on what a person wants. Never ends.
    async fn steer(&self, control: &RunControl, stop: &CancelToken) {
        *self.control.lock().unwrap_or_else(PoisonError::into_inner) = Some(control.clone());
        let mut heard = self.keeper.heard();
        loop {
            let Renewal { wanted, state } = *heard.borrow_and_update();
            match wanted {
                // The hours in which it may run may be over, whatever a person wants.
                Wanted::Run if !stop.is_cancelled() && state != RunState::Pausing => {}
                Wanted::Run | Wanted::Pause => {
                    control.tell_pausing();
                    control.pause();
                }
                Wanted::Cancel => control.cancel(),
            }
            tokio::select! {
                changed = heard.changed() => if changed.is_err() {
                    return pending().await;
                },
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
        }
    }
}

impl fmt::Debug for HeldRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldRun").field("lease", &self.lease.lease).finish_non_exhaustive()
    }
}

/// What was asked of a run when it came to an end.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// What a person wants by now.
    wanted: Wanted,
    /// Whether the process is to end.
    stopped: bool,
    /// Whether the run was told to rest or to stop, even if a person has changed his mind since.
    was_steered: bool,
}

fn conclude<T>(
    ended: Result<T>,
    came: impl FnOnce(T) -> Result<(RunStatus, Arc<RawValue>)>,
    asked: Asked,
) -> Result<(RunInput, Report)> {
    let rested = match asked.wanted {
        Wanted::Run if asked.stopped => RunInput::Yielded,
        Wanted::Run | Wanted::Pause => RunInput::Rested,
        Wanted::Cancel => RunInput::CancelFinished,
    };
    match ended {
        Ok(done) => {
            let (status, record) = came(done)?;
            let outcome = match status {
                RunStatus::Succeeded => RunOutcome::Succeeded,
                RunStatus::Warnings => RunOutcome::Warnings,
                RunStatus::Partial => RunOutcome::Partial,
                // Nothing has come of it yet: what it left elsewhere is no result of it.
                RunStatus::Paused => return Ok((rested, Report::default())),
            };
            Ok((RunInput::Finished(outcome), Report { body: Some(record), cause: None }))
        }
        // Whatever went wrong: what it left has still to be removed.
        Err(error) if asked.wanted == Wanted::Cancel => {
            let cause = (!error.is(ErrorKind::Cancelled)).then(|| Cause::of(&error));
            Ok((RunInput::CancelFinished, Report { body: None, cause }))
        }
        // It was too late to commit: the run comes to rest, or was to for a moment.
        Err(error) if error.code() == Refusal::CODE => Ok((rested, Report::default())),
        // Where nobody asked for it, it is a failure as any other.
        Err(error)
            if error.is(ErrorKind::Cancelled)
                && (asked.stopped || asked.was_steered || asked.wanted != Wanted::Run) =>
        {
            Ok((rested, Report::default()))
        }
        Err(error) => {
            let input = RunInput::Failed { kind: error.kind(), retry: error.retry() };
            Ok((input, Report { body: None, cause: Some(Cause::of(&error)) }))
        }
    }
}
