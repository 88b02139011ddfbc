//! Writing files: under a temporary name, with holes for zeros, complete before they get their name.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;

use super::super::blocking::blocking;
use super::super::stat::Identity;
use super::judge::looks_like;
use super::metadata::{Receiver, apply};
use super::part::{Part, gone, id_of};
use super::place::{Place, Temporary};
use super::plan::place_of;
use super::session::Core;
use super::write::{place, replace_of};
use crate::error::{Error, ErrorKind, Result};
use crate::target::{BodyPiece, BodyReader, Step, WholeStep, Written};
use crate::token::WriteToken;

/// Bytes collected before a change of thread to write them; smaller files are made with one.
const COLLECTED_BYTES: usize = 4 << 20;

/// Zeros over a whole block of this size, counted from the start of the file, are left as a hole.
const HOLE_BYTES: usize = 64 << 10;

/// Writes a file. A dropped call leaves nothing, the whole file, or a part under a temporary name that
/// was told with a token.
pub(super) async fn write_content(
    core: &Arc<Core>,
    step: &Step,
    mut body: BodyReader,
    from: Option<WriteToken>,
) -> Result<Written> {
    let opening = Opening {
        core: Arc::clone(core),
        step: Arc::new(step.clone()),
        from,
        is_kept: body.wants_tokens(),
    };
    let mut opening = Some(opening);
    let mut writer = None;
    let mut pieces = Vec::new();
    let mut collected = 0;
    let broke_off = loop {
        let piece = match body.next().await {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => break Some(error),
            None => break None,
        };
        core.cancel.check()?;
        collected += piece.bytes.len();
        pieces.push(piece);
        if collected >= COLLECTED_BYTES {
            let written = write_on(opening.take(), writer, std::mem::take(&mut pieces)).await?;
            tell(&body, &written);
            writer = Some(written);
            collected = 0;
        }
    };
    match broke_off {
        // Somebody may come back: what arrived is worth keeping.
        Some(error) if error.is(ErrorKind::Cancelled) && body.wants_tokens() => {
            let written = write_on(opening.take(), writer, pieces).await?;
            tell(&body, &written);
            return Err(error);
        }
        Some(error) => {
            if let Some(writer) = &mut writer {
                writer.keep(false);
            }
            return Err(error);
        }
        None => {}
    }
    let step = step.clone();
    blocking(move || {
        let mut writer = open(opening, writer)?;
        writer.write_or_leave(&pieces)?;
        writer.finish(&step)
    })
    .await
}

/// Writes a file whose bytes are at hand. Blocks.
pub(super) fn write_whole(core: &Arc<Core>, whole: &WholeStep) -> Result<Written> {
    let step = Arc::clone(&whole.step);
    let opening = Opening { core: Arc::clone(core), step, from: None, is_kept: false };
    let mut writer = Writer::new(&opening)?;
    writer.write_or_leave(&whole.pieces)?;
    writer.finish(&whole.step)
}

/// Whether a token names a part of this step that is still there. Blocks.
pub(super) fn can_resume(core: &Core, step: &Step, from: &WriteToken) -> bool {
    let Some(part) = Part::decode(from) else {
        return false;
    };
    // Whatever is odd: the step starts over, and says what is wrong if that goes wrong too.
    place(core, place_of(step), false).and_then(|place| part.open(core, &place, step)).is_ok()
}

/// What a writer is made of.
struct Opening {
    core: Arc<Core>,
    step: Arc<Step>,
    from: Option<WriteToken>,
    is_kept: bool,
}

async fn write_on(
    opening: Option<Opening>,
    writer: Option<Writer>,
    pieces: Vec<BodyPiece>,
) -> Result<Writer> {
    blocking(move || {
        let mut writer = open(opening, writer)?;
        writer.write_or_leave(&pieces)?;
        Ok(writer)
    })
    .await
}

fn open(opening: Option<Opening>, writer: Option<Writer>) -> Result<Writer> {
    match (writer, opening) {
        (Some(writer), _) => Ok(writer),
        (None, Some(opening)) => Writer::new(&opening),
        (None, None) => {
            Err(Error::new(ErrorKind::Internal, "a file was lost while it was written"))
        }
    }
}

fn tell(body: &BodyReader, writer: &Writer) {
    if let Some(token) = writer.token().filter(|_| body.wants_tokens()) {
        body.report(writer.in_order, token);
    }
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
    core: Arc<Core>,
    temporary: Temporary,
    file: OwnedFd,
    place: Place,
    size_bytes: u64,
    written_bytes: u64,
    /// Before here everything is written.
    in_order: u64,
    identity: Identity,
    inode: u64,
    is_kept: bool,
}

impl Writer {
    fn new(opening: &Opening) -> Result<Self> {
        let (core, step) = (&opening.core, &opening.step);
        let place = place(core, place_of(step), true)?;
        let size_bytes = step.entry.size_bytes;
        let (temporary, file, bytes) = if let Some(token) = &opening.from {
            let part = Part::decode(token).ok_or_else(|| gone(&place))?;
            let file = part.open(core, &place, step)?;
            // Nothing behind the token is relied on, and zeros that are left out need holes there.
            for size in [part.bytes, size_bytes] {
                rustix::fs::ftruncate(&file, size)
                    .map_err(|error| place.failure("write", error))?;
            }
            (Temporary::kept(&place, part.name), file, part.bytes)
        } else {
            let (temporary, file) = create_file(core, &place)?;
            // At once, so that pieces may come in any order and what is not written is a hole.
            rustix::fs::ftruncate(&file, size_bytes)
                .map_err(|error| place.failure("write", error))?;
            (temporary, file, 0)
        };
        let stat = rustix::fs::fstat(&file).map_err(|error| place.failure("look at", error))?;
        let mut writer = Self {
            core: Arc::clone(core),
            temporary,
            file,
            place,
            size_bytes,
            written_bytes: bytes,
            in_order: bytes,
            identity: Identity::of(&stat),
            inode: stat.st_ino,
            is_kept: false,
        };
        writer.keep(opening.is_kept);
        Ok(writer)
    }

    /// Says whether the temporary file outlives this value. If so, the session remembers it, so that
    /// the end of the restore removes it.
    fn keep(&mut self, is_kept: bool) {
        self.temporary.keep(is_kept);
        self.is_kept = is_kept;
        let kept = (self.place.path.clone(), self.temporary.name().to_vec());
        if is_kept {
            self.core.kept().insert(kept);
        } else {
            self.core.kept().remove(&kept);
        }
    }

    /// The token for what is written; `None` if nobody may come back.
    fn token(&self) -> Option<WriteToken> {
        let name = String::from_utf8(self.temporary.name().to_vec()).ok()?;
        let entry = id_of(&self.place.path);
        let part = Part { name, inode: self.inode, bytes: self.in_order, entry };
        part.encode().filter(|_| self.is_kept)
    }

    /// Writes pieces. A failure that concerns only this file leaves nothing.
    fn write_or_leave(&mut self, pieces: &[BodyPiece]) -> Result<()> {
        let written = self.write(pieces);
        if let Err(error) = &written
            && !matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
        {
            self.keep(false);
        }
        written
    }

    fn write(&mut self, pieces: &[BodyPiece]) -> Result<()> {
        for piece in pieces {
            let length = piece.bytes.len() as u64;
            let end = piece.offset.checked_add(length);
            let Some(end) = end.filter(|end| *end <= self.size_bytes) else {
                return Err(self.wrong_length());
            };
            write_with_holes(&self.file, piece.offset, &piece.bytes)
                .map_err(|error| self.place.failure("write", error))?;
            self.written_bytes = self.written_bytes.saturating_add(length);
            if piece.offset == self.in_order {
                self.in_order = end;
            }
        }
        Ok(())
    }

    fn finish(mut self, step: &Step) -> Result<Written> {
        self.keep(false);
        if self.written_bytes != self.size_bytes {
            return Err(self.wrong_length());
        }
        let entry = &step.entry;
        let receiver = Receiver::Open(self.file.as_fd());
        let warnings = apply(receiver, &entry.metadata, &self.place.path);
        let published = self.temporary.publish(replace_of(step), |stat| looks_like(stat, entry));
        // Whoever was dropped while it wrote this file may have been the one to publish it.
        let has_name = |stat: Stat| Identity::of(&stat) == self.identity;
        if published.is_err() && !self.place.stat()?.is_some_and(has_name) {
            published?;
        }
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
