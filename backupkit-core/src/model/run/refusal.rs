//! Why a run does not move.

use super::RunState;
use crate::error::{Error, ErrorKind};

/// Why what happened changes nothing: the run is not where it could.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has ended.
    #[error("the run has ended as {0}; start a new one")]
    Ended(RunState),
    /// It can only be finished.
    #[error("the run is committing and can only be finished; wait for its end")]
    Committing,
    /// A person asked to cancel it, which cannot be taken back.
    #[error("the run is being cancelled, which cannot be taken back; start a new one")]
    CancelAsked,
    /// A person paused it, so nothing but a person lets it go on.
    #[error("the run was paused by a person; resume it")]
    PausedByPerson,
    /// It rests.
    #[error("the run is paused; resume it")]
    Paused,
    /// Somebody holds its lease.
    #[error("the run is leased by a worker; wait until it ends, rests or loses its lease")]
    Leased,
    /// Nobody holds its lease, so no worker has anything to report.
    #[error("the run is leased by nobody; claim it first")]
    NotLeased,
    /// It neither rests nor comes to rest.
    #[error("the run is not paused")]
    NotPaused,
    /// It was asked to rest before its commit was on record.
    #[error("the run was asked to rest; save a checkpoint instead")]
    Pausing,
    /// Its commit is not on record.
    #[error("the run is not committing; record its commit first")]
    NotCommitting,
    /// Nobody asked to cancel it.
    #[error("the run is not being cancelled; ask for that first")]
    NotCancelling,
}

impl Refusal {
    /// The code of its error.
    pub const CODE: &'static str = "run-refused";

    /// Returns a `Conflict` with the [code](Self::CODE) `run-refused`.
    pub fn into_error(self) -> Error {
        Error::new(ErrorKind::Conflict, self.to_string()).with_code(Self::CODE)
    }
}
