//! What a repository holds, read without the engine, so that the engine can be judged by it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures::TryStreamExt;

use crate::destination::ObjectMeta;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlobId, PackId};
use crate::repo::blobs::StoredBlob;
use crate::repo::compress::Decompressor;
use crate::repo::index::BlobLocation;
use crate::repo::layout::{FileKind, id_of_name, pack_key, packs_prefix};
use crate::repo::pack_header::{BlobKind, PackedBlob, TRAILER_BYTES, parse_header, parse_trailer};
use crate::repo::repository::Repository;
use crate::repo::{decode_tree, index_file};

/// The packs of a repository by their own headers, and what the index says of them.
#[derive(Debug)]
pub struct Inventory {
    packs: BTreeMap<PackId, Vec<PackedBlob>>,
    indexed: BTreeMap<PackId, Vec<PackedBlob>>,
}

impl Inventory {
    /// Reads the header of each pack, and all index files.
    ///
    /// # Errors
    /// `Corrupt` if one of them is not whole.
    pub async fn read(repository: &Repository) -> Result<Self> {
        let packs = repository.destination().list(&packs_prefix()?);
        let packs: Vec<ObjectMeta> = packs.try_collect().await?;
        let mut inventory = Self { packs: BTreeMap::new(), indexed: BTreeMap::new() };
        for pack in packs {
            let id = id_of_name(pack.key.name()).map(PackId::from_bytes);
            let id = id.ok_or_else(|| Error::corrupt(&pack.key, "no name of a pack"))?;
            let blobs = read_header(repository, &id, pack.size_bytes).await?;
            inventory.packs.insert(id, blobs);
        }
        for id in repository.list(FileKind::Index).await? {
            let json = repository.load(FileKind::Index, &id).await?;
            index_file::decode(&json, |pack| {
                inventory.indexed.insert(pack.id, pack.blobs);
                Ok(())
            })?;
        }
        Ok(inventory)
    }

    /// How many packs there are.
    pub fn packs(&self) -> usize {
        self.packs.len()
    }

    /// Packs that no index names.
    pub fn unindexed(&self) -> Vec<PackId> {
        let unindexed = |id: &&PackId| !self.indexed.contains_key(id);
        self.packs.keys().filter(unindexed).copied().collect()
    }

    /// Blobs that are stored more than once.
    pub fn repeated(&self) -> Vec<BlobId> {
        let mut seen = BTreeSet::new();
        let blobs = self.packs.values().flatten();
        let again = blobs.filter(|blob| !seen.insert((blob.kind == BlobKind::Data, blob.id)));
        again.map(|blob| blob.id).collect()
    }

    /// Reads all that the snapshots name, checkpoints included, as the index says where it is.
    ///
    /// # Errors
    /// `Corrupt` naming what is missing or is not what its id says.
    pub async fn prove_whole(&self, repository: &Repository) -> Result<()> {
        let mut index = BTreeMap::new();
        for (pack, blobs) in &self.indexed {
            if self.packs.get(pack).is_some_and(|there| !same(there, blobs)) {
                return Err(Error::corrupt(format!("pack {pack}"), "the index has it otherwise"));
            }
            for blob in blobs {
                index.insert((blob.kind == BlobKind::Data, blob.id), (*pack, *blob));
            }
        }
        let mut seen = HashSet::new();
        for (id, snapshot) in repository.snapshots().await? {
            let mut waiting = vec![(BlobKind::Tree, snapshot.tree)];
            while let Some((kind, blob)) = waiting.pop() {
                if !seen.insert((kind == BlobKind::Data, blob)) {
                    continue;
                }
                let missing =
                    || Error::corrupt(format!("snapshot {id}"), format!("{blob} is missing"));
                let (pack, packed) =
                    index.get(&(kind == BlobKind::Data, blob)).ok_or_else(missing)?;
                let plain = read(repository, pack, packed).await?;
                if kind == BlobKind::Tree {
                    for node in decode_tree(&plain)? {
                        let content = node.content.iter().flat_map(|content| content.iter());
                        waiting.extend(content.map(|id| (BlobKind::Data, *id)));
                        waiting.extend(node.subtree.map(|id| (BlobKind::Tree, id)));
                    }
                }
            }
        }
        Ok(())
    }
}

fn same(header: &[PackedBlob], index: &[PackedBlob]) -> bool {
    let sorted = |blobs: &[PackedBlob]| {
        let mut blobs = blobs.to_vec();
        blobs.sort_by_key(|blob| blob.offset);
        blobs
    };
    sorted(header) == sorted(index)
}

async fn read(repository: &Repository, pack: &PackId, blob: &PackedBlob) -> Result<Vec<u8>> {
    let location = BlobLocation {
        pack: *pack,
        offset: blob.offset,
        sealed_bytes: blob.sealed_bytes,
        plain_bytes: blob.plain_bytes,
    };
    let range = u64::from(blob.offset)..blob.end();
    let sealed = repository.destination().get(&pack_key(pack)?, Some(range)).await?;
    let stored = StoredBlob { kind: blob.kind, id: blob.id, location };
    stored.open(repository.key(), &mut Decompressor::new()?, &sealed)
}

async fn read_header(repository: &Repository, id: &PackId, bytes: u64) -> Result<Vec<PackedBlob>> {
    let short = || Error::new(ErrorKind::Corrupt, format!("pack {id} is too short"));
    let key = pack_key(id)?;
    let trailer_at = bytes.checked_sub(TRAILER_BYTES as u64).ok_or_else(short)?;
    let destination = repository.destination();
    let trailer = destination.get(&key, Some(trailer_at..bytes)).await?;
    let trailer: [u8; TRAILER_BYTES] = trailer[..].try_into().map_err(|_| short())?;
    let length = u64::from(parse_trailer(trailer, bytes)?);
    let start = trailer_at.checked_sub(length).ok_or_else(short)?;
    let sealed = destination.get(&key, Some(start..trailer_at)).await?;
    let plain = repository.key().open(&sealed);
    parse_header(&plain.map_err(|error| Error::corrupt(format!("pack {id}"), error))?)
}
