//! Bytes in order become chunks, once per distinct chunker polynomial.

use std::sync::Arc;

use bytes::Bytes;

use super::budget::Permit;
use super::store::Chunk;
use crate::repo::chunker::{Chunker, ChunkerTables};

/// Lanes whose repositories cut at the same places.
#[derive(Debug, Clone)]
pub(crate) struct ChunkGroup {
    pub(crate) tables: Arc<ChunkerTables>,
    /// Numbers of lanes.
    pub(crate) lanes: Arc<[usize]>,
}

/// Cuts one sequence of bytes for one group. Positions count from the start of the sequence.
#[derive(Debug)]
pub(crate) struct Cutter {
    chunker: Chunker,
    /// The unfinished chunk.
    open: Chunk,
    /// Where the unfinished chunk starts.
    cut_at: u64,
    /// What comes before this position is already stored; only for sequences that were resumed.
    skip_until: u64,
}

/// What came of feeding some bytes.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    /// Finished chunks, in order.
    pub(crate) chunks: Vec<Chunk>,
}

impl Cutter {
    /// Returns a cutter for a sequence of which all before `cut_at`, a cut, is stored.
    pub(crate) fn new(tables: &Arc<ChunkerTables>, cut_at: u64) -> Self {
        Self {
            chunker: Chunker::new(Arc::clone(tables)),
            open: Chunk::default(),
            cut_at,
            skip_until: cut_at,
        }
    }

    /// Takes the bytes at `position` and gives the chunks that end in them.
    pub(crate) fn feed(&mut self, position: u64, bytes: &Bytes) -> Cuts {
        let mut cuts = Cuts::default();
        let end = position + bytes.len() as u64;
        if end <= self.skip_until {
            return cuts;
        }
        let skip = usize::try_from(self.skip_until.saturating_sub(position)).unwrap_or(bytes.len());
        let mut rest = bytes.slice(skip..);
        while let Some(length) = self.chunker.find_cut(&rest) {
            self.open.push(rest.split_to(length));
            self.cut_at = end - rest.len() as u64;
            cuts.chunks.push(std::mem::take(&mut self.open));
        }
        self.open.push(rest);
        cuts
    }

    /// Ends the sequence: what is left is the last chunk.
    pub(crate) fn finish(mut self) -> Option<Chunk> {
        (!self.open.is_empty()).then(|| std::mem::take(&mut self.open))
    }

    /// Where the unfinished chunk starts.
    pub(crate) fn cut_at(&self) -> u64 {
        self.cut_at
    }

    /// The bytes of the unfinished chunk.
    pub(crate) fn open(&self) -> &Chunk {
        &self.open
    }
}

/// Divides the permit of some fed bytes: each chunk keeps as much as it holds, the rest goes back,
/// for the unfinished chunk has room reserved.
pub(crate) fn divide(mut permit: Permit, chunks: &[Chunk]) -> Vec<Permit> {
    chunks.iter().map(|chunk| permit.split(chunk.len_bytes())).collect()
}
