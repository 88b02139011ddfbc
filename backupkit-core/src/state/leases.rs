//! Who works at a run.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;

use super::runs::{Cause, Run, RunId};
use crate::error::Result;
use crate::model::run::{RunInput, RunState, Wanted};

/// Gives runs to workers, each to one at a time. Across all scopes: workers belong to nobody.
///
/// # Contract
/// 1. At most one lease of a run is alive. Each claim gives it a higher fence than any before.
/// 2. With a lease that is lost, released or replaced every call fails with `Conflict` and code
///    `lease-lost`, and changes nothing.
/// 3. A lease is alive until its time is over *and* somebody [swept](Leases::sweep); until then it can
///    be renewed.
/// 4. Time is measured by the clock of the store, in time since boot (sleep counts), so that steps of
///    the wall clock change nothing. After a reboot all leases are over.
/// 5. No more leased runs use a resource than each of them allows.
/// 6. Claimable runs are claimed by priority, then in the order of their creation. A run that cannot be
///    claimed, since its resources are used up or its time has not come, holds up no other.
/// 7. What becomes of a run is decided by [`RunState::after`] alone.
/// 8. A change takes effect as a whole or not at all, also when its future is dropped.
/// 9. Once a run has ended, its checkpoints, noted packs and sealed outputs are gone.
#[async_trait]
pub trait Leases: fmt::Debug + Send + Sync + 'static {
    /// Takes a run that waits for a worker; nothing if there is none.
    ///
    /// Runs that rest as soon as they are claimed, since a person wants them to, are moved on the way.
    async fn claim(&self, claim: &Claim) -> Result<Option<Lease>>;

    /// Prolongs the lease to `time` from now, and notes how far the run is.
    ///
    /// # Errors
    /// `Conflict` with code `lease-lost`.
    async fn renew(
        &self,
        lease: &LeaseRef,
        time: Duration,
        progress: Option<Arc<RawValue>>,
    ) -> Result<Renewal>;

    /// What a person wants, and where the run stands. Cheap: asked whenever the
    /// [version](super::Runs::version) has changed.
    ///
    /// # Errors
    /// `Conflict` with code `lease-lost`.
    async fn renewal(&self, lease: &LeaseRef) -> Result<Renewal>;

    /// Moves the run: what a worker reports of it. `WindowClosed` too, which is heard by whoever holds
    /// it.
    ///
    /// `report` replaces what came of the run so far, if given. `cause` is kept as its last error.
    ///
    /// # Errors
    /// `Conflict` with code `lease-lost`; what [`RunState::after`] refuses.
    async fn report(&self, lease: &LeaseRef, input: RunInput, report: Report) -> Result<Run>;

    /// The workers that hold leases.
    async fn holders(&self) -> Result<Vec<WorkerId>>;

    /// Lets time take effect on at most `most` runs, and returns how many moved: leases that are over,
    /// or held by one of the `dead`, are lost (`LeaseLost`, with [`Cause`] code `worker-lost` unless a
    /// cause is on record); what rests is mended when its time has come (`PauseMended`); what is
    /// overdue counts as such (`PauseOverdue` after [`PAUSE_GRACE`](crate::model::run::PAUSE_GRACE),
    /// `CancelOverdue` after [`CANCEL_GRACE`](crate::model::run::CANCEL_GRACE)).
    async fn sweep(&self, dead: &[WorkerId], most: usize) -> Result<usize>;
}

/// Tells a worker from all others. Whether it lives, whoever can tell says it in [`Leases::sweep`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(Arc<str>);

/// What proves that a worker holds a run: opaque to all but stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseRef {
    run: RunId,
    fence: u64,
}

/// A wish to work.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Who wants to.
    pub worker: WorkerId,
    /// For how long, if it is not renewed.
    pub time: Duration,
    /// Only this run.
    pub only: Option<RunId>,
}

/// A run, and what proves that it is held.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The proof.
    pub lease: LeaseRef,
    /// The run as it stands now.
    pub run: Run,
}

/// What a worker hears of the run that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// What a person wants.
    pub wanted: Wanted,
    /// Where the run stands.
    pub state: RunState,
}

/// What is put on record together with a move.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What came of the run, as one JSON value.
    pub body: Option<Arc<RawValue>>,
    /// The error.
    pub cause: Option<Cause>,
}
