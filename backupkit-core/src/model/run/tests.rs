mod attempts;
mod paths;
mod table;

use super::{RunFacts, RunInput, RunOutcome, RunState, Wanted};
use crate::error::{ErrorKind, Retry};

/// One of each input; of failures and outcomes, one of each that is decided differently.
const INPUTS: [RunInput; 23] = [
    RunInput::Claimed,
    RunInput::RunAsked,
    RunInput::PauseAsked,
    RunInput::CancelAsked,
    RunInput::WindowClosed,
    RunInput::PauseMended,
    RunInput::Rested,
    RunInput::PauseOverdue,
    RunInput::Yielded,
    RunInput::LeaseLost,
    RunInput::CommitRecorded,
    RunInput::BlobLost,
    RunInput::Finished(RunOutcome::Succeeded),
    RunInput::Finished(RunOutcome::Warnings),
    RunInput::Finished(RunOutcome::Partial),
    RunInput::Finished(RunOutcome::Failed),
    CORRUPT,
    UNREACHABLE,
    RunInput::Failed { kind: ErrorKind::StorageFull, retry: Retry::Never },
    RunInput::Failed { kind: ErrorKind::RateLimited, retry: Retry::Soon },
    RunInput::Failed { kind: ErrorKind::Unauthenticated, retry: Retry::Never },
    RunInput::CancelFinished,
    RunInput::CancelOverdue,
];

const CORRUPT: RunInput = RunInput::Failed { kind: ErrorKind::Corrupt, retry: Retry::Never };
const UNREACHABLE: RunInput = RunInput::Failed { kind: ErrorKind::Unavailable, retry: Retry::Soon };

/// The first place of each kind of input in [`INPUTS`]. A new input does not compile until it has
/// a place.
fn place_of(input: RunInput) -> usize {
    match input {
        RunInput::Claimed => 0,
        RunInput::RunAsked => 1,
        RunInput::PauseAsked => 2,
        RunInput::CancelAsked => 3,
        RunInput::WindowClosed => 4,
        RunInput::PauseMended => 5,
        RunInput::Rested => 6,
        RunInput::PauseOverdue => 7,
        RunInput::Yielded => 8,
        RunInput::LeaseLost => 9,
        RunInput::CommitRecorded => 10,
        RunInput::BlobLost => 11,
        RunInput::Finished(_) => 12,
        RunInput::Failed { .. } => 16,
        RunInput::CancelFinished => 21,
        RunInput::CancelOverdue => 22,
    }
}

/// What is on record about a run in this state that nothing special happened to.
fn usual_facts(state: RunState) -> RunFacts {
    use RunState as S;
    RunFacts {
        wanted: match state {
            S::Pausing | S::Paused => Wanted::Pause,
            S::Cancelling | S::Cancelled => Wanted::Cancel,
            _ => Wanted::Run,
        },
        pause_reason: matches!(state, S::Pausing | S::Paused).then_some(super::PauseReason::User),
        leased: matches!(state, S::Running | S::Pausing | S::Committing | S::Cancelling),
        ..RunFacts::default()
    }
}
