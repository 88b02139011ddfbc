//! From what the system says of a file to the metadata of an entry.

use jiff::tz::TimeZone;
use rustix::fs::{FileType, Stat};

use super::users::Names;
use crate::model::{Device, EntryKind, FileMode, FileTime, Metadata};

/// Which file a name leads to, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// What changes when a file changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    size: i64,
    mtime: (i64, u64),
    ctime: (i64, u64),
}

impl Version {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            size: stat.st_size,
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            ctime: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// The type of a file.
pub(super) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The number of bytes of a regular file.
pub(super) fn size_bytes(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}

/// The time of the last change of the bytes, in UTC.
pub(super) fn mtime(stat: &Stat) -> FileTime {
    time(stat.st_mtime, stat.st_mtime_nsec)
}

/// The kind of what is neither a directory, a link nor unknown.
pub(super) fn plain_kind(stat: &Stat) -> Option<EntryKind> {
    Some(match file_type(stat) {
        FileType::RegularFile => EntryKind::File,
        FileType::BlockDevice => EntryKind::BlockDevice(Device(stat.st_rdev)),
        FileType::CharacterDevice => EntryKind::CharacterDevice(Device(stat.st_rdev)),
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        _ => return None,
    })
}

/// Makes metadata that equals restic's: times in the local offset, the access time replaced by that of
/// the last change, and a count of links only for types that can have several.
#[derive(Debug, Clone)]
pub(super) struct MetadataMaker {
    pub(super) names: Names,
    pub(super) time_zone: TimeZone,
}

impl MetadataMaker {
    /// Returns the metadata without extended attributes.
    pub(super) fn metadata(&self, stat: &Stat) -> Metadata {
        let kind = file_type(stat);
        let counts_links = matches!(
            kind,
            FileType::RegularFile
                | FileType::Symlink
                | FileType::BlockDevice
                | FileType::CharacterDevice
        );
        let mtime = mtime(stat).in_time_zone(&self.time_zone);
        let ctime = time(stat.st_ctime, stat.st_ctime_nsec).in_time_zone(&self.time_zone);
        Metadata {
            ctime,
            uid: stat.st_uid,
            gid: stat.st_gid,
            user: self.names.user(stat.st_uid),
            group: self.names.group(stat.st_gid),
            inode: stat.st_ino,
            device_id: stat.st_dev,
            links: if counts_links {
                // Narrower than 64 bits on some architectures.
                #[allow(clippy::useless_conversion, reason = "the width differs by platform")]
                u64::from(stat.st_nlink)
            } else {
                0
            },
            extended_attributes: None,
            ..Metadata::new(FileMode::from_unix(stat.st_mode), mtime)
        }
    }
}

fn time(seconds: i64, nanoseconds: u64) -> FileTime {
    FileTime::from_unix(seconds, u32::try_from(nanoseconds).unwrap_or_default())
}
