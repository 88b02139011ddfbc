//! Where the files of a repository stand in a destination.

use crate::destination::ObjectKey;
use crate::error::{Error, ErrorKind, Result};
use crate::model::PackId;

/// The kinds of files that are named by the SHA-256 of their bytes and read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FileKind {
    Key,
    Index,
    Snapshot,
    Lock,
}

impl FileKind {
    /// The folder of the kind.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Key => "keys",
            Self::Index => "index",
            Self::Snapshot => "snapshots",
            Self::Lock => "locks",
        }
    }

    /// What people call one of them.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Index => "index",
            Self::Snapshot => "snapshot",
            Self::Lock => "lock",
        }
    }

    /// The prefix of the kind.
    pub(crate) fn prefix(self) -> Result<ObjectKey> {
        ObjectKey::new(self.folder())
    }

    /// The key of one file.
    pub(crate) fn key(self, id: &[u8; 32]) -> Result<ObjectKey> {
        ObjectKey::new(format!("{}/{}", self.folder(), hex::encode(id)))
    }

    /// The most bytes that one file may have, against bombs in foreign storage.
    pub(crate) fn max_bytes(self) -> u64 {
        match self {
            Self::Key | Self::Lock => 1 << 20,
            Self::Snapshot => 64 << 20,
            Self::Index => 1 << 30,
        }
    }

    /// The most bytes that one file may have once decompressed.
    pub(crate) fn max_plain_bytes(self) -> usize {
        match self {
            Self::Key | Self::Lock => 1 << 20,
            Self::Snapshot => 256 << 20,
            // Old programs joined all index files to one.
            Self::Index => 2 << 30,
        }
    }
}

/// The key of the config.
pub(crate) fn config_key() -> Result<ObjectKey> {
    ObjectKey::new("config")
}

/// The prefix of all packs.
pub(crate) fn packs_prefix() -> Result<ObjectKey> {
    ObjectKey::new("data")
}

/// The key of a pack.
pub(crate) fn pack_key(id: &PackId) -> Result<ObjectKey> {
    let name = id.to_string();
    ObjectKey::new(format!("data/{}/{name}", &name[..2]))
}

/// The id in a name of 64 hexadecimal digits; `None` for other files, which every reader ignores.
pub(crate) fn id_of_name(name: &str) -> Option<[u8; 32]> {
    if name.len() != 64 || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut id = [0; 32];
    hex::decode_to_slice(name, &mut id).ok()?;
    Some(id)
}

/// The error for a place without a repository.
pub(crate) fn no_repository(location: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no repository at {location}"))
        .with_code("repository-not-found")
        .with_hint(
            "check the location: a disk may not be mounted, or the repository may have moved",
        )
}
