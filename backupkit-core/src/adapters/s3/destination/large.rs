//! Objects that are sent in parts.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::S3Destination;
use super::orphans::Orphan;
use crate::adapters::s3::bucket::Condition;
use crate::adapters::s3::object::ObjectRecord;
use crate::adapters::s3::payload::Parts;
use crate::destination::{ObjectKey, Payload};
use crate::error::{Error, ErrorKind, Result};

/// Parts have from 5 MiB to 5 GiB, and there are 10,000 at most.
pub(super) const LEAST_PART_BYTES: u64 = 8 << 20;
const MOST_PARTS: u64 = 9_500;
const PART_GRAIN_BYTES: u64 = 1 << 20;
/// So many parts of an object are in memory and on their way.
const PARTS_AT_ONCE: usize = 2;

impl S3Destination {
    /// Sends an object in parts. Nothing is left of it if that fails; if the call is dropped, the next
    /// one clears up.
    pub(super) async fn write_large(
        &self,
        key: &ObjectKey,
        payload: &Payload,
        condition: &Condition,
        record: &ObjectRecord,
    ) -> Result<()> {
        // Until its id is known, an upload may have begun that only the server knows.
        let unknown = self.orphans.guard(Orphan::unknown(key));
        let begun = self.bucket.begin_object(key.as_str(), record).await?;
        let unfinished = self.orphans.guard(Orphan::known(key, &begun.id));
        if !begun.is_repeated {
            unknown.over();
        }
        let result = self.send_parts(key, payload, &begun.id, condition).await;
        // Should the parts not go now, they go later.
        if result.is_ok() || self.hasty().abort_upload(key.as_str(), &begun.id).await.is_ok() {
            unfinished.over();
        }
        result
    }

    async fn send_parts(
        &self,
        key: &ObjectKey,
        payload: &Payload,
        id: &str,
        condition: &Condition,
    ) -> Result<()> {
        let length = payload.len_bytes();
        let part_bytes = part_bytes(length);
        let numbered = (1i32..).zip((0..length).step_by(usize_of(part_bytes)?));
        let sends = numbered.map(|(number, offset)| async move {
            let size = usize_of(part_bytes.min(length - offset))?;
            let parts = Parts::new(slice(payload, offset, size).await?.into()).await?;
            self.bucket.put_part(key.as_str(), id, number, &parts).await
        });
        let mut parts: Vec<_> =
            stream::iter(sends).buffer_unordered(PARTS_AT_ONCE).try_collect().await?;
        parts.sort_by_key(|part| part.number);
        self.bucket.complete_upload(key.as_str(), id, &parts, condition).await.map(drop)
    }
}

/// Some bytes of a payload, which it must have.
pub(super) async fn slice(payload: &Payload, offset: u64, length: usize) -> Result<Vec<Bytes>> {
    match payload {
        Payload::Bytes(parts) => {
            let (mut skip, mut left) = (usize_of(offset)?, length);
            let mut found = Vec::new();
            for part in parts.iter() {
                let start = skip.min(part.len());
                let end = part.len().min(start.saturating_add(left));
                skip -= start;
                if end > start {
                    left -= end - start;
                    found.push(part.slice(start..end));
                }
            }
            Ok(found)
        }
        Payload::File(file) => {
            let file = file.clone();
            let read = tokio::task::spawn_blocking(move || {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, offset)
                    .map_err(|error| Error::io(format!("read {}", file.name()), error))?;
                Ok(vec![Bytes::from(bytes)])
            });
            read.await.map_err(|error| {
                Error::new(ErrorKind::Internal, "cannot read what is to be sent").with_source(error)
            })?
        }
    }
}

/// Large enough that there are not too many parts.
fn part_bytes(length: u64) -> u64 {
    let least = length.div_ceil(MOST_PARTS).div_ceil(PART_GRAIN_BYTES);
    least.saturating_mul(PART_GRAIN_BYTES).max(LEAST_PART_BYTES)
}

fn usize_of(length: u64) -> Result<usize> {
    usize::try_from(length).map_err(|_| {
        Error::new(ErrorKind::Unsupported, "an object does not fit into this machine's memory")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_too_many_parts() {
        for length in [1, 16 << 20, 1 << 30, 200 << 30, 5 << 40, 48 << 40] {
            let size = part_bytes(length);
            assert!(length.div_ceil(size) <= 10_000, "{length}");
            assert_eq!(size % PART_GRAIN_BYTES, 0);
        }
        assert_eq!(part_bytes(100 << 20), 8 << 20);
    }

    #[tokio::test]
    async fn slices_go_across_parts() {
        let parts = [&b"abc"[..], b"", b"defg", b"h"].map(Bytes::from_static);
        let payload = Payload::from_parts(parts.to_vec());
        for start in 0..=8usize {
            for end in start..=8 {
                let found = slice(&payload, start as u64, end - start).await.unwrap();
                assert_eq!(found.concat(), b"abcdefgh"[start..end]);
            }
        }
    }
}
