//! The orders in which servers list keys.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::super::keys::by_tree;
use crate::error::{Error, ErrorKind, Result};

/// In which order a server lists keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListingOrder {
    /// As its first page of keys shows; of directory buckets it is known that there is none.
    #[default]
    Found,
    /// In any, although it may keep one at first: all keys are sorted before the first one is read, in a
    /// temporary file if they are many.
    Any,
}

/// Which orders the keys so far agree with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    bytes: bool,
    tree: bool,
}

impl Order {
    /// Returns what is known before the first key.
    pub(super) fn unknown() -> Self {
        Self { bytes: true, tree: true }
    }

    /// That of keys that are sorted.
    pub(super) fn by_bytes() -> Self {
        Self { bytes: true, tree: false }
    }

    /// Whether the server lists by bytes, and is known to.
    pub(super) fn is_by_bytes(self) -> bool {
        self.bytes && !self.tree
    }

    /// Takes note of two keys that follow each other.
    ///
    /// # Errors
    /// `Unsupported` if they agree with no order.
    pub(super) fn take(&mut self, last: &str, next: &str) -> Result<()> {
        self.bytes &= last < next;
        self.tree &= by_tree(last, next) == Ordering::Less;
        if self.bytes || self.tree {
            return Ok(());
        }
        let why = "cannot list the bucket: the server gives keys twice or without an order";
        Err(Error::new(ErrorKind::Unsupported, why)
            .with_code("s3-unordered")
            .with_context("behind", last.escape_debug())
            .with_context("comes", next.escape_debug())
            .with_hint(
                "try again; if it lists like that again, set unordered to true for this bucket",
            ))
    }

    /// How a key comes to another one; nothing if that depends on which order it is.
    pub(super) fn compare(self, key: &str, other: &str) -> Option<Ordering> {
        let (by_bytes, by_tree) = (key.cmp(other), by_tree(key, other));
        match self {
            Self { bytes: true, tree: true } => (by_bytes == by_tree).then_some(by_bytes),
            Self { bytes: true, .. } => Some(by_bytes),
            _ => Some(by_tree),
        }
    }
}
