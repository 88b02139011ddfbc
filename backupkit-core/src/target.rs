//! The trait to implement for restoring into a new kind of place.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::EntryPath;
use crate::probe::Probe;
use crate::snapshot::{SnapshotEntry, SnapshotReader};
use crate::store::AdapterStore;
use crate::token::{CancelToken, WriteToken};

/// A place that snapshots can be restored into.
#[async_trait]
pub trait RestoreTarget: fmt::Debug + Send + Sync + 'static {
    /// What the target can do. Constant over its life.
    fn capabilities(&self) -> TargetCapabilities;

    /// The target as people write it. No secrets.
    fn location(&self) -> String;

    /// Tests whether the target can be reached and written.
    async fn check(&self) -> Result<Probe>;

    /// Starts a restore. Nothing is written before the first step.
    async fn open(&self, cx: RestoreContext) -> Result<Arc<dyn RestoreSession>>;
}

/// What a target can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TargetCapabilities {
    /// How many steps it likes to write at the same time.
    pub concurrency: usize,
    /// Whether it takes the bytes of a step in any order. They then carry their offset; otherwise
    /// they come in order.
    pub random_writes: bool,
}

impl TargetCapabilities {
    /// Returns capabilities with this concurrency, for bytes in order.
    pub fn new(concurrency: usize) -> Self {
        Self { concurrency, random_writes: false }
    }

    /// Says that bytes may come in any order.
    #[must_use]
    pub fn with_random_writes(mut self) -> Self {
        self.random_writes = true;
        self
    }
}

/// What a target gets when a restore starts.
#[derive(Debug, Clone)]
pub struct RestoreContext {
    /// The snapshot to restore from.
    pub snapshot: Arc<dyn SnapshotReader>,
    /// What to restore and how.
    pub options: RestoreOptions,
    /// A small store of the adapter's own, where it keeps decisions before it acts on them.
    pub store: Arc<dyn AdapterStore>,
    /// Tells the session to stop.
    pub cancel: CancelToken,
}

/// What to restore and how.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// The content of this directory of the snapshot, or this one file, goes to the root of the
    /// target. The root: everything, with the directories it stood in.
    pub path: EntryPath,
    /// What to do with what the target already has.
    pub conflict: ConflictPolicy,
    /// What the end of the restore waits for.
    pub durability: Durability,
}

/// What to do with what the target already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConflictPolicy {
    /// Replace what differs; leave alone what is certainly the same.
    #[default]
    Overwrite,
    /// Keep what is there.
    Skip,
    /// Replace only what is older than in the snapshot.
    Newer,
    /// Keep what is there, and restore beside it under a new name.
    Rename,
}

/// What the end of a restore waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// All that was written survives a power cut.
    #[default]
    Durable,
    /// All was handed to the system, which writes it in its own time. Faster, where much fits into
    /// its memory.
    Written,
}

/// One restore under way.
///
/// # Contract
/// 1. [`plan`](Self::plan) writes nothing, gives phases in ascending order, and gives the same steps
///    in the same order again on a resume: decisions other than "create" are taken once and kept.
/// 2. [`write`](Self::write) is idempotent: the same step may be written again after a crash.
/// 3. Nothing is written outside the root of the target, whatever the snapshot or the target holds.
/// 4. A file that is not completely written does not stand under its own name.
/// 5. [`verify`](Self::verify) reads back what is really there.
/// 6. A write may tell how far it is, by [`BodyReader::report`]: the bytes of the step before that
///    place are written, and the token finds them again. A target that never tells is valid.
/// 7. What a token names outlives a write that is dropped, or whose body breaks off as `Cancelled`,
///    and the session. Only [`abort`](Self::abort), [`finish`](Self::finish) and the end of the step
///    remove it. Without anybody who [wants tokens](BodyReader::wants_tokens) nothing is left.
/// 8. A token that is damaged, or whose bytes are gone or changed, makes
///    [`can_resume`](Self::can_resume) say so; nothing is trusted because a token names it.
/// 9. After [`sync`](Self::sync) all that was written before it survives a power cut: the steps that
///    were done, the phases that were ended, and what the tokens told before it name.
#[async_trait]
pub trait RestoreSession: fmt::Debug + Send + Sync + 'static {
    /// The steps, in the order of their phases. A dry run ends here.
    fn plan(&self) -> BoxStream<'static, Result<Step>>;

    /// Does one step.
    ///
    /// `from` continues a step that an earlier write did in part: the body then starts with exactly
    /// the bytes behind those that were told with the token. [`can_resume`](Self::can_resume) was
    /// asked before.
    ///
    /// A dropped call leaves the step undone, or done.
    ///
    /// # Errors
    /// `Conflict` if what the token names is no longer there.
    async fn write(
        &self,
        step: &Step,
        body: BodyReader,
        from: Option<WriteToken>,
    ) -> Result<Written>;

    /// Whether a write of this step can go on from a token that an earlier one told. If not, the step
    /// is written from its beginning, without the token. Cancel safe.
    async fn can_resume(&self, step: &Step, from: &WriteToken) -> Result<bool> {
        let _ = (step, from);
        Ok(false)
    }

    /// Makes durable what was written so far, also while steps are being written. The default is for
    /// targets in which each thing is durable once the call that made it returns. Cancel safe.
    async fn sync(&self) -> Result<()> {
        Ok(())
    }

    /// Does several steps whose bytes are all at hand, where that is cheaper than one after the
    /// other: one result for each, in order, as [`write`](Self::write) would give it. `None`, without
    /// having done anything: this target has no cheaper way. Those that [follow](Step::follows) another
    /// one come behind it.
    async fn write_many(&self, steps: &[WholeStep]) -> Option<Vec<Result<Written>>> {
        let _ = steps;
        None
    }

    /// Called once all steps of a phase are done, before the next phase begins. On a resume it is
    /// called again unless all steps of the phase, and its end, were done and durable before.
    async fn end_phase(&self, phase: Phase) -> Result<()>;

    /// Compares what the target has with what the step should have made.
    async fn verify(&self, step: &Step, level: VerifyLevel) -> Result<Verdict>;

    /// Ends the restore after the last phase. What was written is durable on return, unless the
    /// options ask for less.
    async fn finish(&self) -> Result<RestoreNotes>;

    /// Ends the restore early and for good: removes what is incomplete, also of earlier sessions, and
    /// keeps what is whole. A session that is dropped instead may be followed by another one that goes
    /// on.
    async fn abort(&self) -> Result<()>;
}

/// A stage of a restore. All steps of one phase end before the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Phase(pub u8);

/// One thing to do.
#[derive(Debug, Clone)]
pub struct Step {
    /// When.
    pub phase: Phase,
    /// What to restore.
    pub entry: SnapshotEntry,
    /// Where it goes, below the root of the target.
    pub destination: EntryPath,
    /// What will happen.
    pub action: StepAction,
    /// How many bytes of the snapshot the step needs: the entry's size, or 0.
    pub bytes: u64,
    /// Whether it begins only once the step before it in the plan is over, whatever came of that. Other
    /// steps of a phase are done in any order, some at the same time.
    pub follows: bool,
}

/// A step with all its bytes.
#[derive(Debug, Clone)]
pub struct WholeStep {
    /// The step.
    pub step: Arc<Step>,
    /// Its bytes, in order.
    pub pieces: Vec<BodyPiece>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepAction {
    /// Makes something new.
    Create,
    /// Replaces what is there.
    Overwrite,
    /// Leaves alone what is there.
    Skip,
    /// Makes it under another name.
    Rename(EntryPath),
    /// Cannot be done.
    Refuse(String),
}

/// The bytes of a step.
pub struct BodyReader {
    pieces: BoxStream<'static, Result<BodyPiece>>,
    progress: Option<WriteProgress>,
}

/// Some bytes of a step.
#[derive(Debug, Clone)]
pub struct BodyPiece {
    /// Where in the file they stand.
    pub offset: u64,
    /// The bytes, verified.
    pub bytes: Bytes,
}

impl BodyReader {
    /// Returns a reader of these pieces.
    pub fn new(pieces: BoxStream<'static, Result<BodyPiece>>) -> Self {
        Self { pieces, progress: None }
    }

    /// Notes in `progress` how far the target says it is.
    #[must_use]
    pub fn with_progress(mut self, progress: &WriteProgress) -> Self {
        self.progress = Some(progress.clone());
        self
    }

    /// Returns a reader without bytes.
    pub fn empty() -> Self {
        Self::new(Box::pin(futures::stream::empty()))
    }

    /// The next bytes; `None` at the end. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<BodyPiece>> {
        futures::StreamExt::next(&mut self.pieces).await
    }

    /// Whether somebody may come back with a token. If not, a write that ends early must leave nothing.
    pub fn wants_tokens(&self) -> bool {
        self.progress.is_some()
    }

    /// Tells that the first `bytes` of the step are written, counted from the start of the file, and
    /// that `token` finds them. They need not be durable before [`RestoreSession::sync`].
    pub fn report(&self, bytes: u64, token: WriteToken) {
        if let Some(progress) = &self.progress {
            *progress.last_told() = Some((bytes, token));
        }
    }
}

impl fmt::Debug for BodyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyReader").finish_non_exhaustive()
    }
}

/// How far a step is, as the target tells while it writes it. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct WriteProgress(Arc<Mutex<Option<(u64, WriteToken)>>>);

impl WriteProgress {
    /// Returns one in which nothing was told yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes of the step were written when the target told last, and the token to go on from
    /// there.
    pub fn last(&self) -> Option<(u64, WriteToken)> {
        self.last_told().clone()
    }

    /// Returns one in which an earlier run was told this.
    pub(crate) fn told(bytes: u64, token: WriteToken) -> Self {
        Self(Arc::new(Mutex::new(Some((bytes, token)))))
    }

    fn last_told(&self) -> MutexGuard<'_, Option<(u64, WriteToken)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of a step.
#[derive(Debug, Default)]
pub struct Written {
    /// How many bytes were written, with those of earlier writes that this one continued.
    pub bytes: u64,
    /// What could not be given back though the entry itself was, such as an owner.
    pub warnings: Vec<Error>,
}

/// How closely to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyLevel {
    /// Existence, type and size.
    Count,
    /// By a checksum that the target keeps, or by bytes.
    Checksum,
    /// Byte by byte.
    #[default]
    Bytes,
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The same, at this level.
    Same(VerifyLevel),
    /// Different, in this.
    Differs(String),
    /// Not comparable, for this reason.
    Cannot(String),
}

/// What a target has to tell at the end.
#[derive(Debug, Default)]
pub struct RestoreNotes {
    /// What is not as it was, or may not be, in sentences for people. No secrets.
    pub warnings: Vec<String>,
    /// What is as it was asked for, and worth knowing: it makes no restore one with warnings.
    pub remarks: Vec<String>,
}
