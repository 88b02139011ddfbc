//! What tests turn to reach the bounds of memory with little data.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Nodes of open directories take about so much memory; what is more goes to the scratch folder.
const NODE_BYTES: u64 = 32 << 20;

/// How the scratch folder is used. Clones share the gauges.
#[derive(Debug, Clone)]
pub(crate) struct Tuning {
    /// How many bytes of nodes a run holds in memory.
    pub(crate) node_bytes: u64,
    /// The folder is full when so many bytes were written; `None` leaves that to the system.
    pub(crate) capacity_bytes: Option<u64>,
    pub(crate) gauges: Arc<Gauges>,
}

/// What was seen of its use.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// The most bytes of nodes that were in memory.
    pub(crate) most_node_bytes: AtomicU64,
    /// How many runs of nodes were written.
    pub(crate) runs: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { node_bytes: NODE_BYTES, capacity_bytes: None, gauges: Arc::default() }
    }
}

impl Tuning {
    /// Whether so many more bytes may be written.
    pub(super) fn admit(&self, bytes: u64) -> io::Result<()> {
        let before = self.gauges.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        match self.capacity_bytes {
            Some(capacity) if before.saturating_add(bytes) > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
}
