//! System calls that the standard library lacks: extended attributes, fifos, times of links.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

/// The largest value and the largest list that Linux allows.
const LARGEST_BYTES: usize = 65_536;

/// All extended attributes, sorted by name; of the link itself, not of what it points to.
pub fn attributes(path: &Path) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let mut buffer = vec![0_u8; LARGEST_BYTES];
    let length = match rustix::fs::llistxattr(path, &mut buffer[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let names: Vec<OsString> = buffer[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| OsString::from_vec(name.to_vec()))
        .collect();
    let mut attributes = Vec::new();
    for name in names {
        let length = rustix::fs::lgetxattr(path, &name, &mut buffer[..])?;
        attributes.push((name, buffer[..length].to_vec()));
    }
    attributes.sort();
    Ok(attributes)
}

pub fn set_attribute(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())?)
}

pub fn make_fifo(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0)?)
}

/// A character device; only root may, and not everywhere.
pub fn make_device(path: &Path, major: u32, minor: u32) -> io::Result<()> {
    let device = rustix::fs::makedev(major, minor);
    let kind = FileType::CharacterDevice;
    Ok(rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), device)?)
}

/// Sets the modification time, of the link itself, in seconds and nanoseconds since 1970.
pub fn set_modified(path: &Path, seconds: i64, nanoseconds: u32) -> io::Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Whether this process may read and change everything.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A file name from any bytes.
pub fn name(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// What a test waits for at most; long, because a slow machine is no failure.
pub const PATIENCE: Duration = Duration::from_mins(15);
