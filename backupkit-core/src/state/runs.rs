//! Runs: what was asked for, and what became of it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::value::RawValue;

use super::actor::{Actor, Scope, check_label};
use super::id::random_id;
use super::leases::WorkerId;
use super::record::{RecordId, check_name};
use super::refusal;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AttemptPolicy, PauseReason, RunKind, RunState, Wanted};

/// The longest settings, progress or report of a run, in bytes.
pub const MAX_RUN_BODY_BYTES: usize = 1 << 20;
/// A run uses no more resources.
pub const MAX_SLOTS: usize = 64;
/// The longest message of a [`Cause`], in bytes.
pub const MAX_CAUSE_BYTES: usize = 16 << 10;

/// Keeps runs and what people want of them.
///
/// # Contract
/// 1. Runs are numbered from 1 without gaps in each scope, in the order in which they were created.
/// 2. [`NewRun::key`] is unique in its scope, also among runs that have ended, until they are removed:
///    creating a run with the key of another one returns that one as it stands and changes nothing. So
///    an order that is repeated starts nothing twice.
/// 3. Of the runs of a scope with the same [`NewRun::exclusive`], at most one has not ended; another
///    is refused with code `run-active`, and the message names the run.
/// 4. What becomes of a run is decided by [`RunState::after`] alone. What it refuses is refused with its
///    error and changes nothing.
/// 5. Nothing of another scope is seen or changed.
/// 6. A change takes effect as a whole or not at all, also when its future is dropped; on return it is
///    durable, as far as the store is.
/// 7. Bodies and texts come back byte by byte.
/// 8. A number is never given to a second run, also after the first was removed.
#[async_trait]
pub trait Runs: fmt::Debug + Send + Sync + 'static {
    /// Adds a run, queued, wanted to run; or returns the one with the same key.
    ///
    /// # Errors
    /// `Conflict` with code `id-taken` if there is a run with this id and another key, `Conflict` with
    /// code `run-active` if another run excludes it, `InvalidInput` for what [`NewRun::check`] refuses.
    async fn create_run(&self, scope: &Scope, actor: &Actor, run: NewRun) -> Result<Run>;

    /// A run by its id; nothing if there is none.
    async fn run(&self, scope: &Scope, id: RunId) -> Result<Option<Run>>;

    /// At most `most` runs with a number below `before`, newest first.
    async fn runs(
        &self,
        scope: &Scope,
        filter: &RunFilter,
        before: Option<u64>,
        most: usize,
    ) -> Result<Vec<Run>>;

    /// Says what a person wants of a run: `RunAsked`, `PauseAsked` or `CancelAsked`. Asking twice is no
    /// error.
    ///
    /// # Errors
    /// `NotFound` with code `no-such-run`; what [`RunState::after`] refuses.
    async fn ask(&self, scope: &Scope, actor: &Actor, id: RunId, wanted: Wanted) -> Result<Run>;

    /// Says that what a run rests for is mended: its window is open, it has new credentials, there is
    /// space again (`PauseMended`). For schedulers and setups; unlike [`ask`](Self::ask) it does not
    /// undo what a person wants.
    ///
    /// # Errors
    /// `NotFound` with code `no-such-run`; what [`RunState::after`] refuses.
    async fn mend(&self, scope: &Scope, id: RunId) -> Result<Run>;

    /// Removes at most `most` runs that ended before a time, with all that is kept of them, oldest
    /// first. Returns their ids.
    async fn remove_ended(
        &self,
        scope: &Scope,
        before: Timestamp,
        most: usize,
    ) -> Result<Vec<RunId>>;

    /// A number that has changed if anything in the store was changed since it was asked for the last
    /// time, by this process or another. Cheap: asked every 250 ms.
    async fn version(&self) -> Result<u64>;
}

random_id! {
    /// Tells a run from all others, of whatever scope. Random; whoever creates a run draws it.
    RunId: "run"
}

/// A run that is to be.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Its id.
    pub id: RunId,
    /// What it does.
    pub kind: RunKind,
    /// What people call it, such as the name of its plan at that time; with the limits of a name.
    pub title: String,
    /// The plan that it executes.
    pub plan: Option<RecordId>,
    /// All that it goes by, as one JSON value. It keeps these settings to its end, whatever becomes of
    /// its plan. The store does not look into it. It holds no secret.
    pub settings: Arc<RawValue>,
    /// The run whose failed outputs it makes again.
    pub retry_of: Option<RunId>,
    /// A word that whoever orders it chose, so that ordering twice makes one run.
    pub key: Option<String>,
    /// Runs with the same word exclude each other.
    pub exclusive: Option<String>,
    /// The higher, the earlier it is claimed.
    pub priority: i32,
    /// What it uses up while it is leased.
    pub slots: Vec<Slot>,
    /// How often it is tried.
    pub attempts: AttemptPolicy,
}

/// Something of which only so many runs may make use at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Such as `source <id>`. Means the same in all scopes.
    pub resource: String,
    /// How many leased runs may use it, this one included. At least 1.
    pub most: u32,
}

/// What is on record about a run.
#[derive(Debug, Clone)]
pub struct Run {
    /// From 1, without gaps in its scope.
    pub number: u64,
    /// Whose it is.
    pub scope: Scope,
    /// Who created it.
    pub actor: Actor,
    /// What it was created from.
    pub new: NewRun,
    /// What is true.
    pub state: RunState,
    /// What a person wants.
    pub wanted: Wanted,
    /// Since when a person wants it.
    pub wanted_since: Timestamp,
    /// Who wants it.
    pub wanted_by: Actor,
    /// Why it rests or comes to rest.
    pub pause_reason: Option<PauseReason>,
    /// Attempts without progress so far.
    pub attempts: u32,
    /// The last error. None once the run has ended as succeeded, or with warnings only.
    pub cause: Option<Cause>,
    /// Not claimable before; while it is paused: when its cause counts as mended.
    pub not_before: Option<Timestamp>,
    /// How far it was when its worker said so last, as one JSON value.
    pub progress: Option<Arc<RawValue>>,
    /// What came of it, as one JSON value. Its outputs stand there.
    pub report: Option<Arc<RawValue>>,
    /// The number of its last log line; 0 for none.
    pub last_log: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was claimed for the first time.
    pub started_at: Option<Timestamp>,
    /// When its state changed last.
    pub state_since: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Who holds its lease.
    pub worker: Option<WorkerId>,
}

/// Why a run failed, rests or has to be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The kind of error.
    pub kind: ErrorKind,
    /// Its stable code, if it has one.
    pub code: Option<String>,
    /// One line: what was being done, and what to do. No secret.
    pub message: String,
}

impl NewRun {
    /// Returns a run that asks for nothing special.
    pub fn new(
        id: RunId,
        kind: RunKind,
        title: impl Into<String>,
        settings: Arc<RawValue>,
    ) -> Self {
        Self {
            id,
            kind,
            title: title.into(),
            plan: None,
            settings,
            retry_of: None,
            key: None,
            exclusive: None,
            priority: 0,
            slots: Vec::new(),
            attempts: AttemptPolicy::default(),
        }
    }

    /// Says what is wrong with it, if anything is: for stores, before they keep it.
    ///
    /// # Errors
    /// `InvalidInput` for a title that is no name, settings longer than [`MAX_RUN_BODY_BYTES`], more
    /// than [`MAX_SLOTS`] slots, a resource that is used twice or by none, and for a key, a word or a
    /// resource that is empty, longer than 200 bytes, or holds control characters.
    pub fn check(&self) -> Result<()> {
        check_name(&self.title)?;
        check_body("settings", Some(&self.settings))?;
        for label in [&self.key, &self.exclusive].into_iter().flatten() {
            check_label(label, "a word of a run")?;
        }
        for slot in &self.slots {
            check_label(&slot.resource, "a resource of a run")?;
        }
        let refused = |why: String| Err(Error::new(ErrorKind::InvalidInput, why));
        if self.slots.len() > MAX_SLOTS {
            return refused(format!("a run uses at most {MAX_SLOTS} resources"));
        }
        if self.slots.iter().any(|slot| slot.most == 0) {
            return refused("a resource that no run may use cannot be used".to_owned());
        }
        let resources: BTreeSet<&str> = self.slots.iter().map(|slot| &slot.resource[..]).collect();
        if resources.len() < self.slots.len() {
            return refused("a run uses each of its resources once".to_owned());
        }
        Ok(())
    }
}

impl Run {
    /// Whether it has ended, or rests until somebody or time lets it go on. One that rests and is to be
    /// cancelled still has its end before it.
    pub fn is_still(&self) -> bool {
        let rests = self.state == RunState::Paused && self.wanted != Wanted::Cancel;
        self.state.is_terminal() || rests
    }
}

impl Cause {
    /// Returns what is to be kept of an error. Cuts off what is too long.
    pub fn of(error: &Error) -> Self {
        let mut message = error.report();
        message.truncate(message.floor_char_boundary(MAX_CAUSE_BYTES));
        Self { kind: error.kind(), code: Some(error.code().to_owned()), message }
    }

    /// Says what is wrong with it, if anything is: for stores, before they keep it.
    ///
    /// # Errors
    /// `InvalidInput` if it is longer than [`MAX_CAUSE_BYTES`].
    pub fn check(&self) -> Result<()> {
        let bytes = self.message.len() + self.code.as_ref().map_or(0, String::len);
        if bytes > MAX_CAUSE_BYTES {
            return Err(refusal::body_too_long("cause", bytes, MAX_CAUSE_BYTES));
        }
        Ok(())
    }
}

/// Whether a body may be kept.
pub(super) fn check_body(what: &str, body: Option<&Arc<RawValue>>) -> Result<()> {
    let bytes = body.map_or(0, |body| body.get().len());
    if bytes > MAX_RUN_BODY_BYTES {
        return Err(refusal::body_too_long(what, bytes, MAX_RUN_BODY_BYTES));
    }
    Ok(())
}

/// Which runs are listed. What is empty restricts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only in these states.
    pub states: Vec<RunState>,
    /// Only of this plan.
    pub plan: Option<RecordId>,
    /// Only of this kind.
    pub kind: Option<RunKind>,
}

impl RunFilter {
    /// Runs that have not ended.
    pub fn not_ended() -> Self {
        Self::of_states(|state| !state.is_terminal())
    }

    /// Runs that have ended.
    pub fn ended() -> Self {
        Self::of_states(RunState::is_terminal)
    }

    fn of_states(is_listed: impl Fn(RunState) -> bool) -> Self {
        let states = RunState::ALL.iter().copied().filter(|state| is_listed(*state)).collect();
        Self { states, ..Self::default() }
    }
}
