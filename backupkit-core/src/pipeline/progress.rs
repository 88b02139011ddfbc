//! How far an entry has been read and stored: what a pause keeps of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::model::{BlobId, Entry};
use crate::source::Segment;
use crate::token::ReadToken;

/// How far one entry is.
#[derive(Debug, Default)]
pub(crate) struct EntryProgress {
    /// Whether the parts have been asked for. They are asked for once a run.
    pub(crate) planned: bool,
    /// One part for each segment, or one for an entry without segments.
    pub(crate) parts: Vec<PartProgress>,
    /// The entry as the first handle that gave bytes saw it. Later handles must see the same version.
    pub(crate) version: Option<Box<Entry>>,
}

/// How far one part of an entry is. All that it names has been offered to the lanes.
#[derive(Debug, Default)]
pub(crate) struct PartProgress {
    /// `None`: the entry is read as a whole.
    pub(crate) segment: Option<Segment>,
    /// Per chunk group, in the order of the groups.
    pub(crate) groups: Vec<GroupProgress>,
    /// Where reading goes on.
    pub(crate) resume: Resume,
    /// Whether all of it is stored.
    pub(crate) done: bool,
    /// How many bytes of it are stored.
    pub(crate) stored_bytes: u64,
}

/// What is stored of a part for one chunk group.
#[derive(Debug, Default)]
pub(crate) struct GroupProgress {
    /// Only ever grows.
    pub(crate) content: Vec<BlobId>,
    /// The position of the last cut.
    pub(crate) cut_at: u64,
    /// How checkpoints have stored the start of the content.
    pub(crate) saved: SavedContent,
}

/// The trees in which checkpoints have stored the start of a content, each with as many ids as the others.
/// Clones are of the same content: who reads it anew gets another one.
#[derive(Debug, Clone, Default)]
pub(crate) struct SavedContent(Arc<Mutex<Vec<BlobId>>>);

/// Where reading of a part goes on.
#[derive(Debug, Clone, Default)]
pub(crate) enum Resume {
    /// At the smallest cut of the groups; the start if there is none.
    #[default]
    AtCut,
    /// Behind a token, after the chunker got the bytes between the smallest cut and the token.
    BehindToken {
        token: ReadToken,
        /// Bytes from the smallest cut to the token.
        tail: Bytes,
    },
}

impl PartProgress {
    /// A part of which nothing has been read.
    pub(crate) fn fresh(segment: Option<Segment>, groups: usize) -> Self {
        Self {
            segment,
            groups: (0..groups).map(|_| GroupProgress::default()).collect(),
            ..Self::default()
        }
    }

    /// Forgets what was read: the version it came from is gone.
    pub(crate) fn restart(&mut self) {
        *self = Self::fresh(self.segment.take(), self.groups.len());
    }

    /// The smallest cut of the groups.
    pub(crate) fn cut_at(&self) -> u64 {
        self.groups.iter().map(|group| group.cut_at).min().unwrap_or_default()
    }
}

impl SavedContent {
    pub(crate) fn new(trees: Vec<BlobId>) -> Self {
        Self(Arc::new(Mutex::new(trees)))
    }

    pub(crate) fn trees(&self) -> MutexGuard<'_, Vec<BlobId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EntryProgress {
    /// Forgets everything that was read.
    pub(crate) fn restart(&mut self) {
        self.version = None;
        self.parts.iter_mut().for_each(PartProgress::restart);
    }

    /// Whether something of the entry is stored, so that a resume must see the same version.
    pub(crate) fn has_content(&self) -> bool {
        self.parts.iter().any(|part| part.done || part.stored_bytes > 0)
    }
}
