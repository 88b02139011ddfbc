//! The bytes of the cache file.

use std::io::Read;

use sha2::{Digest as _, Sha256};

use crate::model::{BlobId, PackId};
use crate::repo::index_file::IndexedPack;
use crate::repo::pack_header::{BlobKind, PackedBlob};

const MAGIC: &[u8; 8] = b"bkindex1";
pub(super) const HEADER_BYTES: usize = 8 + 32;
pub(super) const TRAILER_BYTES: usize = Counts::BYTES + 32;
const PACK_BYTES: u64 = 32 + 4;
const BLOB_BYTES: usize = 32 + 1 + 3 * 4;

pub(super) fn header(repository: &[u8; 32]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..].copy_from_slice(repository);
    header
}

/// How many of each there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) packs: u64,
    pub(super) blobs: u64,
    pub(super) index_files: u64,
}

impl Counts {
    pub(super) const BYTES: usize = 3 * 8;

    /// Reads counts and hash.
    pub(super) fn parse(trailer: &[u8; TRAILER_BYTES]) -> (Self, [u8; 32]) {
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&trailer[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let counts = Self { packs: number(0), blobs: number(8), index_files: number(16) };
        let mut hash = [0; 32];
        hash.copy_from_slice(&trailer[Self::BYTES..]);
        (counts, hash)
    }

    pub(super) fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (at, number) in [self.packs, self.blobs, self.index_files].into_iter().enumerate() {
            bytes[at * 8..(at + 1) * 8].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// How long header and packs are.
    pub(super) fn packs_end(self) -> Option<u64> {
        let packs = self.packs.checked_mul(PACK_BYTES)?;
        let blobs = self.blobs.checked_mul(BLOB_BYTES as u64)?;
        packs.checked_add(blobs)?.checked_add(HEADER_BYTES as u64)
    }

    /// How long the file is; nothing if no file is that long.
    pub(super) fn file_bytes(self) -> Option<u64> {
        let files = self.index_files.checked_mul(32)?;
        self.packs_end()?.checked_add(files)?.checked_add(TRAILER_BYTES as u64)
    }
}

/// Reads and hashes.
pub(super) struct HashingReader<R> {
    reader: R,
    hasher: Sha256,
}

impl<R: Read> HashingReader<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, hasher: Sha256::new() }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).ok()?;
        self.hasher.update(bytes);
        Some(bytes)
    }

    /// Reads `length` bytes at once: hashing each number by itself costs more than reading it.
    fn vec(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes).ok()?;
        self.hasher.update(&bytes);
        Some(bytes)
    }

    /// The SHA-256 of all that was read.
    pub(super) fn hash(&self) -> [u8; 32] {
        self.hasher.clone().finalize().into()
    }
}

/// Reads a pack that has at most `blobs_left` blobs, which it lowers.
pub(super) fn read_pack<R: Read>(
    reader: &mut HashingReader<R>,
    blobs_left: &mut u64,
) -> Option<IndexedPack> {
    let id = PackId::from_bytes(reader.array()?);
    let count = u32::from_le_bytes(reader.array()?);
    *blobs_left = blobs_left.checked_sub(u64::from(count))?;
    // The file is as long as its counts say, so this is no more than what is there.
    let bytes = reader.vec(usize::try_from(count).ok()?.checked_mul(BLOB_BYTES)?)?;
    let blobs = bytes.chunks_exact(BLOB_BYTES).map(decode_blob).collect::<Option<_>>()?;
    Some(IndexedPack { id, blobs })
}

pub(super) fn encode_pack(pack: &IndexedPack, out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(pack.id.as_bytes());
    out.extend_from_slice(&u32::try_from(pack.blobs.len()).ok()?.to_le_bytes());
    for blob in &pack.blobs {
        out.extend_from_slice(blob.id.as_bytes());
        out.push(match blob.kind {
            BlobKind::Data => 0,
            BlobKind::Tree => 1,
        });
        for number in [blob.offset, blob.sealed_bytes, blob.plain_bytes.unwrap_or_default()] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
    Some(())
}

fn decode_blob(bytes: &[u8]) -> Option<PackedBlob> {
    let (id, rest) = bytes.split_first_chunk::<32>()?;
    let (kind, rest) = rest.split_first()?;
    let number = |at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(rest.get(at..at + 4)?.try_into().ok()?))
    };
    let blob = PackedBlob {
        id: BlobId::from_bytes(*id),
        kind: match kind {
            0 => BlobKind::Data,
            1 => BlobKind::Tree,
            _ => return None,
        },
        offset: number(0)?,
        sealed_bytes: number(4)?,
        plain_bytes: Some(number(8)?).filter(|bytes| *bytes != 0),
    };
    blob.check().ok()?;
    Some(blob)
}
