//! The names in a directory, sorted, in one allocation: a directory may have millions.

use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::fs::RawDir;
use rustix::io::Errno;

/// Names in byte order, each once.
#[derive(Debug, Default)]
pub(super) struct NameList {
    bytes: Vec<u8>,
    spans: Vec<(u32, u16)>,
}

impl NameList {
    /// Reads the names in a directory. With an error come the names read so far.
    pub(super) fn read(
        directory: BorrowedFd<'_>,
        buffer: &mut [MaybeUninit<u8>],
    ) -> (Self, Option<Errno>) {
        let mut list = Self::default();
        let mut entries = RawDir::new(directory, buffer);
        let mut failed = None;
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) => match entry.file_name().to_bytes() {
                    b"." | b".." => {}
                    name => {
                        if !list.push(name) {
                            failed = Some(Errno::OVERFLOW);
                            break;
                        }
                    }
                },
                Err(Errno::INTR) => {}
                // The directory was removed while it was open.
                Err(Errno::NOENT) => break,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        list.sort();
        (list, failed)
    }

    /// Adds names; they may be there already.
    pub(super) fn extend<'a>(&mut self, names: impl Iterator<Item = &'a [u8]>) {
        for name in names {
            self.push(name);
        }
        self.sort();
    }

    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        let &(start, length) = self.spans.get(index)?;
        let start = start as usize;
        self.bytes.get(start..start + usize::from(length))
    }

    /// The index of the first name behind `name`.
    pub(super) fn index_behind(&self, name: &[u8]) -> usize {
        self.spans.partition_point(|&span| self.name(span) <= name)
    }

    /// `false` if it does not fit: names are at most 255 bytes long, and 4 GiB together.
    fn push(&mut self, name: &[u8]) -> bool {
        let (Ok(start), Ok(length)) = (u32::try_from(self.bytes.len()), u16::try_from(name.len()))
        else {
            return false;
        };
        self.bytes.extend_from_slice(name);
        self.spans.push((start, length));
        true
    }

    fn sort(&mut self) {
        let mut spans = std::mem::take(&mut self.spans);
        spans.sort_unstable_by(|&left, &right| self.name(left).cmp(self.name(right)));
        spans.dedup_by(|&mut left, &mut right| self.name(left) == self.name(right));
        self.spans = spans;
    }

    fn name(&self, (start, length): (u32, u16)) -> &[u8] {
        &self.bytes[start as usize..][..usize::from(length)]
    }
}
