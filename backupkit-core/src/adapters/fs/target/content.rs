//! Writing files: under a temporary name, with holes for zeros, complete before they get their name.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::super::blocking::blocking;
use super::judge::looks_like;
use super::metadata::{Receiver, apply};
use super::place::{Place, Temporary};
use super::plan::place_of;
use super::session::Core;
use super::write::{place, replace_of};
use crate::error::{Error, ErrorKind, Result};
use crate::target::{BodyPiece, BodyReader, Step, Written};

/// Bytes collected before a change of thread to write them; smaller files are made with one.
const COLLECTED_BYTES: usize = 4 << 20;

/// Zeros over a whole block of this size, counted from the start of the file, are left as a hole.
const HOLE_BYTES: usize = 64 << 10;

/// Writes a file. A dropped call leaves nothing, or the whole file.
pub(super) async fn write_content(
    core: &Arc<Core>,
    step: &Step,
    mut body: BodyReader,
) -> Result<Written> {
    let step = Arc::new(step.clone());
    let mut writer = None;
    let mut pieces = Vec::new();
    let mut collected = 0;
    while let Some(piece) = body.next().await {
        core.cancel.check()?;
        let piece = piece?;
        collected += piece.bytes.len();
        pieces.push(piece);
        if collected >= COLLECTED_BYTES {
            let (core, step) = (Arc::clone(core), Arc::clone(&step));
            let pieces = std::mem::take(&mut pieces);
            let write = move || -> Result<Writer> {
                let mut writer = writer.map_or_else(|| Writer::new(&core, &step), Ok)?;
                writer.write(&pieces)?;
                Ok(writer)
            };
            writer = Some(blocking(write).await?);
            collected = 0;
        }
    }
    let core = Arc::clone(core);
    blocking(move || {
        let mut writer = writer.map_or_else(|| Writer::new(&core, &step), Ok)?;
        writer.write(&pieces)?;
        writer.finish(&step)
    })
    .await
}

/// Makes an empty file under a temporary name.
pub(super) fn create_file(core: &Core, place: &Place) -> Result<(Temporary, OwnedFd)> {
    Temporary::make(place, &core.temporary_prefix, &core.env, |folder, name| {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)
    })
}

struct Writer {
    temporary: Temporary,
    file: OwnedFd,
    place: Place,
    size_bytes: u64,
    written_bytes: u64,
}

impl Writer {
    fn new(core: &Core, step: &Step) -> Result<Self> {
        let place = place(core, place_of(step), true)?;
        let (temporary, file) = create_file(core, &place)?;
        let size_bytes = step.entry.size_bytes;
        // At once, so that pieces may come in any order and what is not written is a hole.
        rustix::fs::ftruncate(&file, size_bytes).map_err(|error| place.failure("write", error))?;
        Ok(Self { temporary, file, place, size_bytes, written_bytes: 0 })
    }

    fn write(&mut self, pieces: &[BodyPiece]) -> Result<()> {
        for piece in pieces {
            let length = piece.bytes.len() as u64;
            let end = piece.offset.checked_add(length);
            if end.is_none_or(|end| end > self.size_bytes) {
                return Err(self.wrong_length());
            }
            self.written_bytes = self.written_bytes.saturating_add(length);
            write_with_holes(&self.file, piece.offset, &piece.bytes)
                .map_err(|error| self.place.failure("write", error))?;
        }
        Ok(())
    }

    fn finish(self, step: &Step) -> Result<Written> {
        if self.written_bytes != self.size_bytes {
            return Err(self.wrong_length());
        }
        let entry = &step.entry;
        let receiver = Receiver::Open(self.file.as_fd());
        let warnings = apply(receiver, &entry.metadata, &self.place.path);
        self.temporary.publish(replace_of(step), |stat| looks_like(stat, entry))?;
        Ok(Written { bytes: self.written_bytes, warnings })
    }

    fn wrong_length(&self) -> Error {
        Error::new(
            ErrorKind::Corrupt,
            format!(
                "cannot restore {}: its content is not {} bytes long, as the snapshot says",
                self.place.path, self.size_bytes
            ),
        )
    }
}

/// Writes bytes, but for blocks of zeros: the file has holes there already.
fn write_with_holes(file: &OwnedFd, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
    let mut from = 0;
    let mut at = 0;
    while at < bytes.len() {
        let into_block = (offset + at as u64) % HOLE_BYTES as u64;
        let to_edge = HOLE_BYTES - usize::try_from(into_block).unwrap_or_default();
        let end = bytes.len().min(at + to_edge);
        if end - at == HOLE_BYTES && is_zero(&bytes[at..end]) {
            write_all(file, offset + from as u64, &bytes[from..at])?;
            from = end;
        }
        at = end;
    }
    write_all(file, offset + from as u64, &bytes[from..])
}

fn write_all(file: &OwnedFd, mut offset: u64, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                offset += written as u64;
                bytes = &bytes[written..];
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_zero(block: &[u8]) -> bool {
    let (words, rest) = block.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|&byte| byte == 0)
}
