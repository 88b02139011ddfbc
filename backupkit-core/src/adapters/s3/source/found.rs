//! What a listing finds in a bucket.

use serde::{Deserialize, Serialize};

use super::super::bucket::ObjectRef;
use crate::model::EntryPath;

/// An object as the listing has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListedObject {
    /// The whole key.
    #[serde(rename = "k")]
    pub(super) key: String,
    #[serde(rename = "s")]
    pub(super) len_bytes: u64,
    /// In quotes; empty if the server gives none.
    #[serde(rename = "e")]
    pub(super) etag: String,
    /// In seconds since 1970.
    #[serde(rename = "m")]
    pub(super) modified: i64,
    /// The version that is read whatever comes after it; nothing if it is what there is now.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    /// Nothing for what is there, now or at the moment of the view.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(super) past: Option<Past>,
}

/// What there is of a key besides what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Past {
    /// An older version.
    Version,
    /// The mark of a deletion.
    Deletion,
}

impl ListedObject {
    /// As requests name it.
    pub(super) fn named(&self) -> ObjectRef<'_> {
        ObjectRef { key: &self.key, version: self.version.as_deref() }
    }
}

/// What a walk finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Object {
        path: EntryPath,
        /// The part of the key that its name does not tell.
        part: Option<String>,
        object: ListedObject,
    },
    /// A directory of which all was found.
    Directory {
        path: EntryPath,
        /// The part of the key that its name does not tell.
        part: Option<String>,
        /// The object without bytes that stands for it.
        marker: Option<ListedObject>,
        /// When it last changed, in seconds since 1970.
        modified: i64,
    },
}
