//! Executes a run that was claimed, and says what came of it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::insist;
use super::journal::StoreJournal;
use super::keeper::LeaseKeeper;
use super::record::BackupRecord;
use super::recorder::Recorder;
use crate::engine::{BackupReport, BackupRequest, Engine, RunControl, RunStatus};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{RunInput, RunOutcome, RunState, Wanted};
use crate::state::{
    Cause, CheckpointInterval, Claim, Lease, Renewal, Report, Run, StateStore, refusal,
};
use crate::token::CancelToken;

/// How runs are held, apart from what they do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeldRunOptions {
    /// How often checkpoints are taken.
    pub checkpoints: CheckpointInterval,
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
    /// checkpoint and is given back to other workers.
    ///
    /// # Errors
    /// `Conflict` with code `lease-lost` if another worker took it over: then nothing of this one
    /// appears any more. Those of the store. What goes wrong in the backup is no error: it stands in
    /// the run.
    pub async fn back_up(self, request: BackupRequest, stop: &CancelToken) -> Result<Run> {
        let journal = StoreJournal {
            store: Arc::clone(&self.store),
            lease: self.lease.lease,
            part: 0,
            interval: self.options.checkpoints,
            env: self.engine.env().clone(),
            gone: self.keeper.gone().clone(),
        };
        let id = self.lease.run.new.id;
        let request = request
            .with_tags([format!("run={id}")])
            .with_journal(Arc::new(journal))
            .with_liveness(self.keeper.liveness());
        let mut handle = self.engine.backup(request);
        let (events, control) = (handle.events(), handle.control());
        *self.control.lock().unwrap_or_else(PoisonError::into_inner) = Some(control.clone());
        let recorder = Recorder {
            store: Arc::clone(&self.store),
            lease: self.lease.lease,
            env: self.engine.env().clone(),
        };
        let over = CancellationToken::new();
        let course = async {
            let ended = tokio::select! {
                biased;
                () = self.keeper.gone().cancelled() => Err(refusal::lease_lost(id)),
                ended = handle.wait() => ended,
                () = self.steer(&control, stop) => Err(Error::cancelled()),
            };
            over.cancel();
            ended
        };
        let (ended, ()) = tokio::join!(course, recorder.record(events, &over));
        if ended.as_ref().is_err_and(|error| error.code() == refusal::LEASE_LOST) {
            return Err(refusal::lease_lost(id));
        }
        let look = || self.store.renewal(&self.lease.lease);
        let wanted = insist(self.engine.env(), self.keeper.gone(), look).await?.wanted;
        let (input, report) = conclude(ended, wanted, stop.is_cancelled())?;
        self.report(input, report).await
    }

    /// Ends a run that was cancelled before it was claimed.
    ///
    /// # Errors
    /// Those of the store; `Conflict` with code `run-refused` if nobody wants it cancelled, or with code
    /// `lease-lost`.
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

    async fn report(&self, input: RunInput, report: Report) -> Result<Run> {
        let call = || self.store.report(&self.lease.lease, input, report.clone());
        insist(self.engine.env(), self.keeper.gone(), call).await
    }

    /// Passes on what a person wants. Never ends.
    async fn steer(&self, control: &RunControl, stop: &CancelToken) {
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
                    return std::future::pending().await;
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

/// What is said of a run after its backup came to an end.
fn conclude(
    ended: Result<BackupReport>,
    wanted: Wanted,
    stopped: bool,
) -> Result<(RunInput, Report)> {
    let rested = match wanted {
        Wanted::Run if stopped => RunInput::Yielded,
        Wanted::Run | Wanted::Pause => RunInput::Rested,
        Wanted::Cancel => RunInput::CancelFinished,
    };
    match ended {
        Ok(report) => {
            let outcome = match report.status {
                RunStatus::Succeeded => RunOutcome::Succeeded,
                RunStatus::Warnings => RunOutcome::Warnings,
                RunStatus::Partial => RunOutcome::Partial,
                // Nothing has come of it yet: what it left in repositories is no snapshot of it.
                RunStatus::Paused => return Ok((rested, Report::default())),
            };
            let input = RunInput::Finished(outcome);
            Ok((input, Report { body: Some(BackupRecord::of(&report).to_json()?), cause: None }))
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
