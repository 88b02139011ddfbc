//! Whether an object has the bytes that the snapshot has.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::session::Core;
use crate::adapters::s3::bucket::Looked;
use crate::adapters::s3::object::ObjectRecord;
use crate::adapters::s3::payload::Parts;
use crate::error::{ErrorKind, Result};
use crate::snapshot::SnapshotEntry;

/// How much is read and compared at a time.
pub(super) const COMPARED_BYTES: u64 = 8 << 20;

/// What an object should hold.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'a> {
    /// Bytes at hand.
    Parts(&'a Parts),
    /// Those of an entry of the snapshot.
    Entry(&'a SnapshotEntry),
}

/// Whether an object is the one that would be written: with these bytes, this type and this metadata.
/// An earlier try may have written it.
pub(super) async fn is_same(
    core: &Core,
    key: &str,
    found: &Looked,
    record: &ObjectRecord,
    content: Content<'_>,
) -> Result<bool> {
    let is_theirs = |(name, value): (&String, &String)| {
        found
            .user_metadata
            .iter()
            .any(|(theirs, text)| theirs.eq_ignore_ascii_case(name) && text.trim() == value.trim())
    };
    if found.content_type.as_deref().is_some_and(|theirs| theirs != record.content_type())
        || !record.user_metadata.iter().all(is_theirs)
    {
        return Ok(false);
    }
    has_bytes(core, key, found, content).await
}

/// Compares the bytes: by the checksum that the server keeps, or else by reading them.
pub(super) async fn has_bytes(
    core: &Core,
    key: &str,
    found: &Looked,
    content: Content<'_>,
) -> Result<bool> {
    match content {
        Content::Parts(parts) => {
            if found.len_bytes != parts.len_bytes() {
                return Ok(false);
            }
            if let Some(checksum) = &found.checksum {
                return Ok(*checksum == parts.checksum());
            }
            let mut comparison =
                Reading { core, key, version: None, offset: 0, len_bytes: found.len_bytes };
            while let Some((offset, bytes)) = comparison.next().await? {
                if !parts.has_at(offset, &bytes) {
                    return Ok(false);
                }
            }
            Ok(comparison.is_over())
        }
        Content::Entry(entry) => {
            Ok(found.len_bytes == entry.size_bytes && read_back(core, key, entry).await?)
        }
    }
}

/// Whether a checksum that the server keeps is that of an entry; nothing if that cannot be told.
pub(super) fn is_checksum_of(
    core: &Core,
    checksum: Option<&str>,
    entry: &SnapshotEntry,
) -> Result<Option<bool>> {
    if let (Some(checksum), Some(stretches)) = (checksum, core.snapshot.stretches(entry)?)
        && let [whole] = &stretches[..]
    {
        return Ok(Some(*checksum == STANDARD.encode(whole.sha256)));
    }
    Ok(None)
}

/// Reads an object, and compares it with the snapshot byte by byte.
pub(super) async fn read_back(core: &Core, key: &str, entry: &SnapshotEntry) -> Result<bool> {
    read_back_version(core, key, None, entry).await
}

/// As [`read_back`], of a version; without one, of the newest.
pub(super) async fn read_back_version(
    core: &Core,
    key: &str,
    version: Option<&str>,
    entry: &SnapshotEntry,
) -> Result<bool> {
    let mut object = Reading { core, key, version, offset: 0, len_bytes: entry.size_bytes };
    let Some(stretches) = core.snapshot.stretches(entry)? else {
        while let Some((offset, bytes)) = object.next().await? {
            let range = offset..offset + bytes.len() as u64;
            if core.snapshot.read(entry, range).await? != bytes {
                return Ok(false);
            }
        }
        return Ok(object.is_over());
    };
    let mut rest = Bytes::new();
    for stretch in stretches {
        let mut hasher = Sha256::new();
        let mut left = stretch.bytes;
        while left > 0 {
            if rest.is_empty() {
                match object.next().await? {
                    Some((_, bytes)) => rest = bytes,
                    None => return Ok(false),
                }
            }
            let part = rest.split_to(usize::try_from(left).unwrap_or(usize::MAX).min(rest.len()));
            left -= part.len() as u64;
            hasher = hash(hasher, part).await?;
        }
        if hasher.finalize()[..] != stretch.sha256 {
            return Ok(false);
        }
    }
    Ok(rest.is_empty() && object.is_over())
}

/// Hashes where blocking is allowed.
pub(super) async fn hash(mut hasher: Sha256, bytes: Bytes) -> Result<Sha256> {
    let hashing = tokio::task::spawn_blocking(move || {
        hasher.update(&bytes);
        hasher
    });
    hashing.await.map_err(|error| {
        crate::Error::new(ErrorKind::Internal, "cannot hash what was restored").with_source(error)
    })
}

/// An object that is read from its beginning on.
struct Reading<'a> {
    core: &'a Core,
    key: &'a str,
    /// Nothing means the newest.
    version: Option<&'a str>,
    offset: u64,
    len_bytes: u64,
}

impl Reading<'_> {
    /// The next bytes; nothing at the end, or if the object is another one by now.
    async fn next(&mut self) -> Result<Option<(u64, Bytes)>> {
        let end = self.len_bytes.min(self.offset.saturating_add(COMPARED_BYTES));
        if self.offset >= end {
            return Ok(None);
        }
        let range = Some(self.offset..end);
        let reading = self.core.place.bucket.get_version(self.key, self.version, range);
        match self.core.cancel.unless_cancelled(reading).await {
            Ok(bytes) => {
                let offset = std::mem::replace(&mut self.offset, end);
                Ok(Some((offset, bytes)))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::InvalidInput
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn is_over(&self) -> bool {
        self.offset == self.len_bytes
    }
}
