//! Reaching the bounds of memory with little data.

use std::sync::atomic::Ordering;

use crate::scratch::Tuning;

/// Sets when an engine uses its scratch folder, and tells how it did. Clones are the same.
///
/// Give it to [`EngineBuilder::scratch_tuning`](crate::EngineBuilder::scratch_tuning).
#[derive(Debug, Clone, Default)]
pub struct ScratchTuning(pub(crate) Tuning);

impl ScratchTuning {
    /// Returns what an engine does by itself.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many bytes of nodes of open directories a run holds in memory.
    #[must_use]
    pub fn with_node_bytes(mut self, bytes: u64) -> Self {
        self.0.node_bytes = bytes;
        self
    }

    /// Makes the folder full once so many bytes were written, as if they were never given back.
    #[must_use]
    pub fn with_capacity_bytes(mut self, bytes: u64) -> Self {
        self.0.capacity_bytes = Some(bytes);
        self
    }

    /// The most bytes of nodes that a run had in memory.
    pub fn most_node_bytes(&self) -> u64 {
        self.0.gauges.most_node_bytes.load(Ordering::Relaxed)
    }

    /// How many sorted runs of nodes were written.
    pub fn runs(&self) -> u64 {
        self.0.gauges.runs.load(Ordering::Relaxed)
    }

    /// How many bytes were written in all.
    pub fn written_bytes(&self) -> u64 {
        self.0.gauges.written_bytes.load(Ordering::Relaxed)
    }
}
