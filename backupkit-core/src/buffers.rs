//! Large buffers that are used again and again.
//!
//! Each is a mapping of its own. A fresh one costs as much as hashing what goes into it, as the system
//! zeroes every page at the first touch; so some are kept. One that is not kept goes back to the system at
//! once, where an allocator would keep it: it holds what it got back in sizes that come and go.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use memmap2::MmapMut;

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
    idle: Mutex<Vec<MmapMut>>,
}

/// A buffer of a pool, empty at first. It returns there when the last [`Bytes`] made of it is dropped.
pub struct Buffer {
    /// Holds anything behind what counts.
    memory: Option<MmapMut>,
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
        let memory = idle.map_or_else(|| MmapMut::map_anon(self.0.buffer_bytes), Ok);
        let memory = memory.map_err(|error| {
            let message = format!("no memory for a buffer of {} bytes", self.0.buffer_bytes);
            Error::new(ErrorKind::Unavailable, message).with_source(error)
        })?;
        Ok(Buffer { memory: Some(memory), len: 0, home: Arc::clone(&self.0) })
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool").field("buffer_bytes", &self.0.buffer_bytes).finish()
    }
}

impl Buffer {
    /// Adds as many of these bytes as there is room for. Returns them in their place.
    pub fn push(&mut self, bytes: &[u8]) -> &mut [u8] {
        let start = self.len;
        let Some(memory) = &mut self.memory else {
            return &mut [];
        };
        let end = memory.len().min(start.saturating_add(bytes.len()));
        self.len = end;
        let added = &mut memory[start..end];
        added.copy_from_slice(&bytes[..end - start]);
        added
    }

    /// Adds bytes: `fill` writes into `length` bytes of any content, or as many as there is room for, and
    /// returns how many of them count.
    ///
    /// # Errors
    /// Those of `fill`; nothing is added then.
    pub fn fill<E>(
        &mut self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let length = length.min(self.room_bytes());
        let memory = self.memory.as_deref_mut().unwrap_or_default();
        self.len += fill(&mut memory[self.len..self.len + length])?.min(length);
        Ok(())
    }

    /// How many bytes more it has room for.
    pub fn room_bytes(&self) -> usize {
        self.memory.as_deref().map_or(0, <[u8]>::len).saturating_sub(self.len)
    }

    /// What it holds.
    pub fn as_slice(&self) -> &[u8] {
        self.memory.as_deref().map_or(&[], |memory| &memory[..self.len])
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

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len_bytes", &self.len).finish_non_exhaustive()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut idle = self.home.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.home.most_idle {
            idle.extend(self.memory.take());
        }
    }
}

/// Bytes in buffers of one pool that follow each other: large messages without large buffers.
#[derive(Debug)]
pub(crate) struct Segments {
    pool: BufferPool,
    /// Each full but the last.
    buffers: Vec<Buffer>,
}

impl Segments {
    /// Returns an empty one in buffers of `pool`.
    pub(crate) fn new(pool: &BufferPool) -> Self {
        Self { pool: pool.clone(), buffers: Vec::new() }
    }

    pub(crate) fn len_bytes(&self) -> usize {
        let full = self.buffers.len().saturating_sub(1) * self.pool.buffer_bytes();
        full + self.buffers.last().map_or(0, |last| last.len)
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// `Unavailable` if there is no memory.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.push_changed(bytes, |_| ())
    }

    /// Adds bytes, each stretch of which `change` changes in its place, in order.
    ///
    /// # Errors
    /// `Unavailable` if there is no memory.
    pub(crate) fn push_changed(
        &mut self,
        mut bytes: &[u8],
        mut change: impl FnMut(&mut [u8]),
    ) -> Result<()> {
        while !bytes.is_empty() {
            if self.buffers.last().is_none_or(|last| last.len >= self.pool.buffer_bytes()) {
                self.buffers.push(self.pool.take()?);
            }
            let Some(last) = self.buffers.last_mut() else { break };
            let added = last.push(bytes);
            change(added);
            bytes = &bytes[added.len()..];
        }
        Ok(())
    }

    /// The bytes in `range`.
    pub(crate) fn parts(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> + Clone {
        let size = self.pool.buffer_bytes();
        let first = range.start / size;
        self.buffers.iter().enumerate().skip(first).map_while(move |(number, buffer)| {
            let within = |at: usize| at.saturating_sub(number * size).min(buffer.len);
            let part = &buffer.as_slice()[within(range.start)..within(range.end)];
            (number * size < range.end).then_some(part)
        })
    }

    /// All bytes.
    pub(crate) fn all(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.parts(0..self.len_bytes())
    }

    /// All of it, to be shared.
    pub(crate) fn into_parts(self) -> impl Iterator<Item = Bytes> {
        self.buffers.into_iter().map(Buffer::freeze)
    }
}

impl io::Write for Segments {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(pool: &BufferPool, byte: u8) -> Bytes {
        let mut buffer = pool.take().unwrap();
        buffer.push(&[byte; 100]);
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
    fn a_buffer_that_is_used_again_holds_nothing_of_before() {
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
        assert_eq!(buffer.push(&[8]), [8]);
        assert_eq!(buffer.as_slice(), [9, 9, 9, 8]);
        assert!(buffer.fill(200, |_| Err(())).is_err());
        assert_eq!(buffer.as_slice(), [9, 9, 9, 8]);
        buffer
            .fill(2, |bytes| {
                Ok::<_, ()>({
                    bytes.fill(7);
                    9
                })
            })
            .unwrap();
        assert_eq!(buffer.as_slice(), [9, 9, 9, 8, 7, 7]);
        // It takes what it has room for.
        assert_eq!(buffer.push(&[6; 5000]), [6; 4090]);
        assert!(buffer.push(b"x").is_empty());
        buffer.fill(5000, |bytes| Ok::<_, ()>(bytes.len())).unwrap();
        assert_eq!((buffer.room_bytes(), buffer.freeze().len()), (0, 4096));
    }

    #[test]
    fn segments_are_one_stretch_of_bytes() {
        let pool = BufferPool::new(10, 1);
        let mut segments = Segments::new(&pool);
        assert_eq!((segments.len_bytes(), segments.parts(0..5).count()), (0, 0));
        let bytes: Vec<u8> = (0..47).collect();
        let mut changed = Vec::new();
        for stretch in bytes.chunks(7) {
            segments.push_changed(stretch, |bytes| changed.extend_from_slice(bytes)).unwrap();
        }
        assert_eq!((segments.len_bytes(), &changed), (bytes.len(), &bytes));
        for start in 0..=47 {
            for end in start..=47 {
                let parts: Vec<&[u8]> = segments.parts(start..end).collect();
                assert_eq!(parts.concat(), &bytes[start..end], "{start}..{end}");
            }
        }
        let parts: Vec<Bytes> = segments.into_parts().collect();
        assert_eq!(parts.len(), 5);
        assert_eq!(parts.concat(), bytes);
    }

    #[test]
    fn no_more_lie_idle_than_asked_for() {
        let pool = BufferPool::new(4096, 2);
        let taken: Vec<_> = (0..5).map(|byte| fill(&pool, byte)).collect();
        drop(taken);
        assert_eq!(pool.0.idle.lock().unwrap().len(), 2);
    }
}
