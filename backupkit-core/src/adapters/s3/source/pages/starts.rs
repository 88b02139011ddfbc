//! Where pages of a listing may begin: behind keys that were there in the backup before.

use std::sync::Arc;

use futures::StreamExt as _;
use tokio::sync::mpsc;

use super::super::super::keys::Prefix;
use crate::model::{EntryKind, EntryPath};
use crate::snapshot::{SnapshotEntry, SnapshotReader};

/// Gives keys of an earlier snapshot below `directory`, so far from each other as a page has keys, without
/// `root` in front. They are hints: what cannot be read there is left out, and so is what has no plain name.
pub(super) async fn send_starts(
    parent: Arc<dyn SnapshotReader>,
    directory: EntryPath,
    root: String,
    page_keys: usize,
    starts: mpsc::Sender<String>,
) {
    // Where a few keys came since, a page still reaches the next start.
    let stride = (page_keys - page_keys / 16).max(1);
    let mut entries = parent.walk(&directory);
    let mut passed = 0;
    while let Some(Ok(entry)) = entries.next().await {
        if entry.kind != EntryKind::File {
            continue;
        }
        passed += 1;
        if passed < stride {
            continue;
        }
        let Some(key) = key_of(&entry) else { continue };
        passed = 0;
        let Some(start) = key.strip_prefix(&root) else { continue };
        if starts.send(start.to_owned()).await.is_err() {
            return;
        }
    }
}

/// The key of a file, if its path alone tells.
fn key_of(entry: &SnapshotEntry) -> Option<String> {
    let mut prefix = Prefix::default();
    let mut names = entry.path.names().skip(1);
    let name = names.next_back()?;
    for name in names {
        prefix = prefix.enter(name, None)?;
    }
    prefix.key_of_file(name, None)
}
