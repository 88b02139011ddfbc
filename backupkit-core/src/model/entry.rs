//! What a source lists.

use super::{EntryPath, Metadata};

/// One thing that a source lists and that ends as one node of a tree. Directories are not entries:
/// they are announced when they are complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where it stands.
    pub path: EntryPath,
    /// The adapter's own handle for reading it, such as a Drive file id. Kept in checkpoints, not in
    /// trees.
    pub handle: Option<String>,
    /// What it is.
    pub kind: EntryKind,
    /// What is known of it besides its bytes.
    pub metadata: Metadata,
    /// The expected number of bytes; what is read decides.
    pub size_bytes: u64,
    /// What tells that its bytes are still those of an earlier snapshot.
    pub fingerprint: Fingerprint,
}

/// The type of an entry or node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// Bytes.
    File,
    /// A directory; only in nodes and restore steps.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points, byte for byte.
        target: Vec<u8>,
    },
    /// A block device.
    BlockDevice(Device),
    /// A character device.
    CharacterDevice(Device),
    /// A named pipe.
    Fifo,
    /// A socket. Recorded, never restored.
    Socket,
}

/// A device number as `st_rdev` holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device(pub u64);

/// What a source trusts to tell that an entry has not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fingerprint {
    /// Nothing: the bytes are read each time.
    None,
    /// Size, mtime, ctime and inode of the metadata. An entry whose ctime is not older than the
    /// parent snapshot's start counts as changed.
    Stat,
    /// The text under `fingerprint` in the object that the adapter keeps as the generic attribute
    /// `attribute`, such as `backupkit.s3`. An unchanged entry that is listed without this attribute
    /// keeps the earlier one: what it takes a request to know is asked for changed entries only.
    Attribute {
        /// The name of the generic attribute.
        attribute: String,
        /// The text to compare.
        value: String,
        /// Texts that say as much: an earlier node with one of these is unchanged, too. Usually none.
        others: Vec<String>,
    },
}

/// Whose data a snapshot holds. Snapshots of one origin are each other's parents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The kind of the source, such as `fs`.
    pub scheme: String,
    /// The host that the data belongs to.
    pub host: String,
    /// What was backed up: absolute paths, or URIs such as `s3://bucket/prefix`.
    pub paths: Vec<String>,
}

impl Entry {
    /// Returns a file with a path, metadata and size, without a handle or fingerprint.
    pub fn file(path: EntryPath, metadata: Metadata, size_bytes: u64) -> Self {
        Self {
            path,
            handle: None,
            kind: EntryKind::File,
            metadata,
            size_bytes,
            fingerprint: Fingerprint::None,
        }
    }
}
