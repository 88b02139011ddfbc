//! Files that a target in memory has in part.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};

use super::lock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::EntryPath;
use crate::target::BodyPiece;
use crate::token::WriteToken;

/// What tokens name. Clones are the same files, so that they outlive a session.
#[derive(Debug, Clone, Default)]
pub(super) struct UnfinishedFiles(Arc<Mutex<Files>>);

#[derive(Debug, Default)]
struct Files {
    n_begun: u64,
    files: BTreeMap<u64, Unfinished>,
}

#[derive(Debug)]
struct Unfinished {
    place: EntryPath,
    bytes: BytesMut,
    /// How many bytes have been written, in any order.
    n_written: u64,
    /// Before here all are written.
    in_order: u64,
    size_bytes: u64,
}

/// One file while it is written. It goes with this value unless it was kept.
#[derive(Debug)]
pub(super) struct UnfinishedFile {
    all: UnfinishedFiles,
    id: u64,
    is_kept: bool,
}

impl UnfinishedFiles {
    pub(super) fn begin(&self, place: &EntryPath, size_bytes: u64) -> UnfinishedFile {
        let mut files = lock(&self.0);
        files.n_begun += 1;
        let id = files.n_begun;
        let file = Unfinished {
            place: place.clone(),
            bytes: BytesMut::new(),
            n_written: 0,
            in_order: 0,
            size_bytes,
        };
        files.files.insert(id, file);
        UnfinishedFile { all: self.clone(), id, is_kept: false }
    }

    /// # Errors
    /// `Conflict` if what the token names is not there.
    pub(super) fn go_on(
        &self,
        place: &EntryPath,
        token: &WriteToken,
        size_bytes: u64,
    ) -> Result<UnfinishedFile> {
        let gone = || Error::new(ErrorKind::Conflict, format!("the part of {place} is gone"));
        if !self.can_go_on(place, token, size_bytes) {
            return Err(gone());
        }
        let (id, bytes) = decode(token).ok_or_else(gone)?;
        // Written behind the token, perhaps, and not to be relied on.
        if let Some(file) = lock(&self.0).files.get_mut(&id) {
            file.bytes.truncate(index(bytes));
            (file.n_written, file.in_order) = (bytes, bytes);
        }
        Ok(UnfinishedFile { all: self.clone(), id, is_kept: true })
    }

    pub(super) fn can_go_on(&self, place: &EntryPath, token: &WriteToken, size_bytes: u64) -> bool {
        decode(token).is_some_and(|(id, bytes)| {
            let files = lock(&self.0);
            files.files.get(&id).is_some_and(|file| {
                file.place == *place && file.size_bytes == size_bytes && bytes <= file.in_order
            })
        })
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.0).files.len()
    }

    pub(super) fn clear(&self) {
        lock(&self.0).files.clear();
    }
}

impl UnfinishedFile {
    /// # Errors
    /// `InvalidInput` for a piece beyond the end: the snapshot says how large the file is.
    pub(super) fn write(&mut self, piece: &BodyPiece) -> Result<()> {
        let length = piece.bytes.len() as u64;
        let end = piece.offset.saturating_add(length);
        self.with(|file| {
            if end > file.size_bytes {
                let message = format!("{} gets more bytes than it has", file.place);
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
            if file.bytes.len() < index(end) {
                file.bytes.resize(index(end), 0);
            }
            file.bytes[index(piece.offset)..index(end)].copy_from_slice(&piece.bytes);
            file.n_written += length;
            if piece.offset == file.in_order {
                file.in_order = end;
            }
            Ok(())
        })
    }

    pub(super) fn bytes_in_order(&self) -> u64 {
        self.with(|file| Ok(file.in_order)).unwrap_or_default()
    }

    /// Lets the file outlive this value, and returns how much of it and its token.
    pub(super) fn keep(&mut self) -> (u64, WriteToken) {
        self.is_kept = true;
        let bytes = self.bytes_in_order();
        (bytes, WriteToken::new([self.id.to_be_bytes(), bytes.to_be_bytes()].concat()))
    }

    /// Only who broke off may come back.
    pub(super) fn broke_off(&mut self, error: &Error) {
        self.is_kept &= error.is(ErrorKind::Cancelled);
    }

    /// # Errors
    /// `InvalidInput` if bytes are missing.
    pub(super) fn finish(mut self) -> Result<Bytes> {
        self.is_kept = false;
        self.with(|file| {
            if file.n_written == file.size_bytes {
                return Ok(std::mem::take(&mut file.bytes).freeze());
            }
            let (place, written, size) = (&file.place, file.n_written, file.size_bytes);
            let message = format!("{place} gets {written} bytes of {size}");
            Err(Error::new(ErrorKind::InvalidInput, message))
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Unfinished) -> Result<T>) -> Result<T> {
        let gone = || Error::new(ErrorKind::Conflict, "the file was removed while it was written");
        work(lock(&self.all.0).files.get_mut(&self.id).ok_or_else(gone)?)
    }
}

impl Drop for UnfinishedFile {
    fn drop(&mut self) {
        if !self.is_kept {
            lock(&self.all.0).files.remove(&self.id);
        }
    }
}

fn decode(token: &WriteToken) -> Option<(u64, u64)> {
    let (id, bytes) = token.as_bytes().split_first_chunk()?;
    Some((u64::from_be_bytes(*id), u64::from_be_bytes(bytes.try_into().ok()?)))
}

fn index(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}
