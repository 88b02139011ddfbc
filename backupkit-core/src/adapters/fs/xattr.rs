//! Extended attributes, in the order in which the kernel names them.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use crate::model::ExtendedAttribute;

/// The kernel's limit for a list of names, and for one value.
const LIMIT_BYTES: usize = 64 << 10;

/// What attributes are read from or written to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Holder<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// A name in an open directory, itself if it is a link.
    Named(BorrowedFd<'a>, &'a [u8]),
    /// A path, the last name itself if it is a link.
    Path(&'a [u8]),
}

/// Reads attributes with one buffer for all calls.
#[derive(Debug, Default)]
pub(super) struct Reader {
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Reader {
    /// Reads all attributes. A file system without attributes has none.
    pub(super) fn read(&mut self, holder: Holder<'_>) -> io::Result<Vec<ExtendedAttribute>> {
        self.names.clear();
        self.names.reserve(LIMIT_BYTES);
        match list(holder, &mut self.names) {
            Ok(_) => {}
            Err(error) if is_unsupported(error) => {}
            Err(error) => return Err(error.into()),
        }
        let mut attributes = Vec::new();
        for name in self.names.split_inclusive(|&byte| byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else {
                continue;
            };
            self.value.clear();
            self.value.reserve(LIMIT_BYTES);
            match get(holder, name, &mut self.value) {
                Ok(_) => attributes.push(ExtendedAttribute {
                    name: name.to_string_lossy().into_owned(),
                    value: self.value.clone(),
                }),
                // Removed since it was named.
                Err(error) if is_unsupported(error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(attributes)
    }
}

/// Sets an attribute.
pub(super) fn set(holder: Holder<'_>, attribute: &ExtendedAttribute) -> Result<(), Errno> {
    let (name, value) = (attribute.name.as_bytes(), &attribute.value[..]);
    let flags = rustix::fs::XattrFlags::empty();
    match holder {
        Holder::Open(fd) => rustix::fs::fsetxattr(fd, name, value, flags),
        Holder::Named(folder, child) => {
            rustix::fs::lsetxattr(through_descriptor(folder, child), name, value, flags)
        }
        Holder::Path(path) => rustix::fs::lsetxattr(path, name, value, flags),
    }
}

/// Removes an attribute; a missing one is success.
pub(super) fn remove(holder: Holder<'_>, name: &str) -> Result<(), Errno> {
    let result = match holder {
        Holder::Open(fd) => rustix::fs::fremovexattr(fd, name),
        Holder::Named(folder, child) => {
            rustix::fs::lremovexattr(through_descriptor(folder, child), name)
        }
        Holder::Path(path) => rustix::fs::lremovexattr(path, name),
    };
    match result {
        Err(Errno::NODATA) => Ok(()),
        result => result,
    }
}

/// Whether the file system has no such attributes.
pub(super) fn is_unsupported(error: Errno) -> bool {
    matches!(error, Errno::OPNOTSUPP | Errno::NODATA | Errno::NOSYS)
}

fn list(holder: Holder<'_>, names: &mut Vec<u8>) -> Result<usize, Errno> {
    match holder {
        Holder::Open(fd) => rustix::fs::flistxattr(fd, spare_capacity(names)),
        Holder::Named(folder, child) => {
            rustix::fs::llistxattr(through_descriptor(folder, child), spare_capacity(names))
        }
        Holder::Path(path) => rustix::fs::llistxattr(path, spare_capacity(names)),
    }
}

fn get(holder: Holder<'_>, name: &CStr, value: &mut Vec<u8>) -> Result<usize, Errno> {
    match holder {
        Holder::Open(fd) => rustix::fs::fgetxattr(fd, name, spare_capacity(value)),
        Holder::Named(folder, child) => {
            rustix::fs::lgetxattr(through_descriptor(folder, child), name, spare_capacity(value))
        }
        Holder::Path(path) => rustix::fs::lgetxattr(path, name, spare_capacity(value)),
    }
}

/// The calls for links take paths only. This one leads through the open directory, so that nothing
/// above it can be swapped, and has no limit in depth.
fn through_descriptor(folder: BorrowedFd<'_>, child: &[u8]) -> Vec<u8> {
    let prefix = format!("/proc/self/fd/{}/", folder.as_raw_fd());
    [prefix.as_bytes(), child].concat()
}
