//! Building an index from index files.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::table::{PackNumber, Row, Slot, Table};
use super::{Blobs, Index};
use crate::error::{Error, ErrorKind, Result};
use crate::model::PackId;
use crate::repo::index_file::IndexedPack;
use crate::repo::pack_header::BlobKind;

/// What became of a pack that was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was not known.
    New,
    /// It was known with the same blobs. Harmless, and left by programs that were interrupted.
    Repeated,
    /// It was known with other blobs, which only a defect explains. The blobs of both are known now.
    Differs,
}

/// Collects packs from index files, in any order, and builds an [`Index`].
#[derive(Debug, Default)]
pub struct IndexBuilder {
    data: Vec<Row>,
    trees: Vec<Row>,
    packs: Vec<PackId>,
    /// The number of each pack, and a hash of its blobs to compare it by.
    known: HashMap<PackId, (PackNumber, u64)>,
}

impl IndexBuilder {
    /// Returns a builder without packs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pack.
    ///
    /// # Errors
    /// `Unsupported` beyond 2^32 packs.
    pub fn push(&mut self, pack: &IndexedPack) -> Result<Pushed> {
        let mut hasher = DefaultHasher::new();
        pack.blobs.hash(&mut hasher);
        let hash = hasher.finish();
        let (number, pushed) = match self.known.get(&pack.id) {
            Some((_, known)) if *known == hash => return Ok(Pushed::Repeated),
            Some((number, _)) => (*number, Pushed::Differs),
            None => {
                let number = PackNumber::try_from(self.packs.len()).map_err(|_| {
                    Error::new(
                        ErrorKind::Unsupported,
                        "cannot load the index: it names more than 4 billion packs",
                    )
                })?;
                self.packs.push(pack.id);
                self.known.insert(pack.id, (number, hash));
                (number, Pushed::New)
            }
        };
        for blob in &pack.blobs {
            let rows = match blob.kind {
                BlobKind::Data => &mut self.data,
                BlobKind::Tree => &mut self.trees,
            };
            rows.push(Row { id: blob.id, slot: Slot::new(number, blob) });
        }
        Ok(pushed)
    }

    /// Sorts what was collected.
    ///
    /// The result depends on the packs only, not on the order in which they were pushed.
    pub fn build(mut self) -> Index {
        self.known = HashMap::new();
        // Sorted packs are found without a map.
        let mut order: Vec<PackNumber> = (0..).take(self.packs.len()).collect();
        order.sort_unstable_by_key(|number| self.packs[*number as usize]);
        let mut numbers = vec![0; order.len()];
        for (new, old) in (0..).zip(&order) {
            numbers[*old as usize] = new;
        }
        self.packs.sort_unstable();
        self.packs.shrink_to_fit();
        let mut duplicates = 0;
        let mut blobs = |mut rows: Vec<Row>| {
            Table::renumber_packs(&mut rows, &numbers);
            let (table, repeated) = Table::build(rows);
            duplicates += repeated;
            Blobs { table, ..Blobs::default() }
        };
        let (data, trees) = (blobs(self.data), blobs(self.trees));
        Index {
            sorted_packs: self.packs.len(),
            packs: self.packs,
            data,
            trees,
            duplicates,
            ..Index::default()
        }
    }
}
