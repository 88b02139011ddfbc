//! Reading stretches of files without touching the buffer before.

use std::io;
use std::os::fd::AsFd;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;

/// Reads `length` bytes at `offset`, fewer only where the file ends.
pub(super) fn read_fully(file: impl AsFd, offset: u64, length: u64) -> io::Result<Bytes> {
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut buffer: Vec<u8> = Vec::new();
    buffer.try_reserve_exact(length)?;
    while buffer.len() < length {
        let at = offset.checked_add(buffer.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        match rustix::io::pread(&file, spare_capacity(&mut buffer), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may have given more room than was asked for.
    buffer.truncate(length);
    Ok(buffer.into())
}

/// Reads into all of `buffer` from `offset` on, and returns how much that was: less only where the
/// file ends.
pub(super) fn read_slice(file: impl AsFd, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        let at = offset.checked_add(filled as u64).ok_or(io::ErrorKind::InvalidInput)?;
        match rustix::io::pread(&file, &mut buffer[filled..], at) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}
