//! The byte budget: how much of the source may be in memory at the same time.
//!
//! Bytes are taken in delivery order when reading and given back when the chunk lies sealed in a pack
//! buffer. It cannot deadlock: what an unfinished chunk holds is reserved when its reader starts
//! ([`Budget::reserve_chunk`]), so a range that has been chunked can always be given back, and the
//! reservations leave room for at least one range.
//!
//! What it does not count: an unfinished chunk keeps the buffers alive that it lies in. Those are two
//! ranges at most, of which its reservation covers one. So each large entry that is read may hold one
//! range ([`RANGE_BYTES`]) beyond the budget. Letting the chunk hold the permits of its ranges instead
//! would deadlock at the smallest budget: the reader waits for a range while its chunk holds another.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, ErrorKind, Result};
use crate::repo::chunker::MAX_CHUNK_BYTES;
use crate::source::RANGE_BYTES;

/// The smallest budget that can work: a range and the unfinished chunk of one reader.
pub(crate) const MIN_BUDGET_BYTES: u64 = RANGE_BYTES + MAX_CHUNK_BYTES as u64;

/// Ranges that are worth having in memory besides unfinished chunks: more gain no time.
const RANGES: u64 = 4;

/// A budget that suits ranges of this size.
pub(crate) fn default_bytes(range_bytes: u64, readers: usize) -> u64 {
    (readers * MAX_CHUNK_BYTES) as u64 + (RANGES * range_bytes).max(RANGE_BYTES)
}

/// Bytes that may be in memory between reading and sealing.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    bytes: Arc<Semaphore>,
    readers: Arc<Semaphore>,
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Option<OwnedSemaphorePermit>);

/// The right to read one large entry: room for its unfinished chunk.
#[derive(Debug)]
pub(crate) struct ReaderPermit {
    _slot: OwnedSemaphorePermit,
    _chunk: Permit,
}

impl Budget {
    /// Returns a budget of `bytes` for at most `readers` large entries at the same time.
    ///
    /// # Errors
    /// `InvalidConfig` if a range and a chunk do not fit into it.
    pub(crate) fn new(bytes: u64, readers: usize) -> Result<Self> {
        if bytes < MIN_BUDGET_BYTES {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "a memory budget of {bytes} bytes is too small: a range and a chunk need \
                     {MIN_BUDGET_BYTES}"
                ),
            ));
        }
        let bytes = usize::try_from(bytes.min(u64::from(u32::MAX))).unwrap_or(usize::MAX);
        // Reservations leave room for one range.
        let most = (bytes - usize::try_from(RANGE_BYTES).unwrap_or(bytes)) / MAX_CHUNK_BYTES;
        Ok(Self {
            bytes: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))),
            readers: Arc::new(Semaphore::new(readers.clamp(1, most))),
        })
    }

    /// Waits for the right to read one large entry. Cancel safe.
    pub(crate) async fn reserve_chunk(&self) -> Result<ReaderPermit> {
        let slot = Arc::clone(&self.readers).acquire_owned().await.map_err(closed)?;
        let chunk = self.take(MAX_CHUNK_BYTES as u64).await?;
        Ok(ReaderPermit { _slot: slot, _chunk: chunk })
    }

    /// Takes bytes if they are free, without waiting: for reading ahead, where waiting while holding
    /// an earlier permit could deadlock.
    pub(crate) fn try_take(&self, bytes: u64) -> Option<Permit> {
        let count = u32::try_from(bytes).ok()?;
        let permit = Arc::clone(&self.bytes).try_acquire_many_owned(count).ok()?;
        Some(Permit(Some(permit)))
    }

    /// Waits until `bytes` are free and takes them. First come, first served. Cancel safe.
    pub(crate) async fn take(&self, bytes: u64) -> Result<Permit> {
        let count = u32::try_from(bytes).map_err(|_| {
            Error::new(ErrorKind::Internal, format!("{bytes} bytes do not fit the budget"))
        })?;
        let permit = Arc::clone(&self.bytes).acquire_many_owned(count).await.map_err(closed)?;
        Ok(Permit(Some(permit)))
    }
}

impl Permit {
    /// A permit for nothing, for bytes that are accounted for elsewhere.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Splits `bytes` off, or all there is.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        let Some(held) = &mut self.0 else {
            return Self(None);
        };
        let bytes = bytes.min(held.num_permits());
        Self(held.split(bytes))
    }
}

fn closed(_: tokio::sync::AcquireError) -> Error {
    Error::new(ErrorKind::Internal, "the memory budget was closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_budget_below_a_range_and_a_chunk_is_refused() {
        assert!(Budget::new(MIN_BUDGET_BYTES - 1, 1).is_err());
        let budget = Budget::new(MIN_BUDGET_BYTES, 9).unwrap();
        // Even with every reader slot taken, one range can be read.
        let _reader = budget.reserve_chunk().await.unwrap();
        assert_eq!(budget.readers.available_permits(), 0);
        let mut range = budget.take(RANGE_BYTES).await.unwrap();
        assert_eq!(budget.bytes.available_permits(), 0);
        drop(range.split(1000));
        assert_eq!(budget.bytes.available_permits(), 1000);
    }
}
