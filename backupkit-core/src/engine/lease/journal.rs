//! The journal of a run, in the state store.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;
use crate::model::{PackId, RunInput, RunState};
use crate::state::{
    CheckpointInterval, LeaseRef, Report, RunJournal, SealedOutput, StateStore, refusal,
};

/// What one part of a run keeps for its next attempt.
#[derive(Debug)]
pub(super) struct StoreJournal {
    pub(super) store: Arc<dyn StateStore>,
    pub(super) lease: LeaseRef,
    pub(super) part: u32,
    pub(super) interval: CheckpointInterval,
}

impl StoreJournal {
    async fn state(&self) -> Result<RunState> {
        Ok(self.store.renewal(&self.lease).await?.state)
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
        self.store.save_checkpoint(&self.lease, self.part, checkpoint, reach).await
    }

    async fn load_checkpoint(&self) -> Result<Option<Bytes>> {
        self.store.load_checkpoint(&self.lease, self.part).await
    }

    async fn record_packs(&self, repository_id: &str, packs: &[PackId]) -> Result<()> {
        self.store.record_packs(&self.lease, self.part, repository_id, packs).await
    }

    async fn recorded_packs(&self, repository_id: &str) -> Result<Vec<PackId>> {
        self.store.recorded_packs(&self.lease, self.part, repository_id).await
    }

    async fn begin_commit(&self, outputs: &[SealedOutput]) -> Result<()> {
        if self.state().await? == RunState::Committing {
            // Something that the first outputs name was gone. They are dropped, and whoever claims the
            // run next goes on from the checkpoint.
            self.store.report(&self.lease, RunInput::BlobLost, Report::default()).await?;
            return Err(refusal::lease_lost(self.lease.run()));
        }
        self.store.record_outputs(&self.lease, self.part, outputs).await?;
        let committing = RunInput::CommitRecorded;
        self.store.report(&self.lease, committing, Report::default()).await?;
        Ok(())
    }

    async fn commit(&self) -> Result<Vec<SealedOutput>> {
        // Of outputs that were recorded right before a crash none was created: that begins once the
        // run is committing.
        if self.state().await? != RunState::Committing {
            return Ok(Vec::new());
        }
        self.store.recorded_outputs(&self.lease, self.part).await
    }
}
