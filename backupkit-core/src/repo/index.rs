//! The index in memory: where each blob of a repository lies.
//!
//! What index files named when the repository was opened is held in sorted tables of 48 bytes a
//! blob; packs stored since then in a small hash map, which is merged into the tables as it grows.
//! Both are private, so that tables in mapped files can take their place.

mod builder;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::mem;

pub use builder::{IndexBuilder, Pushed};

use super::crypto::OVERHEAD;
use super::pack_header::{BlobKind, PackedBlob};
use crate::model::{BlobId, PackId};
use table::{PackNumber, Slot, Table};

/// New blobs are merged into the table when there are more than this many, and more than an eighth of
/// the table: so merging costs little per blob.
const MERGE_BLOBS: usize = 16 * 1024;

/// Where a blob lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobLocation {
    /// The pack.
    pub pack: PackId,
    /// Where its sealed bytes begin.
    pub offset: u32,
    /// How many sealed bytes there are.
    pub sealed_bytes: u32,
    /// Length of the plaintext if it is compressed; nothing if it is stored plain.
    pub plain_bytes: Option<u32>,
}

/// [`OVERHEAD`] as lengths in packs are.
#[expect(clippy::cast_possible_truncation, reason = "32")]
const OVERHEAD_BYTES: u32 = OVERHEAD as u32;

impl BlobLocation {
    /// The length of the plaintext.
    pub fn content_bytes(&self) -> u32 {
        self.plain_bytes.unwrap_or(self.sealed_bytes.saturating_sub(OVERHEAD_BYTES))
    }
}

/// Where every blob of a repository lies. A blob in several packs is known in one of them.
#[derive(Debug, Default)]
pub struct Index {
    /// The first `sorted_packs` are sorted by id; what was stored since then follows.
    packs: Vec<PackId>,
    sorted_packs: usize,
    new_packs: HashMap<PackId, PackNumber>,
    data: Blobs,
    trees: Blobs,
    duplicates: u64,
}

/// The blobs of one kind.
#[derive(Debug, Default)]
struct Blobs {
    table: Table,
    /// A tree and no hash map, as that would be one large block of memory for a short time, which
    /// allocators keep.
    new: BTreeMap<BlobId, Slot>,
}

impl Index {
    /// Returns an index without blobs.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Returns where a blob lies.
    pub fn get(&self, kind: BlobKind, id: &BlobId) -> Option<BlobLocation> {
        self.blobs(kind).get(id).map(|slot| self.location(slot))
    }

    /// Whether the repository holds a blob.
    pub fn contains(&self, kind: BlobKind, id: &BlobId) -> bool {
        self.blobs(kind).get(id).is_some()
    }

    /// Whether a pack is indexed.
    pub fn contains_pack(&self, pack: &PackId) -> bool {
        self.packs[..self.sorted_packs].binary_search(pack).is_ok()
            || self.new_packs.contains_key(pack)
    }

    /// Adds the blobs of a pack that was stored. Blobs already known stay where they were.
    ///
    /// Returns how many blobs were new. A pack that is already indexed changes nothing.
    pub fn insert_pack(&mut self, pack: PackId, blobs: &[PackedBlob]) -> usize {
        if self.contains_pack(&pack) {
            return 0;
        }
        // A pack file is at least 73 bytes: 2^32 of them are no repository that fits in memory.
        let Ok(number) = PackNumber::try_from(self.packs.len()) else {
            return 0;
        };
        self.packs.push(pack);
        self.new_packs.insert(pack, number);
        let mut added = 0;
        for blob in blobs {
            let known = match blob.kind {
                BlobKind::Data => &mut self.data,
                BlobKind::Tree => &mut self.trees,
            };
            if known.get(&blob.id).is_some() {
                self.duplicates += 1;
            } else {
                known.new.insert(blob.id, Slot::new(number, blob));
                added += 1;
            }
        }
        self.data.merge_if_large();
        self.trees.merge_if_large();
        added
    }

    /// How many different blobs there are.
    pub fn len(&self) -> usize {
        self.count(BlobKind::Data) + self.count(BlobKind::Tree)
    }

    /// Whether there are no blobs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many different blobs of a kind there are.
    pub fn count(&self, kind: BlobKind) -> usize {
        let blobs = self.blobs(kind);
        blobs.table.len() + blobs.new.len()
    }

    /// How often a blob was found that is also elsewhere.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// The packs, in no particular order.
    pub fn packs(&self) -> &[PackId] {
        &self.packs
    }

    /// Returns every blob once, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (BlobKind, BlobId, BlobLocation)> {
        [BlobKind::Data, BlobKind::Tree]
            .into_iter()
            .flat_map(|kind| self.iter_kind(kind).map(move |(id, at)| (kind, id, at)))
    }

    /// Returns every blob of a kind once, in no particular order.
    pub fn iter_kind(&self, kind: BlobKind) -> impl Iterator<Item = (BlobId, BlobLocation)> {
        let blobs = self.blobs(kind);
        let new = blobs.new.iter().map(|(id, slot)| (*id, *slot));
        let all = blobs.table.iter().chain(new);
        all.map(|(id, slot)| (id, self.location(slot)))
    }

    /// Numbers all blobs, so that [`Self::position`] finds them. Needed after [`Self::insert_pack`].
    pub fn number_blobs(&mut self) {
        for blobs in [&mut self.data, &mut self.trees] {
            blobs.merge();
        }
    }

    /// Returns the number of a blob among those of its kind, below [`Self::count`]: its place in a
    /// bitmap over all blobs, which takes far less memory than a set of ids.
    ///
    /// Numbers are in the order of ids and hold until the next [`Self::insert_pack`]. Blobs added
    /// since [`Self::number_blobs`] have none.
    pub fn position(&self, kind: BlobKind, id: &BlobId) -> Option<usize> {
        self.blobs(kind).table.position(id)
    }

    /// Returns the blob with a number.
    pub fn at(&self, kind: BlobKind, position: usize) -> Option<(BlobId, BlobLocation)> {
        let (id, slot) = self.blobs(kind).table.at(position)?;
        Some((id, self.location(slot)))
    }

    /// Memory in use, allocated but unused room included. What maps take is estimated.
    pub fn memory_bytes(&self) -> usize {
        // One byte of control per bucket, and buckets filled to seven eighths at most.
        let map = |capacity: usize, entry: usize| capacity * (entry + 1) * 8 / 7;
        // Nodes are two thirds full, on average.
        let tree = |len: usize| len * size_of::<(BlobId, Slot)>() * 3 / 2;
        self.packs.capacity() * size_of::<PackId>()
            + map(self.new_packs.capacity(), size_of::<(PackId, PackNumber)>())
            + [&self.data, &self.trees]
                .into_iter()
                .map(|blobs| blobs.table.memory_bytes() + tree(blobs.new.len()))
                .sum::<usize>()
    }

    fn blobs(&self, kind: BlobKind) -> &Blobs {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    fn location(&self, slot: Slot) -> BlobLocation {
        BlobLocation {
            pack: self.packs[slot.pack_index()],
            offset: slot.offset,
            sealed_bytes: slot.sealed_bytes,
            plain_bytes: slot.plain_bytes(),
        }
    }
}

impl Blobs {
    fn get(&self, id: &BlobId) -> Option<Slot> {
        self.table.get(id).or_else(|| self.new.get(id).copied())
    }

    fn merge_if_large(&mut self) {
        if self.new.len() > MERGE_BLOBS.max(self.table.len() / 8) {
            self.merge();
        }
    }

    fn merge(&mut self) {
        // Taken whole, so that its memory goes as well.
        self.table.merge(mem::take(&mut self.new));
    }
}

#[cfg(test)]
mod tests;
