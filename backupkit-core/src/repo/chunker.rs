//! Content-defined chunking, with exactly restic's cut points.
//!
//! A rolling Rabin hash over the last 64 bytes is taken at each byte; where its low 20 bits are zero
//! is a candidate. A chunk ends at its first candidate that makes it at least [`MIN_CHUNK_BYTES`]
//! long, or at [`MAX_CHUNK_BYTES`]. The hash depends on those 64 bytes alone, not on where the chunk
//! began: so the first bytes of a chunk are skipped unread, and candidates are searched at several
//! places of a slice at once.

mod tables;

use std::fmt;
use std::sync::Arc;

pub use tables::{ChunkerTables, WINDOW_BYTES};

/// No chunk but the last of an entry is shorter.
pub const MIN_CHUNK_BYTES: usize = 512 * 1024;
/// No chunk is longer.
pub const MAX_CHUNK_BYTES: usize = 8 * 1024 * 1024;

/// Finds where the chunks of one stretch of bytes end.
///
/// The bytes may come in slices of any size; the cuts are the same. Bytes after the last cut are the
/// last chunk.
#[derive(Clone)]
pub struct Chunker {
    tables: Arc<ChunkerTables>,
    /// Bytes of the unfinished chunk seen so far.
    pending_bytes: usize,
    /// The last bytes of the unfinished chunk, right-aligned; as many as there are.
    tail: [u8; WINDOW_BYTES],
}

impl Chunker {
    /// Returns a chunker at the start of a chunk.
    pub fn new(tables: Arc<ChunkerTables>) -> Self {
        Self { tables, pending_bytes: 0, tail: [0; WINDOW_BYTES] }
    }

    /// Bytes of the unfinished chunk seen so far.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Forgets the unfinished chunk.
    pub fn reset(&mut self) {
        self.pending_bytes = 0;
    }

    /// Continues the unfinished chunk with `data`.
    ///
    /// Returns how many bytes of `data` belong to it if it ends within or right after them; the next
    /// call then starts a new chunk with the byte that follows. Returns nothing if all of `data`
    /// belongs to the unfinished chunk.
    pub fn find_cut(&mut self, data: &[u8]) -> Option<usize> {
        let cut = self.search(data);
        if cut.is_some() {
            self.pending_bytes = 0;
        } else {
            self.pending_bytes += data.len();
            keep_tail(&mut self.tail, data);
        }
        cut
    }

    /// The end of the chunk, as a position in `data`.
    fn search(&self, data: &[u8]) -> Option<usize> {
        let first = MIN_CHUNK_BYTES.saturating_sub(self.pending_bytes).max(1);
        let last = data.len().min(MAX_CHUNK_BYTES - self.pending_bytes);
        if first > last {
            return None;
        }
        let found = self
            .search_across(data, first, last)
            .or_else(|| self.tables.find(&data[..last], first.max(WINDOW_BYTES)));
        // The longest chunk ends without a candidate.
        found.or_else(|| (self.pending_bytes + last == MAX_CHUNK_BYTES).then_some(last))
    }

    /// Searches the ends in `first..=last` whose window begins before `data`.
    fn search_across(&self, data: &[u8], first: usize, last: usize) -> Option<usize> {
        let last = last.min(WINDOW_BYTES - 1);
        if first > last {
            return None;
        }
        let mut joined = [0; 2 * WINDOW_BYTES];
        joined[..WINDOW_BYTES].copy_from_slice(&self.tail);
        joined[WINDOW_BYTES..WINDOW_BYTES + last].copy_from_slice(&data[..last]);
        let found = self.tables.find(&joined[..WINDOW_BYTES + last], WINDOW_BYTES + first)?;
        Some(found - WINDOW_BYTES)
    }
}

impl fmt::Debug for Chunker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunker")
            .field("pending_bytes", &self.pending_bytes)
            .finish_non_exhaustive()
    }
}

fn keep_tail(tail: &mut [u8; WINDOW_BYTES], data: &[u8]) {
    if let Some(end) = data.last_chunk() {
        *tail = *end;
    } else {
        tail.copy_within(data.len().., 0);
        tail[WINDOW_BYTES - data.len()..].copy_from_slice(data);
    }
}

#[cfg(test)]
mod tests;
