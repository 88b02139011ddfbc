//! Whether an object has the bytes that it should have.

use bytes::Bytes;

use super::S3Destination;
use crate::adapters::s3::payload::Parts;
use crate::destination::{ObjectKey, Payload};
use crate::error::{ErrorKind, Result};

/// How much of an object is read at a time.
const COMPARED_BYTES: u64 = 8 << 20;

/// What an object is to hold.
#[derive(Debug)]
pub(super) enum Content {
    /// It is sent in one request.
    Small(Parts),
    /// It is sent in parts.
    Large(Payload),
}

impl Content {
    fn len_bytes(&self) -> u64 {
        match self {
            Self::Small(parts) => parts.len_bytes(),
            Self::Large(payload) => payload.len_bytes(),
        }
    }

    async fn has_at(&self, offset: u64, found: Bytes) -> Result<bool> {
        match self {
            Self::Small(parts) => Ok(parts.has_at(offset, &found)),
            Self::Large(payload) => {
                let mut at = 0;
                for piece in super::large::slice(payload, offset, found.len()).await? {
                    if found.get(at..at + piece.len()) != Some(&piece[..]) {
                        return Ok(false);
                    }
                    at += piece.len();
                }
                Ok(at == found.len())
            }
        }
    }
}

impl S3Destination {
    /// Compares an object by its checksum, or else by its bytes; nothing if there is none.
    pub(super) async fn compare(&self, key: &ObjectKey, content: &Content) -> Result<Option<bool>> {
        let Some(found) = self.bucket.look(key.as_str()).await? else { return Ok(None) };
        if found.len_bytes != content.len_bytes() {
            return Ok(Some(false));
        }
        if let (Some(checksum), Content::Small(parts)) = (&found.checksum, content) {
            return Ok(Some(*checksum == parts.checksum()));
        }
        let mut offset = 0;
        while offset < found.len_bytes {
            let end = found.len_bytes.min(offset + COMPARED_BYTES);
            let piece = match self.bucket.get(key.as_str(), Some(offset..end)).await {
                Err(error) if error.is(ErrorKind::NotFound) => return Ok(None),
                Err(error) => {
                    return Err(error.while_doing(format!("compare what is there as {key}")));
                }
                Ok(piece) => piece,
            };
            if !content.has_at(offset, piece).await? {
                return Ok(Some(false));
            }
            offset = end;
        }
        Ok(Some(true))
    }
}
