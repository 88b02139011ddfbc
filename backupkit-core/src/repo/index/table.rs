//! An immutable table of blobs, sorted by id.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::model::BlobId;
use crate::repo::pack_header::PackedBlob;

/// The place of a pack in the list of packs.
pub(super) type PackNumber = u32;

/// Blobs per bucket of the directory, on average. A look-up reads one bucket.
const BLOBS_PER_BUCKET: usize = 8;
const MAX_BUCKET_BITS: u32 = 28;

/// Where a blob lies, in 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    pub(super) pack: PackNumber,
    pub(super) offset: u32,
    pub(super) sealed_bytes: u32,
    /// Zero for a blob stored plain; no compressed blob is empty.
    plain_bytes: u32,
}

impl Slot {
    pub(super) fn new(pack: PackNumber, blob: &PackedBlob) -> Self {
        Self {
            pack,
            offset: blob.offset,
            sealed_bytes: blob.sealed_bytes,
            plain_bytes: blob.plain_bytes.unwrap_or_default(),
        }
    }

    pub(super) fn plain_bytes(self) -> Option<u32> {
        Some(self.plain_bytes).filter(|bytes| *bytes != 0)
    }

    pub(super) fn pack_index(self) -> usize {
        self.pack as usize
    }
}

/// One row: 48 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) id: BlobId,
    pub(super) slot: Slot,
}

const _: () = assert!(size_of::<Row>() == 48);

/// Rows sorted by id, each id once, with a directory over the first bits of the ids.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
    /// `bucket_ends[b]` is where rows of bucket `b` end and those of the next begin.
    bucket_ends: Vec<u32>,
    bucket_bits: u32,
}

impl Table {
    /// Takes rows in any order. Of rows with the same id the one with the lowest pack number and
    /// offset stays; returns how many others there were.
    pub(super) fn build(mut rows: Vec<Row>) -> (Self, u64) {
        rows.sort_unstable();
        // The same place named twice is no second copy.
        rows.dedup();
        let before = rows.len();
        rows.dedup_by(|later, kept| later.id == kept.id);
        let duplicates = before - rows.len();
        rows.shrink_to_fit();
        let mut table = Self { rows, ..Self::default() };
        table.build_directory();
        (table, duplicates as u64)
    }

    /// Adds blobs that are not in the table. Needs room for them, but no second table.
    pub(super) fn merge(&mut self, mut new: BTreeMap<BlobId, Slot>) {
        let Some((id, slot)) = new.first_key_value().map(|(id, slot)| (*id, *slot)) else {
            return;
        };
        let mut old = self.rows.len();
        self.rows.reserve_exact(new.len());
        self.rows.resize(old + new.len(), Row { id, slot });
        // From the back, so that no row is overwritten before it was moved.
        while let Some(last) = new.last_entry() {
            let row = if old > 0 && self.rows[old - 1].id > *last.key() {
                old -= 1;
                self.rows[old]
            } else {
                let (id, slot) = last.remove_entry();
                Row { id, slot }
            };
            self.rows[old + new.len()] = row;
        }
        self.build_directory();
    }

    pub(super) fn get(&self, id: &BlobId) -> Option<Slot> {
        self.at(self.position(id)?).map(|(_, slot)| slot)
    }

    pub(super) fn position(&self, id: &BlobId) -> Option<usize> {
        let bucket = self.bucket(id);
        let start = bucket.start;
        let rows = self.rows.get(bucket)?;
        let at = rows.binary_search_by(|row| row.id.cmp(id)).ok()?;
        Some(start + at)
    }

    pub(super) fn at(&self, position: usize) -> Option<(BlobId, Slot)> {
        self.rows.get(position).map(|row| (row.id, row.slot))
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (BlobId, Slot)> {
        self.rows.iter().map(|row| (row.id, row.slot))
    }

    /// Maps pack numbers, for when packs are renumbered.
    pub(super) fn renumber_packs(rows: &mut [Row], numbers: &[PackNumber]) {
        for row in rows {
            if let Some(number) = numbers.get(row.slot.pack_index()) {
                row.slot.pack = *number;
            }
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Row>() + self.bucket_ends.capacity() * size_of::<u32>()
    }

    fn build_directory(&mut self) {
        let buckets = self.rows.len() / BLOBS_PER_BUCKET;
        self.bucket_bits = buckets.max(1).ilog2().min(MAX_BUCKET_BITS);
        // Row numbers have 32 bits in the directory; without one, the search is a little longer.
        if u32::try_from(self.rows.len()).is_err() {
            self.bucket_bits = 0;
        }
        self.bucket_ends = Vec::new();
        if self.bucket_bits == 0 {
            return;
        }
        let mut ends = vec![0u32; 1 << self.bucket_bits];
        for row in &self.rows {
            ends[bucket_number(&row.id, self.bucket_bits)] += 1;
        }
        let mut end = 0;
        for count in &mut ends {
            end += *count;
            *count = end;
        }
        self.bucket_ends = ends;
    }

    /// The rows among which an id would be.
    fn bucket(&self, id: &BlobId) -> Range<usize> {
        if self.bucket_ends.is_empty() {
            return 0..self.rows.len();
        }
        let number = bucket_number(id, self.bucket_bits);
        let start = match number.checked_sub(1) {
            Some(before) => self.bucket_ends[before] as usize,
            None => 0,
        };
        start..self.bucket_ends[number] as usize
    }
}

fn bucket_number(id: &BlobId, bits: u32) -> usize {
    let [a, b, c, d, ..] = *id.as_bytes();
    // Of zero bits the number is zero, which a shift by 32 does not give.
    u32::from_be_bytes([a, b, c, d]).checked_shr(32 - bits).unwrap_or_default() as usize
}
