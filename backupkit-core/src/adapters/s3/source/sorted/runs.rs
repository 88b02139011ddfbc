//! Sorted runs in a file, and what comes of merging them. All of it blocks.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use crate::adapters::s3::bucket::PagedKey;
use crate::error::{Error, ErrorKind, Result};

/// Buffers of all runs together.
const BUFFERS_BYTES: usize = 16 << 20;
/// No buffer is larger or smaller than this, but for longer keys.
const BUFFER_BYTES: (usize, usize) = (4 << 10, 256 << 10);
/// Bytes of a number in front of each key.
const LENGTH_BYTES: usize = 4;

/// Runs that were written.
#[derive(Debug, Default)]
pub(super) struct Runs {
    file: Option<Arc<File>>,
    /// Where each ends; it begins where the one before ends.
    ends: Vec<u64>,
}

/// Keys of all runs, in order.
#[derive(Debug)]
pub(super) struct Merge {
    runs: Vec<Run>,
    /// The next key of each run that has one.
    next: BinaryHeap<Reverse<Next>>,
    last: Option<PagedKey>,
}

/// A run that is being read.
#[derive(Debug)]
enum Run {
    InMemory(std::vec::IntoIter<PagedKey>),
    Written {
        file: Arc<File>,
        at: u64,
        end: u64,
        buffer: Vec<u8>,
        used: usize,
        buffer_bytes: usize,
    },
}

#[derive(Debug)]
struct Next {
    key: PagedKey,
    run: usize,
}

/// The order of keys; of the same one the newest comes last.
pub(super) fn by_key(one: &PagedKey, other: &PagedKey) -> Ordering {
    let age = one.modified.cmp(&other.modified).then_with(|| one.etag.cmp(&other.etag));
    one.key.cmp(&other.key).then(age)
}

impl Runs {
    /// Runs in a file.
    pub(super) fn new(file: Arc<File>) -> Self {
        Self { file: Some(file), ends: Vec::new() }
    }

    /// Adds a run.
    pub(super) fn write(&mut self, keys: &[PagedKey]) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut at = self.ends.last().copied().unwrap_or_default();
        let mut bytes = Vec::with_capacity(BUFFER_BYTES.1);
        for key in keys {
            let text = serde_json::to_vec(key).map_err(|error| odd().with_source(error))?;
            let length = u32::try_from(text.len()).map_err(|error| odd().with_source(error))?;
            bytes.extend(length.to_le_bytes());
            bytes.extend(text);
            if bytes.len() >= BUFFER_BYTES.1 {
                at = write_at(file, &bytes, at)?;
                bytes.clear();
            }
        }
        at = write_at(file, &bytes, at)?;
        self.ends.push(at);
        Ok(())
    }

    /// Merges all of them, and keys that were not written.
    pub(super) fn merge(self, keys: Vec<PagedKey>) -> Result<Merge> {
        let (least, most) = BUFFER_BYTES;
        let buffer_bytes = (BUFFERS_BYTES / self.ends.len().max(1)).clamp(least, most);
        let mut runs = vec![Run::InMemory(keys.into_iter())];
        let mut at = 0;
        if let Some(file) = self.file {
            for end in self.ends {
                let (file, buffer) = (Arc::clone(&file), Vec::new());
                runs.push(Run::Written { file, at, end, buffer, used: 0, buffer_bytes });
                at = end;
            }
        }
        let mut merge = Merge { runs, next: BinaryHeap::new(), last: None };
        for run in 0..merge.runs.len() {
            merge.fill(run)?;
        }
        Ok(merge)
    }
}

impl Merge {
    /// The next keys, about so many; none if that were all.
    pub(super) fn batch(&mut self, count: usize) -> Result<Vec<PagedKey>> {
        let mut batch = Vec::with_capacity(count);
        while batch.len() < count
            && let Some(Reverse(Next { key, run })) = self.next.pop()
        {
            self.fill(run)?;
            match self.last.replace(key) {
                Some(last) if self.last.as_ref().is_some_and(|next| next.key != last.key) => {
                    batch.push(last);
                }
                // The same key, older.
                _ => {}
            }
        }
        if self.next.is_empty() {
            batch.extend(self.last.take());
        }
        Ok(batch)
    }

    fn fill(&mut self, run: usize) -> Result<()> {
        if let Some(key) = self.runs[run].next()? {
            self.next.push(Reverse(Next { key, run }));
        }
        Ok(())
    }
}

impl Run {
    fn next(&mut self) -> Result<Option<PagedKey>> {
        match self {
            Self::InMemory(keys) => Ok(keys.next()),
            Self::Written { at, end, buffer, used, .. } => {
                if *used == buffer.len() && at == end {
                    return Ok(None);
                }
                self.read(LENGTH_BYTES)?;
                let mut length = [0; LENGTH_BYTES];
                length.copy_from_slice(self.take(LENGTH_BYTES));
                let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
                self.read(length)?;
                let key = serde_json::from_slice(self.take(length));
                key.map(Some).map_err(|error| odd().with_source(error))
            }
        }
    }

    /// Makes sure that so many bytes are in the buffer.
    fn read(&mut self, bytes: usize) -> Result<()> {
        let Self::Written { file, at, end, buffer, used, buffer_bytes } = self else {
            return Ok(());
        };
        if buffer.len() - *used >= bytes {
            return Ok(());
        }
        buffer.drain(..*used);
        *used = 0;
        let known = buffer.len();
        let left = usize::try_from(*end - *at).unwrap_or(usize::MAX);
        let more = (*buffer_bytes).max(bytes - known).min(left);
        if known + more < bytes {
            return Err(odd());
        }
        buffer.resize(known + more, 0);
        let read = file.read_exact_at(&mut buffer[known..], *at);
        read.map_err(|error| Error::io("read keys that are being sorted", error))?;
        *at += more as u64;
        Ok(())
    }

    /// Takes bytes that were read.
    fn take(&mut self, bytes: usize) -> &[u8] {
        match self {
            Self::InMemory(_) => &[],
            Self::Written { buffer, used, .. } => {
                let from = *used;
                *used += bytes;
                &buffer[from..*used]
            }
        }
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Next {}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> Ordering {
        by_key(&self.key, &other.key).then(self.run.cmp(&other.run))
    }
}

fn write_at(file: &File, bytes: &[u8], at: u64) -> Result<u64> {
    file.write_all_at(bytes, at).map_err(|error| {
        Error::io("sort the keys of the bucket in a temporary file", error)
            .with_hint("make room in the temporary folder, or use one on another disk")
    })?;
    Ok(at + bytes.len() as u64)
}

fn odd() -> Error {
    Error::new(ErrorKind::Internal, "cannot sort the keys of the bucket: a run is odd")
}
