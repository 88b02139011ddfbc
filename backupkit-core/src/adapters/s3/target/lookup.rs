//! Finds what stands at a place of a snapshot whose directories may be divided.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;

use crate::adapters::s3::keys::RANGE;
use crate::adapters::s3::object::{DirectoryRecord, ObjectRecord};
use crate::error::Result;
use crate::model::{EntryKind, EntryPath};
use crate::snapshot::{SnapshotEntry, SnapshotReader};

/// Directories that are remembered have so many entries together, if they are more than a few.
const MOST_ENTRIES: usize = 200_000;
const LEAST_DIRECTORIES: usize = 4;
const MOST_DIRECTORIES: usize = 64;

/// Remembers the directories that were looked into last: what comes next is mostly there, too.
#[derive(Debug, Default)]
pub(super) struct Lookup(Mutex<VecDeque<(EntryPath, Arc<Directory>)>>);

/// An entry, as far as is needed to tell it from others.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) path: EntryPath,
    pub(super) is_directory: bool,
    /// Nothing for a directory without a marker.
    pub(super) object: Option<KnownObject>,
}

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownObject {
    pub(super) len_bytes: u64,
    /// Empty if none was recorded.
    pub(super) etag: String,
    /// In seconds since 1970.
    pub(super) modified: i64,
}

#[derive(Debug, Default)]
struct Directory {
    entries: HashMap<Vec<u8>, Known>,
    /// Those that only divide it.
    dividers: Vec<EntryPath>,
}

impl Lookup {
    /// What stands where `place` says, or would if no directory were divided.
    pub(super) async fn find(
        &self,
        snapshot: &dyn SnapshotReader,
        place: &EntryPath,
    ) -> Result<Option<Known>> {
        let (mut at, mut found) = (EntryPath::root(), None::<Known>);
        for name in place.names() {
            if found.take().is_some_and(|above| !above.is_directory) {
                return Ok(None);
            }
            found = self.find_in(snapshot, &at, name).await?;
            match &found {
                Some(known) => at = known.path.clone(),
                None => return Ok(None),
            }
        }
        Ok(found)
    }

    async fn find_in(
        &self,
        snapshot: &dyn SnapshotReader,
        directory: &EntryPath,
        name: &[u8],
    ) -> Result<Option<Known>> {
        let listed = self.list(snapshot, directory).await?;
        if let Some(found) = listed.entries.get(name) {
            return Ok(Some(found.clone()));
        }
        // First those that are remembered.
        let (known, others): (Vec<_>, Vec<_>) =
            listed.dividers.iter().partition(|path| self.remembered(path).is_some());
        for divider in known.into_iter().chain(others) {
            if let Some(found) = self.list(snapshot, divider).await?.entries.get(name) {
                return Ok(Some(found.clone()));
            }
        }
        Ok(None)
    }

    async fn list(
        &self,
        snapshot: &dyn SnapshotReader,
        path: &EntryPath,
    ) -> Result<Arc<Directory>> {
        if let Some(found) = self.remembered(path) {
            return Ok(found);
        }
        let mut directory = Directory::default();
        let mut children = snapshot.children(path);
        while let Some(entry) = children.next().await {
            let entry = entry?;
            let name = entry.path.name().unwrap_or_default();
            if entry.kind == EntryKind::Directory && name.starts_with(RANGE.as_bytes()) {
                directory.dividers.push(entry.path);
            } else if matches!(entry.kind, EntryKind::Directory | EntryKind::File) {
                directory.entries.insert(name.to_vec(), Known::of(entry));
            }
        }
        let directory = Arc::new(directory);
        let mut directories = self.directories();
        directories.push_front((path.clone(), Arc::clone(&directory)));
        let mut room = MOST_ENTRIES;
        let mut kept = 0;
        for (_, known) in &*directories {
            room = room.saturating_sub(known.entries.len());
            if kept >= LEAST_DIRECTORIES && room == 0 || kept >= MOST_DIRECTORIES {
                break;
            }
            kept += 1;
        }
        directories.truncate(kept);
        Ok(directory)
    }

    fn remembered(&self, path: &EntryPath) -> Option<Arc<Directory>> {
        let mut directories = self.directories();
        let place = directories.iter().position(|(known, _)| known == path)?;
        let found = directories.remove(place)?;
        let directory = Arc::clone(&found.1);
        directories.push_front(found);
        Some(directory)
    }

    fn directories(&self) -> MutexGuard<'_, VecDeque<(EntryPath, Arc<Directory>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn of(entry: SnapshotEntry) -> Self {
        let is_directory = entry.kind == EntryKind::Directory;
        let object = KnownObject::of(&entry);
        Self { path: entry.path, is_directory, object }
    }
}

impl KnownObject {
    /// Nothing for a directory without a marker. What cannot be read was not recorded.
    pub(super) fn of(entry: &SnapshotEntry) -> Option<Self> {
        let metadata = &entry.metadata;
        let record = if entry.kind == EntryKind::Directory {
            Some(DirectoryRecord::of(metadata).ok().flatten()?.marker?)
        } else {
            ObjectRecord::of(metadata).ok().flatten()
        };
        let etag = record.map(|record| record.etag).unwrap_or_default();
        let modified = metadata.mtime.unix_seconds();
        Some(Self { len_bytes: entry.size_bytes, etag, modified })
    }
}
