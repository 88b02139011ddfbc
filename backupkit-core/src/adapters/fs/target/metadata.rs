//! Giving metadata back.

use std::collections::HashSet;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::super::xattr::{self, Holder, Reader};
use crate::error::{Error, ErrorKind};
use crate::model::{EntryPath, ExtendedAttribute, FileMode, FileTime, Metadata};

/// What is to get metadata.
#[derive(Debug, Clone, Copy)]
pub(super) enum Receiver<'a> {
    /// An open file or folder.
    Open(BorrowedFd<'a>),
    /// A link, by its name in an open folder. It has no mode of its own.
    Link(BorrowedFd<'a>, &'a [u8]),
    /// A pipe or device, by its name in an open folder.
    Node(BorrowedFd<'a>, &'a [u8]),
}

/// Gives all back that this user may give, and returns what could not be given.
pub(super) fn apply(receiver: Receiver<'_>, metadata: &Metadata, path: &EntryPath) -> Vec<Error> {
    let mut applying = Applying {
        receiver,
        is_folder: is_folder(metadata.mode),
        path,
        is_root: rustix::process::geteuid().is_root(),
        warnings: Vec::new(),
    };
    let has_owner = applying.owner(metadata);
    if let Some(attributes) = &metadata.extended_attributes {
        applying.attributes(attributes);
    }
    applying.mode(metadata, has_owner);
    // Last: the others would change them.
    applying.times(metadata);
    applying.warnings
}

struct Applying<'a> {
    receiver: Receiver<'a>,
    path: &'a EntryPath,
    is_folder: bool,
    is_root: bool,
    warnings: Vec<Error>,
}

impl Applying<'_> {
    /// Returns whether the owner is the recorded one.
    fn owner(&mut self, metadata: &Metadata) -> bool {
        // The highest number stands for "no change" in this call and is nobody's.
        if metadata.uid == u32::MAX || metadata.gid == u32::MAX {
            return false;
        }
        let uid = Some(Uid::from_raw(metadata.uid));
        let gid = Some(Gid::from_raw(metadata.gid));
        let result = match self.receiver {
            Receiver::Open(fd) => rustix::fs::fchown(fd, uid, gid),
            Receiver::Link(folder, name) | Receiver::Node(folder, name) => {
                rustix::fs::chownat(folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            }
        };
        match result {
            Ok(()) => return true,
            Err(Errno::PERM) if !self.is_root => {}
            Err(error) => self.warn("set the owner of", error),
        }
        false
    }

    fn attributes(&mut self, attributes: &[ExtendedAttribute]) {
        let holder = match self.receiver {
            Receiver::Open(fd) => Holder::Open(fd),
            Receiver::Link(folder, name) | Receiver::Node(folder, name) => {
                Holder::Named(folder, name)
            }
        };
        self.remove_others(holder, attributes);
        for attribute in attributes {
            let name = &attribute.name;
            match xattr::set(holder, attribute) {
                Ok(()) => {}
                // The system's own, as with owners.
                Err(Errno::PERM | Errno::ACCESS)
                    if !self.is_root
                        && (name.starts_with("security.") || name.starts_with("trusted.")) => {}
                Err(error) => self.warn(&format!("set the attribute {name:?} of"), error),
            }
        }
    }

    /// A folder that was there may have attributes that the recorded one had not. Those that the system
    /// maintains itself are left alone.
    fn remove_others(&mut self, holder: Holder<'_>, attributes: &[ExtendedAttribute]) {
        let Ok(found) = Reader::default().read(holder) else {
            return;
        };
        let wanted: HashSet<&str> = attributes.iter().map(|wanted| &*wanted.name).collect();
        for name in found.into_iter().map(|found| found.name) {
            let is_ours = name.starts_with("user.") || name.starts_with("system.posix_acl_");
            if is_ours
                && !wanted.contains(&*name)
                && let Err(error) = xattr::remove(holder, &name)
            {
                self.warn(&format!("remove the attribute {name:?} of"), error);
            }
        }
    }

    fn mode(&mut self, metadata: &Metadata, has_owner: bool) {
        let mut permissions = metadata.mode.unix_permissions();
        let lends_rights = permissions & 0o6000 != 0
            && !self.is_folder
            && !matches!(self.receiver, Receiver::Link(..));
        if lends_rights && !has_owner {
            // With another owner these bits would lend the rights of the wrong user.
            permissions &= 0o1777;
            self.warnings.push(Error::new(
                ErrorKind::PermissionDenied,
                format!(
                    "restored {} without its set-uid or set-gid bit: its owner could not be set",
                    self.path
                ),
            ));
        }
        let mode = Mode::from_raw_mode(permissions);
        let result = match self.receiver {
            Receiver::Open(fd) => rustix::fs::fchmod(fd, mode),
            Receiver::Link(..) => Ok(()),
            Receiver::Node(folder, name) => change_mode_of_node(folder, name, mode),
        };
        match result {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => self.warn("set the mode of", error),
        }
    }

    fn times(&mut self, metadata: &Metadata) {
        let times = Timestamps {
            last_access: timespec(metadata.atime),
            last_modification: timespec(metadata.mtime),
        };
        let result = match self.receiver {
            Receiver::Open(fd) => rustix::fs::futimens(fd, &times),
            Receiver::Link(folder, name) | Receiver::Node(folder, name) => {
                rustix::fs::utimensat(folder, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            }
        };
        if let Err(error) = result {
            self.warn("set the times of", error);
        }
    }

    fn warn(&mut self, doing: &str, error: Errno) {
        let doing = format!("{doing} {}", self.path);
        self.warnings.push(Error::io(doing, error.into()));
    }
}

/// Whether a recorded mode is that of a folder, for which set-gid lends no rights.
fn is_folder(mode: FileMode) -> bool {
    mode.raw() & (1 << 31) != 0
}

/// The call that changes modes follows links, so it goes through a descriptor of the thing itself.
fn change_mode_of_node(folder: BorrowedFd<'_>, name: &[u8], mode: Mode) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    if rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&node)?.st_mode).is_symlink() {
        return Err(Errno::LOOP);
    }
    let path = format!("/proc/self/fd/{}", node.as_fd().as_raw_fd());
    rustix::fs::chmodat(CWD, path, mode, AtFlags::empty())
}

fn timespec(time: FileTime) -> Timespec {
    Timespec { tv_sec: time.unix_seconds(), tv_nsec: time.nanoseconds().into() }
}
