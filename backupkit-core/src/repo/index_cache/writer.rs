//! Writing the cache file.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::CachedIndex;
use super::codec::{Counts, encode_pack};
use crate::model::IndexId;
use crate::repo::index_file::IndexedPack;

/// Unfinished files of crashed processes are removed after a day.
const KEEP_UNFINISHED: Duration = Duration::from_hours(24);

/// Writes a new copy beside the old one. Whatever fails ends the writing, never the loading: each
/// step gives the writer back, or nothing.
#[derive(Debug)]
pub(crate) struct CacheWriter {
    file: BufWriter<File>,
    unfinished: Unfinished,
    target: PathBuf,
    hasher: Sha256,
    counts: Counts,
}

/// A file that is removed unless it was renamed.
#[derive(Debug)]
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone if it was renamed.
        drop(std::fs::remove_file(&self.0));
    }
}

impl CacheWriter {
    pub(super) fn create(
        folder: &Path,
        target: PathBuf,
        suffix: &str,
        header: &[u8],
    ) -> Option<Self> {
        std::fs::create_dir_all(folder).ok()?;
        remove_old(folder, &target);
        let path = target.with_extension(format!("index-{suffix}.tmp"));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).ok()?;
        let mut writer = Self {
            file: BufWriter::with_capacity(256 << 10, file),
            unfinished: Unfinished(path),
            target,
            hasher: Sha256::new(),
            counts: Counts::default(),
        };
        writer.write(header)?;
        Some(writer)
    }

    /// Copies the packs of an older copy. Called first.
    pub(crate) fn copy(mut self, cached: &CachedIndex) -> Option<Self> {
        let (start, end) = (Counts::default().packs_end()?, cached.counts.packs_end()?);
        let mut file = &cached.file;
        file.seek(SeekFrom::Start(start)).ok()?;
        let mut packs = BufReader::new(file.take(end - start));
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = packs.read(&mut buffer).ok()?;
            if count == 0 {
                break;
            }
            self.write(buffer.get(..count)?)?;
        }
        let copied: [u8; 32] = self.hasher.clone().finalize().into();
        self.counts = Counts { index_files: 0, ..cached.counts };
        (copied == cached.packs_hash).then_some(self)
    }

    /// Adds packs.
    pub(crate) fn push(mut self, packs: &[IndexedPack]) -> Option<Self> {
        let mut bytes = Vec::new();
        for pack in packs {
            bytes.clear();
            encode_pack(pack, &mut bytes)?;
            self.write(&bytes)?;
            self.counts.packs += 1;
            self.counts.blobs += pack.blobs.len() as u64;
        }
        Some(self)
    }

    /// Puts the new copy, which holds exactly these index files, in the place of the old one.
    pub(crate) fn finish(mut self, files: &[IndexId]) {
        let mut finish = || -> Option<()> {
            for id in files {
                self.write(id.as_bytes())?;
            }
            self.counts.index_files = files.len() as u64;
            self.write(&self.counts.encode())?;
            let hash: [u8; 32] = self.hasher.clone().finalize().into();
            self.write(&hash)?;
            self.file.flush().ok()?;
            std::fs::rename(&self.unfinished.0, &self.target).ok()
        };
        // Without the copy the next opening takes longer, and that is all.
        let _written: Option<()> = finish();
    }

    fn write(&mut self, bytes: &[u8]) -> Option<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).ok()
    }
}

/// Best effort: a leftover costs room and nothing else.
fn remove_old(folder: &Path, target: &Path) {
    let Some(stem) = target.file_stem().and_then(|stem| stem.to_str()) else {
        return;
    };
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| {
            name.starts_with(stem) && Path::new(name).extension().is_some_and(|end| end == "tmp")
        });
        if !is_ours {
            continue;
        }
        let modified = entry.metadata().and_then(|meta| meta.modified()).ok();
        let age = modified.and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > KEEP_UNFINISHED) {
            drop(std::fs::remove_file(entry.path()));
        }
    }
}
