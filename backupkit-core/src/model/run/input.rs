//! What moves a run, and what is known of it at that moment.

use super::names::named;
use super::{PauseReason, RunState, Wanted};
use crate::error::{ErrorKind, Retry};

/// What happens to a run: persons ask, workers report, time passes.
///
/// A store checks the fence of a worker before it passes on what the worker reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunInput {
    /// A worker takes the lease.
    Claimed,
    /// A person wants it to go on.
    RunAsked,
    /// A person wants it to rest.
    PauseAsked,
    /// A person wants it to end.
    CancelAsked,
    /// The hours in which it may run are over.
    WindowClosed,
    /// What it rests for is mended: the window is open, the wait is over, there is space again.
    PauseMended,
    /// The worker has saved the checkpoint and let go of everything.
    Rested,
    /// It did not come to rest within [`PAUSE_GRACE`](super::PAUSE_GRACE).
    PauseOverdue,
    /// The worker shuts down in order and gives the run back.
    Yielded,
    /// The lease ran out, or its holder is dead.
    LeaseLost,
    /// The sealed snapshots are on record, in the same transaction. Runs without snapshots record
    /// none and come through here too.
    CommitRecorded,
    /// Something that a sealed snapshot names is gone; the sealed bytes are dropped.
    BlobLost,
    /// The worker has finished the commit.
    Finished(RunOutcome),
    /// The worker gave up with an error.
    Failed {
        /// What went wrong.
        kind: ErrorKind,
        /// Whether another attempt may succeed.
        retry: Retry,
    },
    /// The worker has removed what only the cancelled run needed.
    CancelFinished,
    /// Nobody could finish the cancelled run within [`CANCEL_GRACE`](super::CANCEL_GRACE).
    CancelOverdue,
}

named! {
    /// How a commit ended.
    pub enum RunOutcome: "outcome of a run" {
        /// All of it, stored, and readable.
        Succeeded = "succeeded",
        /// Some entries are missing or uncertain.
        Warnings = "warnings",
        /// Some outputs failed.
        Partial = "partial",
        /// All outputs failed.
        Failed = "failed",
    }
}

impl From<RunOutcome> for RunState {
    fn from(outcome: RunOutcome) -> Self {
        match outcome {
            RunOutcome::Succeeded => Self::Succeeded,
            RunOutcome::Warnings => Self::Warnings,
            RunOutcome::Partial => Self::Partial,
            RunOutcome::Failed => Self::Failed,
        }
    }
}

/// What is on record about a run besides its state, and what chance gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunFacts {
    /// What a person wants.
    pub wanted: Wanted,
    /// Why it rests or comes to rest.
    pub pause_reason: Option<PauseReason>,
    /// Whether somebody holds its lease.
    pub leased: bool,
    /// The attempts on record: [`Transition::attempts`](super::Transition::attempts) of the last
    /// transition.
    pub attempts: u32,
    /// Whether a checkpoint with more in it was saved since the lease was taken.
    pub progressed: bool,
    /// Chance, drawn by the caller: 0 for the shortest wait, `u16::MAX` for the longest.
    pub jitter: u16,
}

impl Default for RunFacts {
    /// Those of a new run.
    fn default() -> Self {
        Self {
            wanted: Wanted::Run,
            pause_reason: None,
            leased: false,
            attempts: 0,
            progressed: false,
            jitter: 0,
        }
    }
}
