//! Reading stretches of files without touching the buffer before.

use std::io;
use std::os::fd::AsFd;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;

/// Reads `length` bytes at `offset`, fewer only where the file ends.
pub(super) fn read_fully(file: impl AsFd, offset: u64, length: u64) -> io::Result<Bytes> {
    let mut buffer: Vec<u8> = Vec::new();
    read_into(file, offset, length, &mut buffer)?;
    Ok(buffer.into())
}

/// Reads `length` bytes at `offset` into an empty buffer, fewer only where the file ends.
pub(super) fn read_into(
    file: impl AsFd,
    offset: u64,
    length: u64,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
    buffer.try_reserve_exact(length)?;
    while buffer.len() < length {
        let at = offset.checked_add(buffer.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        // With a shorter length than the buffer has room, this may read beyond it.
        match rustix::io::pread(&file, spare_capacity(buffer), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    buffer.truncate(length);
    Ok(())
}
