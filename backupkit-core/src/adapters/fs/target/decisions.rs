//! What is decided about an entry that meets something in the target.

use serde::{Deserialize, Serialize};

use crate::model::EntryPath;

/// What is to be done with an entry, if not to make it anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Decision {
    /// Replace what is there; of a folder, only its metadata.
    Overwrite,
    /// Replace what is there, which is no folder, by a folder.
    ReplaceByFolder,
    /// Keep what is there.
    Skip,
    /// Restore it under this path.
    Rename(EntryPath),
    /// Do not restore it, for this reason.
    Refuse(String),
}
