//! Entries are read: small ones in batches, large ones range by range or piece by piece.

mod large;
mod ranged;
mod small;
mod streamed;

use std::sync::{Arc, Mutex, PoisonError};

use super::budget::Budget;
use super::chunk::ChunkGroup;
use super::control::Control;
use super::progress::EntryProgress;
use super::store::Store;
use crate::counters::Counters;
use crate::error::{Error, ErrorKind};
use crate::model::{BlobId, Entry};
use crate::source::SourceView;

pub(crate) use large::read_large;
pub(crate) use small::{BATCH_BYTES, BATCH_ENTRIES, SMALL_BYTES, read_batch, room_bytes};

/// What all readers of a run share.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) view: Arc<dyn SourceView>,
    /// How much is read of a byte-addressable entry at a time.
    pub(crate) range_bytes: u64,
    pub(crate) budget: Budget,
    pub(crate) store: Store,
    pub(crate) groups: Vec<ChunkGroup>,
    pub(crate) control: Control,
    pub(crate) counters: Arc<Counters>,
}

impl Reading {
    /// Whether an error of an entry is one of the run.
    fn concerns_all(&self, error: &Error) -> bool {
        error.is(ErrorKind::Cancelled) || self.view.concerns_all(error)
    }
}

/// What came of an entry.
#[derive(Debug)]
pub(crate) enum ReadOutcome {
    /// All of it is stored.
    Done(Box<ReadEntry>),
    /// The run pauses; its progress says how far it is.
    Paused,
    /// It cannot be read. The run goes on without it.
    Failed(Error),
    /// It is larger than was listed: read it as a large one.
    Grown,
}

/// An entry whose bytes are stored.
#[derive(Debug)]
pub(crate) struct ReadEntry {
    /// As the handle that gave the bytes saw it.
    pub(crate) entry: Entry,
    /// The blobs for each chunk group.
    pub(crate) content: Vec<Arc<[BlobId]>>,
    pub(crate) size_bytes: u64,
    /// It changed while it was read, twice; what one handle gave was kept.
    pub(crate) changed_while_read: bool,
}

/// Progress that a reader updates and a checkpoint reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedProgress(Arc<Mutex<EntryProgress>>);

impl SharedProgress {
    pub(crate) fn new(progress: EntryProgress) -> Self {
        Self(Arc::new(Mutex::new(progress)))
    }

    /// Looks at or changes the progress.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut EntryProgress) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
