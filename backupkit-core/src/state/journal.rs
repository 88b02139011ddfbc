//! The memory of one run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;
use crate::model::{BlobId, IndexId, LockId, PackId, SnapshotId};

/// The memory of one run. The engine calls it in this order: packs and checkpoints while it reads,
/// then the commit. A run that is started again with the same journal goes on from there.
///
/// A restore uses the checkpoint, of at most 1 MiB, and begins a commit without outputs once all is
/// written. Once it is finished or cancelled, its checkpoint says that nothing is left to go on with.
#[async_trait]
pub trait RunJournal: fmt::Debug + Send + Sync + 'static {
    /// How often checkpoints are worth taking while the run reads; `None`: only when it rests, since
    /// the journal does not outlive the process.
    fn checkpoint_interval(&self) -> Option<CheckpointInterval>;

    /// Whether this is all that a run goes on from, since it outlives the process. Without, the run also
    /// goes on from what another backup of the same origin left in the repository.
    fn outlives_process(&self) -> bool {
        false
    }

    /// Replaces the checkpoint. All that it names is durable. `reach` says how far the run is: it is
    /// greater than before if something was done since, in a unit of the run's own.
    ///
    /// # Errors
    /// With code [`CHECKPOINT_TOO_LONG`](super::refusal::CHECKPOINT_TOO_LONG) if there is no room for it:
    /// the engine then offers a smaller one.
    async fn save_checkpoint(&self, checkpoint: Bytes, reach: u64) -> Result<()>;

    /// The last checkpoint; `None` if there is none.
    async fn load_checkpoint(&self) -> Result<Option<Bytes>>;

    /// Notes packs that are durable in the repository with this id but named by no index yet.
    async fn record_packs(&self, repository_id: &str, packs: &[PackId]) -> Result<()>;

    /// The packs noted for a repository.
    async fn recorded_packs(&self, repository_id: &str) -> Result<Vec<PackId>>;

    /// Stores the snapshots of the run, sealed, before the first of them is created. From here on the
    /// run can only be finished: whoever finishes it creates these bytes, so that it makes one
    /// snapshot per output.
    ///
    /// # Errors
    /// `Conflict` if another worker took the run over.
    async fn begin_commit(&self, outputs: &[SealedOutput]) -> Result<()>;

    /// The snapshots stored by [`Self::begin_commit`]; empty before.
    async fn commit(&self) -> Result<Vec<SealedOutput>>;

    /// Drops the snapshots stored by [`Self::begin_commit`], of which none was created and one cannot be
    /// any more: something that it needs is gone. The run goes on from its checkpoint.
    ///
    /// # Errors
    /// `Conflict` with code `lease-lost` where the run has to be claimed anew for that.
    async fn take_back_commit(&self) -> Result<()>;
}

/// How often a checkpoint is taken: whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointInterval {
    /// So long after the last one.
    pub time: Duration,
    /// Or once so many bytes were read since.
    pub bytes: u64,
}

impl Default for CheckpointInterval {
    /// 60 s or 1 GiB.
    fn default() -> Self {
        Self { time: Duration::from_mins(1), bytes: 1 << 30 }
    }
}

/// A snapshot of one repository, ready to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedOutput {
    /// The repository that it belongs into.
    pub repository_id: String,
    /// Its name.
    pub snapshot: SnapshotId,
    /// Its bytes.
    pub sealed: Bytes,
    /// Its tree.
    pub tree: BlobId,
    /// The lock under which it was sealed. Under another one, what it names is looked for first.
    pub lock: LockId,
    /// The index files that name what the snapshot needs. If all are still there, so is that.
    pub index_files: Vec<IndexId>,
    /// How many warnings and errors the run had by then.
    pub problems: u64,
}

/// A journal that is gone with the process. A pause then survives as a checkpoint snapshot.
#[derive(Debug, Default)]
pub struct InMemoryJournal {
    interval: Option<CheckpointInterval>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    checkpoint: Option<Bytes>,
    packs: BTreeMap<String, BTreeSet<PackId>>,
    commit: Vec<SealedOutput>,
}

impl InMemoryJournal {
    /// Returns a journal that also takes checkpoints while the run reads, for hosts that start a
    /// failed run again with the same journal.
    pub fn with_interval(interval: CheckpointInterval) -> Self {
        Self { interval: Some(interval), ..Self::default() }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RunJournal for InMemoryJournal {
    fn checkpoint_interval(&self) -> Option<CheckpointInterval> {
        self.interval
    }

    async fn save_checkpoint(&self, checkpoint: Bytes, _reach: u64) -> Result<()> {
        self.kept().checkpoint = Some(checkpoint);
        Ok(())
    }

    async fn load_checkpoint(&self) -> Result<Option<Bytes>> {
        Ok(self.kept().checkpoint.clone())
    }

    async fn record_packs(&self, repository_id: &str, packs: &[PackId]) -> Result<()> {
        self.kept().packs.entry(repository_id.to_owned()).or_default().extend(packs);
        Ok(())
    }

    async fn recorded_packs(&self, repository_id: &str) -> Result<Vec<PackId>> {
        let kept = self.kept();
        Ok(kept.packs.get(repository_id).into_iter().flatten().copied().collect())
    }

    async fn begin_commit(&self, outputs: &[SealedOutput]) -> Result<()> {
        self.kept().commit = outputs.to_vec();
        Ok(())
    }

    async fn commit(&self) -> Result<Vec<SealedOutput>> {
        Ok(self.kept().commit.clone())
    }

    async fn take_back_commit(&self) -> Result<()> {
        self.kept().commit.clear();
        Ok(())
    }
}
