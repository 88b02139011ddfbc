//! A name in a folder of the target, and how something new gets it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::super::contained::is_plain_name;
use super::super::stat::file_type;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::model::EntryPath;

/// The end of all temporary names.
const TEMPORARY_END: &[u8] = b".tmp";

/// Where something is to stand.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) folder: Arc<OwnedFd>,
    pub(super) name: Vec<u8>,
    /// Its path below the root, for people.
    pub(super) path: EntryPath,
}

/// What may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replace {
    /// What is there, an empty folder too.
    Anything,
    /// Only what an earlier try of the same step left.
    Own,
}

impl Place {
    /// # Errors
    /// `InvalidInput` for what cannot be a name of a file.
    pub(super) fn new(folder: Arc<OwnedFd>, path: &EntryPath) -> Result<Self> {
        match path.name() {
            Some(name) if is_plain_name(name) => {
                Ok(Self { folder, name: name.to_vec(), path: path.clone() })
            }
            _ => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("cannot restore {path}: this is no name of a file"),
            )),
        }
    }

    /// Looks at what stands there, itself if it is a link.
    pub(super) fn stat(&self) -> Result<Option<Stat>> {
        match rustix::fs::statat(&self.folder, &self.name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failure("look at", error)),
        }
    }

    /// Opens what stands there, never through a link, and without waiting for pipes.
    pub(super) fn open(&self, flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.folder, &self.name[..], flags, Mode::empty())
            .map_err(|error| self.failure("open", error))
    }

    pub(super) fn failure(&self, doing: &str, error: Errno) -> Error {
        Error::io(format!("{doing} {}", self.path), error.into())
    }

    /// Removes what stands there; a folder only if it is empty.
    pub(super) fn clear(&self) -> Result<()> {
        let Some(stat) = self.stat()? else {
            return Ok(());
        };
        let flags = if file_type(&stat) == FileType::Directory {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        match rustix::fs::unlinkat(&self.folder, &self.name[..], flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failure("replace", error)),
        }
    }
}

/// Something unfinished beside its place. It goes with this value unless it was published or kept.
#[derive(Debug)]
pub(super) struct Temporary {
    place: Place,
    name: String,
    stays: bool,
}

/// What all temporary names of one restore begin with.
pub(super) fn temporary_prefix(restore: &str) -> String {
    format!(".backupkit-{restore}-")
}

/// Whether a name is a temporary one of this restore.
pub(super) fn is_temporary(name: &[u8], prefix: &str) -> bool {
    name.starts_with(prefix.as_bytes()) && name.ends_with(TEMPORARY_END)
}

impl Temporary {
    /// Makes something under a temporary name with `make`, which must not replace.
    pub(super) fn make<T>(
        place: &Place,
        prefix: &str,
        env: &Env,
        make: impl Fn(BorrowedFd<'_>, &str) -> Result<T, Errno>,
    ) -> Result<(Self, T)> {
        let random = hex::encode(env.random::<8>()?);
        let name = format!("{prefix}{random}.tmp");
        let value =
            make(place.folder.as_fd(), &name).map_err(|error| place.failure("create", error))?;
        let temporary = Self { place: place.clone(), name, stays: false };
        Ok((temporary, value))
    }

    /// Takes over what an earlier session left under a temporary name.
    pub(super) fn kept(place: &Place, name: String) -> Self {
        Self { place: place.clone(), name, stays: true }
    }

    /// Says whether it outlives this value, for somebody who goes on.
    pub(super) fn keep(&mut self, stays: bool) {
        self.stays = stays;
    }

    pub(super) fn folder(&self) -> BorrowedFd<'_> {
        self.place.folder.as_fd()
    }

    pub(super) fn name(&self) -> &[u8] {
        self.name.as_bytes()
    }

    /// Gives it its name. `is_own` tells whether what has the name is of an earlier try of this step.
    ///
    /// # Errors
    /// `Conflict` if something has the name that may not be replaced.
    pub(super) fn publish(
        mut self,
        replace: Replace,
        is_own: impl Fn(&Stat) -> bool,
    ) -> Result<()> {
        if replace == Replace::Own {
            match self.rename_to_free_name() {
                Ok(()) => {
                    self.stays = true;
                    return Ok(());
                }
                Err(Errno::EXIST) => match self.place.stat()? {
                    Some(stat) if !is_own(&stat) => {
                        return Err(Error::new(
                            ErrorKind::Conflict,
                            format!(
                                "cannot restore {}: something of this name appeared meanwhile",
                                self.place.path
                            ),
                        ));
                    }
                    _ => {}
                },
                Err(error) => return Err(self.place.failure("create", error)),
            }
        }
        let (folder, to) = (&self.place.folder, &self.place.name[..]);
        let rename = || rustix::fs::renameat(folder, &self.name[..], folder, to);
        let renamed = match rename() {
            Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY) => {
                self.place.clear()?;
                rename()
            }
            renamed => renamed,
        };
        renamed.map_err(|error| self.place.failure("replace", error))?;
        // Renaming one link of a file to another of its links leaves both; then there is one to remove.
        self.stays = false;
        Ok(())
    }

    fn rename_to_free_name(&self) -> Result<(), Errno> {
        let (folder, from, to) = (&self.place.folder, self.name(), &self.place.name[..]);
        match rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
            // What a file system says that cannot rename without replacing.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            result => return result,
        }
        match rustix::fs::linkat(folder, from, folder, to, AtFlags::empty()) {
            Ok(()) => return rustix::fs::unlinkat(folder, from, AtFlags::empty()),
            Err(Errno::EXIST) => return Err(Errno::EXIST),
            // Nor link.
            Err(_) => {}
        }
        match rustix::fs::statat(folder, to, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => rustix::fs::renameat(folder, from, folder, to),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.stays {
            // A failure leaves a file whose name tells what it is.
            let _ = rustix::fs::unlinkat(&self.place.folder, &self.name[..], AtFlags::empty());
        }
    }
}
