//! The restic repository format, version 2.

pub(crate) mod blobs;
pub(crate) mod check;
pub(crate) mod checkpoint_tags;
pub mod chunker;
pub mod compress;
pub mod config;
pub mod crypto;
pub(crate) mod extend;
pub(crate) mod fetch;
pub mod index;
pub(crate) mod index_cache;
pub mod index_file;
mod json;
pub mod key_file;
pub(crate) mod layout;
pub(crate) mod lease;
pub(crate) mod load_index;
mod lock_file;
pub(crate) mod locks;
pub(crate) mod node;
pub mod pack_header;
pub mod polynomial;
mod quote;
pub(crate) mod reader;
pub(crate) mod recent_blobs;
pub(crate) mod removal;
pub(crate) mod repository;
pub(crate) mod snapshot_file;
pub(crate) mod tree;

#[cfg(test)]
mod fixtures;
#[cfg(any(test, feature = "testing"))]
pub mod fuzz_bodies;
#[cfg(any(test, feature = "testing"))]
mod fuzz_text;
#[cfg(test)]
mod interop_tests;

pub use check::{CheckOptions, CheckReport, ReadData};
pub use checkpoint_tags::is_checkpoint;
pub use extend::ExtensionReport;
#[cfg(any(test, feature = "testing"))]
pub use fuzz_text::{fuzz_name, fuzz_snapshot, fuzz_tree};
pub use lock_file::{Lock, RECHECK_DELAY, REFRESH_INTERVAL, STALE_AFTER};
pub use locks::{LockInfo, LockOwner};
pub use node::{Node, encode_node};
pub use reader::{ReaderOptions, RepositoryReader};
pub use repository::{InitOptions, KeyInfo, KeyOwner, Repository};
pub use snapshot_file::{Snapshot, SnapshotSummary};
pub use tree::{MAX_TREE_BYTES, TreeEncoder, TreeNodes, decode_tree, empty_tree};
