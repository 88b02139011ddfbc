//! What is known of an entry besides its bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::FileTime;

/// Metadata of an entry, as sources report it and as nodes of trees hold it.
#[derive(Debug, Clone)]
pub struct Metadata {
    /// Permissions and type.
    pub mode: FileMode,
    /// Last change of the bytes.
    pub mtime: FileTime,
    /// Last access. Sources repeat `mtime`, so that reading a file does not change its tree.
    pub atime: FileTime,
    /// Last change of bytes or metadata; `mtime` where the source knows none.
    pub ctime: FileTime,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Name of the owner, or empty.
    pub user: Arc<str>,
    /// Name of the group, or empty.
    pub group: Arc<str>,
    /// Number of the file in its file system; 0 where there is none.
    pub inode: u64,
    /// Number of the file system; 0 where there is none.
    pub device_id: u64,
    /// Number of hard links; 0 where there are none. Other than local sources leave it at 0: readers
    /// join files of equal inode and device.
    pub links: u64,
    /// Extended attributes in the order of the source. `None`: not read at listing; the engine then
    /// takes those of the body's handle, or of the parent's node if the entry is unchanged.
    pub extended_attributes: Option<Vec<ExtendedAttribute>>,
    /// Generic attributes by name: JSON values kept byte for byte. An adapter's own sits under
    /// `backupkit.<kind>`.
    pub attributes: BTreeMap<String, Box<RawValue>>,
}

/// One extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtendedAttribute {
    /// The name with its namespace, such as `user.colour`.
    pub name: String,
    /// The value.
    pub value: Vec<u8>,
}

impl Metadata {
    /// Returns metadata with a time and a mode and nothing else.
    pub fn new(mode: FileMode, mtime: FileTime) -> Self {
        Self {
            mode,
            mtime,
            atime: mtime,
            ctime: mtime,
            uid: 0,
            gid: 0,
            user: Arc::from(""),
            group: Arc::from(""),
            inode: 0,
            device_id: 0,
            links: 0,
            extended_attributes: Some(Vec::new()),
            attributes: BTreeMap::new(),
        }
    }
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        let attributes = |metadata: &Self| -> Vec<(String, String)> {
            let pairs = metadata.attributes.iter();
            pairs.map(|(name, value)| (name.clone(), value.get().to_owned())).collect()
        };
        self.mode == other.mode
            && (self.mtime, self.atime, self.ctime) == (other.mtime, other.atime, other.ctime)
            && (self.uid, self.gid) == (other.uid, other.gid)
            && (&self.user, &self.group) == (&other.user, &other.group)
            && (self.inode, self.device_id, self.links)
                == (other.inode, other.device_id, other.links)
            && self.extended_attributes == other.extended_attributes
            && attributes(self) == attributes(other)
    }
}

/// Permissions and type in Go's `io/fs.FileMode`, which the format stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileMode(u32);

/// Unix bits of `st_mode` and Go's bits for the same, beyond the lower nine that are equal.
const SPECIAL_BITS: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

impl FileMode {
    /// A regular file that its owner may write and everybody read.
    pub const FILE: Self = Self(0o644);
    /// A directory that its owner may change and everybody read.
    pub const DIRECTORY: Self = Self(Self::DIRECTORY_BIT | 0o755);

    const DIRECTORY_BIT: u32 = 1 << 31;
    const SYMLINK_BIT: u32 = 1 << 27;
    const DEVICE_BIT: u32 = 1 << 26;
    const FIFO_BIT: u32 = 1 << 25;
    const SOCKET_BIT: u32 = 1 << 24;
    const CHARACTER_BIT: u32 = 1 << 21;

    /// Wraps a value as a tree holds it.
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The value as a tree holds it.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Returns the mode for a Unix `st_mode`, type included.
    pub fn from_unix(st_mode: u32) -> Self {
        let mut mode = st_mode & 0o777;
        for (unix, go) in SPECIAL_BITS {
            if st_mode & unix != 0 {
                mode |= go;
            }
        }
        mode |= match st_mode & 0o170_000 {
            0o040_000 => Self::DIRECTORY_BIT,
            0o120_000 => Self::SYMLINK_BIT,
            0o060_000 => Self::DEVICE_BIT,
            0o020_000 => Self::DEVICE_BIT | Self::CHARACTER_BIT,
            0o010_000 => Self::FIFO_BIT,
            0o140_000 => Self::SOCKET_BIT,
            _ => 0,
        };
        Self(mode)
    }

    /// The permission bits of a Unix mode: `rwx` for three, set-uid, set-gid and sticky.
    pub fn unix_permissions(self) -> u32 {
        let mut permissions = self.0 & 0o777;
        for (unix, go) in SPECIAL_BITS {
            if self.0 & go != 0 {
                permissions |= unix;
            }
        }
        permissions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_have_the_values_that_the_format_stores() {
        assert_eq!(FileMode::from_unix(0o100_644).raw(), 420);
        assert_eq!(FileMode::from_unix(0o040_755).raw(), 2_147_484_141);
        assert_eq!(FileMode::from_unix(0o104_751).unix_permissions(), 0o4751);
        assert_eq!(FileMode::from_unix(0o041_777).unix_permissions(), 0o1777);
        assert_eq!(FileMode::from_unix(0o020_600).raw(), (1 << 26) | (1 << 21) | 0o600);
    }
}
