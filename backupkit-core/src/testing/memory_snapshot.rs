//! A snapshot in memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{EntryKind, EntryPath, FileMode, FileTime, Metadata};
use crate::snapshot::{Content, SnapshotEntry, SnapshotReader};

/// A [`SnapshotReader`] of what the test puts into it.
#[derive(Debug, Clone, Default)]
pub struct MemorySnapshot {
    paths: Vec<String>,
    time: Option<FileTime>,
    nodes: BTreeMap<EntryPath, (SnapshotEntry, Bytes)>,
}

impl MemorySnapshot {
    /// Returns an empty snapshot of `/`.
    pub fn new() -> Self {
        Self { paths: vec![String::from("/")], ..Self::default() }
    }

    /// Replaces what was backed up.
    #[must_use]
    pub fn with_paths(mut self, paths: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.paths = paths.into_iter().map(Into::into).collect();
        self
    }

    /// Replaces when the backup started; 1970 by default.
    #[must_use]
    pub fn with_time(mut self, time: FileTime) -> Self {
        self.time = Some(time);
        self
    }

    /// Adds a file, last changed one billion seconds after 1970, and the directories above it.
    #[must_use]
    pub fn with_file(self, path: &EntryPath, bytes: impl Into<Bytes>) -> Self {
        let metadata = Metadata::new(FileMode::FILE, modified());
        self.with_node(path, EntryKind::File, metadata, bytes)
    }

    /// Adds a directory and those above it.
    #[must_use]
    pub fn with_directory(self, path: &EntryPath) -> Self {
        let metadata = Metadata::new(FileMode::DIRECTORY, modified());
        self.with_node(path, EntryKind::Directory, metadata, Bytes::new())
    }

    /// Adds a symbolic link and the directories above it.
    #[must_use]
    pub fn with_link(self, path: &EntryPath, target: impl Into<Vec<u8>>) -> Self {
        let kind = EntryKind::Symlink { target: target.into() };
        let metadata = Metadata::new(FileMode::from_unix(0o120_777), modified());
        self.with_node(path, kind, metadata, Bytes::new())
    }

    /// Adds anything and the directories above it.
    #[must_use]
    pub fn with_node(
        mut self,
        path: &EntryPath,
        kind: EntryKind,
        metadata: Metadata,
        bytes: impl Into<Bytes>,
    ) -> Self {
        let mut above = path.parent();
        while let Some(directory) = above.filter(|directory| !directory.is_empty()) {
            above = directory.parent();
            if !self.nodes.contains_key(&directory) {
                self = self.with_directory(&directory);
            }
        }
        let bytes = bytes.into();
        let entry = SnapshotEntry {
            path: path.clone(),
            kind,
            metadata,
            size_bytes: bytes.len() as u64,
            content: Content::default(),
        };
        self.nodes.insert(path.clone(), (entry, bytes));
        self
    }

    /// Returns it as adapters take it.
    pub fn into_reader(self) -> Arc<dyn SnapshotReader> {
        Arc::new(self)
    }

    fn below(&self, path: &EntryPath) -> impl Iterator<Item = &SnapshotEntry> {
        let nodes = self.nodes.range(path.clone()..);
        nodes
            .map(|(_, (entry, _))| entry)
            .skip_while(move |entry| entry.path == *path)
            .take_while(move |entry| entry.path.starts_with(path))
    }
}

#[async_trait]
impl SnapshotReader for MemorySnapshot {
    fn paths(&self) -> &[String] {
        &self.paths
    }

    fn time(&self) -> FileTime {
        self.time.unwrap_or(FileTime::EPOCH)
    }

    async fn find(&self, path: &EntryPath) -> Result<Option<SnapshotEntry>> {
        Ok(self.nodes.get(path).map(|(entry, _)| entry.clone()))
    }

    fn walk(&self, path: &EntryPath) -> BoxStream<'static, Result<SnapshotEntry>> {
        let found: Vec<_> = self.below(path).cloned().map(Ok).collect();
        stream::iter(found).boxed()
    }

    fn children(&self, path: &EntryPath) -> BoxStream<'static, Result<SnapshotEntry>> {
        let below = self.below(path);
        let children = below.filter(|entry| entry.path.len() == path.len() + 1);
        let found: Vec<_> = children.cloned().map(Ok).collect();
        stream::iter(found).boxed()
    }

    async fn read(&self, entry: &SnapshotEntry, range: Range<u64>) -> Result<Bytes> {
        let Some((_, bytes)) = self.nodes.get(&entry.path) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{} is not in the snapshot", entry.path),
            ));
        };
        let index = |at: u64| usize::try_from(at).ok().filter(|at| *at <= bytes.len());
        match (index(range.start), index(range.end)) {
            (Some(start), Some(end)) if start <= end => Ok(bytes.slice(start..end)),
            _ => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("bytes beyond the end of {}", entry.path),
            )),
        }
    }
}

fn modified() -> FileTime {
    FileTime::from_unix(1_000_000_000, 0)
}
