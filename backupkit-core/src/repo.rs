//! The restic repository format, version 2.

mod json;
mod lock_file;
mod node;
mod quote;
mod snapshot_file;
mod tree;

#[cfg(test)]
mod fixtures;
#[cfg(any(test, feature = "testing"))]
mod fuzz_text;

#[cfg(any(test, feature = "testing"))]
pub use fuzz_text::{fuzz_name, fuzz_snapshot, fuzz_tree};
pub use lock_file::{
    FIRST_RETRY_DELAY, Lock, MAX_RETRY_DELAY, RECHECK_DELAY, REFRESH_DEADLINE, REFRESH_INTERVAL,
    STALE_AFTER, UNREADABLE_RETRY_DELAYS,
};
pub use node::{Node, encode_node};
pub use snapshot_file::{Snapshot, SnapshotSummary};
pub use tree::{MAX_TREE_BYTES, TreeEncoder, TreeNodes, decode_tree, empty_tree};
