//! Which earlier snapshots belong to the same origin.

use crate::model::{Origin, SnapshotId};
use crate::repo::checkpoint_tags::{is_checkpoint, origin_tag};
use crate::repo::snapshot_file::Snapshot;

/// The snapshot that a backup follows: the latest of the same host and paths.
pub(super) fn find_parent<'s>(
    snapshots: &'s [(SnapshotId, Snapshot)],
    origin: &Origin,
) -> Option<&'s (SnapshotId, Snapshot)> {
    snapshots
        .iter()
        .filter(|(_, snapshot)| {
            !is_checkpoint(snapshot)
                && snapshot.hostname == origin.host
                && snapshot.paths == origin.paths
        })
        .max_by_key(|(id, snapshot)| (snapshot.time.timestamp(), *id))
}

/// The checkpoints of an origin. Usually one.
pub(super) fn find_checkpoints<'s>(
    snapshots: &'s [(SnapshotId, Snapshot)],
    origin: &Origin,
) -> Vec<&'s (SnapshotId, Snapshot)> {
    let tag = origin_tag(origin);
    let is_ours = |snapshot: &Snapshot| is_checkpoint(snapshot) && snapshot.tags.contains(&tag);
    snapshots.iter().filter(|(_, snapshot)| is_ours(snapshot)).collect()
}
