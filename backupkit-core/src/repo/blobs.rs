//! Single blobs, read and verified.

use std::fmt;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::model::BlobId;

use super::compress::Decompressor;
use super::crypto::MasterKey;
use super::index::BlobLocation;
use super::layout::pack_key;
use super::pack_header::BlobKind;
use super::repository::Repository;

/// The largest plain blob that is taken: readers hold it in memory.
pub(crate) const MAX_BLOB_BYTES: usize = 1 << 30;

/// What a blob is, and where it lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredBlob {
    pub(crate) kind: BlobKind,
    pub(crate) id: BlobId,
    pub(crate) location: BlobLocation,
}

/// Memory to open blobs in, one after the other.
#[derive(Debug, Default)]
pub(crate) struct OpenMemory {
    opened: Vec<u8>,
    plain: Vec<u8>,
}

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
    let blob = StoredBlob { kind, id: *id, location: *location };
    let sealed = blob.read_sealed(repository).await?;
    blob.open(repository.key(), &mut Decompressor::new()?, &sealed)
}

/// What people call a blob.
pub(crate) fn noun(kind: BlobKind) -> &'static str {
    match kind {
        BlobKind::Data => "data blob",
        BlobKind::Tree => "tree",
    }
}

impl StoredBlob {
    /// Reads the sealed bytes. They prove nothing yet.
    pub(crate) async fn read_sealed(&self, repository: &Repository) -> Result<Bytes> {
        let Self { kind, id, location } = self;
        let start = u64::from(location.offset);
        let range = start..start + u64::from(location.sealed_bytes);
        let key = pack_key(&location.pack)?;
        repository.destination().get(&key, Some(range)).await.map_err(|error| {
            error.while_doing(format!("read {} {id} in pack {}", noun(*kind), location.pack))
        })
    }

    /// Opens the sealed bytes, and proves that they are what the id says.
    ///
    /// # Errors
    /// `Corrupt` naming blob and pack.
    pub(crate) fn open(
        &self,
        key: &MasterKey,
        decompressor: &mut Decompressor,
        sealed: &[u8],
    ) -> Result<Vec<u8>> {
        let blob = self.decode(key, decompressor, sealed)?;
        self.prove(*BlobId::of(&blob).as_bytes())?;
        Ok(blob)
    }

    /// As [`Self::open`], for those who only want to know whether it succeeds.
    pub(crate) fn check(
        &self,
        key: &MasterKey,
        decompressor: &mut Decompressor,
        memory: &mut OpenMemory,
        sealed: &[u8],
    ) -> Result<()> {
        let found = self.decode_in(memory, key, decompressor, sealed)?;
        self.prove(*BlobId::of(found).as_bytes())
    }

    /// As [`Self::open`], for those who hash what they get, and [prove](Self::prove) it, before they
    /// use it.
    pub(crate) fn decode(
        &self,
        key: &MasterKey,
        decompressor: &mut Decompressor,
        sealed: &[u8],
    ) -> Result<Vec<u8>> {
        let mut memory = OpenMemory::default();
        self.decode_in(&mut memory, key, decompressor, sealed)?;
        Ok(if self.location.plain_bytes.is_some() { memory.plain } else { memory.opened })
    }

    /// Proves by its SHA-256 that a blob is what its id says.
    ///
    /// # Errors
    /// `Corrupt` naming blob and pack.
    pub(crate) fn prove(&self, digest: [u8; 32]) -> Result<()> {
        if digest == *self.id.as_bytes() {
            return Ok(());
        }
        Err(self.damaged(&"its bytes do not fit its id"))
    }

    fn decode_in<'a>(
        &self,
        memory: &'a mut OpenMemory,
        key: &MasterKey,
        decompressor: &mut Decompressor,
        sealed: &[u8],
    ) -> Result<&'a [u8]> {
        let OpenMemory { opened, plain } = memory;
        key.open_into(sealed, opened).map_err(|error| self.damaged(&error))?;
        let Some(length) = self.location.plain_bytes else {
            return Ok(opened);
        };
        decompressor
            .decompress_into(opened, length as usize, MAX_BLOB_BYTES, plain)
            .map_err(|error| self.damaged(&error))?;
        Ok(plain)
    }

    fn damaged(&self, why: &dyn fmt::Display) -> Error {
        let Self { kind, id, location } = self;
        Error::corrupt(format!("{} {id} in pack {}", noun(*kind), location.pack), why)
    }
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
