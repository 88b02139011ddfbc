//! Checkpoint snapshots that nobody goes on from.

use jiff::Timestamp;

use super::Maintenance;
use crate::error::Result;
use crate::model::Level;
use crate::pipeline::guard::Guard;
use crate::repo::checkpoint_tags::{RUN_TAG, is_checkpoint, saved_at};
use crate::repo::layout::FileKind;
use crate::repo::repository::Repository;
use crate::repo::snapshot_file::Snapshot;
use crate::state::RunId;

impl Maintenance<'_> {
    /// Removes them if it has a guard, and counts them.
    pub(super) async fn remove_checkpoints(
        &self,
        repository: &Repository,
        guard: Option<&Guard>,
    ) -> Result<u64> {
        let before = self.before(self.settings.checkpoints_days);
        let mut left = Vec::new();
        for (id, snapshot) in repository.readable_snapshots().await?.0 {
            if !is_checkpoint(&snapshot) {
                continue;
            }
            // Since nobody can tell how old it is, nobody can tell that it is too old.
            if let Some(since) = self.left_since(&snapshot).await?.filter(|since| *since < before) {
                left.push((id, since));
            }
        }
        if let Some(guard) = guard {
            let ids: Vec<[u8; 32]> = left.iter().map(|(id, _)| *id.as_bytes()).collect();
            let removed = self.remove_files(repository, FileKind::Snapshot, &ids, guard).await?;
            left.retain(|(id, _)| removed.contains(id.as_bytes()));
        }
        for (id, since) in &left {
            let removed = if guard.is_some() { "removed" } else { "would remove" };
            let (id, place) = (id.short(), repository.location());
            let text = format!("{removed} checkpoint {id} in {place}, left since {since}");
            self.run.events.note(Level::Info, text);
        }
        Ok(left.len() as u64)
    }

    /// Since when nobody goes on from a checkpoint; nothing as long as its run has not ended, or if there
    /// is no telling. A run that is not on record here may be on record elsewhere, and one without a run
    /// may be gone on with by anybody: both count from when they were saved.
    async fn left_since(&self, snapshot: &Snapshot) -> Result<Option<Timestamp>> {
        let mut since = saved_at(snapshot);
        for tag in snapshot.tags.iter().filter_map(|tag| tag.strip_prefix(RUN_TAG)) {
            let Ok(id) = tag.parse::<RunId>() else { continue };
            let Some(run) = self.holder.store.run(&self.holder.scope, id).await? else { continue };
            match run.ended_at {
                Some(ended_at) => since = since.max(Some(ended_at)),
                None => return Ok(None),
            }
        }
        Ok(since)
    }
}
