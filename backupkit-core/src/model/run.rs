//! Runs: their states and what moves them from one to the next. Plain data and one pure function,
//! [`RunState::after`], so that every store and worker decides alike.

mod attempts;
mod input;
mod names;
mod refusal;
mod transition;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use attempts::AttemptPolicy;
pub use input::{RunFacts, RunInput, RunOutcome};
pub use names::ParseRunNameError;
pub use refusal::Refusal;
pub use transition::{LeaseChange, Transition};

use crate::error::ErrorKind;
use names::named;

/// How long a run may take to come to rest; after that its last checkpoint counts.
pub const PAUSE_GRACE: Duration = Duration::from_secs(30);

/// How long a cancelled run waits for a worker and its repositories; after that it counts as
/// cancelled, and maintenance removes what it left.
pub const CANCEL_GRACE: Duration = Duration::from_mins(10);

named! {
    /// Where a run stands: what is true, whatever a person [wants](Wanted).
    pub enum RunState: "state of a run" {
        /// Waits for a worker.
        Queued = "queued",
        /// A worker is at it.
        Running = "running",
        /// Reads nothing more and writes its checkpoint.
        Pausing = "pausing",
        /// Rests: holds no lock, lease, file or memory.
        Paused = "paused",
        /// Its snapshots are sealed and on record, and are being created. It can only be finished.
        Committing = "committing",
        /// Gives up, and removes what only it needs.
        Cancelling = "cancelling",
        /// Ended because a person asked for it. Published nothing.
        Cancelled = "cancelled",
        /// Ended: all of it, stored, and readable.
        Succeeded = "succeeded",
        /// Ended: some entries are missing or uncertain.
        Warnings = "warnings",
        /// Ended: some outputs failed.
        Partial = "partial",
        /// Ended without a result.
        Failed = "failed",
    }
}

named! {
    /// What a person wants of a run, whatever is [true](RunState) yet.
    pub enum Wanted: "wish for a run" {
        /// That it goes on to its end.
        Run = "run",
        /// That it rests.
        Pause = "pause",
        /// That it ends and leaves nothing. Cannot be taken back.
        Cancel = "cancel",
    }
}

named! {
    /// Why a run rests.
    pub enum PauseReason: "reason for a pause" {
        /// A person asked for it.
        User = "user",
        /// The hours in which it may run are over.
        Window = "window",
        /// Credentials or a password were refused; a person gives new ones.
        Credentials = "credentials",
        /// No space is left; a person makes some.
        Space = "space",
        /// A quota is used up; time or a person mends it.
        Quota = "quota",
        /// The other side asks to slow down; time mends it.
        Throttled = "throttled",
    }
}

named! {
    /// What a run does.
    pub enum RunKind: "kind of run" {
        /// Copies sources into repositories.
        Backup = "backup",
        /// Puts a snapshot into a target.
        Restore = "restore",
        /// Proves that snapshots can be restored.
        Verify = "verify",
        /// Removes from repositories what no snapshot needs.
        Prune = "prune",
        /// Tidies up: what crashed, cancelled and old runs left.
        Maintenance = "maintenance",
    }
}

impl RunState {
    /// Whether this is an end: nothing moves a run out of it.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Cancelled | Self::Succeeded | Self::Warnings | Self::Partial | Self::Failed => {
                true
            }
            Self::Queued
            | Self::Running
            | Self::Pausing
            | Self::Paused
            | Self::Committing
            | Self::Cancelling => false,
        }
    }

    /// Whether a worker has something to do with a run in this state that nobody holds a lease of.
    ///
    /// A store also looks at the time before which it may not be claimed.
    pub fn is_claimable(self, wanted: Wanted) -> bool {
        match self {
            Self::Queued | Self::Committing | Self::Cancelling => true,
            Self::Paused => wanted == Wanted::Cancel,
            // The first two are leased; once the lease is lost they are queued.
            Self::Running
            | Self::Pausing
            | Self::Cancelled
            | Self::Succeeded
            | Self::Warnings
            | Self::Partial
            | Self::Failed => false,
        }
    }
}

impl PauseReason {
    /// Why a run rests after an error of this kind; `None` if resting does not mend it.
    ///
    /// A run keeps the settings it started with, so wrong settings are not among them; credentials
    /// are looked up each time it goes on.
    pub fn for_error(kind: ErrorKind) -> Option<Self> {
        match kind {
            ErrorKind::Unauthenticated | ErrorKind::WrongPassword => Some(Self::Credentials),
            ErrorKind::StorageFull => Some(Self::Space),
            ErrorKind::QuotaExceeded => Some(Self::Quota),
            // Somebody else works at the repository: time mends that too.
            ErrorKind::RateLimited | ErrorKind::Locked => Some(Self::Throttled),
            ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::PermissionDenied
            | ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::Unsupported
            | ErrorKind::InvalidConfig
            | ErrorKind::InvalidInput
            | ErrorKind::SourceChanged
            | ErrorKind::Corrupt
            | ErrorKind::Conflict
            | ErrorKind::Cancelled
            | ErrorKind::Internal => None,
        }
    }
}
