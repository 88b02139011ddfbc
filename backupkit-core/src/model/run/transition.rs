//! The one function that decides how a run moves.

use std::time::Duration;

use super::{AttemptPolicy, PauseReason, Refusal, RunFacts, RunInput, RunState, Wanted};
use crate::error::{ErrorKind, Retry};

/// What is to be put on record after something happened to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// Whether anything changes. If not, what is on record stays as it is, `delay` included.
    pub changed: bool,
    /// Where the run stands.
    pub state: RunState,
    /// What a person wants.
    pub wanted: Wanted,
    /// Why it rests; only while it is pausing or paused.
    pub pause_reason: Option<PauseReason>,
    /// What becomes of the lease.
    pub lease: LeaseChange,
    /// The attempts without progress so far.
    pub attempts: u32,
    /// Whether an attempt was counted just now.
    pub attempt_counted: bool,
    /// How long from now nobody may claim it; while paused: when its cause counts as mended. `None`
    /// ends an earlier wait; while paused it waits for a person or its window.
    pub delay: Option<Duration>,
    /// Whether it failed because the attempts are used up. Its last cause is the one on record.
    pub exhausted: bool,
}

/// What becomes of the lease of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseChange {
    /// The worker gets it, with a new fence.
    Take,
    /// It stays as it is: held, or free.
    Keep,
    /// It is free from now on, and its fence is stale.
    Release,
}

impl RunState {
    /// Decides what becomes of a run in this state. Pure: it reads no clock and draws no chance.
    ///
    /// Asking twice for the same changes nothing and is no error ([`Transition::changed`]); asking a
    /// run that waits for its next attempt to go on ends the wait.
    ///
    /// # Errors
    /// A [`Refusal`] that says why this cannot happen to a run in this state. Runs that have ended
    /// refuse everything.
    pub fn after(
        self,
        input: RunInput,
        facts: &RunFacts,
        policy: &AttemptPolicy,
    ) -> Result<Transition, Refusal> {
        let run = Run { state: self, facts, policy };
        match self {
            Self::Queued => run.queued(input),
            Self::Running => run.running(input),
            Self::Pausing => run.pausing(input),
            Self::Paused => run.paused(input),
            Self::Committing => run.committing(input),
            Self::Cancelling => run.cancelling(input),
            Self::Cancelled | Self::Succeeded | Self::Warnings | Self::Partial | Self::Failed => {
                Err(Refusal::Ended(self))
            }
        }
    }
}

/// A run to which something happens.
struct Run<'a> {
    state: RunState,
    facts: &'a RunFacts,
    policy: &'a AttemptPolicy,
}

impl Run<'_> {
    fn queued(&self, input: RunInput) -> Result<Transition, Refusal> {
        let cancel = self.facts.wanted == Wanted::Cancel;
        match input {
            RunInput::Claimed if self.facts.leased => Err(Refusal::Leased),
            RunInput::Claimed => Ok(match self.facts.wanted {
                Wanted::Run => self.claim(RunState::Running),
                // Its worker died or shut down before it came to rest: the last checkpoint counts.
                Wanted::Pause => self.rest(PauseReason::User, None),
                Wanted::Cancel => self.claim(RunState::Cancelling),
            }),
            RunInput::CancelAsked => Ok(self.ask_cancel_of_idle()),
            RunInput::CancelOverdue if cancel => Ok(self.end(RunState::Cancelled)),
            RunInput::RunAsked | RunInput::PauseAsked | RunInput::WindowClosed if cancel => {
                Err(Refusal::CancelAsked)
            }
            RunInput::RunAsked => {
                Ok(Transition { wanted: Wanted::Run, ..self.to(RunState::Queued) })
            }
            RunInput::PauseAsked => Ok(self.rest_as_asked()),
            RunInput::WindowClosed => Ok(self.rest(PauseReason::Window, None)),
            RunInput::PauseMended | RunInput::PauseOverdue => Err(Refusal::NotPaused),
            RunInput::CancelOverdue => Err(Refusal::NotCancelling),
            RunInput::Rested
            | RunInput::Yielded
            | RunInput::LeaseLost
            | RunInput::CommitRecorded
            | RunInput::BlobLost
            | RunInput::Finished(_)
            | RunInput::Failed { .. }
            | RunInput::CancelFinished => Err(Refusal::NotLeased),
        }
    }

    fn running(&self, input: RunInput) -> Result<Transition, Refusal> {
        match input {
            RunInput::Claimed => Err(Refusal::Leased),
            RunInput::RunAsked => Ok(self.unchanged()),
            RunInput::PauseAsked => Ok(Transition {
                wanted: Wanted::Pause,
                pause_reason: Some(PauseReason::User),
                ..self.to(RunState::Pausing)
            }),
            RunInput::CancelAsked => Ok(self.ask_cancel_of_leased()),
            RunInput::WindowClosed => Ok(Transition {
                pause_reason: Some(PauseReason::Window),
                ..self.to(RunState::Pausing)
            }),
            // At rest although it was resumed meanwhile: as good as given back.
            RunInput::Rested | RunInput::Yielded => Ok(self.yielded()),
            RunInput::LeaseLost => Ok(self.lease_lost()),
            RunInput::CommitRecorded => Ok(self.to(RunState::Committing)),
            RunInput::Failed { kind, retry } => Ok(match PauseReason::for_error(kind) {
                Some(reason) => self.rest(reason, self.mending_delay(reason, retry)),
                None if retry == Retry::Never => self.end(RunState::Failed),
                None => self.attempt(RunState::Queued, self.attempts(), retry),
            }),
            RunInput::PauseMended | RunInput::PauseOverdue => Err(Refusal::NotPaused),
            RunInput::BlobLost | RunInput::Finished(_) => Err(Refusal::NotCommitting),
            RunInput::CancelFinished | RunInput::CancelOverdue => Err(Refusal::NotCancelling),
        }
    }

    fn pausing(&self, input: RunInput) -> Result<Transition, Refusal> {
        let asked = self.facts.wanted == Wanted::Pause;
        let reason = self.facts.pause_reason.unwrap_or(PauseReason::User);
        match input {
            RunInput::Claimed => Err(Refusal::Leased),
            RunInput::PauseMended if asked => Err(Refusal::PausedByPerson),
            RunInput::RunAsked | RunInput::PauseMended => Ok(Transition {
                wanted: Wanted::Run,
                pause_reason: None,
                ..self.to(RunState::Running)
            }),
            RunInput::PauseAsked if asked => Ok(self.unchanged()),
            // From now on only a person lets it go on.
            RunInput::PauseAsked => Ok(Transition {
                wanted: Wanted::Pause,
                pause_reason: Some(PauseReason::User),
                ..self.to(RunState::Pausing)
            }),
            RunInput::WindowClosed => Ok(self.unchanged()),
            RunInput::CancelAsked => Ok(self.ask_cancel_of_leased()),
            RunInput::Rested | RunInput::PauseOverdue => Ok(self.rest(reason, None)),
            RunInput::Yielded => Ok(self.yielded()),
            RunInput::LeaseLost => Ok(self.lease_lost()),
            RunInput::CommitRecorded => Err(Refusal::Pausing),
            RunInput::Failed { kind, retry } => Ok(self.failed_while_pausing(reason, kind, retry)),
            RunInput::BlobLost | RunInput::Finished(_) => Err(Refusal::NotCommitting),
            RunInput::CancelFinished | RunInput::CancelOverdue => Err(Refusal::NotCancelling),
        }
    }

    fn paused(&self, input: RunInput) -> Result<Transition, Refusal> {
        let wanted = self.facts.wanted;
        let cancel = wanted == Wanted::Cancel;
        match input {
            RunInput::Claimed if self.facts.leased => Err(Refusal::Leased),
            RunInput::Claimed if cancel => Ok(self.claim(RunState::Cancelling)),
            RunInput::Claimed => Err(Refusal::Paused),
            RunInput::CancelAsked => Ok(self.ask_cancel_of_idle()),
            RunInput::CancelOverdue if cancel => Ok(self.end(RunState::Cancelled)),
            RunInput::CancelOverdue => Err(Refusal::NotCancelling),
            RunInput::RunAsked
            | RunInput::PauseAsked
            | RunInput::WindowClosed
            | RunInput::PauseMended
                if cancel =>
            {
                Err(Refusal::CancelAsked)
            }
            // A person looked at it, so it gets all its attempts again.
            RunInput::RunAsked => Ok(Transition {
                wanted: Wanted::Run,
                pause_reason: None,
                attempts: 0,
                ..self.to(RunState::Queued)
            }),
            RunInput::PauseMended if wanted == Wanted::Pause => Err(Refusal::PausedByPerson),
            RunInput::PauseMended => {
                Ok(Transition { pause_reason: None, ..self.to(RunState::Queued) })
            }
            RunInput::PauseAsked if wanted == Wanted::Pause => Ok(self.unchanged()),
            RunInput::PauseAsked => Ok(self.rest_as_asked()),
            RunInput::WindowClosed | RunInput::PauseOverdue => Ok(self.unchanged()),
            RunInput::Rested
            | RunInput::Yielded
            | RunInput::LeaseLost
            | RunInput::CommitRecorded
            | RunInput::BlobLost
            | RunInput::Finished(_)
            | RunInput::Failed { .. }
            | RunInput::CancelFinished => Err(Refusal::NotLeased),
        }
    }

    fn committing(&self, input: RunInput) -> Result<Transition, Refusal> {
        let leased = self.facts.leased;
        match input {
            RunInput::Claimed if leased => Err(Refusal::Leased),
            RunInput::Claimed => Ok(self.claim(RunState::Committing)),
            RunInput::RunAsked if leased => Ok(self.unchanged()),
            RunInput::RunAsked => Ok(self.to(RunState::Committing)),
            RunInput::PauseAsked | RunInput::CancelAsked | RunInput::WindowClosed => {
                Err(Refusal::Committing)
            }
            RunInput::PauseMended | RunInput::PauseOverdue => Err(Refusal::NotPaused),
            RunInput::CancelFinished | RunInput::CancelOverdue => Err(Refusal::NotCancelling),
            RunInput::Rested
            | RunInput::Yielded
            | RunInput::LeaseLost
            | RunInput::CommitRecorded
            | RunInput::BlobLost
            | RunInput::Finished(_)
            | RunInput::Failed { .. }
                if !leased =>
            {
                Err(Refusal::NotLeased)
            }
            // A second record would replace bytes that may exist already.
            RunInput::CommitRecorded => Err(Refusal::Committing),
            RunInput::Rested | RunInput::Yielded => Ok(self.release(RunState::Committing)),
            RunInput::LeaseLost => {
                Ok(self.attempt(RunState::Committing, self.attempts(), Retry::Soon))
            }
            // What it stored in between is no progress here: it may be lost again and again.
            RunInput::BlobLost => {
                Ok(self.attempt(RunState::Queued, self.facts.attempts, Retry::Soon))
            }
            RunInput::Finished(outcome) => Ok(self.end(outcome.into())),
            RunInput::Failed { kind, retry } => Ok(self.failed_while_committing(kind, retry)),
        }
    }

    fn cancelling(&self, input: RunInput) -> Result<Transition, Refusal> {
        let leased = self.facts.leased;
        match input {
            RunInput::Claimed if leased => Err(Refusal::Leased),
            RunInput::Claimed => Ok(self.claim(RunState::Cancelling)),
            RunInput::CancelAsked => Ok(self.unchanged()),
            RunInput::RunAsked
            | RunInput::PauseAsked
            | RunInput::WindowClosed
            | RunInput::PauseMended
            | RunInput::PauseOverdue => Err(Refusal::CancelAsked),
            RunInput::Rested
            | RunInput::Yielded
            | RunInput::LeaseLost
            | RunInput::CommitRecorded
            | RunInput::BlobLost
            | RunInput::Finished(_)
            | RunInput::Failed { .. }
            | RunInput::CancelFinished
                if !leased =>
            {
                Err(Refusal::NotLeased)
            }
            RunInput::CommitRecorded | RunInput::BlobLost | RunInput::Finished(_) => {
                Err(Refusal::CancelAsked)
            }
            RunInput::CancelFinished | RunInput::CancelOverdue => Ok(self.end(RunState::Cancelled)),
            RunInput::Rested | RunInput::Yielded => Ok(self.release(RunState::Cancelling)),
            RunInput::LeaseLost => Ok(self.cancel_later(Retry::Soon)),
            RunInput::Failed { kind, retry } => Ok(match PauseReason::for_error(kind) {
                // What cannot be removed is left to maintenance.
                None if retry == Retry::Never => self.end(RunState::Cancelled),
                _ => self.cancel_later(retry),
            }),
        }
    }

    /// A pause that a person asked for is not taken back by what happens meanwhile.
    fn failed_while_pausing(
        &self,
        reason: PauseReason,
        kind: ErrorKind,
        retry: Retry,
    ) -> Transition {
        match PauseReason::for_error(kind) {
            Some(_) if self.facts.wanted == Wanted::Pause => self.rest(reason, None),
            Some(cause) => self.rest(cause, self.mending_delay(cause, retry)),
            None if retry == Retry::Never => self.end(RunState::Failed),
            None => {
                let attempt = self.attempt(RunState::Paused, self.attempts(), retry);
                match attempt.state {
                    RunState::Paused => {
                        Transition { pause_reason: Some(reason), delay: None, ..attempt }
                    }
                    _ => attempt,
                }
            }
        }
    }

    /// It cannot rest any more, so what a person or time mends is waited for as long as may be.
    fn failed_while_committing(&self, kind: ErrorKind, retry: Retry) -> Transition {
        let mendable = PauseReason::for_error(kind).is_some();
        if !mendable && retry == Retry::Never {
            return self.end(RunState::Failed);
        }
        let attempt = self.attempt(RunState::Committing, self.attempts(), retry);
        if mendable && !attempt.exhausted {
            let delay = Some(self.policy.longest_delay(retry, self.facts.jitter));
            return Transition { delay, ..attempt };
        }
        attempt
    }

    /// The attempts on record; progress ends their count.
    fn attempts(&self) -> u32 {
        if self.facts.progressed { 0 } else { self.facts.attempts }
    }

    /// How long a run rests that time may mend; `None` where only a person can.
    fn mending_delay(&self, reason: PauseReason, retry: Retry) -> Option<Duration> {
        let named = matches!(retry, Retry::After(_));
        (reason == PauseReason::Throttled || (reason == PauseReason::Quota && named))
            .then(|| self.policy.longest_delay(retry, self.facts.jitter))
    }

    /// Moves on; everything else stays as it is, and an earlier wait ends.
    fn to(&self, state: RunState) -> Transition {
        Transition {
            changed: true,
            state,
            wanted: self.facts.wanted,
            pause_reason: self.facts.pause_reason,
            lease: LeaseChange::Keep,
            attempts: self.facts.attempts,
            attempt_counted: false,
            delay: None,
            exhausted: false,
        }
    }

    fn unchanged(&self) -> Transition {
        Transition { changed: false, ..self.to(self.state) }
    }

    fn claim(&self, state: RunState) -> Transition {
        Transition { lease: LeaseChange::Take, pause_reason: None, ..self.to(state) }
    }

    fn release(&self, state: RunState) -> Transition {
        Transition {
            lease: LeaseChange::Release,
            pause_reason: None,
            attempts: self.attempts(),
            ..self.to(state)
        }
    }

    fn end(&self, state: RunState) -> Transition {
        Transition { attempts: self.facts.attempts, ..self.release(state) }
    }

    fn rest(&self, reason: PauseReason, delay: Option<Duration>) -> Transition {
        Transition { pause_reason: Some(reason), delay, ..self.release(RunState::Paused) }
    }

    fn rest_as_asked(&self) -> Transition {
        Transition { wanted: Wanted::Pause, ..self.rest(PauseReason::User, None) }
    }

    fn yielded(&self) -> Transition {
        self.release(RunState::Queued)
    }

    fn lease_lost(&self) -> Transition {
        self.attempt(RunState::Queued, self.attempts(), Retry::Soon)
    }

    /// Counts an attempt: on to `state` for the next one, or failed after the last.
    fn attempt(&self, state: RunState, before: u32, retry: Retry) -> Transition {
        let attempts = before.saturating_add(1);
        let exhausted = self.policy.is_exhausted(attempts);
        let delay = self.policy.delay(attempts, retry, self.facts.jitter);
        Transition {
            attempts,
            attempt_counted: true,
            delay: (!exhausted).then_some(delay),
            exhausted,
            ..self.release(if exhausted { RunState::Failed } else { state })
        }
    }

    /// A worker does it; until one comes the run stays where it is, claimable at once.
    fn ask_cancel_of_idle(&self) -> Transition {
        if self.facts.wanted == Wanted::Cancel {
            return self.unchanged();
        }
        Transition { wanted: Wanted::Cancel, ..self.to(self.state) }
    }

    fn ask_cancel_of_leased(&self) -> Transition {
        Transition { wanted: Wanted::Cancel, pause_reason: None, ..self.to(RunState::Cancelling) }
    }

    /// Tries again soon, uncounted: [`CANCEL_GRACE`](super::CANCEL_GRACE) ends it.
    fn cancel_later(&self, retry: Retry) -> Transition {
        let delay = self.policy.delay(1, retry, self.facts.jitter);
        Transition { delay: Some(delay), ..self.release(RunState::Cancelling) }
    }
}
