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
use super::super::stat::{Version, file_type, size_bytes};
use super::super::xattr::{Holder, Reader};
use super::super::{read_fully, read_slice};
use super::Shared;
use super::contents::{Content, Contents};
use crate::BufferPool;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Entry, EntryKind, EntryPath, Fingerprint};
use crate::source::{Body, BodyContent, BodyEnd, RangedBody};

/// Files up to this size are read with the call that opens them.
const WHOLE_BYTES: u64 = 512 << 10;

/// Opens files, one after the other. Cheapest where those of one folder follow each other.
pub(super) struct Opener<'a> {
    shared: &'a Shared,
    attributes: Reader,
    contents: Contents<'a>,
    /// The folder of the last file.
    folder: Option<(EntryPath, OwnedFd)>,
}

/// A file that was opened, before all contents are read.
struct Opened {
    entry: Box<Entry>,
    content: OpenedContent,
}

enum OpenedContent {
    Whole { content: Content, end: BodyEnd },
    Large(FileBody),
}

impl<'a> Opener<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        let contents = Contents::new(&shared.small_buffers);
        Self { shared, attributes: Reader::default(), contents, folder: None }
    }

    /// Opens files; reads those that are small. One result for each path, in order.
    pub(super) fn open_all(mut self, paths: Vec<EntryPath>) -> Vec<Result<Body>> {
        let opened: Vec<Result<Opened>> = paths.into_iter().map(|path| self.open(path)).collect();
        let buffers = self.contents.finish();
        let body = |opened: Opened| {
            let content: Arc<dyn RangedBody> = match opened.content {
                OpenedContent::Whole { content, end } => {
                    Arc::new(WholeBody { bytes: content.bytes(&buffers), end })
                }
                OpenedContent::Large(body) => Arc::new(body),
            };
            Body { refreshed: Some(opened.entry), content: BodyContent::Ranged(content) }
        };
        opened.into_iter().map(|opened| opened.map(body)).collect()
    }

    fn open(&mut self, path: EntryPath) -> Result<Opened> {
        let file = self.open_file(&path)?;
        let failed = |error: Errno| failure(&path, error);
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        if file_type(&stat) != FileType::RegularFile {
            return Err(Error::new(
                ErrorKind::SourceChanged,
                format!("cannot read {path}: it is no longer a file"),
            ));
        }
        let mut entry = self.refreshed(&file, &stat, &path);
        let content = if size_bytes(&stat) <= WHOLE_BYTES {
            let content = self
                .read_whole(&file, &stat)
                .map_err(|error| Error::io(format!("read {path}"), error))?;
            let after = rustix::fs::fstat(&file).map_err(failed)?;
            entry.size_bytes = content.len_bytes();
            OpenedContent::Whole { content, end: end(Version::of(&stat), &after) }
        } else {
            // A failure costs speed only.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
            OpenedContent::Large(FileBody(Arc::new(OpenFile {
                file,
                version: Version::of(&stat),
                len_bytes: size_bytes(&stat),
                path,
                buffers: self.shared.buffers.clone(),
            })))
        };
        Ok(Opened { entry: Box::new(entry), content })
    }

    /// Reads all that a small file has. Files that the kernel makes up say that they have no bytes and
    /// have some.
    fn read_whole(&mut self, file: &OwnedFd, stat: &Stat) -> std::io::Result<Content> {
        match size_bytes(stat) {
            0 => {
                let first = read_fully(file, 0, 512)?;
                let is_all = first.len() < 512;
                let all = if is_all { first } else { read_fully(file, 0, WHOLE_BYTES + 1)? };
                if all.len() as u64 > WHOLE_BYTES {
                    // Nothing says where it ends, so a part of it must not pass for all.
                    let why = "it says that it is empty, and has more than 512 KiB";
                    return Err(std::io::Error::new(std::io::ErrorKind::Unsupported, why));
                }
                Ok(self.contents.add(all))
            }
            size => self.contents.read(file, size),
        }
    }

    fn open_file(&mut self, path: &EntryPath) -> Result<OwnedFd> {
        // Non-blocking, so that a pipe that took the place of the file does not hang the call.
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        // Only owners may leave the access time alone.
        match self.open_with(path, flags | OFlags::NOATIME)? {
            Err(Errno::PERM) => self.open_with(path, flags)?,
            opened => opened,
        }
        .map_err(|error| failure(path, error))
    }

    fn open_with(&mut self, path: &EntryPath, flags: OFlags) -> Result<Result<OwnedFd, Errno>> {
        let place = self.shared.layout.place(path);
        let (Some(place), Some(name)) = (place, path.name()) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("cannot read {path}: it is not in this source"),
            ));
        };
        if place.n_names == path.len() {
            return Ok(rustix::fs::open(&place.base[..], flags, Mode::empty()));
        }
        let parent = path.parent().unwrap_or_default();
        if self.folder.as_ref().is_none_or(|(open, _)| *open != parent) {
            let names = parent.names().skip(place.n_names);
            match open_folder(&place.base, names) {
                Ok(folder) => self.folder = Some((parent, folder)),
                Err(error) => return Ok(Err(error)),
            }
        }
        let Some((_, folder)) = &self.folder else {
            return Ok(Err(Errno::NOENT));
        };
        Ok(open_beneath(folder.as_fd(), std::iter::once(name), flags))
    }

    fn refreshed(&mut self, file: &OwnedFd, stat: &Stat, path: &EntryPath) -> Entry {
        let mut metadata = self.shared.maker.metadata(stat);
        let attributes = self.attributes.read(Holder::Open(file.as_fd()));
        metadata.extended_attributes = Some(attributes.unwrap_or_else(|error| {
            self.shared.notes.attributes(path, &error);
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
}

/// Opens the folder at these names below `base`, to reach what is in it.
fn open_folder<'n>(base: &[u8], names: impl Iterator<Item = &'n [u8]>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = rustix::fs::open(base, flags, Mode::empty())?;
    let mut names = names.peekable();
    if names.peek().is_none() {
        return Ok(base);
    }
    open_beneath(base.as_fd(), names, flags)
}

fn failure(path: &EntryPath, error: Errno) -> Error {
    match error {
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO => Error::new(
            ErrorKind::SourceChanged,
            format!("cannot read {path}: it is no longer a file"),
        ),
        error => Error::io(format!("read {path}"), error.into()),
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
    buffers: BufferPool,
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
            let failed = |error| Error::io(format!("read {}", open.path), error);
            let length = range.end - range.start;
            let fits = |length: &usize| *length <= open.buffers.buffer_bytes();
            let Some(length) = usize::try_from(length).ok().filter(fits) else {
                return read_fully(&open.file, range.start, length).map_err(failed);
            };
            let mut buffer = open.buffers.take()?;
            buffer
                .fill(length, |bytes| read_slice(&open.file, range.start, bytes))
                .map_err(failed)?;
            Ok(buffer.freeze())
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
