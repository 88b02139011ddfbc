//! The restic repository format, version 2.

pub(crate) mod blobs;
pub(crate) mod check;
pub(crate) mod checkpoint_tags;
pub(crate) mod chunker;
pub(crate) mod compress;
pub(crate) mod config;
pub(crate) mod crypto;
pub(crate) mod fetch;
pub(crate) mod index;
pub(crate) mod index_cache;
pub(crate) mod index_file;
mod json;
pub(crate) mod key_file;
pub(crate) mod layout;
pub(crate) mod load_index;
pub(crate) mod lock_file;
pub(crate) mod locks;
pub(crate) mod node;
pub(crate) mod pack_header;
pub(crate) mod polynomial;
mod quote;
pub(crate) mod reader;
pub(crate) mod recent_blobs;
pub(crate) mod repository;
pub(crate) mod snapshot_file;
pub(crate) mod tree;

#[cfg(test)]
mod fixtures;
#[cfg(any(test, feature = "testing"))]
mod fuzz_bodies;
#[cfg(any(test, feature = "testing"))]
mod fuzz_text;
#[cfg(test)]
pub(crate) mod sample;

pub use check::{CheckOptions, CheckReport, ReadData};
pub use checkpoint_tags::is_checkpoint;
#[cfg(any(test, feature = "testing"))]
pub use fuzz_bodies::{
    config as fuzz_config, decompress as fuzz_decompress, index_file as fuzz_index,
    key_file as fuzz_key, pack_header as fuzz_pack_header,
};
#[cfg(any(test, feature = "testing"))]
pub use fuzz_text::{fuzz_name, fuzz_snapshot, fuzz_tree};
pub use lock_file::{
    FIRST_RETRY_DELAY, Lock, MAX_RETRY_DELAY, RECHECK_DELAY, REFRESH_DEADLINE, REFRESH_INTERVAL,
    STALE_AFTER, UNREADABLE_RETRY_DELAYS,
};
pub use locks::{LockInfo, LockOwner};
pub use node::{Node, encode_node};
pub use reader::{ReaderOptions, RepositoryReader};
pub use repository::{InitOptions, KeyInfo, KeyOwner, Repository};
pub use snapshot_file::{Snapshot, SnapshotSummary};
pub use tree::{MAX_TREE_BYTES, TreeEncoder, TreeNodes, decode_tree, empty_tree};
