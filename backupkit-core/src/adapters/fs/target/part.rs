//! What a token names: the written part of a large file, under a temporary name.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::super::stat::{file_type, size_bytes};
use super::place::{Place, is_temporary};
use super::session::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlobId, EntryPath};
use crate::target::Step;
use crate::token::WriteToken;

/// A token of this target.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Part {
    /// The temporary name, in the folder of the entry.
    pub(super) name: String,
    /// Which file had this name.
    pub(super) inode: u64,
    /// How many bytes from the start are written.
    pub(super) bytes: u64,
    /// What of.
    pub(super) entry: BlobId,
}

/// Tells entries apart.
pub(super) fn id_of(path: &EntryPath) -> BlobId {
    BlobId::of(&path.to_token())
}

impl Part {
    pub(super) fn encode(&self) -> Option<WriteToken> {
        serde_json::to_vec(self).ok().map(WriteToken::new)
    }

    pub(super) fn decode(token: &WriteToken) -> Option<Self> {
        serde_json::from_slice(token.as_bytes()).ok()
    }

    /// Opens the temporary file, never through a link, and proves that it is the one that was left:
    /// same file, same size, no other name. Its bytes are proved by the comparison that ends the
    /// restore. Blocks.
    ///
    /// # Errors
    /// `Conflict` if it is another one, or those of opening it.
    pub(super) fn open(&self, core: &Core, place: &Place, step: &Step) -> Result<OwnedFd> {
        let name = self.name.as_bytes();
        if !is_temporary(name, &core.temporary_prefix) {
            return Err(gone(place));
        }
        let path = place.path.parent().unwrap_or_default().join(name);
        let left = Place::new(Arc::clone(&place.folder), &path)?;
        let file = left.open(OFlags::WRONLY)?;
        let stat = rustix::fs::fstat(&file).map_err(|error| left.failure("look at", error))?;
        let is_same = file_type(&stat).is_file()
            && stat.st_ino == self.inode
            && stat.st_nlink == 1
            && size_bytes(&stat) == step.entry.size_bytes
            && self.entry == id_of(&place.path)
            && self.bytes <= step.entry.size_bytes;
        if is_same { Ok(file) } else { Err(gone(place)) }
    }
}

/// The error of a token whose file is not there.
pub(super) fn gone(place: &Place) -> Error {
    let message = format!("cannot go on with {}: the part that was written is gone", place.path);
    Error::new(ErrorKind::Conflict, message)
}
