//! Reading objects.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use rustix::fs::{Advice, Mode, OFlags};

use super::super::{read_fully, read_slice};
use crate::BufferPool;
use crate::destination::{ObjectKey, ObjectMeta};
use crate::error::{Error, ErrorKind, Result};

/// From this size on, buffers are used again.
const POOLED_BYTES: u64 = 1 << 20;

/// Reads an object or a range of it.
pub(super) fn read_object(
    path: &Path,
    key: &ObjectKey,
    range: Option<Range<u64>>,
    buffers: &BufferPool,
) -> Result<Bytes> {
    let file = open_object(path)?.ok_or_else(|| not_found(key))?;
    let size_bytes = file
        .metadata()
        .map_err(|error| Error::io(format!("read {}", path.display()), error))?
        .len();
    let range = range.unwrap_or(0..size_bytes);
    if range.start > range.end || range.end > size_bytes {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "cannot read bytes {} to {} of {key}: it has {size_bytes}",
                range.start, range.end
            ),
        ));
    }
    let wanted = range.end - range.start;
    let failed = |error| Error::io(format!("read {}", path.display()), error);
    let bytes = if (POOLED_BYTES..=buffers.buffer_bytes() as u64).contains(&wanted) {
        let mut buffer = buffers.take()?;
        let length = usize::try_from(wanted).unwrap_or_default();
        buffer.fill(length, |bytes| read_slice(&file, range.start, bytes)).map_err(failed)?;
        if let Some(length) = NonZeroU64::new(wanted) {
            // Read once, as packs are: out of the system's cache again. A failure costs its memory.
            let _ = rustix::fs::fadvise(&file, range.start, Some(length), Advice::DontNeed);
        }
        buffer.freeze()
    } else {
        read_fully(&file, range.start, wanted).map_err(failed)?
    };
    if bytes.len() as u64 != wanted {
        return Err(Error::corrupt(key, "it became shorter while it was being read"));
    }
    Ok(bytes)
}

/// Looks at an object.
pub(super) fn stat_object(path: &Path, key: ObjectKey) -> Result<ObjectMeta> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(ObjectMeta { key, size_bytes: metadata.len() }),
        Ok(_) => Err(not_found(&key)),
        Err(error) if is_missing(&error) => Err(not_found(&key)),
        Err(error) => Err(Error::io(format!("look at {}", path.display()), error)),
    }
}

/// Opens an object; `None` if there is none.
pub(super) fn open_object(path: &Path) -> Result<Option<File>> {
    let doing = || format!("open {}", path.display());
    // Non-blocking, so that a pipe in the place of an object does not hang the call.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(error) if is_missing(&error.into()) => return Ok(None),
        Err(error) => return Err(Error::io(doing(), error.into())),
    };
    let metadata = file.metadata().map_err(|error| Error::io(doing(), error))?;
    Ok(metadata.is_file().then_some(file))
}

/// Whether the error says that there is nothing under this name.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn not_found(key: &ObjectKey) -> Error {
    Error::new(ErrorKind::NotFound, format!("{key} does not exist"))
}
