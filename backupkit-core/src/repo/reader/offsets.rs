//! Where the blobs of a file begin.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::model::BlobId;

/// The beginning of each so many'th blob is kept: a look-up adds up the rest.
const STEP: usize = 64;
/// Files of fewer blobs are added up each time.
const MIN_BLOBS: usize = 2 * STEP;
/// Files that are read at the same time.
const FILES: usize = 32;

/// A blob of a file, and where in the file it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlobStart {
    pub(super) number: usize,
    pub(super) offset: u64,
}

/// Positions in large files, so that reading one from start to end looks at each blob once.
#[derive(Debug, Default)]
pub(super) struct OffsetCache(Mutex<VecDeque<Marks>>);

/// The beginnings of blobs 0, 64, 128 and so on, as far as somebody asked.
#[derive(Debug)]
struct Marks {
    content: Arc<[BlobId]>,
    offsets: Vec<u64>,
}

impl OffsetCache {
    /// Finds the blob that holds the byte at `position`; nothing beyond the end. `length` tells how
    /// long a blob is.
    pub(super) fn find(
        &self,
        content: &Arc<[BlobId]>,
        position: u64,
        length: impl Fn(&BlobId) -> Result<u64>,
    ) -> Result<Option<BlobStart>> {
        let fresh = || Marks { content: Arc::clone(content), offsets: vec![0] };
        if content.len() < MIN_BLOBS {
            return fresh().find(position, length);
        }
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = files.iter().position(|marks| Arc::ptr_eq(&marks.content, content));
        let mut marks = known.and_then(|at| files.remove(at)).unwrap_or_else(fresh);
        let found = marks.find(position, length);
        files.push_front(marks);
        files.truncate(FILES);
        found
    }
}

impl Marks {
    fn find(
        &mut self,
        position: u64,
        length: impl Fn(&BlobId) -> Result<u64>,
    ) -> Result<Option<BlobStart>> {
        let mark = self.offsets.partition_point(|offset| *offset <= position).saturating_sub(1);
        let mut offset = self.offsets.get(mark).copied().unwrap_or_default();
        for (number, id) in self.content.iter().enumerate().skip(mark * STEP) {
            if number == self.offsets.len() * STEP {
                self.offsets.push(offset);
            }
            let end = offset.saturating_add(length(id)?);
            if position < end {
                return Ok(Some(BlobStart { number, offset }));
            }
            offset = end;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn every_position_is_found_and_a_whole_pass_is_linear() {
        let content: Arc<[BlobId]> =
            (0u32..1000).map(|number| BlobId::of(&number.to_le_bytes())).collect();
        let asked = Cell::new(0);
        let length = |id: &BlobId| {
            asked.set(asked.get() + 1);
            Ok(u64::from(id.as_bytes()[0] % 4))
        };
        let mut expected = Vec::new();
        let mut offset = 0;
        for (number, id) in content.iter().enumerate() {
            let bytes = u64::from(id.as_bytes()[0] % 4);
            expected.extend((0..bytes).map(|_| BlobStart { number, offset }));
            offset += bytes;
        }
        let cache = OffsetCache::default();
        for (position, start) in expected.iter().enumerate() {
            assert_eq!(cache.find(&content, position as u64, length).unwrap(), Some(*start));
        }
        assert!(asked.get() < expected.len() * (STEP + 1), "{}", asked.get());
        assert_eq!(cache.find(&content, offset, length).unwrap(), None);
        for position in [999_u16, 0, 500, 1] {
            let found = cache.find(&content, position.into(), length).unwrap();
            assert_eq!(found, Some(expected[usize::from(position)]));
        }
    }
}
