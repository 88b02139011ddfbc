//! The journal of a run, in the state store.

use async_trait::async_trait;
use bytes::Bytes;

use super::HeldPart;
use crate::error::Result;
use crate::model::{PackId, RunInput, RunState};
use crate::repo::compress::{Compressor, Decompressor};
use crate::state::{CheckpointInterval, Report, RunJournal, SealedOutput, refusal};

/// More than a checkpoint that fits into the store can have; against a damaged one.
const MAX_PLAIN_BYTES: usize = 64 << 20;

/// What one part of a run keeps for its next attempt.
#[derive(Debug)]
pub(super) struct StoreJournal {
    pub(super) held: HeldPart,
    pub(super) interval: CheckpointInterval,
    /// Of several parts only the last one begins the commit of the run. The others commit while it runs.
    pub(super) is_last: bool,
}

impl StoreJournal {
    async fn state(&self) -> Result<RunState> {
        let HeldPart { store, lease, .. } = &self.held;
        Ok(self.held.insist(|| store.renewal(lease)).await?.state)
    }
}

#[async_trait]
impl RunJournal for StoreJournal {
    fn checkpoint_interval(&self) -> Option<CheckpointInterval> {
        Some(self.interval)
    }

    fn outlives_process(&self) -> bool {
        true
    }

    async fn save_checkpoint(&self, checkpoint: Bytes, reach: u64) -> Result<()> {
        // Half of what may be in flight is names and attributes, which are much alike.
        let checkpoint = Bytes::from(Compressor::new(0)?.compress(&checkpoint)?);
        let HeldPart { store, lease, part, .. } = &self.held;
        self.held.insist(|| store.save_checkpoint(lease, *part, checkpoint.clone(), reach)).await
    }

    async fn load_checkpoint(&self) -> Result<Option<Bytes>> {
        let HeldPart { store, lease, part, .. } = &self.held;
        let kept = self.held.insist(|| store.load_checkpoint(lease, *part)).await?;
        let open = |kept: Bytes| Decompressor::new()?.decompress_unknown(&kept, MAX_PLAIN_BYTES);
        Ok(kept.map(open).transpose()?.map(Bytes::from))
    }

    async fn record_packs(&self, repository_id: &str, packs: &[PackId]) -> Result<()> {
        let HeldPart { store, lease, part, .. } = &self.held;
        self.held.insist(|| store.record_packs(lease, *part, repository_id, packs)).await
    }

    async fn recorded_packs(&self, repository_id: &str) -> Result<Vec<PackId>> {
        let HeldPart { store, lease, part, .. } = &self.held;
        self.held.insist(|| store.recorded_packs(lease, *part, repository_id)).await
    }

    async fn begin_commit(&self, outputs: &[SealedOutput]) -> Result<()> {
        if outputs.is_empty() && self.state().await? == RunState::Committing {
            // A restore that crashed while it was finished is finished again.
            return Ok(());
        }
        let HeldPart { store, lease, part, .. } = &self.held;
        self.held.insist(|| store.record_outputs(lease, *part, outputs)).await?;
        if !self.is_last {
            return Ok(());
        }
        let committing = || store.report(lease, RunInput::CommitRecorded, Report::default());
        self.held.insist(committing).await?;
        Ok(())
    }

    async fn commit(&self) -> Result<Vec<SealedOutput>> {
        // Of outputs of the last part that were recorded right before a crash none was created: that
        // begins once the run is committing.
        if self.is_last && self.state().await? != RunState::Committing {
            return Ok(Vec::new());
        }
        let HeldPart { store, lease, part, .. } = &self.held;
        self.held.insist(|| store.recorded_outputs(lease, *part)).await
    }

    /// Whoever claims the run next goes on from the checkpoint.
    async fn take_back_commit(&self) -> Result<()> {
        let HeldPart { store, lease, part, .. } = &self.held;
        if !self.is_last {
            return self.held.insist(|| store.record_outputs(lease, *part, &[])).await;
        }
        let lost = || store.report(lease, RunInput::BlobLost, Report::default());
        self.held.insist(lost).await?;
        Err(refusal::lease_lost(lease.run()))
    }
}
