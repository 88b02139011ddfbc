//! A snapshot in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;

use super::super::FsSource;
use super::super::test_support::{env, open_context};
use super::*;
use crate::model::{EntryKind, EntryPath, FileMode, FileTime, Metadata};
use crate::snapshot::{Content, SnapshotEntry, SnapshotReader};
use crate::source::{BodyContent, ListedItem, Source as _};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::ops::Range;

#[derive(Debug, Clone, Default)]
pub(super) struct FakeSnapshot {
    entries: BTreeMap<EntryPath, (SnapshotEntry, Bytes)>,
}

/// When all made-up entries were changed.
pub(super) const MTIME: i64 = 1_000_000_000;

impl FakeSnapshot {
    /// Backs up the content of a folder.
    pub(super) async fn of(folder: &Path) -> Self {
        let mut this = Self::default();
        let source =
            FsSource::new(vec![".".into()], env(), "host").unwrap().with_working_directory(folder);
        let view = source.open(open_context()).await.unwrap();
        let mut listing = view.list(None);
        while let Some(listed) = listing.next().await {
            match listed.unwrap().item {
                ListedItem::DirDone { path, metadata } => {
                    this.insert(path, EntryKind::Directory, *metadata, Bytes::new());
                }
                ListedItem::Entry(entry) if entry.kind == EntryKind::File => {
                    let body = view.body(&entry, None).await.unwrap();
                    let BodyContent::Ranged(file) = body.content else {
                        panic!("files can be read anywhere");
                    };
                    let bytes = file.read_at(0..file.len_bytes()).await.unwrap();
                    let metadata = body.refreshed.unwrap().metadata;
                    this.insert(entry.path, EntryKind::File, metadata, bytes);
                }
                ListedItem::Entry(entry) => {
                    this.insert(entry.path, entry.kind, entry.metadata, Bytes::new());
                }
            }
        }
        this
    }

    pub(super) fn file(mut self, names: &[&[u8]], content: &[u8]) -> Self {
        self.add(names, EntryKind::File, FileMode::FILE, content);
        self
    }

    pub(super) fn folder(mut self, names: &[&[u8]]) -> Self {
        self.add(names, EntryKind::Directory, FileMode::DIRECTORY, b"");
        self
    }

    pub(super) fn link(mut self, names: &[&[u8]], target: &[u8]) -> Self {
        let target = target.to_vec();
        let mode = FileMode::from_unix(0o120_777);
        self.add(names, EntryKind::Symlink { target }, mode, b"");
        self
    }

    pub(super) fn add(&mut self, names: &[&[u8]], kind: EntryKind, mode: FileMode, content: &[u8]) {
        let mut metadata = Metadata::new(mode, FileTime::from_unix(MTIME, 5));
        metadata.uid = rustix::process::geteuid().as_raw();
        metadata.gid = rustix::process::getegid().as_raw();
        let content = Bytes::copy_from_slice(content);
        self.insert(EntryPath::from_names(names), kind, metadata, content);
    }

    pub(super) fn insert(
        &mut self,
        path: EntryPath,
        kind: EntryKind,
        metadata: Metadata,
        bytes: Bytes,
    ) {
        let entry = SnapshotEntry {
            path: path.clone(),
            kind,
            metadata,
            size_bytes: bytes.len() as u64,
            content: Content::default(),
        };
        self.entries.insert(path, (entry, bytes));
    }

    pub(super) fn content(&self, path: &EntryPath) -> Bytes {
        self.entries[path].1.clone()
    }

    pub(super) fn metadata_mut(&mut self, names: &[&[u8]]) -> &mut Metadata {
        let path = EntryPath::from_names(names);
        &mut self.entries.get_mut(&path).unwrap().0.metadata
    }

    pub(super) fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }
}

#[async_trait]
impl SnapshotReader for FakeSnapshot {
    fn paths(&self) -> &[String] {
        &[]
    }

    fn time(&self) -> FileTime {
        FileTime::from_unix(MTIME + 100, 0)
    }

    async fn find(&self, path: &EntryPath) -> Result<Option<SnapshotEntry>> {
        Ok(self.entries.get(path).map(|(entry, _)| entry.clone()))
    }

    fn walk(&self, path: &EntryPath) -> BoxStream<'static, Result<SnapshotEntry>> {
        let range = (Bound::Excluded(path), Bound::Unbounded);
        let below = self
            .entries
            .range::<EntryPath, _>(range)
            .take_while(|(at, _)| at.starts_with(path))
            .map(|(_, (entry, _))| Ok(entry.clone()));
        stream::iter(below.collect::<Vec<_>>()).boxed()
    }

    fn children(&self, path: &EntryPath) -> BoxStream<'static, Result<SnapshotEntry>> {
        let depth = path.len() + 1;
        self.walk(path)
            .filter(move |entry| {
                let is_child = entry.as_ref().is_ok_and(|entry| entry.path.len() == depth);
                async move { is_child }
            })
            .boxed()
    }

    async fn read(&self, entry: &SnapshotEntry, range: Range<u64>) -> Result<Bytes> {
        let at = |offset: u64| usize::try_from(offset).unwrap();
        Ok(self.content(&entry.path).slice(at(range.start)..at(range.end)))
    }
}
