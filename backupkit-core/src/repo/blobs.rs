//! Single blobs, read and verified.

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
    let start = u64::from(location.offset);
    let range = start..start + u64::from(location.sealed_bytes);
    let key = pack_key(&location.pack)?;
    let sealed = repository.destination().get(&key, Some(range)).await.map_err(|error| {
        error.while_doing(format!("read {} {id} in pack {}", noun(kind), location.pack))
    })?;
    open_blob(repository, &mut Decompressor::new()?, kind, id, location, &sealed)
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
    let damaged = |why: &dyn std::fmt::Display| {
        Error::corrupt(format!("{} {id} in pack {}", noun(kind), location.pack), why)
    };
    let opened = repository.key().open(sealed).map_err(|error| damaged(&error))?;
    let plain = match location.plain_bytes {
        None => opened,
        Some(length) => {
            let length = length as usize;
            decompressor
                .decompress(&opened, length, MAX_BLOB_BYTES)
                .map_err(|error| damaged(&error))?
        }
    };
    if BlobId::of(&plain) != *id {
        return Err(damaged(&"its bytes do not fit its id"));
    }
    Ok(plain)
}

/// What people call a blob.
pub(crate) fn noun(kind: BlobKind) -> &'static str {
    match kind {
        BlobKind::Data => "data blob",
        BlobKind::Tree => "tree",
    }
}
