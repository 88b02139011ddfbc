//! Contents of small files, one behind the other in buffers that are used again.
//!
//! An allocation for each file costs more than reading it, and threads keep what they allocated.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use bytes::Bytes;

use super::super::{read_fully, read_slice};
use crate::{Buffer, BufferPool};

/// Contents that are being read.
pub(super) struct Contents<'a> {
    pool: &'a BufferPool,
    full: Vec<Bytes>,
    /// The last buffer, with room left.
    open: Option<Buffer>,
}

/// Where a content stands among others.
pub(super) struct Content {
    /// The number of the buffer.
    buffer: usize,
    range: Range<usize>,
}

impl<'a> Contents<'a> {
    pub(super) fn new(pool: &'a BufferPool) -> Self {
        Self { pool, full: Vec::new(), open: None }
    }

    /// Reads the first `length` bytes of a file, fewer only where it ends.
    pub(super) fn read(&mut self, file: impl AsFd, length: u64) -> io::Result<Content> {
        let fits = |length: &usize| *length <= self.pool.buffer_bytes();
        let Some(length) = usize::try_from(length).ok().filter(fits) else {
            return read_fully(file, 0, length).map(|bytes| self.add(bytes));
        };
        let mut open = match self.open.take() {
            Some(open) if open.room_bytes() >= length => open,
            full => {
                self.full.extend(full.map(Buffer::freeze));
                self.pool.take().map_err(io::Error::other)?
            }
        };
        let start = open.as_slice().len();
        let filled = open.fill(length, |bytes| read_slice(file, 0, bytes));
        let range = start..open.as_slice().len();
        self.open = Some(open);
        filled.map(|()| Content { buffer: self.full.len(), range })
    }

    /// Adds a content that lies elsewhere.
    pub(super) fn add(&mut self, bytes: Bytes) -> Content {
        if bytes.is_empty() {
            return Content { buffer: self.full.len(), range: 0..0 };
        }
        self.full.extend(self.open.take().map(Buffer::freeze));
        let content = Content { buffer: self.full.len(), range: 0..bytes.len() };
        self.full.push(bytes);
        content
    }

    /// All buffers, for [`Content::bytes`].
    pub(super) fn finish(mut self) -> Vec<Bytes> {
        self.full.extend(self.open.take().map(Buffer::freeze));
        self.full
    }
}

impl Content {
    /// Its length.
    pub(super) fn len_bytes(&self) -> u64 {
        self.range.len() as u64
    }

    /// Its bytes. An empty one needs no buffer.
    pub(super) fn bytes(self, buffers: &[Bytes]) -> Bytes {
        buffers.get(self.buffer).map(|buffer| buffer.slice(self.range)).unwrap_or_default()
    }
}
