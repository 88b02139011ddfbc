//! How adapters look into a snapshot, without knowing how repositories store it.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::error::Result;
use crate::model::{EntryKind, EntryPath, FileTime, Metadata};

/// A snapshot, opened for reading.
#[async_trait]
pub trait SnapshotReader: fmt::Debug + Send + Sync + 'static {
    /// What was backed up: absolute paths or URIs.
    fn paths(&self) -> &[String];

    /// When the backup started.
    fn time(&self) -> FileTime;

    /// Looks one path up; `None` if it is not in the snapshot.
    async fn find(&self, path: &EntryPath) -> Result<Option<SnapshotEntry>>;

    /// Gives everything below `path` (not itself), depth first, each directory before what it holds
    /// and names in byte order. Memory does not grow with the number of entries.
    fn walk(&self, path: &EntryPath) -> BoxStream<'static, Result<SnapshotEntry>>;

    /// Gives what stands directly in the directory `path`, in byte order of names.
    fn children(&self, path: &EntryPath) -> BoxStream<'static, Result<SnapshotEntry>>;

    /// Reads a stretch of a file, verified. At most 32 MiB at a time.
    ///
    /// # Errors
    /// `Corrupt` if stored bytes are not what was written.
    async fn read(&self, entry: &SnapshotEntry, range: Range<u64>) -> Result<Bytes>;

    /// Length and SHA-256 of the stretches that a file consists of, in order: what a target has can
    /// be compared with it without reading the file from the repository. `None`: not known.
    ///
    /// # Errors
    /// `Corrupt` if parts of the file are missing.
    fn stretches(&self, _entry: &SnapshotEntry) -> Result<Option<Vec<Stretch>>> {
        Ok(None)
    }
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// How many bytes it has.
    pub bytes: u64,
    /// The SHA-256 of its bytes.
    pub sha256: [u8; 32],
}

/// One thing in a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotEntry {
    /// Where it stands in the snapshot.
    pub path: EntryPath,
    /// What it is.
    pub kind: EntryKind,
    /// What is known of it.
    pub metadata: Metadata,
    /// The number of bytes of a file; 0 for others.
    pub size_bytes: u64,
    /// The blobs of a file, in order. Opaque to adapters.
    pub content: Content,
}

/// The blobs that make up a file. Opaque outside the engine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content(pub(crate) std::sync::Arc<[crate::model::BlobId]>);
