//! Which requests get which blobs.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlobId, PackId};
use crate::repo::blobs::StoredBlob;
use crate::repo::index::BlobLocation;
use crate::repo::pack_header::BlobKind;

/// Bytes that nobody asked for are read up to this length if that saves a request: far below the
/// 1 MiB at which a remote request pays, since on a local disk requests cost next to nothing.
const MAX_GAP_BYTES: u64 = 256 << 10;
/// No request is longer, unless a single blob is. Longer ones would be no faster and take more memory.
const MAX_REQUEST_BYTES: u64 = 8 << 20;
/// Blobs of so many sealed bytes are one job of the pool.
const JOB_BYTES: u64 = 2 << 20;

/// A blob to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) id: BlobId,
    pub(super) location: BlobLocation,
}

/// A stretch of a pack to read, and the blobs in it in their order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) pack: PackId,
    pub(super) range: Range<u64>,
    pub(super) blobs: Vec<Wanted>,
}

impl Wanted {
    pub(super) fn blob(&self, kind: BlobKind) -> StoredBlob {
        StoredBlob { kind, id: self.id, location: self.location }
    }

    fn range(&self) -> Range<u64> {
        let start = u64::from(self.location.offset);
        start..start + u64::from(self.location.sealed_bytes)
    }

    /// Where the sealed bytes are in an answer that begins at `start`.
    pub(super) fn range_from(&self, start: u64) -> Result<Range<usize>> {
        let narrow = |position: u64| {
            let position = position.checked_sub(start).map(usize::try_from);
            position.and_then(std::result::Result::ok).ok_or_else(|| {
                Error::new(ErrorKind::Internal, "a blob lies outside of its request")
            })
        };
        Ok(narrow(self.range().start)?..narrow(self.range().end)?)
    }
}

impl Request {
    pub(super) fn single(wanted: Wanted) -> Self {
        Self { pack: wanted.location.pack, range: wanted.range(), blobs: vec![wanted] }
    }
}

/// Groups blobs by pack and joins those that lie close together.
pub(super) fn plan_requests(mut wanted: Vec<Wanted>) -> Vec<Request> {
    wanted.sort_unstable_by_key(|blob| (blob.location.pack, blob.location.offset));
    let mut requests: Vec<Request> = Vec::new();
    for blob in wanted {
        let range = blob.range();
        match requests.last_mut() {
            Some(last)
                if last.pack == blob.location.pack
                    && range.start.saturating_sub(last.range.end) <= MAX_GAP_BYTES
                    && range.end.saturating_sub(last.range.start) <= MAX_REQUEST_BYTES =>
            {
                // Blobs of a damaged index may overlap.
                last.range.end = last.range.end.max(range.end);
                last.blobs.push(blob);
            }
            _ => requests.push(Request::single(blob)),
        }
    }
    requests
}

/// Splits blobs into stretches that are opened side by side.
pub(super) fn jobs(blobs: &[Wanted]) -> Vec<&[Wanted]> {
    let mut jobs = Vec::new();
    let mut rest = blobs;
    while !rest.is_empty() {
        let mut bytes = 0;
        let count = rest
            .iter()
            .take_while(|blob| {
                let takes = bytes < JOB_BYTES;
                bytes += u64::from(blob.location.sealed_bytes);
                takes
            })
            .count();
        let (job, others) = rest.split_at(count.max(1));
        jobs.push(job);
        rest = others;
    }
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(pack: u8, offset: u32, sealed_bytes: u32) -> Wanted {
        Wanted {
            id: BlobId::of(&offset.to_le_bytes()),
            location: BlobLocation {
                pack: PackId::from_bytes([pack; 32]),
                offset,
                sealed_bytes,
                plain_bytes: None,
            },
        }
    }

    fn ranges(blobs: &[(u8, u32, u32)]) -> Vec<(usize, u64, u64)> {
        let blobs = blobs.iter().map(|(pack, offset, bytes)| wanted(*pack, *offset, *bytes));
        let requests = plan_requests(blobs.collect());
        requests.iter().map(|it| (it.blobs.len(), it.range.start, it.range.end)).collect()
    }

    #[test]
    fn blobs_that_lie_close_together_are_read_at_once() {
        let gap = 256 << 10;
        assert_eq!(ranges(&[(1, 50, 50), (1, 0, 50)]), [(2, 0, 100)]);
        assert_eq!(ranges(&[(1, 0, 50), (2, 50, 50)]), [(1, 0, 50), (1, 50, 100)]);
        assert_eq!(ranges(&[(1, 0, 50), (1, 50 + gap, 50)]), [(2, 0, u64::from(gap) + 100)]);
        assert_eq!(ranges(&[(1, 0, 50), (1, 51 + gap, 50)]).len(), 2);
    }

    #[test]
    fn requests_are_bounded_unless_a_blob_is_not() {
        let mib = 1 << 20;
        let blobs: Vec<_> = (0..40).map(|number| (1, number * mib, mib)).collect();
        let requests = ranges(&blobs);
        assert_eq!(requests.iter().map(|(count, ..)| *count).collect::<Vec<_>>(), [8; 5]);
        assert_eq!(ranges(&[(1, 0, 100 * mib)]).len(), 1);
        // An index may say anything.
        assert_eq!(ranges(&[(1, 0, u32::MAX), (1, 5, 40), (1, u32::MAX, u32::MAX)]).len(), 2);
    }

    #[test]
    fn jobs_cover_all_blobs_in_order() {
        let blobs: Vec<_> = (0..9).map(|number| wanted(1, number, 1 << 20)).collect();
        let jobs = jobs(&blobs);
        assert_eq!(jobs.iter().map(|job| job.len()).collect::<Vec<_>>(), [2, 2, 2, 2, 1]);
        assert_eq!(jobs.concat(), blobs);
    }
}
