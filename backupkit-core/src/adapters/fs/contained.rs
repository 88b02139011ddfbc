//! Opening paths below a directory so that nothing leads out of it: no link is followed, at any level,
//! even if somebody swaps a directory for one meanwhile.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Below the kernel's limit for one path.
const PATH_LIMIT_BYTES: usize = 4000;

/// Set once the kernel has said that it is too old for `openat2`.
static WITHOUT_OPENAT2: AtomicBool = AtomicBool::new(false);

/// Opens the path of these names below `root`; without names, `root` itself again.
///
/// # Errors
/// `INVAL` for a name that is not one; `LOOP` or `NOTDIR` where a link stands in the way.
pub(super) fn open_beneath<'n>(
    root: BorrowedFd<'_>,
    names: impl Iterator<Item = &'n [u8]>,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let mut at: Option<OwnedFd> = None;
    let mut path: Vec<u8> = Vec::new();
    let limit = if WITHOUT_OPENAT2.load(Ordering::Relaxed) { 0 } else { PATH_LIMIT_BYTES };
    for name in names {
        if !is_plain_name(name) {
            return Err(Errno::INVAL);
        }
        if !path.is_empty() && path.len() + 1 + name.len() > limit {
            let from = at.as_ref().map_or(root, |fd| fd.as_fd());
            at = Some(open_step(from, &path, OFlags::PATH | OFlags::DIRECTORY)?);
            path.clear();
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
    }
    let from = at.as_ref().map_or(root, |fd| fd.as_fd());
    if path.is_empty() {
        return rustix::fs::openat(from, ".", flags | OFlags::CLOEXEC, Mode::empty());
    }
    open_step(from, &path, flags)
}

/// Whether this can be the name of something in a directory.
pub(super) fn is_plain_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|&byte| matches!(byte, b'/' | 0))
}

fn open_step(from: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    if !WITHOUT_OPENAT2.load(Ordering::Relaxed) {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        // Renames elsewhere can make the kernel unsure; it then asks to try again.
        for _ in 0..16 {
            match rustix::fs::openat2(from, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::NOSYS) => {
                    WITHOUT_OPENAT2.store(true, Ordering::Relaxed);
                    break;
                }
                // Some sandboxes refuse calls that they do not know with this error.
                Err(Errno::PERM) => break,
                result => return result,
            }
        }
    }
    open_by_names(from, path, flags)
}

/// One call per name, each of which cannot leave its directory.
fn open_by_names(from: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut names = path.split(|&byte| byte == b'/').peekable();
    let mut at: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        let here = at.as_ref().map_or(from, |fd| fd.as_fd());
        let flags = if names.peek().is_some() {
            OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
        } else {
            flags
        };
        at = Some(rustix::fs::openat(here, name, flags, Mode::empty())?);
    }
    at.ok_or(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    type Open = fn(BorrowedFd<'_>, &[u8], OFlags) -> Result<OwnedFd, Errno>;

    #[test]
    fn no_link_is_followed_at_any_level() {
        let folder = tempfile::TempDir::new().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        fs::write(folder.path().join("outside/x"), b"").unwrap();
        fs::write(root.join("a/b/x"), b"").unwrap();
        symlink("../outside", root.join("up")).unwrap();
        symlink("a", root.join("inner")).unwrap();
        symlink("x", root.join("a/b/y")).unwrap();
        let root = File::open(&root).unwrap();
        for open in [open_step as Open, |from, path, flags| {
            open_by_names(from, path, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC)
        }] {
            open(root.as_fd(), b"a/b/x", OFlags::RDONLY).unwrap();
            for path in ["up/x", "inner/b/x", "a/b/y"] {
                let error = open(root.as_fd(), path.as_bytes(), OFlags::RDONLY).unwrap_err();
                assert!(matches!(error, Errno::LOOP | Errno::NOTDIR), "{path}");
            }
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let folder = tempfile::TempDir::new().unwrap();
        let root = File::open(folder.path()).unwrap();
        for name in [&b".."[..], b".", b"", b"a/b", b"/", b"a\0b"] {
            let names = [name].into_iter();
            let error = open_beneath(root.as_fd(), names, OFlags::RDONLY).unwrap_err();
            assert_eq!(error, Errno::INVAL);
        }
        open_beneath(root.as_fd(), std::iter::empty(), OFlags::RDONLY).unwrap();
    }

    #[test]
    fn paths_may_be_longer_than_the_kernel_takes_at_once() {
        let folder = tempfile::TempDir::new().unwrap();
        let root = File::open(folder.path()).unwrap();
        let name = [b'n'; 200];
        let mut at = root.try_clone().unwrap();
        for _ in 0..50 {
            rustix::fs::mkdirat(&at, &name[..], Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, &name[..], OFlags::DIRECTORY, Mode::empty())
                .unwrap()
                .into();
        }
        let names = std::iter::repeat_n(&name[..], 50);
        open_beneath(root.as_fd(), names, OFlags::RDONLY | OFlags::DIRECTORY).unwrap();
    }
}
