//! Reading files.

use std::ops::Range;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{Advice, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::super::blocking::blocking;
use super::super::contained::open_beneath;
use super::super::read_fully;
use super::super::stat::{Version, file_type, size_bytes};
use super::super::xattr::{Holder, Reader};
use super::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Entry, EntryKind, EntryPath, Fingerprint};
use crate::source::{Body, BodyContent, BodyEnd, RangedBody};

/// Files up to this size are read with the call that opens them.
const WHOLE_BYTES: u64 = 512 << 10;

/// Opens a file; reads it if it is small.
pub(super) fn open(shared: &Shared, path: EntryPath) -> Result<Body> {
    let file = open_file(shared, &path)?;
    let failed = |error: Errno| failure(&path, error);
    let stat = rustix::fs::fstat(&file).map_err(failed)?;
    if file_type(&stat) != FileType::RegularFile {
        return Err(Error::new(
            ErrorKind::SourceChanged,
            format!("cannot read {path}: it is no longer a file"),
        ));
    }
    let mut entry = refreshed(shared, &file, &stat, &path);
    let content: Arc<dyn RangedBody> = if size_bytes(&stat) <= WHOLE_BYTES {
        let bytes =
            read_whole(&file, &stat).map_err(|error| Error::io(format!("read {path}"), error))?;
        let after = rustix::fs::fstat(&file).map_err(failed)?;
        entry.size_bytes = bytes.len() as u64;
        Arc::new(WholeBody { bytes, end: end(Version::of(&stat), &after) })
    } else {
        // A failure costs speed only.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
        Arc::new(FileBody(Arc::new(OpenFile {
            file,
            version: Version::of(&stat),
            len_bytes: size_bytes(&stat),
            path,
        })))
    };
    Ok(Body { refreshed: Some(Box::new(entry)), content: BodyContent::Ranged(content) })
}

fn open_file(shared: &Shared, path: &EntryPath) -> Result<OwnedFd> {
    let place = shared.layout.place(path).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("cannot read {path}: it is not in this source"))
    })?;
    let open = |flags: OFlags| {
        if place.n_names == path.len() {
            return rustix::fs::open(&place.base[..], flags, Mode::empty());
        }
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&place.base[..], folder, Mode::empty())?;
        open_beneath(folder.as_fd(), path.names().skip(place.n_names), flags)
    };
    // Non-blocking, so that a pipe that took the place of the file does not hang the call.
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // Only owners may leave the access time alone.
    match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        opened => opened,
    }
    .map_err(|error| failure(path, error))
}

fn failure(path: &EntryPath, error: Errno) -> Error {
    match error {
        Errno::LOOP | Errno::NXIO => Error::new(
            ErrorKind::SourceChanged,
            format!("cannot read {path}: it is no longer a file"),
        ),
        error => Error::io(format!("read {path}"), error.into()),
    }
}

fn refreshed(shared: &Shared, file: &OwnedFd, stat: &Stat, path: &EntryPath) -> Entry {
    let mut metadata = shared.maker.metadata(stat);
    let attributes = Reader::default().read(Holder::Open(file.as_fd()));
    metadata.extended_attributes = Some(attributes.unwrap_or_else(|error| {
        shared.notes.attributes(path, &error);
        Vec::new()
    }));
    Entry {
        path: path.clone(),
        handle: None,
        kind: EntryKind::File,
        metadata,
        size_bytes: size_bytes(stat),
        fingerprint: Fingerprint::Stat,
    }
}

/// Reads all that a small file has. Files that the kernel makes up say that they have no bytes and have
/// some.
fn read_whole(file: &OwnedFd, stat: &Stat) -> std::io::Result<Bytes> {
    match size_bytes(stat) {
        0 => {
            let first = read_fully(file, 0, 512)?;
            if first.len() < 512 { Ok(first) } else { read_fully(file, 0, WHOLE_BYTES) }
        }
        size => read_fully(file, 0, size),
    }
}

fn end(before: Version, after: &Stat) -> BodyEnd {
    if before == Version::of(after) { BodyEnd::Consistent } else { BodyEnd::Changed }
}

/// A file in memory.
#[derive(Debug)]
struct WholeBody {
    bytes: Bytes,
    end: BodyEnd,
}

#[async_trait]
impl RangedBody for WholeBody {
    fn len_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn read_at(&self, range: Range<u64>) -> Result<Bytes> {
        let range = within(range, self.len_bytes())?;
        let at = |offset: u64| usize::try_from(offset).unwrap_or(self.bytes.len());
        Ok(self.bytes.slice(at(range.start)..at(range.end)))
    }

    async fn finish(&self) -> Result<BodyEnd> {
        Ok(self.end)
    }
}

/// A file that is read range by range.
#[derive(Debug)]
struct FileBody(Arc<OpenFile>);

#[derive(Debug)]
struct OpenFile {
    file: OwnedFd,
    version: Version,
    len_bytes: u64,
    path: EntryPath,
}

#[async_trait]
impl RangedBody for FileBody {
    fn len_bytes(&self) -> u64 {
        self.0.len_bytes
    }

    async fn read_at(&self, range: Range<u64>) -> Result<Bytes> {
        let range = within(range, self.0.len_bytes)?;
        let open = Arc::clone(&self.0);
        blocking(move || {
            read_fully(&open.file, range.start, range.end - range.start)
                .map_err(|error| Error::io(format!("read {}", open.path), error))
        })
        .await
    }

    async fn finish(&self) -> Result<BodyEnd> {
        let open = Arc::clone(&self.0);
        blocking(move || {
            let after =
                rustix::fs::fstat(&open.file).map_err(|error| failure(&open.path, error))?;
            Ok(end(open.version, &after))
        })
        .await
    }
}

/// What a file that grew has behind its first length is not read.
fn within(range: Range<u64>, len_bytes: u64) -> Result<Range<u64>> {
    if range.start > range.end {
        return Err(Error::new(ErrorKind::InvalidInput, "range ends before it starts"));
    }
    Ok(range.start.min(len_bytes)..range.end.min(len_bytes))
}
