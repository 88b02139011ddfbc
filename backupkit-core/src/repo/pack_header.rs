//! Pack files: `sealed blobs || sealed header || length of the sealed header`.
//!
//! The header lists the blobs in the order in which they lie, without gaps, so that a lost index can
//! be made again from the packs.

use super::crypto::OVERHEAD;
use crate::error::{Error, ErrorKind, Result};
use crate::model::BlobId;

/// Bytes of the length at the end of a pack: the sealed header's, little-endian.
pub const TRAILER_BYTES: usize = 4;
/// Bytes of a header entry of a plain blob.
pub const PLAIN_ENTRY_BYTES: usize = 1 + 4 + 32;
/// Bytes of a header entry of a compressed blob.
pub const COMPRESSED_ENTRY_BYTES: usize = PLAIN_ENTRY_BYTES + 4;
/// No sealed header is longer.
pub const MAX_SEALED_HEADER_BYTES: usize = 16 * 1024 * 1024;
/// No pack holds more blobs, whatever their kind.
pub const MAX_BLOBS: usize = (MAX_SEALED_HEADER_BYTES - OVERHEAD) / COMPRESSED_ENTRY_BYTES;
/// A pack of one empty blob has so many bytes without the blob; no file is shorter.
pub const MIN_PACK_BYTES: usize = PLAIN_ENTRY_BYTES + OVERHEAD + TRAILER_BYTES;
/// No pack is longer, as offsets have 32 bits.
pub const MAX_PACK_BYTES: u64 = u32::MAX as u64;

const SEALED_OVERHEAD: u32 = 32;
const _: () = assert!(SEALED_OVERHEAD as usize == OVERHEAD);

/// What a blob holds. Ids are unique per kind only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlobKind {
    /// Bytes of a file.
    Data,
    /// A directory.
    Tree,
}

/// A blob within a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackedBlob {
    /// SHA-256 of the plaintext.
    pub id: BlobId,
    /// What it holds.
    pub kind: BlobKind,
    /// Where its sealed bytes begin in the pack.
    pub offset: u32,
    /// How many sealed bytes there are, at least [`OVERHEAD`].
    pub sealed_bytes: u32,
    /// Length of the plaintext if it is compressed, never zero; nothing if it is stored plain.
    pub plain_bytes: Option<u32>,
}

impl PackedBlob {
    /// Length of the plaintext.
    pub fn content_bytes(&self) -> u32 {
        self.plain_bytes.unwrap_or_else(|| self.sealed_bytes.saturating_sub(SEALED_OVERHEAD))
    }

    /// Where the sealed bytes end in the pack.
    pub fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.sealed_bytes)
    }

    /// Bytes of its entry in the header.
    pub fn entry_bytes(&self) -> usize {
        match self.plain_bytes {
            Some(_) => COMPRESSED_ENTRY_BYTES,
            None => PLAIN_ENTRY_BYTES,
        }
    }

    /// Says what is wrong with the numbers, if anything is.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.sealed_bytes < SEALED_OVERHEAD {
            return Err("a blob is shorter than sealed data can be");
        }
        if self.plain_bytes == Some(0) {
            return Err("a compressed blob is empty");
        }
        if self.end() > MAX_PACK_BYTES {
            return Err("a blob ends beyond 4 GiB");
        }
        Ok(())
    }
}

/// Returns how long a pack of these blobs is.
pub fn pack_bytes(blobs: &[PackedBlob]) -> u64 {
    let blob_bytes: u64 = blobs.iter().map(|blob| u64::from(blob.sealed_bytes)).sum();
    blob_bytes + (sealed_header_bytes(blobs) + TRAILER_BYTES) as u64
}

/// Returns how long the sealed header of these blobs is.
pub fn sealed_header_bytes(blobs: &[PackedBlob]) -> usize {
    OVERHEAD + blobs.iter().map(PackedBlob::entry_bytes).sum::<usize>()
}

/// Returns the length of the sealed header, as the last four bytes of a pack of `pack_bytes` say it.
///
/// # Errors
/// `Corrupt` if no header can have that length.
pub fn parse_trailer(trailer: [u8; TRAILER_BYTES], pack_bytes: u64) -> Result<u32> {
    let header_bytes = u32::from_le_bytes(trailer);
    let smallest = OVERHEAD + PLAIN_ENTRY_BYTES;
    let fits = u64::from(header_bytes) + TRAILER_BYTES as u64 <= pack_bytes;
    if !fits || !(smallest..=MAX_SEALED_HEADER_BYTES).contains(&(header_bytes as usize)) {
        return Err(damaged(&format_args!(
            "a file of {pack_bytes} bytes cannot have a header of {header_bytes}"
        )));
    }
    Ok(header_bytes)
}

/// Returns the plaintext of the header for `blobs`, which lie one after the other from offset zero.
///
/// # Errors
/// `Internal` if they do not, or are too many: whoever filled the pack miscounted.
pub fn encode_header(blobs: &[PackedBlob]) -> Result<Vec<u8>> {
    let refused =
        |why: &str| Error::new(ErrorKind::Internal, format!("cannot close a pack: {why}"));
    if blobs.is_empty() || blobs.len() > MAX_BLOBS {
        return Err(refused("it has no blobs, or too many"));
    }
    if pack_bytes(blobs) > MAX_PACK_BYTES {
        return Err(refused("it is longer than 4 GiB"));
    }
    let mut header = Vec::with_capacity(sealed_header_bytes(blobs) - OVERHEAD);
    let mut end = 0;
    for blob in blobs {
        blob.check().map_err(refused)?;
        if u64::from(blob.offset) != end {
            return Err(refused("its blobs do not follow each other"));
        }
        end = blob.end();
        header.push(match (blob.kind, blob.plain_bytes) {
            (BlobKind::Data, None) => 0,
            (BlobKind::Tree, None) => 1,
            (BlobKind::Data, Some(_)) => 2,
            (BlobKind::Tree, Some(_)) => 3,
        });
        header.extend_from_slice(&blob.sealed_bytes.to_le_bytes());
        if let Some(plain_bytes) = blob.plain_bytes {
            header.extend_from_slice(&plain_bytes.to_le_bytes());
        }
        header.extend_from_slice(blob.id.as_bytes());
    }
    Ok(header)
}

/// Reads the plaintext of a header.
///
/// Compare the end of the last blob with where the header begins: only the caller knows the latter.
///
/// # Errors
/// `Corrupt` if it is not a header.
pub fn parse_header(plaintext: &[u8]) -> Result<Vec<PackedBlob>> {
    if plaintext.is_empty() || plaintext.len() > MAX_SEALED_HEADER_BYTES - OVERHEAD {
        return Err(damaged(&"its header is empty or too long"));
    }
    let mut blobs = Vec::with_capacity(plaintext.len() / PLAIN_ENTRY_BYTES);
    let mut rest = plaintext;
    let mut offset = 0;
    while !rest.is_empty() {
        let (blob, after) = parse_entry(rest, offset).map_err(|why| damaged(&why))?;
        blob.check().map_err(|why| damaged(&why))?;
        offset = blob.offset.saturating_add(blob.sealed_bytes);
        blobs.push(blob);
        rest = after;
    }
    Ok(blobs)
}

fn parse_entry(bytes: &[u8], offset: u32) -> Result<(PackedBlob, &[u8]), &'static str> {
    const SHORT: &str = "its header ends within an entry";
    let (kind, rest) = bytes.split_first().ok_or(SHORT)?;
    let (kind, compressed) = match kind {
        0 => (BlobKind::Data, false),
        1 => (BlobKind::Tree, false),
        2 => (BlobKind::Data, true),
        3 => (BlobKind::Tree, true),
        _ => return Err("its header has a blob of unknown type"),
    };
    let (sealed_bytes, rest) = rest.split_first_chunk().ok_or(SHORT)?;
    let (plain_bytes, rest) = if compressed {
        let (plain_bytes, rest) = rest.split_first_chunk().ok_or(SHORT)?;
        (Some(u32::from_le_bytes(*plain_bytes)), rest)
    } else {
        (None, rest)
    };
    let (id, rest) = rest.split_first_chunk().ok_or(SHORT)?;
    let blob = PackedBlob {
        id: BlobId::from_bytes(*id),
        kind,
        offset,
        sealed_bytes: u32::from_le_bytes(*sealed_bytes),
        plain_bytes,
    };
    Ok((blob, rest))
}

fn damaged(detail: &dyn std::fmt::Display) -> Error {
    Error::corrupt("pack", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> Vec<PackedBlob> {
        let mut offset = 0u32;
        [
            (BlobKind::Data, 32, None),
            (BlobKind::Tree, 100, None),
            (BlobKind::Data, 0x0102_0304, Some(0x0506_0708)),
            (BlobKind::Tree, 33, Some(1)),
        ]
        .into_iter()
        .map(|(kind, sealed_bytes, plain_bytes)| {
            let blob = PackedBlob {
                id: BlobId::of(&[offset.to_le_bytes()[0]]),
                kind,
                offset,
                sealed_bytes,
                plain_bytes,
            };
            offset += sealed_bytes;
            blob
        })
        .collect()
    }

    #[test]
    fn headers_have_the_bytes_of_the_format_and_read_back() {
        let blobs = blobs();
        let header = encode_header(&blobs).unwrap();
        let id = |at: usize| blobs[at].id.to_string();
        let expected = [
            format!("0020000000{}", id(0)),
            format!("0164000000{}", id(1)),
            format!("020403020108070605{}", id(2)),
            format!("032100000001000000{}", id(3)),
        ];
        assert_eq!(hex::encode(&header), expected.concat());
        assert_eq!(header.len() + OVERHEAD, sealed_header_bytes(&blobs));
        assert_eq!(parse_header(&header).unwrap(), blobs);
        let lengths: Vec<u32> = blobs.iter().map(PackedBlob::content_bytes).collect();
        assert_eq!(lengths, [0, 68, 0x0506_0708, 1]);
        let expected = blobs[3].end() + 2 * 37 + 2 * 41 + 36;
        assert_eq!(pack_bytes(&blobs), expected);
    }

    #[test]
    fn limits_are_those_of_restic() {
        assert_eq!(MAX_BLOBS, 409_199);
        assert_eq!(MIN_PACK_BYTES, 73);
    }

    #[test]
    fn blobs_that_do_not_follow_each_other_are_not_written() {
        let empty = |offset| PackedBlob { offset, ..blobs()[0] };
        let too_many: Vec<_> = (0u32..).step_by(32).map(empty).take(MAX_BLOBS + 1).collect();
        assert!(encode_header(&too_many[..MAX_BLOBS]).is_ok());
        let gap = [empty(0), empty(33)];
        let short = [PackedBlob { sealed_bytes: 31, ..empty(0) }];
        let hollow = [PackedBlob { plain_bytes: Some(0), ..empty(0) }];
        let long = [PackedBlob { sealed_bytes: u32::MAX, ..empty(0) }];
        for blobs in [&[][..], &too_many, &gap, &short, &hollow, &long] {
            let error = encode_header(blobs).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal);
        }
    }

    #[test]
    fn what_is_not_a_header_is_damaged() {
        let header = encode_header(&blobs()).unwrap();
        let whole = [37, 74, 74 + 41];
        for length in (0..header.len()).filter(|length| !whole.contains(length)) {
            assert!(parse_header(&header[..length]).is_err(), "{length}");
        }
        let changed = |at: usize, value: u8| {
            let mut header = header.clone();
            header[at] = value;
            parse_header(&header)
        };
        assert!(changed(0, 4).is_err(), "type");
        assert!(changed(1, 31).is_err(), "shorter than sealed data");
        assert!(changed(74 + 41 + 4, 0xff).is_err(), "beyond 4 GiB");
        assert!(changed(74 + 41 + 5, 0).is_err(), "compressed and empty");
        assert!(parse_header(&vec![0; MAX_SEALED_HEADER_BYTES]).is_err());
    }

    #[test]
    fn trailers_must_fit_the_file() {
        let parse =
            |header_bytes: u32, pack_bytes| parse_trailer(header_bytes.to_le_bytes(), pack_bytes);
        assert_eq!(parse(69, 73).unwrap(), 69);
        assert_eq!(parse(16 << 20, 1 << 30).unwrap(), 16 << 20);
        for (header_bytes, pack_bytes) in [
            (0, 100),
            (68, 100),
            (70, 73),
            ((16 << 20) + 1, 1 << 30),
            (u32::MAX, u64::MAX),
            (69, 3),
        ] {
            let error = parse(header_bytes, pack_bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }
}
