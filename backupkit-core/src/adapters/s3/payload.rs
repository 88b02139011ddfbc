//! The bytes of a request: parts that follow each other, sent without joining them, and their hash.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};

/// So much is handed out at a time: what is taken of a body shows whether its request gets on.
const FRAME_BYTES: usize = 64 << 10;

/// More is hashed on a thread where blocking is allowed.
const HASHED_AT_ONCE: usize = 256 << 10;

/// What is sent in one request. Clones share the bytes.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    bytes: Arc<[Bytes]>,
    len_bytes: u64,
    sha256: [u8; 32],
}

impl Parts {
    /// Takes parts that follow each other, and hashes them.
    pub(super) async fn new(parts: Arc<[Bytes]>) -> Result<Self> {
        let length: usize = parts.iter().map(Bytes::len).sum();
        let sha256 = if length <= HASHED_AT_ONCE {
            hash(&parts)
        } else {
            let shared = Arc::clone(&parts);
            tokio::task::spawn_blocking(move || hash(&shared)).await.map_err(|error| {
                Error::new(ErrorKind::Internal, "cannot hash what is to be sent").with_source(error)
            })?
        };
        Ok(Self { bytes: parts, len_bytes: length as u64, sha256 })
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// The length as the client takes it.
    pub(super) fn content_length(&self) -> i64 {
        i64::try_from(self.len_bytes).unwrap_or(i64::MAX)
    }

    /// The SHA-256 as checksums of S3 are written.
    pub(super) fn checksum(&self) -> String {
        STANDARD.encode(self.sha256)
    }

    /// Whether some bytes stand at this place.
    pub(super) fn has_at(&self, offset: u64, found: &[u8]) -> bool {
        let mut skip = offset;
        let mut found = found;
        for part in self.bytes.iter() {
            let start = usize::try_from(skip).unwrap_or(usize::MAX).min(part.len());
            skip = skip.saturating_sub(start as u64);
            if skip > 0 {
                continue;
            }
            let length = found.len().min(part.len() - start);
            if found[..length] != part[start..start + length] {
                return false;
            }
            found = &found[length..];
            if found.is_empty() {
                return true;
            }
        }
        found.is_empty()
    }

    /// The body of a request. It can be made again.
    pub(super) fn body(&self) -> ByteStream {
        let parts = Arc::clone(&self.bytes);
        let left = self.len_bytes;
        ByteStream::new(SdkBody::retryable(move || {
            let parts = Arc::clone(&parts);
            SdkBody::from_body_1_x(PartsBody { parts, next: 0, begun: 0, left })
        }))
    }

    /// Signs the body by the hash that is known; the client would not sign what it has not in one
    /// piece.
    pub(super) fn signer(&self) -> impl Intercept + use<> {
        SignHash(hex::encode(self.sha256))
    }
}

fn hash(parts: &[Bytes]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

#[derive(Debug)]
struct PartsBody {
    parts: Arc<[Bytes]>,
    /// The part that is next, and how much of it was handed out.
    next: usize,
    begun: usize,
    left: u64,
}

impl Body for PartsBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        while let Some(part) = self.parts.get(self.next) {
            let end = part.len().min(self.begun.saturating_add(FRAME_BYTES));
            let frame = part.slice(self.begun..end);
            if end == part.len() {
                self.next += 1;
                self.begun = 0;
            } else {
                self.begun = end;
            }
            self.left = self.left.saturating_sub(frame.len() as u64);
            if !frame.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[derive(Debug)]
struct SignHash(String);

impl Intercept for SignHash {
    fn name(&self) -> &'static str {
        "SignHash"
    }

    fn modify_before_signing(
        &self,
        _context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(PayloadSigningOverride::Precomputed(self.0.clone()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_are_found_across_parts() {
        let parts = [&b""[..], b"abc", b"", b"defg", b"h"].map(Bytes::from_static);
        let parts = Parts::new(parts.into()).await.unwrap();
        assert_eq!(parts.len_bytes(), 8);
        let whole = b"abcdefgh";
        for start in 0..=8 {
            for end in start..=8 {
                assert!(parts.has_at(start as u64, &whole[start..end]), "{start}..{end}");
            }
        }
        assert!(!parts.has_at(0, b"abd"));
        assert!(!parts.has_at(2, b"cdefx"));
        assert!(!parts.has_at(6, b"ghi"));
    }
}
