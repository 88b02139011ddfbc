//! Exit codes: the one place where errors and results become numbers.

use backupkit_core::manage::ConfigErrors;
use backupkit_core::model::{Event, PauseReason, RunState};
use backupkit_core::state::{Cause, Run};
use backupkit_core::{Error, ErrorKind, RestoreReport, RunStatus};

/// The code of errors in the command line or in the variables that belong to it.
const USAGE: &str = "usage";

/// How the program ends. The numbers are promised in the README.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Success = 0,
    Failure = 1,
    Usage = 2,
    UnreadableEntries = 3,
    SomeRepositoriesFailed = 4,
    NoRepository = 10,
    Locked = 11,
    WrongPassword = 12,
    Damaged = 13,
    PermissionDenied = 14,
    Interrupted = 130,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// The code for a run that did not fail.
    pub(crate) fn of_status(status: RunStatus) -> Self {
        match status {
            RunStatus::Succeeded => Self::Success,
            RunStatus::Warnings => Self::UnreadableEntries,
            RunStatus::Partial => Self::SomeRepositoriesFailed,
            RunStatus::Paused => Self::Interrupted,
        }
    }

    /// The code for a run on record, and whether it found damage.
    pub(crate) fn of_run(run: &Run, found_damage: bool) -> Self {
        let failure = || run.cause.as_ref().map_or(Self::Failure, Self::of_cause);
        // What somebody has to mend is no interruption, even if the run only rests until then.
        let is_stuck = run
            .pause_reason
            .is_some_and(|reason| !matches!(reason, PauseReason::User | PauseReason::Window));
        match run.state {
            RunState::Succeeded => Self::Success,
            RunState::Warnings if found_damage => Self::Damaged,
            RunState::Warnings => Self::UnreadableEntries,
            RunState::Partial => Self::SomeRepositoriesFailed,
            RunState::Paused | RunState::Pausing if is_stuck => failure(),
            RunState::Paused | RunState::Pausing | RunState::Cancelled | RunState::Cancelling => {
                Self::Interrupted
            }
            RunState::Queued | RunState::Running | RunState::Committing | RunState::Failed => {
                failure()
            }
        }
    }

    /// The code for a restore that did not fail.
    pub(crate) fn of_restore(report: &RestoreReport) -> Self {
        if report.is_complete() {
            Self::Success
        } else if report.verified.is_some_and(|counts| counts.differs > 0)
            || report.problems.iter().any(Event::is_damage)
        {
            Self::Damaged
        } else {
            Self::UnreadableEntries
        }
    }

    /// The code for an error that ends the program.
    pub(crate) fn of_error(error: &Error) -> Self {
        Self::of(error.kind(), error.code())
    }

    /// The code for a file in which something is wrong: what all of it has in common, if that says more than
    /// that it will not do.
    pub(crate) fn of_configuration(errors: &ConfigErrors) -> Self {
        let mut exits = errors.iter().map(|error| Self::of(error.kind, error.code));
        match exits.next() {
            Some(first) if first != Self::Failure && exits.all(|exit| exit == first) => first,
            _ => Self::Usage,
        }
    }

    /// The code for what made a run fail. Nobody typed that, or stopped it.
    fn of_cause(cause: &Cause) -> Self {
        match Self::of(cause.kind, cause.code.as_deref().unwrap_or_default()) {
            Self::Usage | Self::Interrupted => Self::Failure,
            exit => exit,
        }
    }

    fn of(kind: ErrorKind, code: &str) -> Self {
        match (code, kind) {
            (USAGE | "no-password", _)
            | (_, ErrorKind::InvalidConfig | ErrorKind::InvalidInput) => Self::Usage,
            ("repository-not-found", _) => Self::NoRepository,
            (_, ErrorKind::Locked) => Self::Locked,
            (_, ErrorKind::WrongPassword) => Self::WrongPassword,
            (_, ErrorKind::Corrupt) => Self::Damaged,
            (_, ErrorKind::PermissionDenied | ErrorKind::Unauthenticated) => Self::PermissionDenied,
            (_, ErrorKind::Cancelled) => Self::Interrupted,
            _ => Self::Failure,
        }
    }
}

/// Returns an error in what the user typed or set.
pub(crate) fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message.into()).with_code(USAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_its_promised_code() {
        for (error, code) in [
            (usage("x"), 2),
            (usage("x").with_code("no-password"), 2),
            (Error::new(ErrorKind::InvalidConfig, "x"), 2),
            (Error::new(ErrorKind::InvalidInput, "x"), 2),
            (Error::new(ErrorKind::NotFound, "x").with_code("repository-not-found"), 10),
            (Error::new(ErrorKind::NotFound, "x").with_code("snapshot-not-found"), 1),
            (Error::new(ErrorKind::NotFound, "x"), 1),
            (Error::new(ErrorKind::Locked, "x"), 11),
            (Error::new(ErrorKind::Locked, "x").with_code("lock-lost"), 11),
            (Error::new(ErrorKind::WrongPassword, "x"), 12),
            (Error::corrupt("x", "y"), 13),
            (Error::new(ErrorKind::PermissionDenied, "x"), 14),
            (Error::new(ErrorKind::Unauthenticated, "x"), 14),
            (Error::cancelled(), 130),
            (Error::new(ErrorKind::StorageFull, "x"), 1),
            (Error::new(ErrorKind::Internal, "x"), 1),
        ] {
            assert_eq!(Exit::of_error(&error).code(), code, "{error:?}");
        }
    }

    #[test]
    fn what_made_a_run_fail_has_the_code_of_the_error() {
        for (error, code) in [
            (Error::new(ErrorKind::NotFound, "x").with_code("repository-not-found"), 10),
            (Error::new(ErrorKind::Locked, "x"), 11),
            (Error::corrupt("x", "y"), 13),
            (Error::new(ErrorKind::InvalidConfig, "x"), 1),
            (Error::cancelled(), 1),
            (Error::new(ErrorKind::StorageFull, "x"), 1),
        ] {
            assert_eq!(Exit::of_cause(&Cause::of(&error)).code(), code, "{error:?}");
        }
    }

    #[test]
    fn every_end_of_a_run_has_its_promised_code() {
        for (status, code) in [
            (RunStatus::Succeeded, 0),
            (RunStatus::Warnings, 3),
            (RunStatus::Partial, 4),
            (RunStatus::Paused, 130),
        ] {
            assert_eq!(Exit::of_status(status).code(), code);
        }
    }
}
