//! Reading snapshots: trees and files, each blob verified.

mod offsets;
mod snapshot;
mod walk;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::fetch::{BlobFetcher, is_of_stored_bytes};
use super::load_index::{LoadedIndex, load_index};
use super::node::Node;
use super::pack_header::BlobKind;
use super::repository::Repository;
use super::snapshot_file::Snapshot;
use super::tree::{decode_tree, empty_tree};
use crate::error::{Error, Result};
use crate::model::{BlobId, IndexId, SnapshotId};
use crate::pool::Pool;
use crate::snapshot::SnapshotReader;
use offsets::OffsetCache;
use snapshot::OpenSnapshot;

/// How much of what was read is kept: a directory of trees, or the blobs around a place in a file.
const RECENT_BYTES: usize = 16 << 20;
/// Threads that decrypt and decompress for a reader of its own.
const MAX_THREADS: usize = 4;
const LEVEL: i32 = 3;
/// Trees that are read ahead with another one, as they mostly lie beside it.
const AHEAD_TREES: usize = 64;
const AHEAD_BYTES: u64 = 2 << 20;

/// Reads the snapshots of a repository. Clones share one index and one cache.
#[derive(Clone)]
pub struct RepositoryReader(Arc<Inner>);

struct Inner {
    fetcher: BlobFetcher,
    /// What the index was loaded from.
    index_files: Vec<IndexId>,
    offsets: OffsetCache,
    empty_tree: (BlobId, Bytes),
}

/// How a repository is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReaderOptions {
    /// A folder for a copy of the index, so that opening is faster next time.
    pub cache_folder: Option<PathBuf>,
}

impl Repository {
    /// Loads the index, so that snapshots can be read as they are now. No lock is taken: while
    /// another program prunes, blobs may be gone.
    ///
    /// # Errors
    /// `Corrupt` naming the index file that is damaged.
    pub async fn reader(&self, options: ReaderOptions) -> Result<RepositoryReader> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = Pool::new(threads.min(MAX_THREADS), LEVEL)?;
        RepositoryReader::open(self, &pool, options.cache_folder.as_deref()).await
    }
}

impl RepositoryReader {
    /// Loads the index and returns a reader that works on `pool`.
    pub(crate) async fn open(
        repository: &Repository,
        pool: &Pool,
        cache_folder: Option<&Path>,
    ) -> Result<Self> {
        let LoadedIndex { index, files: index_files } =
            load_index(repository, pool, cache_folder).await?;
        let (repository, index) = (repository.clone(), Arc::new(index));
        let fetcher = BlobFetcher::new(repository, index, pool.clone(), RECENT_BYTES);
        let (id, text) = empty_tree();
        let (offsets, empty_tree) = (OffsetCache::default(), (id, text.into()));
        Ok(Self(Arc::new(Inner { fetcher, index_files, offsets, empty_tree })))
    }

    /// The files that the index was loaded from.
    pub(crate) fn index_files(&self) -> &[IndexId] {
        &self.0.index_files
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        self.0.fetcher.repository()
    }

    /// Opens a snapshot for reading.
    ///
    /// # Errors
    /// `NotFound` if there is none with this id; `Corrupt` if it is damaged.
    pub async fn snapshot(&self, id: SnapshotId) -> Result<Arc<dyn SnapshotReader>> {
        let snapshot = self.repository().snapshot(id).await?;
        Ok(self.open_snapshot(&snapshot))
    }

    /// Opens a snapshot that was loaded already. Reads nothing yet.
    pub fn open_snapshot(&self, snapshot: &Snapshot) -> Arc<dyn SnapshotReader> {
        Arc::new(OpenSnapshot::new(self.clone(), snapshot))
    }

    /// Reads the nodes of a tree.
    ///
    /// # Errors
    /// `Corrupt` naming the tree if it is missing or damaged.
    pub async fn tree(&self, id: &BlobId) -> Result<Vec<Node>> {
        let text = self.tree_text(id, []).await?;
        decode_tree(&text).map_err(|error| error.while_doing(format!("read tree {id}")))
    }

    pub(crate) fn fetcher(&self) -> &BlobFetcher {
        &self.0.fetcher
    }

    /// Reads the text of a tree, and some of those that will be read next.
    async fn tree_text(
        &self,
        id: &BlobId,
        next: impl IntoIterator<Item = BlobId> + Send,
    ) -> Result<Bytes> {
        // Its bytes are known, so one that is lost takes nothing along. A check names it none the
        // less: other programs look for it.
        if *id == self.0.empty_tree.0 {
            return Ok(self.0.empty_tree.1.clone());
        }
        let fetcher = &self.0.fetcher;
        let mut ids = vec![*id];
        if !fetcher.is_at_hand(BlobKind::Tree, id) {
            let mut ahead_bytes = 0;
            for next in next {
                if fetcher.is_at_hand(BlobKind::Tree, &next) {
                    continue;
                }
                // What is missing is an error only where it is really read.
                let Ok(location) = fetcher.locate(BlobKind::Tree, &next) else {
                    continue;
                };
                ahead_bytes += u64::from(location.content_bytes());
                if ids.len() > AHEAD_TREES || ahead_bytes > AHEAD_BYTES {
                    break;
                }
                ids.push(next);
            }
        }
        fetcher.fetch(BlobKind::Tree, ids).await?.get(id)
    }
}

impl fmt::Debug for RepositoryReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepositoryReader")
            .field("repository", self.repository())
            .finish_non_exhaustive()
    }
}

/// Whether a walk can go on behind this error.
fn can_go_on(error: &Error) -> bool {
    is_of_stored_bytes(error)
}
