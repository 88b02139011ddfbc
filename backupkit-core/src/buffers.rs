//! Large buffers that are used again and again.
//!
//! A fresh buffer of some MiB is a fresh mapping: the system zeroes every page of it at the first touch
//! and takes it back at the end. At gigabytes a second that costs as much as hashing.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};

/// Buffers of one size. Clones share them.
///
/// There is no limit to how many are in use; whoever takes them bounds that. The memory of those that
/// lie idle goes when the pool does.
#[derive(Clone)]
pub struct BufferPool(Arc<Inner>);

struct Inner {
    buffer_bytes: usize,
    most_idle: usize,
    idle: Mutex<Vec<Vec<u8>>>,
}

/// A buffer of a pool, empty at first. It returns there when the last [`Bytes`] made of it is dropped.
pub struct Buffer {
    /// May hold more behind what counts: bytes of before, which need no zeros before they are written.
    bytes: Vec<u8>,
    len: usize,
    home: Arc<Inner>,
}

impl BufferPool {
    /// Returns a pool of buffers of `buffer_bytes`, of which at most `most_idle` are kept for later.
    pub fn new(buffer_bytes: usize, most_idle: usize) -> Self {
        Self(Arc::new(Inner { buffer_bytes, most_idle, idle: Mutex::default() }))
    }

    /// The size of each buffer.
    pub fn buffer_bytes(&self) -> usize {
        self.0.buffer_bytes
    }

    /// Takes an empty buffer with room for [`Self::buffer_bytes`].
    ///
    /// # Errors
    /// `Unavailable` if there is no memory.
    pub fn take(&self) -> Result<Buffer> {
        let idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut bytes = idle.unwrap_or_default();
        let missing = self.0.buffer_bytes.saturating_sub(bytes.len());
        bytes.try_reserve_exact(missing).map_err(|error| {
            let message = format!("no memory for a buffer of {} bytes", self.0.buffer_bytes);
            Error::new(ErrorKind::Unavailable, message).with_source(error)
        })?;
        Ok(Buffer { bytes, len: 0, home: Arc::clone(&self.0) })
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool").field("buffer_bytes", &self.0.buffer_bytes).finish()
    }
}

impl Buffer {
    /// What it holds, to be added to. One that grows beyond the size of its pool does not return there.
    pub fn as_mut_vec(&mut self) -> BufferVec<'_> {
        self.bytes.truncate(self.len);
        // Until the vector is given back: it may never be.
        self.len = 0;
        BufferVec(self)
    }

    /// Replaces what it holds: `fill` writes into `length` bytes of any content, and returns how many
    /// of them count.
    ///
    /// # Errors
    /// Those of `fill`; it is empty then.
    pub fn fill<E>(
        &mut self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        self.len = 0;
        if self.bytes.len() < length {
            self.bytes.resize(length, 0);
        }
        self.len = fill(&mut self.bytes[..length])?.min(length);
        Ok(())
    }

    /// What it holds.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Shares what it holds, from now on unchanged.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

/// A [`Buffer`] as a vector, for as long as it is changed.
#[derive(Debug)]
pub struct BufferVec<'a>(&'a mut Buffer);

impl Deref for BufferVec<'_> {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0.bytes
    }
}

impl DerefMut for BufferVec<'_> {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0.bytes
    }
}

impl Drop for BufferVec<'_> {
    fn drop(&mut self) {
        self.0.len = self.0.bytes.len();
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len_bytes", &self.len).finish_non_exhaustive()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // An allocator may give a little more than was asked for.
        if bytes.capacity() / 9 > self.home.buffer_bytes / 8 {
            return;
        }
        let mut idle = self.home.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.home.most_idle {
            idle.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(pool: &BufferPool, byte: u8) -> Bytes {
        let mut buffer = pool.take().unwrap();
        buffer.as_mut_vec().extend([byte; 100]);
        buffer.freeze()
    }

    #[test]
    fn a_buffer_is_used_again_once_nobody_looks_at_it() {
        let pool = BufferPool::new(4096, 1);
        let first = fill(&pool, 1);
        let (address, part) = (first.as_ptr(), first.slice(10..20));
        drop(first);
        let second = fill(&pool, 2);
        assert_ne!(second.as_ptr(), address);
        assert_eq!(&part[..], [1; 10]);
        drop(part);
        assert_eq!(fill(&pool, 3).as_ptr(), address);
        assert_eq!(&second[..], [2; 100]);
    }

    #[test]
    fn a_buffer_that_is_filled_again_holds_nothing_of_before() {
        let pool = BufferPool::new(4096, 1);
        drop(fill(&pool, 1));
        let mut buffer = pool.take().unwrap();
        assert!(buffer.as_slice().is_empty());
        let short = buffer.fill(50, |bytes| {
            assert_eq!(bytes.len(), 50);
            bytes[..3].fill(9);
            Ok::<_, ()>(3)
        });
        short.unwrap();
        assert_eq!(buffer.as_slice(), [9; 3]);
        buffer.as_mut_vec().push(8);
        assert_eq!(buffer.as_slice(), [9, 9, 9, 8]);
        assert!(buffer.fill(200, |_| Err(())).is_err());
        assert!(buffer.freeze().is_empty());
    }

    #[test]
    fn no_more_lie_idle_than_asked_for() {
        let pool = BufferPool::new(4096, 2);
        let taken: Vec<_> = (0..5).map(|byte| fill(&pool, byte)).collect();
        drop(taken);
        assert_eq!(pool.0.idle.lock().unwrap().len(), 2);
    }

    #[test]
    fn a_buffer_that_grew_is_not_kept() {
        let pool = BufferPool::new(16, 2);
        let mut buffer = pool.take().unwrap();
        buffer.as_mut_vec().resize(4096, 0);
        drop(buffer);
        assert!(pool.0.idle.lock().unwrap().is_empty());
    }
}
