//! Executes a run that was claimed, and says what came of it.

mod maintain;

use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::HeldPart;
use super::journal::StoreJournal;
use super::keeper::LeaseKeeper;
use super::record::{BackupRecord, RestoreRecord, to_json};
use super::recorder::Recorder;
use super::values::RunValues;
use crate::engine::{
    BackupReport, BackupRequest, Engine, RestoreReport, RestoreRequest, RunControl, RunHandle,
    RunStatus,
};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EventKind, Level, RunInput, RunOutcome, RunState, Wanted};
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

    /// Executes the run as a backup, from its last checkpoint on, and returns it as it stands then. What
    /// a person asks of the run is heard within a second. Once `stop` is cancelled it saves a
    /// checkpoint and is given back to other workers. What a cancelled run left in the repositories to
    /// go on from is removed.
    ///
    /// # Errors
    /// `Conflict` with code `lease-lost` if another worker took it over: then nothing of this one
    /// appears any more. Those of the store. What goes wrong in the backup is no error: it stands in
    /// the run.
    pub async fn back_up(self, request: BackupRequest, stop: &CancelToken) -> Result<Run> {
        let repositories = request.repositories.clone();
        let request = request
            .with_tags([self.tag()])
            .with_journal(Arc::new(self.journal()))
            .with_adapter_store(Arc::new(RunValues(self.part())))
            .with_liveness(self.keeper.liveness());
        let came = |report: BackupReport| Ok((report.status, to_json(&BackupRecord::of(&report))?));
        let ended = self.attend(self.engine.backup(request), Some(stop)).await?;
        let (input, report) = self.conclude(ended, came, stop).await?;
        if input == RunInput::CancelFinished {
            self.remove_checkpoints(repositories).await?;
        }
        self.report(input, report).await
    }

    /// Executes the run as a restore, as [`back_up`](Self::back_up) does for backups. What a cancelled
    /// run left incomplete in the target is removed.
    ///
    /// # Errors
    /// As for [`back_up`](Self::back_up).
    pub async fn restore(self, request: RestoreRequest, stop: &CancelToken) -> Result<Run> {
        let (snapshot, target) = (request.snapshot, request.target.location());
        let request = self.prepare_restore(request);
        let came = |report: RestoreReport| {
            Ok((report.status, to_json(&RestoreRecord::of(&report, snapshot, target))?))
        };
        let ended = self.attend(self.engine.restore(request), Some(stop)).await?;
        let (input, report) = self.conclude(ended, came, stop).await?;
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
        let target = request.target.location();
        let request = self.prepare_restore(request);
        let removing = self.attend(self.engine.abort_restore(request), None).await?;
        if let Err(error) = removing {
            let error = error.while_doing(format!("remove what is incomplete in {target}"));
            self.note(Level::Warning, error.report()).await?;
        }
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
        Recorder(self.part())
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
        let recorder = Recorder(self.part());
        let (ended, ()) = tokio::join!(course, recorder.record(events, &over));
        match ended {
            Err(error) if error.code() == refusal::LEASE_LOST => Err(self.lease_lost()),
            ended => Ok(ended),
        }
    }

    async fn remove_checkpoints(&self, repositories: Vec<Repository>) -> Result<()> {
        let liveness = self.keeper.liveness();
        let handle = self.engine.remove_checkpoints(repositories, self.tag(), liveness);
        // What it could not remove it has told.
        self.attend(handle, None).await?
    }

    fn prepare_restore(&self, request: RestoreRequest) -> RestoreRequest {
        request
            .with_journal(Arc::new(self.journal()))
            .with_adapter_store(Arc::new(RunValues(self.part())))
            .with_liveness(self.keeper.liveness())
    }

    fn journal(&self) -> StoreJournal {
        StoreJournal { held: self.part(), interval: self.options.checkpoints }
    }

    /// A run has one part.
    fn part(&self) -> HeldPart {
        HeldPart {
            store: Arc::clone(&self.store),
            lease: self.lease.lease,
            part: 0,
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
        let wanted = self.part().insist(|| self.store.renewal(&self.lease.lease)).await?.wanted;
        conclude(ended, came, wanted, stop.is_cancelled())
    }

    async fn report(&self, input: RunInput, report: Report) -> Result<Run> {
        let call = || self.store.report(&self.lease.lease, input, report.clone());
        self.part().insist(call).await
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

fn conclude<T>(
    ended: Result<T>,
    came: impl FnOnce(T) -> Result<(RunStatus, Arc<RawValue>)>,
    wanted: Wanted,
    stopped: bool,
) -> Result<(RunInput, Report)> {
    let rested = match wanted {
        Wanted::Run if stopped => RunInput::Yielded,
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
        // Where nobody asked for it, it is a failure as any other.
        Err(error)
            if (error.is(ErrorKind::Cancelled) || error.code() == "run-refused")
                && (stopped || wanted != Wanted::Run) =>
        {
            Ok((rested, Report::default()))
        }
        Err(error) => {
            let input = RunInput::Failed { kind: error.kind(), retry: error.retry() };
            Ok((input, Report { body: None, cause: Some(Cause::of(&error)) }))
        }
    }
}
