//! What tells a checkpoint snapshot from a backup.
//!
//! A checkpoint keeps the packs of a paused run from being pruned and lets the next backup go on. Its
//! host, time and paths are its own, so that `latest` and `forget` of every program leave it alone.

use jiff::Timestamp;

use super::repository::sha256;
use super::snapshot_file::Snapshot;
use crate::model::Origin;

/// The host name and first tag of a checkpoint snapshot.
pub(crate) const CHECKPOINT: &str = "backupkit-checkpoint";
/// A tag that starts so names the run that a snapshot is of.
pub(crate) const RUN_TAG: &str = "run=";
/// A tag that starts so tells when a checkpoint was saved: its own time is no date, so that programs
/// which go by age leave it alone.
const SAVED_TAG: &str = "saved=";
/// The file at the root that tells people what the snapshot is.
pub(crate) const NOTICE_NAME: &str = "INCOMPLETE-backup-paused.txt";
/// The file at the root that holds the checkpoint row.
pub(crate) const ROW_NAME: &str = "checkpoint.json";

/// Whether a snapshot is a checkpoint.
pub fn is_checkpoint(snapshot: &Snapshot) -> bool {
    snapshot.hostname == CHECKPOINT && snapshot.tags.iter().any(|tag| tag == CHECKPOINT)
}

/// The tag that says when a checkpoint was saved, to the second.
pub(crate) fn saved_tag(now: Timestamp) -> String {
    let seconds = Timestamp::from_second(now.as_second()).unwrap_or(now);
    format!("{SAVED_TAG}{seconds}")
}

/// When a checkpoint was saved; nothing if it does not say.
pub(crate) fn saved_at(snapshot: &Snapshot) -> Option<Timestamp> {
    let times = snapshot.tags.iter().filter_map(|tag| tag.strip_prefix(SAVED_TAG)?.parse().ok());
    times.max()
}

/// The tag that says whose checkpoint it is: `origin=` and the SHA-256 of host, scheme and paths.
pub(crate) fn origin_tag(origin: &Origin) -> String {
    let mut text = Vec::new();
    let paths = origin.paths.iter();
    for part in [&origin.host, &origin.scheme].into_iter().chain(paths) {
        // Lengths, so that no two lists give the same text.
        text.extend_from_slice(&(part.len() as u64).to_le_bytes());
        text.extend_from_slice(part.as_bytes());
    }
    format!("origin={}", hex::encode(sha256(&text)))
}
