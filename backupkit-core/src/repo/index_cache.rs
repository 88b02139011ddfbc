//! A local copy of the index, so that opening a large repository does not read it all each time.
//!
//! It is only ever an optimisation. A copy that is damaged, of another repository or of index files
//! that are gone is not used, and nothing depends on it being written. It holds ids and positions,
//! no keys and no content.
//!
//! ```text
//! magic (8) || repository id (32)
//! packs:   pack id (32) || number of blobs (4) || blobs
//! blobs:   blob id (32) || kind (1) || offset (4) || sealed bytes (4) || plain bytes (4)
//! ids of the index files, sorted (32 each)
//! packs (8) || blobs (8) || index files (8) || SHA-256 of all before (32)
//! ```
//! Numbers are little-endian. The file is exactly as long as its three counts say.

mod codec;
mod writer;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};

use super::index::IndexBuilder;
use super::repository::sha256;
use crate::model::IndexId;
use codec::{Counts, HEADER_BYTES, HashingReader, TRAILER_BYTES, header, read_pack};
pub(crate) use writer::CacheWriter;

/// Where the copy of one repository's index is.
#[derive(Debug, Clone)]
pub(crate) struct IndexCache {
    folder: PathBuf,
    repository: [u8; 32],
}

/// A copy that was read and found whole.
#[derive(Debug)]
pub(crate) struct CachedIndex {
    builder: IndexBuilder,
    files: BTreeSet<IndexId>,
    /// Stays open: another process may put a newer copy in its place.
    file: File,
    counts: Counts,
    /// SHA-256 of header and packs, to prove that copying them copied these.
    packs_hash: [u8; 32],
}

impl IndexCache {
    pub(crate) fn new(folder: &Path, repository_id: &str) -> Self {
        Self { folder: folder.to_owned(), repository: sha256(repository_id.as_bytes()) }
    }

    /// Reads the copy; nothing if there is none that can be used with these index files.
    pub(crate) fn load(&self, existing: &BTreeSet<IndexId>) -> Option<CachedIndex> {
        let mut file = File::open(self.path()).ok()?;
        let length = file.metadata().ok()?.len();
        let tail_bytes = i64::try_from(TRAILER_BYTES).ok()?;
        file.seek(SeekFrom::End(-tail_bytes)).ok()?;
        let mut trailer = [0; TRAILER_BYTES];
        file.read_exact(&mut trailer).ok()?;
        let (counts, hash) = Counts::parse(&trailer);
        if counts.file_bytes()? != length {
            return None;
        }
        file.seek(SeekFrom::Start(0)).ok()?;
        let mut reader = HashingReader::new(BufReader::with_capacity(256 << 10, &file));
        if reader.array::<HEADER_BYTES>()? != header(&self.repository) {
            return None;
        }
        let mut builder = IndexBuilder::new();
        let mut blobs_left = counts.blobs;
        for _ in 0..counts.packs {
            let pack = read_pack(&mut reader, &mut blobs_left)?;
            builder.push(&pack).ok()?;
        }
        let packs_hash = reader.hash();
        let mut files = BTreeSet::new();
        for _ in 0..counts.index_files {
            let id = IndexId::from_bytes(reader.array()?);
            // Blobs of an index file that is gone may be gone as well.
            if !existing.contains(&id) {
                return None;
            }
            files.insert(id);
        }
        reader.array::<{ Counts::BYTES }>()?;
        if blobs_left != 0 || reader.hash() != hash {
            return None;
        }
        drop(reader);
        // Maintenance removes copies that nobody uses. If it cannot be noted, this one may go: no harm.
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let _ = futimens(&file, &Timestamps { last_access: now, last_modification: now });
        Some(CachedIndex { builder, files, file, counts, packs_hash })
    }

    /// Whether a file of this name is the copy of an index.
    pub(crate) fn is_copy(name: &str) -> bool {
        name.strip_suffix(".index").is_some_and(is_hash)
    }

    /// Whether a file of this name is a copy that may never have become whole.
    pub(crate) fn is_unfinished(name: &str) -> bool {
        let parts = name.strip_suffix(".tmp").and_then(|name| name.split_once(".index-"));
        parts.is_some_and(|(hash, _)| is_hash(hash))
    }

    /// Starts a new copy, which takes its place only when it is finished. `suffix` is random. Nothing
    /// if the folder cannot be written.
    pub(crate) fn writer(&self, suffix: &str) -> Option<CacheWriter> {
        CacheWriter::create(&self.folder, self.path(), suffix, &header(&self.repository))
    }

    fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.index", hex::encode(self.repository)))
    }
}

impl CachedIndex {
    pub(crate) fn contains(&self, id: &IndexId) -> bool {
        self.files.contains(id)
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.counts.file_bytes().unwrap_or(u64::MAX)
    }

    pub(crate) fn into_builder(self) -> IndexBuilder {
        self.builder
    }
}

fn is_hash(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
