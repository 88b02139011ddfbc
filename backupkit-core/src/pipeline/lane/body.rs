//! The bytes of a pack that is being filled: in memory, or in a file if it becomes large.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::blocking::blocking;
use crate::buffers::{Buffer, BufferPool, Segments};
use crate::destination::{Payload, PayloadFile};
use crate::error::{Error, ErrorKind, Result};
use crate::model::PackId;
use crate::pool::Pool;
use crate::scratch::{Scratch, ScratchFile};

/// The size of the buffers that blobs are sealed and packs are built in, up to the end of the upload. All
/// of one size, so that they serve again and no allocator has to keep gaps of odd sizes.
pub(crate) const SEGMENT_BYTES: usize = 256 << 10;

/// Grows at its end.
///
/// A write changes nothing here before it is done, so a call that was dropped can be made again: it
/// writes the same bytes to the same place.
#[derive(Debug)]
pub(super) struct PackBody {
    buffers: BufferPool,
    /// For packs that are files.
    scratch: Option<Scratch>,
    /// Holds the first bytes, once there were more than fit into memory.
    file: Option<Arc<ScratchFile>>,
    file_bytes: u64,
    /// Of what is in the file.
    hash: Sha256,
    /// The bytes behind them.
    full: Vec<Bytes>,
    /// And in one with room for more.
    open: Option<Buffer>,
}

impl PackBody {
    /// Without scratch, all stays in memory. The buffers are of [`SEGMENT_BYTES`].
    pub(super) fn new(buffers: BufferPool, scratch: Option<Scratch>) -> Self {
        Self {
            buffers,
            scratch,
            file: None,
            file_bytes: 0,
            hash: Sha256::new(),
            full: Vec::new(),
            open: None,
        }
    }

    /// Adds bytes. They may have to be written then.
    ///
    /// # Errors
    /// `Unavailable` if there is no memory.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => self.buffers.take()?,
            };
            let added = open.push(bytes).len();
            bytes = &bytes[added..];
            if open.as_slice().len() < SEGMENT_BYTES {
                self.open = Some(open);
            } else {
                self.full.push(open.freeze());
            }
        }
        Ok(())
    }

    /// Adds bytes without copying them.
    pub(super) fn push_segments(&mut self, segments: Segments) {
        self.full.extend(self.open.take().map(Buffer::freeze));
        self.full.extend(segments.into_parts());
    }

    /// Writes what should not stay in memory.
    pub(super) async fn write_if_due(&mut self) -> Result<()> {
        if self.full.is_empty() { Ok(()) } else { self.write().await }
    }

    /// Adds what another one has.
    pub(super) async fn append(&mut self, mut other: Self) -> Result<()> {
        if let Some(theirs) = other.file.take() {
            self.write().await?;
            self.copy(theirs, other.file_bytes).await?;
        }
        for part in other.into_parts() {
            self.push(&part)?;
        }
        self.write_if_due().await
    }

    /// The whole with a tail, and its hash.
    pub(super) async fn finish(
        mut self,
        pool: &Pool,
        tail: impl FnOnce() -> Result<Vec<u8>> + Send + 'static,
    ) -> Result<(PackId, Payload)> {
        let tail = pool.run(move |_| tail()).await?;
        self.push(&tail)?;
        if self.file.is_none() {
            let parts = self.into_parts();
            let digest = pool.hash_one(parts.clone()).await?;
            return Ok((PackId::from_bytes(digest), Payload::from_parts(parts)));
        }
        self.write().await?;
        let id = PackId::from_bytes(self.hash.finalize().into());
        let file = self.file.ok_or_else(|| {
            Error::new(ErrorKind::Internal, "the scratch file of a pack was lost")
        })?;
        let payload = PayloadFile::new(Arc::clone(file.file()), self.file_bytes, "a scratch file");
        Ok((id, payload.into()))
    }

    async fn write(&mut self) -> Result<()> {
        let Some(scratch) = self.scratch.clone() else {
            return Ok(());
        };
        self.full.extend(self.open.take().map(Buffer::freeze));
        let (file, mut hash) = (self.file.clone(), self.hash.clone());
        let (parts, offset) = (self.full.clone(), self.file_bytes);
        let (file, hash, end) = blocking(move || {
            let file = file.map_or_else(|| scratch.create().map(Arc::new), Ok)?;
            let mut at = offset;
            for part in &parts {
                hash.update(part);
                file.write_at(part, at)?;
                at += part.len() as u64;
            }
            Ok((file, hash, at))
        })
        .await?;
        self.file = Some(file);
        self.hash = hash;
        self.file_bytes = end;
        self.full.clear();
        Ok(())
    }

    fn into_parts(self) -> Vec<Bytes> {
        let mut parts = self.full;
        parts.extend(self.open.map(Buffer::freeze));
        parts
    }

    /// Copies a file behind ours. What we have is written.
    async fn copy(&mut self, theirs: Arc<ScratchFile>, len_bytes: u64) -> Result<()> {
        let Some(ours) = self.file.clone() else {
            return Ok(());
        };
        let (mut hash, start) = (self.hash.clone(), self.file_bytes);
        self.hash = blocking(move || {
            let mut buffer = vec![0; SEGMENT_BYTES];
            let mut at = 0;
            while at < len_bytes {
                let left = usize::try_from(len_bytes - at).unwrap_or(usize::MAX);
                let length = left.min(SEGMENT_BYTES);
                let bytes = &mut buffer[..length];
                let read = theirs.read_at(bytes, at);
                read.map_err(|error| theirs.scratch().failed(error))?;
                hash.update(&*bytes);
                ours.write_at(bytes, start + at)?;
                at += length as u64;
            }
            Ok(hash)
        })
        .await?;
        self.file_bytes += len_bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;
    use crate::scratch::Tuning;

    /// Parts of such sizes, each of another byte.
    fn parts(sizes: &[usize]) -> Vec<Bytes> {
        let part = |(size, byte): (&usize, u8)| vec![byte; *size].into();
        sizes.iter().zip(1..).map(part).collect()
    }

    async fn body(scratch: Option<&Scratch>, parts: &[Bytes]) -> PackBody {
        let buffers = BufferPool::new(SEGMENT_BYTES, 4);
        let mut body = PackBody::new(buffers, scratch.cloned());
        for part in parts {
            body.push(part).unwrap();
            body.write_if_due().await.unwrap();
        }
        body
    }

    #[tokio::test]
    async fn a_body_in_a_file_is_that_in_memory_also_after_two_were_joined() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(folder.path(), &Env::system(), Tuning::default()).unwrap();
        let pool = Pool::new(1, 3).unwrap();
        let small: &[usize] = &[10, 0, 3000];
        let large: &[usize] = &[900_000, 300_000, 5, 2_500_000, 77];
        for (first, second) in [(small, small), (small, large), (large, small), (large, large)] {
            let (first, second) = (parts(first), parts(second));
            let all = [first.concat(), second.concat()].concat();
            for scratch in [None, Some(&scratch)] {
                let mut joined = body(scratch, &first).await;
                joined.append(body(scratch, &second).await).await.unwrap();
                let (id, payload) = joined.finish(&pool, || Ok(Vec::new())).await.unwrap();
                assert_eq!(payload.to_bytes().await.unwrap(), all);
                assert_eq!(id, PackId::of(&all));
                let in_file = scratch.is_some() && all.len() >= SEGMENT_BYTES;
                assert_eq!(matches!(payload, Payload::File(_)), in_file);
            }
        }
    }

    #[tokio::test]
    async fn a_write_that_failed_can_be_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let full = Tuning { capacity_bytes: Some(1), ..Tuning::default() };
        let full = Scratch::new(folder.path(), &Env::system(), full).unwrap();
        let mut body = body(None, &parts(&[2_000_000])).await;
        body.scratch = Some(full);
        body.write_if_due().await.unwrap_err();
        let room = Scratch::new(folder.path(), &Env::system(), Tuning::default()).unwrap();
        body.scratch = Some(room);
        body.write_if_due().await.unwrap();
        let (_, payload) =
            body.finish(&Pool::new(1, 3).unwrap(), || Ok(b"end".to_vec())).await.unwrap();
        let whole = [&vec![1; 2_000_000][..], b"end"].concat();
        assert_eq!(payload.to_bytes().await.unwrap(), whole);
    }
}
