//! Single blobs, read and verified.

use std::fmt;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::model::BlobId;

use super::compress::Decompressor;
use super::index::BlobLocation;
use super::layout::pack_key;
use super::pack_header::BlobKind;
use super::repository::Repository;

/// The largest plain blob that is taken: readers hold it in memory.
pub(crate) const MAX_BLOB_BYTES: usize = 1 << 30;

/// Reads one blob and proves that it is what its id says.
///
/// # Errors
/// `Corrupt` naming blob and pack.
pub(crate) async fn read_blob(
    repository: &Repository,
    kind: BlobKind,
    id: &BlobId,
    location: &BlobLocation,
) -> Result<Vec<u8>> {
    let sealed = read_sealed(repository, kind, id, location).await?;
    open_blob(repository, &mut Decompressor::new()?, kind, id, location, &sealed)
}

/// Reads the sealed bytes of one blob. They prove nothing yet.
pub(crate) async fn read_sealed(
    repository: &Repository,
    kind: BlobKind,
    id: &BlobId,
    location: &BlobLocation,
) -> Result<Bytes> {
    let start = u64::from(location.offset);
    let range = start..start + u64::from(location.sealed_bytes);
    let key = pack_key(&location.pack)?;
    repository.destination().get(&key, Some(range)).await.map_err(|error| {
        error.while_doing(format!("read {} {id} in pack {}", noun(kind), location.pack))
    })
}

/// Opens the sealed bytes of a blob and proves that they are what its id says.
pub(crate) fn open_blob(
    repository: &Repository,
    decompressor: &mut Decompressor,
    kind: BlobKind,
    id: &BlobId,
    location: &BlobLocation,
    sealed: &[u8],
) -> Result<Vec<u8>> {
    let blob = decode_blob(repository, decompressor, kind, id, location, sealed)?;
    prove(kind, id, location, *BlobId::of(&blob).as_bytes())?;
    Ok(blob)
}

/// As [`open_blob`], for those who hash what they get, and [`prove`] it, before they use it.
pub(crate) fn decode_blob(
    repository: &Repository,
    decompressor: &mut Decompressor,
    kind: BlobKind,
    id: &BlobId,
    location: &BlobLocation,
    sealed: &[u8],
) -> Result<Vec<u8>> {
    let mut memory = OpenMemory::default();
    decode_in(&mut memory, repository, decompressor, kind, id, location, sealed)?;
    Ok(if location.plain_bytes.is_some() { memory.plain } else { memory.opened })
}

/// Proves by its SHA-256 that a blob is what its id says.
///
/// # Errors
/// `Corrupt` naming blob and pack.
pub(crate) fn prove(
    kind: BlobKind,
    id: &BlobId,
    location: &BlobLocation,
    digest: [u8; 32],
) -> Result<()> {
    if digest == *id.as_bytes() {
        return Ok(());
    }
    Err(damaged(kind, id, location, &"its bytes do not fit its id"))
}

/// Memory to open blobs in, one after the other.
#[derive(Debug, Default)]
pub(crate) struct OpenMemory {
    opened: Vec<u8>,
    plain: Vec<u8>,
}

impl OpenMemory {
    /// Gives back what is more than most blobs need.
    pub(crate) fn shrink(&mut self, most_bytes: usize) {
        for memory in [&mut self.opened, &mut self.plain] {
            if memory.capacity() > most_bytes {
                *memory = Vec::new();
            }
        }
    }
}

/// As [`open_blob`], for those who only want to know whether it succeeds.
pub(crate) fn open_blob_in(
    memory: &mut OpenMemory,
    repository: &Repository,
    decompressor: &mut Decompressor,
    kind: BlobKind,
    id: &BlobId,
    location: &BlobLocation,
    sealed: &[u8],
) -> Result<()> {
    let found = decode_in(memory, repository, decompressor, kind, id, location, sealed)?;
    prove(kind, id, location, *BlobId::of(found).as_bytes())
}

fn decode_in<'a>(
    memory: &'a mut OpenMemory,
    repository: &Repository,
    decompressor: &mut Decompressor,
    kind: BlobKind,
    id: &BlobId,
    location: &BlobLocation,
    sealed: &[u8],
) -> Result<&'a [u8]> {
    let damaged = |why: &dyn fmt::Display| damaged(kind, id, location, why);
    let OpenMemory { opened, plain } = memory;
    repository.key().open_into(sealed, opened).map_err(|error| damaged(&error))?;
    let Some(length) = location.plain_bytes else {
        return Ok(opened);
    };
    decompressor
        .decompress_into(opened, length as usize, MAX_BLOB_BYTES, plain)
        .map_err(|error| damaged(&error))?;
    Ok(plain)
}

fn damaged(kind: BlobKind, id: &BlobId, location: &BlobLocation, why: &dyn fmt::Display) -> Error {
    Error::corrupt(format!("{} {id} in pack {}", noun(kind), location.pack), why)
}

/// What people call a blob.
pub(crate) fn noun(kind: BlobKind) -> &'static str {
    match kind {
        BlobKind::Data => "data blob",
        BlobKind::Tree => "tree",
    }
}
