//! A run as stores keep it, and all that changes it. Nothing here waits or draws, so that stores decide
//! alike and only have to keep what comes out.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::actor::{Actor, Scope};
use super::leases::{Claim, Lease, LeaseRef, Renewal, Report, WorkerId};
use super::refusal;
use super::runs::{Cause, NewRun, Run};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{
    CANCEL_GRACE, LeaseChange, PAUSE_GRACE, Refusal, RunFacts, RunInput, RunState, Transition,
    Wanted,
};

/// A moment by the time since boot, so that steps of the wall clock do not matter. `Display` and
/// `FromStr` are what stores keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    boot: Arc<str>,
    millis: u64,
}

/// When something happens to a run, by both clocks, and what chance gives then.
#[derive(Debug, Clone)]
pub struct Moment {
    at: Timestamp,
    tick: Tick,
    jitter: u16,
}

/// What is on record about a run, with what only stores look at.
#[derive(Debug, Clone)]
pub struct StoredRun {
    /// What everybody sees.
    pub run: Run,
    /// The fence of the last claim; 0 before the first.
    pub fence: u64,
    /// When the lease is over; none while nobody holds one.
    pub lease_until: Option<Tick>,
    /// Whether a checkpoint with more in it was saved since the lease was taken.
    pub progressed: bool,
    /// [`Run::state_since`] by the time since boot.
    pub state_tick: Tick,
    /// [`Run::wanted_since`] by the time since boot.
    pub wanted_tick: Tick,
}

/// What is kept of a run elsewhere and goes with a change, in the same transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Dropped {
    /// Nothing.
    Nothing,
    /// Its sealed outputs.
    Outputs,
    /// Its checkpoints, noted packs and sealed outputs.
    All,
}

impl Moment {
    /// Returns this one.
    ///
    /// # Errors
    /// `Unavailable` if there is no randomness.
    pub fn now(env: &Env) -> Result<Self> {
        let jitter = u16::from_le_bytes(env.random()?);
        Ok(Self { at: env.now(), tick: Tick::now(env), jitter })
    }

    /// By the wall clock.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// When a lease for this time is over.
    pub fn lease_until(&self, time: Duration) -> Tick {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Tick { boot: Arc::clone(&self.tick.boot), millis: self.tick.millis.saturating_add(millis) }
    }

    /// How long something has lasted: by the time since boot, or else, if it began before the machine
    /// was started, by the wall clock.
    fn since(&self, tick: &Tick, at: Timestamp) -> Duration {
        if tick.boot == self.tick.boot {
            return Duration::from_millis(self.tick.millis.saturating_sub(tick.millis));
        }
        Duration::try_from(self.at.duration_since(at)).unwrap_or_default()
    }
}

impl Tick {
    fn now(env: &Env) -> Self {
        let clock = env.clock();
        let millis = u64::try_from(clock.elapsed_since_boot().as_millis()).unwrap_or(u64::MAX);
        Self { boot: clock.boot_id(), millis }
    }

    /// Whether it has come. What was to come in another boot has.
    fn has_come(&self, now: &Self) -> bool {
        self.boot != now.boot || self.millis <= now.millis
    }
}

impl fmt::Display for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.millis, self.boot)
    }
}

impl FromStr for Tick {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_once(' ').and_then(|(millis, boot)| {
            Some(Self { boot: boot.into(), millis: millis.parse().ok()? })
        });
        parsed.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "not a time since boot"))
    }
}

impl StoredRun {
    /// Returns a new run. The caller has [checked](NewRun::check) it.
    pub fn new(number: u64, scope: &Scope, actor: &Actor, new: NewRun, now: &Moment) -> Self {
        let run = Run {
            number,
            scope: scope.clone(),
            actor: actor.clone(),
            new,
            state: RunState::Queued,
            wanted: Wanted::Run,
            wanted_since: now.at,
            wanted_by: actor.clone(),
            pause_reason: None,
            attempts: 0,
            cause: None,
            not_before: None,
            progress: None,
            report: None,
            last_log: 0,
            created_at: now.at,
            started_at: None,
            state_since: now.at,
            ended_at: None,
            worker: None,
        };
        Self {
            run,
            fence: 0,
            lease_until: None,
            progressed: false,
            state_tick: now.tick.clone(),
            wanted_tick: now.tick.clone(),
        }
    }

    /// Whether this lease of it is alive.
    pub fn is_held_by(&self, lease: &LeaseRef) -> bool {
        self.run.worker.is_some() && LeaseRef::new(self.run.new.id, self.fence) == *lease
    }

    /// What its worker hears.
    pub fn renewal(&self) -> Renewal {
        Renewal { wanted: self.run.wanted, state: self.run.state }
    }

    /// Notes what a person wants, and lets it take effect.
    ///
    /// # Errors
    /// What [`RunState::after`] refuses.
    pub fn ask(&mut self, actor: &Actor, wanted: Wanted, now: &Moment) -> Result<Dropped> {
        let input = match wanted {
            Wanted::Run => RunInput::RunAsked,
            Wanted::Pause => RunInput::PauseAsked,
            Wanted::Cancel => RunInput::CancelAsked,
        };
        let before = self.run.wanted;
        let dropped = self.happen(input, None, now)?;
        if self.run.wanted != before {
            self.run.wanted_by = actor.clone();
        }
        Ok(dropped)
    }

    /// Lets it go on after what it rests for is mended.
    ///
    /// # Errors
    /// What [`RunState::after`] refuses.
    pub fn mend(&mut self, now: &Moment) -> Result<Dropped> {
        self.happen(RunInput::PauseMended, None, now)
    }

    /// Whether [`claim`](Self::claim) moves it, its resources aside.
    pub fn is_claimable(&self, now: &Moment) -> bool {
        let run = &self.run;
        run.worker.is_none()
            && run.state.is_claimable(run.wanted)
            && (self.rests_when_claimed() || run.not_before.is_none_or(|time| time <= now.at))
    }

    /// Whether it comes to rest as soon as it is claimed, since a person wants that. Then it needs
    /// neither its resources nor its time.
    pub fn rests_when_claimed(&self) -> bool {
        self.run.state == RunState::Queued && self.run.wanted == Wanted::Pause
    }

    /// Gives it to a worker; nothing if it came to rest instead.
    ///
    /// # Errors
    /// What [`RunState::after`] refuses.
    pub fn claim(&mut self, claim: &Claim, now: &Moment) -> Result<Option<Lease>> {
        // A claim ends nothing, so nothing goes with it.
        let _nothing = self.happen(RunInput::Claimed, Some(claim), now)?;
        let lease = LeaseRef::new(self.run.new.id, self.fence);
        Ok(self.is_held_by(&lease).then(|| Lease { lease, run: self.run.clone() }))
    }

    /// Prolongs its lease, which the caller has looked at.
    pub fn renew(
        &mut self,
        time: Duration,
        progress: Option<Arc<RawValue>>,
        now: &Moment,
    ) -> Renewal {
        self.lease_until = Some(now.lease_until(time));
        self.run.progress = progress.or(self.run.progress.take());
        self.renewal()
    }

    /// Moves it as its worker says, whose lease the caller has looked at.
    ///
    /// # Errors
    /// What [`RunState::after`] and [`Report::check`] refuse; `InvalidInput` for what is not for a
    /// worker to say.
    pub fn report(&mut self, input: RunInput, report: Report, now: &Moment) -> Result<Dropped> {
        report.check()?;
        if !is_for_workers(input) {
            return Err(refusal::not_reported());
        }
        let earlier = self.run.cause.take();
        self.run.cause = report.cause.or_else(|| earlier.clone());
        let moved = self.happen(input, None, now);
        match moved {
            Ok(_) => self.run.report = report.body.or(self.run.report.take()),
            Err(_) => self.run.cause = earlier,
        }
        moved
    }

    /// Whether time, or the death of its worker, does something to it.
    pub fn is_due(&self, dead: &[WorkerId], now: &Moment) -> bool {
        self.due(dead, now).is_some()
    }

    /// Lets time take effect, and says whether it did.
    ///
    /// # Errors
    /// None that callers could cause.
    pub fn sweep(&mut self, dead: &[WorkerId], now: &Moment) -> Result<Option<Dropped>> {
        let Some(input) = self.due(dead, now) else { return Ok(None) };
        if input == RunInput::LeaseLost {
            self.run.cause.get_or_insert_with(|| Cause {
                kind: ErrorKind::Unavailable,
                code: Some("worker-lost".to_owned()),
                message: "the worker that held the run is gone; the run is tried again".to_owned(),
            });
        }
        self.happen(input, None, now).map(Some)
    }

    /// Whether outputs may be recorded for a part that has some already, or none.
    ///
    /// # Errors
    /// `Conflict` with code `run-refused`.
    pub fn check_outputs(&self, has_some: bool) -> Result<()> {
        let refused = match self.run.state {
            RunState::Running => return Ok(()),
            RunState::Committing if !has_some => return Ok(()),
            RunState::Committing => Refusal::Committing,
            RunState::Cancelling => Refusal::CancelAsked,
            RunState::Pausing => Refusal::Pausing,
            // Nobody holds a lease of these.
            RunState::Queued | RunState::Paused => Refusal::NotLeased,
            ended => Refusal::Ended(ended),
        };
        Err(refused.into_error())
    }

    /// What time brings.
    fn due(&self, dead: &[WorkerId], now: &Moment) -> Option<RunInput> {
        let run = &self.run;
        if run.state.is_terminal() {
            return None;
        }
        let is_lost = |until: &Tick| until.has_come(&now.tick);
        if run.wanted == Wanted::Cancel
            && now.since(&self.wanted_tick, run.wanted_since) >= CANCEL_GRACE
        {
            Some(RunInput::CancelOverdue)
        } else if run.state == RunState::Pausing
            && now.since(&self.state_tick, run.state_since) >= PAUSE_GRACE
        {
            Some(RunInput::PauseOverdue)
        } else if run.worker.as_ref().is_some_and(|worker| dead.contains(worker))
            || self.lease_until.as_ref().is_some_and(is_lost)
        {
            Some(RunInput::LeaseLost)
        } else if run.state == RunState::Paused
            && run.wanted == Wanted::Run
            && run.not_before.is_some_and(|time| time <= now.at)
        {
            Some(RunInput::PauseMended)
        } else {
            None
        }
    }

    fn happen(&mut self, input: RunInput, claim: Option<&Claim>, now: &Moment) -> Result<Dropped> {
        let run = &self.run;
        let facts = RunFacts {
            wanted: run.wanted,
            pause_reason: run.pause_reason,
            leased: run.worker.is_some(),
            attempts: run.attempts,
            progressed: self.progressed,
            jitter: now.jitter,
        };
        let after = run.state.after(input, &facts, &run.new.attempts);
        Ok(self.apply(&after.map_err(Refusal::into_error)?, claim, now))
    }

    fn apply(&mut self, next: &Transition, claim: Option<&Claim>, now: &Moment) -> Dropped {
        if !next.changed {
            return Dropped::Nothing;
        }
        let run = &mut self.run;
        let before = run.state;
        if run.state != next.state {
            run.state = next.state;
            run.state_since = now.at;
            self.state_tick = now.tick.clone();
        }
        if run.wanted != next.wanted {
            run.wanted = next.wanted;
            run.wanted_since = now.at;
            self.wanted_tick = now.tick.clone();
        }
        run.pause_reason = next.pause_reason;
        run.attempts = next.attempts;
        run.not_before =
            next.delay.map(|delay| now.at.saturating_add(delay).unwrap_or(Timestamp::MAX));
        match (next.lease, claim) {
            (LeaseChange::Take, Some(claim)) => {
                self.fence = self.fence.saturating_add(1);
                self.lease_until = Some(now.lease_until(claim.time));
                self.progressed = false;
                run.worker = Some(claim.worker.clone());
                run.started_at.get_or_insert(now.at);
            }
            // Only claims take.
            (LeaseChange::Take, None) | (LeaseChange::Keep, _) => {}
            (LeaseChange::Release, _) => {
                self.lease_until = None;
                run.worker = None;
            }
        }
        if matches!(next.state, RunState::Succeeded | RunState::Warnings) {
            run.cause = None;
        }
        if next.state.is_terminal() {
            run.ended_at = Some(now.at);
            return Dropped::All;
        }
        match (before, next.state) {
            (RunState::Committing, RunState::Queued) => Dropped::Outputs,
            _ => Dropped::Nothing,
        }
    }
}

/// Whether it is for a worker to say: persons ask, and time passes, elsewhere.
fn is_for_workers(input: RunInput) -> bool {
    match input {
        RunInput::WindowClosed
        | RunInput::PauseMended
        | RunInput::Rested
        | RunInput::Yielded
        | RunInput::CommitRecorded
        | RunInput::BlobLost
        | RunInput::Finished(_)
        | RunInput::Failed { .. }
        | RunInput::CancelFinished => true,
        RunInput::Claimed
        | RunInput::RunAsked
        | RunInput::PauseAsked
        | RunInput::CancelAsked
        | RunInput::PauseOverdue
        | RunInput::LeaseLost
        | RunInput::CancelOverdue => false,
    }
}
