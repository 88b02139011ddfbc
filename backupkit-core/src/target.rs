//! The trait to implement for restoring into a new kind of place.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

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
}

/// What to do with what the target already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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

/// One restore under way.
///
/// # Contract
/// 1. [`plan`](Self::plan) writes nothing, gives phases in ascending order, and gives the same steps
///    again on a resume: decisions other than "create" are taken once and kept.
/// 2. [`write`](Self::write) is idempotent: the same step may be written again after a crash.
/// 3. Nothing is written outside the root of the target, whatever the snapshot or the target holds.
/// 4. A file that is not completely written does not stand under its own name.
/// 5. [`verify`](Self::verify) reads back what is really there.
#[async_trait]
pub trait RestoreSession: fmt::Debug + Send + Sync + 'static {
    /// The steps, in the order of their phases. A dry run ends here.
    fn plan(&self) -> BoxStream<'static, Result<Step>>;

    /// Does one step. `from` continues a step that an earlier session wrote in part.
    async fn write(
        &self,
        step: &Step,
        body: BodyReader,
        from: Option<WriteToken>,
    ) -> Result<Written>;

    /// Called once all steps of a phase are done, before the next phase begins.
    async fn end_phase(&self, phase: Phase) -> Result<()>;

    /// Compares what the target has with what the step should have made.
    async fn verify(&self, step: &Step, level: VerifyLevel) -> Result<Verdict>;

    /// Ends the restore after the last phase. What was written is durable on return.
    async fn finish(&self) -> Result<RestoreNotes>;

    /// Ends the restore early: removes what is incomplete, keeps what is whole.
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
pub struct BodyReader(BoxStream<'static, Result<BodyPiece>>);

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
        Self(pieces)
    }

    /// Returns a reader without bytes.
    pub fn empty() -> Self {
        Self(Box::pin(futures::stream::empty()))
    }

    /// The next bytes; `None` at the end. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<BodyPiece>> {
        futures::StreamExt::next(&mut self.0).await
    }
}

impl fmt::Debug for BodyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyReader").finish_non_exhaustive()
    }
}

/// What came of a step.
#[derive(Debug, Default)]
pub struct Written {
    /// How many bytes were written.
    pub bytes: u64,
    /// What could not be given back though the entry itself was, such as an owner.
    pub warnings: Vec<Error>,
}

/// How closely to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
    /// Sentences for people. No secrets.
    pub warnings: Vec<String>,
}
