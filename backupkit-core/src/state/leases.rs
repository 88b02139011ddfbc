//! Who works at a run.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;

use super::actor::checked;
use super::runs::{Cause, Run, RunId, check_body};
use crate::error::Result;
use crate::model::{RunInput, RunState, Wanted};

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
/// 9. Once a run has ended, its checkpoints, noted packs and sealed outputs are gone. Once a commit is
///    taken back (`BlobLost`), its sealed outputs are.
#[async_trait]
pub trait Leases: fmt::Debug + Send + Sync + 'static {
    /// Takes a run that waits for a worker; nothing if there is none.
    ///
    /// Runs that rest as soon as they are claimed, since a person wants them to, are moved on the way.
    async fn claim(&self, claim: &Claim) -> Result<Option<Lease>>;

    /// Prolongs the lease to `time` from now, and notes how far the run is.
    ///
    /// # Errors
    /// `Conflict` with code `lease-lost`; `InvalidInput` for progress of more than
    /// [`MAX_RUN_BODY_BYTES`](super::MAX_RUN_BODY_BYTES).
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
    /// `Conflict` with code `lease-lost`; what [`RunState::after`] refuses; `InvalidInput` for what
    /// [`Report::check`] refuses, and for what persons ask or time brings, which no worker reports.
    async fn report(&self, lease: &LeaseRef, input: RunInput, report: Report) -> Result<Run>;

    /// The workers that hold leases.
    async fn holders(&self) -> Result<Vec<WorkerId>>;

    /// Lets time take effect on at most `most` runs, and returns how many moved: leases that are over,
    /// or held by one of the `dead`, are lost (`LeaseLost`, with [`Cause`] code `worker-lost` unless a
    /// cause is on record); what rests is mended when its time has come (`PauseMended`); what is
    /// overdue counts as such (`PauseOverdue` after [`PAUSE_GRACE`](crate::model::PAUSE_GRACE),
    /// `CancelOverdue` after [`CANCEL_GRACE`](crate::model::CANCEL_GRACE)).
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

impl WorkerId {
    /// Returns the worker of this name.
    ///
    /// # Errors
    /// `InvalidInput` if it is empty, longer than 200 bytes, or holds control characters.
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self> {
        checked(name.into(), "a worker").map(Self)
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl LeaseRef {
    /// Returns the proof with this fence: for stores.
    pub fn new(run: RunId, fence: u64) -> Self {
        Self { run, fence }
    }

    /// The run that is held.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The number of the claim: for stores.
    pub fn fence(&self) -> u64 {
        self.fence
    }
}

impl Claim {
    /// Returns the wish for any run.
    pub fn new(worker: WorkerId, time: Duration) -> Self {
        Self { worker, time, only: None }
    }

    /// Restricts it to one run.
    #[must_use]
    pub fn only(mut self, run: RunId) -> Self {
        self.only = Some(run);
        self
    }
}

impl Report {
    /// Says what is wrong with it, if anything is: for stores, before they keep it.
    ///
    /// # Errors
    /// `InvalidInput` for a body longer than [`MAX_RUN_BODY_BYTES`](super::MAX_RUN_BODY_BYTES), and for
    /// what [`Cause::check`] refuses.
    pub fn check(&self) -> Result<()> {
        check_body("report", self.body.as_ref())?;
        self.cause.as_ref().map_or(Ok(()), Cause::check)
    }
}

/// Whether a run may say that it is so far: for stores.
///
/// # Errors
/// `InvalidInput` if it is longer than [`MAX_RUN_BODY_BYTES`](super::MAX_RUN_BODY_BYTES).
pub fn check_progress(progress: Option<&Arc<RawValue>>) -> Result<()> {
    check_body("progress", progress)
}
