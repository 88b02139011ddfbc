//! What to do with what the target already has.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;

use super::super::stat::{file_type, mtime};
use super::decisions::Decision;
use super::descent::{Descent, Way};
use super::folders::Folders;
use super::place::Place;
use crate::error::{ErrorKind, Result};
use crate::model::{EntryKind, EntryPath, FileTime};
use crate::snapshot::SnapshotEntry;
use crate::target::ConflictPolicy;

/// Names tried for something that is restored beside what is there.
const NAMES_TRIED: u32 = 1000;

/// Takes decisions, entry by entry in the order of the walk. Blocks.
pub(super) struct Judge {
    pub(super) folders: Arc<Folders>,
    pub(super) policy: ConflictPolicy,
    pub(super) descent: Descent,
    /// Goes into new names.
    pub(super) snapshot_time: FileTime,
    /// A folder that will be new, so that nothing in it needs to be looked at.
    pub(super) missing: Option<EntryPath>,
}

impl Judge {
    /// Decides about an entry; `None` if it can simply be made.
    pub(super) fn judge(&mut self, entry: &SnapshotEntry) -> Result<Option<Decision>> {
        let way = self.descent.way(entry);
        let decision = match &way {
            Way::To(path) => self.look(entry, path)?,
            Way::No(..) => None,
        };
        if entry.kind == EntryKind::Directory {
            self.descent.enter(entry, &way, decision.as_ref());
        }
        Ok(decision)
    }

    fn look(&mut self, entry: &SnapshotEntry, path: &EntryPath) -> Result<Option<Decision>> {
        if self.missing.as_ref().is_some_and(|missing| path.starts_with(missing)) {
            return Ok(None);
        }
        let parent = path.parent().unwrap_or_default();
        let folder = match self.folders.existing(&parent) {
            Ok(folder) => folder,
            Err(error) if error.is(ErrorKind::NotFound) => {
                self.missing = Some(parent);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let place = Place::new(folder, path)?;
        let Some(stat) = place.stat()? else {
            if entry.kind == EntryKind::Directory {
                self.missing = Some(path.clone());
            }
            return Ok(None);
        };
        let decision = if entry.kind == EntryKind::Directory {
            self.about_folder(entry, &place, &stat)?
        } else {
            self.about_leaf(entry, &place, &stat)?
        };
        if decision == Decision::ReplaceByFolder {
            self.missing = Some(path.clone());
        }
        Ok(Some(decision))
    }

    fn about_folder(&self, entry: &SnapshotEntry, place: &Place, stat: &Stat) -> Result<Decision> {
        let is_older = is_older(stat, entry);
        if file_type(stat) == FileType::Directory {
            return Ok(match self.policy {
                ConflictPolicy::Overwrite => Decision::Overwrite,
                ConflictPolicy::Newer if is_older => Decision::Overwrite,
                ConflictPolicy::Newer | ConflictPolicy::Skip | ConflictPolicy::Rename => {
                    Decision::Skip
                }
            });
        }
        Ok(match self.policy {
            ConflictPolicy::Rename => self.renamed(place, entry)?,
            _ if file_type(stat) == FileType::Symlink => Decision::Refuse(format!(
                "{} is a symbolic link where a folder belongs, and following it could leave the target",
                place.path
            )),
            ConflictPolicy::Overwrite => Decision::ReplaceByFolder,
            ConflictPolicy::Newer if is_older => Decision::ReplaceByFolder,
            ConflictPolicy::Newer | ConflictPolicy::Skip => {
                Decision::Refuse(format!("{} is kept, and is not a folder", place.path))
            }
        })
    }

    fn about_leaf(&self, entry: &SnapshotEntry, place: &Place, stat: &Stat) -> Result<Decision> {
        let replaces = match self.policy {
            ConflictPolicy::Overwrite => true,
            ConflictPolicy::Newer => is_older(stat, entry),
            ConflictPolicy::Skip => false,
            ConflictPolicy::Rename => return self.renamed(place, entry),
        };
        if !replaces {
            return Ok(Decision::Skip);
        }
        if file_type(stat) == FileType::Directory && !is_empty(place)? {
            return Ok(Decision::Refuse(format!("{} is a folder that is not empty", place.path)));
        }
        Ok(Decision::Overwrite)
    }

    /// Finds a free name that tells which snapshot it is from: `a.restored-20261122T115840Z.txt`.
    fn renamed(&self, place: &Place, entry: &SnapshotEntry) -> Result<Decision> {
        let time = self.snapshot_time.timestamp().strftime("%Y%m%dT%H%M%SZ");
        let (stem, extension) = split_name(&place.name, &entry.kind);
        let parent = place.path.parent().unwrap_or_default();
        for number in 1..=NAMES_TRIED {
            let middle = match number {
                1 => format!(".restored-{time}"),
                number => format!(".restored-{time}-{number}"),
            };
            let name = [stem, middle.as_bytes(), extension].concat();
            let path = parent.join(&name);
            let candidate = Place::new(Arc::clone(&place.folder), &path)?;
            if candidate.stat()?.is_none() {
                return Ok(Decision::Rename(path));
            }
        }
        Ok(Decision::Refuse(format!("no free name was found beside {}", place.path)))
    }
}

/// Whether a folder has nothing in it.
fn is_empty(place: &Place) -> Result<bool> {
    let folder = place.open(OFlags::RDONLY | OFlags::DIRECTORY)?;
    is_empty_folder(&folder).map_err(|error| place.failure("list", error))
}

/// Whether an open folder has nothing in it.
pub(super) fn is_empty_folder(folder: &OwnedFd) -> Result<bool, Errno> {
    // A descriptor of its own, so that the place in the listing is too.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listing = rustix::fs::openat(folder, ".", flags, Mode::empty())?;
    let mut buffer = Vec::with_capacity(1024);
    let mut entries = RawDir::new(listing.as_fd(), buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_older(stat: &Stat, entry: &SnapshotEntry) -> bool {
    mtime(stat).timestamp() < entry.metadata.mtime.timestamp()
}

/// Files keep their extension, so that programs still know them.
fn split_name<'a>(name: &'a [u8], kind: &EntryKind) -> (&'a [u8], &'a [u8]) {
    match name.iter().rposition(|&byte| byte == b'.') {
        Some(dot) if dot > 0 && *kind == EntryKind::File => name.split_at(dot),
        _ => (name, b""),
    }
}

/// Whether what stands somewhere may be the entry, restored by an earlier try of the same step.
pub(super) fn looks_like(stat: &Stat, entry: &SnapshotEntry) -> bool {
    let kind = match &entry.kind {
        EntryKind::File => FileType::RegularFile,
        EntryKind::Directory => FileType::Directory,
        EntryKind::Symlink { .. } => FileType::Symlink,
        EntryKind::BlockDevice(_) => FileType::BlockDevice,
        EntryKind::CharacterDevice(_) => FileType::CharacterDevice,
        EntryKind::Fifo => FileType::Fifo,
        EntryKind::Socket => FileType::Socket,
    };
    file_type(stat) == kind
        && (entry.kind != EntryKind::File
            || super::super::stat::size_bytes(stat) == entry.size_bytes)
        && same_time(mtime(stat), entry.metadata.mtime)
}

/// Whether a file system gave a time back as well as it can: some keep even seconds only.
pub(super) fn same_time(found: FileTime, recorded: FileTime) -> bool {
    found.same_instant(&recorded)
        || (found.nanoseconds() == 0 && found.unix_seconds().abs_diff(recorded.unix_seconds()) <= 2)
}
