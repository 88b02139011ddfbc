//! One snapshot, as adapters see it.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};

use super::RepositoryReader;
use super::walk::{Depth, walk};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlobId, EntryKind, EntryPath, FileMode, FileTime, Metadata};
use crate::repo::node::Node;
use crate::repo::pack_header::BlobKind;
use crate::repo::snapshot_file::Snapshot;
use crate::repo::tree::TreeNodes;
use crate::snapshot::{Content, SnapshotEntry, SnapshotReader, Stretch};

/// The most that is read at once.
const MAX_READ_BYTES: u64 = 32 << 20;

#[derive(Clone)]
pub(super) struct OpenSnapshot {
    reader: RepositoryReader,
    tree: BlobId,
    paths: Vec<String>,
    time: FileTime,
}

/// What stands at a path.
enum Found {
    Root,
    Node(Box<Node>),
}

impl OpenSnapshot {
    pub(super) fn new(reader: RepositoryReader, snapshot: &Snapshot) -> Self {
        let Snapshot { tree, paths, time, .. } = snapshot;
        Self { reader, tree: *tree, paths: paths.clone(), time: *time }
    }

    async fn look_up(&self, path: &EntryPath) -> Result<Option<Found>> {
        let mut found = Found::Root;
        let mut above = EntryPath::root();
        for name in path.names() {
            let tree = match &found {
                Found::Root => self.tree,
                Found::Node(node) => match node.subtree {
                    Some(tree) => tree,
                    None => return Ok(None),
                },
            };
            let text = read_directory(&self.reader, &above, &tree, []).await?;
            match find_node(&text, name).map_err(|error| directory_error(error, &above))? {
                Some(node) => found = Found::Node(Box::new(node)),
                None => return Ok(None),
            }
            above.push(name);
        }
        Ok(Some(found))
    }

    fn entries(&self, path: &EntryPath, depth: Depth) -> BoxStream<'static, Result<SnapshotEntry>> {
        let (snapshot, path) = (self.clone(), path.clone());
        let start = async move {
            let tree = match snapshot.look_up(&path).await {
                Ok(Some(Found::Root)) => snapshot.tree,
                Ok(Some(Found::Node(node))) => match node.subtree {
                    Some(tree) => tree,
                    None => return stream::empty().boxed(),
                },
                Ok(None) => {
                    let error =
                        Error::new(ErrorKind::NotFound, format!("{path} is not in the snapshot"));
                    return stream::iter([Err(error)]).boxed();
                }
                Err(error) => return stream::iter([Err(error)]).boxed(),
            };
            walk(snapshot.reader, path, tree, depth)
        };
        stream::once(start).flatten().boxed()
    }

    fn blob_bytes(&self, id: &BlobId) -> Result<u64> {
        let location = self.reader.fetcher().locate(BlobKind::Data, id)?;
        Ok(u64::from(location.content_bytes()))
    }

    async fn read_blobs(&self, entry: &SnapshotEntry, range: Range<u64>) -> Result<Bytes> {
        let content = &entry.content.0;
        let short = || Error::corrupt("the file", "it has fewer bytes than its size says");
        let length = |id: &BlobId| self.blob_bytes(id);
        let first = self.reader.0.offsets.find(content, range.start, length)?.ok_or_else(short)?;
        let mut end = first.offset;
        let mut ids = Vec::new();
        for id in content.iter().skip(first.number) {
            if end >= range.end {
                break;
            }
            end = end.saturating_add(self.blob_bytes(id)?);
            ids.push(*id);
        }
        if end < range.end {
            return Err(short());
        }
        let fetched = self.reader.fetcher().fetch(BlobKind::Data, ids.iter().copied()).await?;
        let narrow = |bytes: u64| usize::try_from(bytes).map_err(|_| short());
        let mut skip = narrow(range.start - first.offset)?;
        let wanted = narrow(range.end - range.start)?;
        if let [id] = ids[..] {
            return Ok(fetched.get(&id)?.slice(skip..skip + wanted));
        }
        let mut joined = BytesMut::with_capacity(wanted);
        for id in &ids {
            let bytes = fetched.get(id)?.slice(skip..);
            skip = 0;
            let count = bytes.len().min(wanted - joined.len());
            joined.extend_from_slice(&bytes[..count]);
        }
        Ok(joined.freeze())
    }
}

#[async_trait]
impl SnapshotReader for OpenSnapshot {
    fn paths(&self) -> &[String] {
        &self.paths
    }

    fn time(&self) -> FileTime {
        self.time
    }

    async fn find(&self, path: &EntryPath) -> Result<Option<SnapshotEntry>> {
        Ok(self.look_up(path).await?.map(|found| match found {
            Found::Root => SnapshotEntry {
                path: EntryPath::root(),
                kind: EntryKind::Directory,
                metadata: Metadata::new(FileMode::DIRECTORY, self.time),
                size_bytes: 0,
                content: Content::default(),
            },
            Found::Node(node) => entry_of(*node, path.clone()),
        }))
    }

    fn walk(&self, path: &EntryPath) -> BoxStream<'static, Result<SnapshotEntry>> {
        self.entries(path, Depth::All)
    }

    fn children(&self, path: &EntryPath) -> BoxStream<'static, Result<SnapshotEntry>> {
        self.entries(path, Depth::Children)
    }

    async fn read(&self, entry: &SnapshotEntry, range: Range<u64>) -> Result<Bytes> {
        let is_within = range.start <= range.end && range.end <= entry.size_bytes;
        if !is_within || range.end - range.start > MAX_READ_BYTES {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "cannot read bytes {range:?} of {}: not within it, or too many",
                    entry.path
                ),
            ));
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let read = self.read_blobs(entry, range).await;
        read.map_err(|error| error.while_doing(format!("read {}", entry.path)))
    }

    fn stretches(&self, entry: &SnapshotEntry) -> Result<Option<Vec<Stretch>>> {
        let stretch =
            |id: &BlobId| Ok(Stretch { bytes: self.blob_bytes(id)?, sha256: *id.as_bytes() });
        entry.content.0.iter().map(stretch).collect::<Result<_>>().map(Some)
    }
}

impl fmt::Debug for OpenSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSnapshot")
            .field("repository", self.reader.repository())
            .field("paths", &self.paths)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

/// Reads the text of the tree at `path`, and some of those that will be read next.
pub(super) async fn read_directory(
    reader: &RepositoryReader,
    path: &EntryPath,
    tree: &BlobId,
    next: impl IntoIterator<Item = BlobId> + Send,
) -> Result<Bytes> {
    let read = reader.tree_text(tree, next).await;
    read.map_err(|error| directory_error(error, path))
}

fn directory_error(error: Error, path: &EntryPath) -> Error {
    error.while_doing(format!("read directory {path}"))
}

/// Finds a node by name. Nodes before it that make no sense do not hide it.
fn find_node(tree: &[u8], name: &[u8]) -> Result<Option<Node>> {
    let mut damage = None;
    for node in TreeNodes::new(tree)? {
        match node {
            Ok(node) if node.name == name => return Ok(Some(node)),
            Ok(_) => {}
            Err(error) => damage = Some(error),
        }
    }
    damage.map_or(Ok(None), Err)
}

/// The entry that a node describes.
pub(super) fn entry_of(node: Node, path: EntryPath) -> SnapshotEntry {
    // Other programs may have written a content where it means nothing.
    let is_file = node.kind == EntryKind::File;
    SnapshotEntry {
        path,
        kind: node.kind,
        metadata: node.metadata,
        size_bytes: if is_file { node.size_bytes } else { 0 },
        content: Content(node.content.filter(|_| is_file).unwrap_or_default()),
    }
}
