//! How much of the open directories is in memory.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use crate::scratch::{Scratch, ScratchFile};

/// Scratch files that are open at the same time. Then more runs go into the last one, and its space
/// comes back later.
const MAX_FILES: usize = 64;

/// Counts the bytes of nodes in memory, over all directories.
#[derive(Debug, Default)]
pub(crate) struct NodeMemory {
    scratch: Option<Scratch>,
    /// Nodes of directories that are being filled.
    open_bytes: u64,
    /// Nodes of directories whose trees are under way.
    closing_bytes: u64,
    /// The texts of these trees.
    text_bytes: u64,
    files: Vec<Weak<ScratchFile>>,
}

impl NodeMemory {
    /// Without scratch folder, everything stays in memory.
    pub(crate) fn new(scratch: Option<Scratch>) -> Self {
        Self { scratch, ..Self::default() }
    }

    pub(super) fn add(&mut self, bytes: u64) {
        self.open_bytes += bytes;
        if let Some(scratch) = &self.scratch {
            let held = self.open_bytes + self.closing_bytes;
            scratch.tuning().gauges.most_node_bytes.fetch_max(held, Ordering::Relaxed);
        }
    }

    /// Nodes have left memory.
    pub(super) fn spilled(&mut self, bytes: u64) {
        self.open_bytes = self.open_bytes.saturating_sub(bytes);
    }

    /// The tree of a directory is begun.
    pub(super) fn close(&mut self, node_bytes: u64, text_bytes: u64) {
        self.open_bytes = self.open_bytes.saturating_sub(node_bytes);
        self.closing_bytes += node_bytes;
        self.text_bytes += text_bytes;
    }

    /// The tree of a directory is stored.
    pub(super) fn forget(&mut self, node_bytes: u64, text_bytes: u64) {
        self.closing_bytes = self.closing_bytes.saturating_sub(node_bytes);
        self.text_bytes = self.text_bytes.saturating_sub(text_bytes);
    }

    /// Whether nothing more should be listed until trees are stored.
    pub(super) fn is_full(&self) -> bool {
        self.scratch.as_ref().is_some_and(|scratch| {
            let limit = scratch.tuning().node_bytes;
            self.open_bytes + self.closing_bytes > limit || self.text_bytes > limit
        })
    }

    /// How many bytes of nodes have to leave memory, and where to.
    ///
    /// Nodes of trees under way leave it soon by themselves. While these are most of what there is,
    /// an eighth of the limit may come on top, so that runs do not get tiny.
    pub(super) fn excess(&self) -> Option<(u64, Scratch)> {
        let scratch = self.scratch.as_ref()?;
        let limit = scratch.tuning().node_bytes;
        let held = self.open_bytes + self.closing_bytes;
        if held <= limit || self.open_bytes <= limit / 8 {
            return None;
        }
        let least = self.open_bytes - limit / 16;
        Some(((held - limit / 2).min(least), scratch.clone()))
    }

    /// The file for the next runs, if there must be no further one.
    pub(super) fn shared_file(&mut self) -> Option<Arc<ScratchFile>> {
        self.files.retain(|file| file.strong_count() > 0);
        if self.files.len() < MAX_FILES {
            return None;
        }
        self.files.last()?.upgrade()
    }

    /// Notes a file with runs.
    pub(super) fn used_file(&mut self, file: &Arc<ScratchFile>) {
        if self.files.last().is_none_or(|last| !std::ptr::eq(last.as_ptr(), Arc::as_ptr(file))) {
            self.files.push(Arc::downgrade(file));
        }
    }
}
