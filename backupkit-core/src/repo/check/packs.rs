//! Index files, and whether the packs that they name are there.

use std::collections::HashMap;

use futures::{StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};

use super::findings::Findings;
use super::{CheckRun, ReadData};
use crate::error::Result;
use crate::model::PackId;
use crate::repo::fetch::is_of_stored_bytes;
use crate::repo::index::{Index, IndexBuilder, Pushed};
use crate::repo::index_file::IndexedPack;
use crate::repo::layout::{id_of_name, pack_key, packs_prefix};
use crate::repo::load_index::{concurrency, list_index_files, read_index_file};
use crate::repo::pack_header::{BlobKind, PackedBlob, pack_bytes};

/// What all index files together say.
pub(super) struct IndexedPacks {
    pub(super) index: Index,
    pub(super) packs: HashMap<PackId, PackFacts>,
}

/// What the index says of one pack, in few bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackFacts {
    /// How long the file must be.
    pub(super) bytes: u64,
    /// A hash over its blobs, to compare with its header.
    pub(super) blobs_hash: [u8; 32],
    blobs: usize,
    is_there: bool,
    /// Whether its bytes are to be read.
    pub(super) read: bool,
}

/// Reads all index files.
pub(super) async fn load(run: &CheckRun, findings: &Findings) -> Result<IndexedPacks> {
    let files = list_index_files(&run.repository).await?;
    let mut loading = Loading::default();
    let mut decoded = futures::stream::iter(files)
        .map(|(id, bytes)| async move {
            (id, read_index_file(&run.repository, &run.pool, id, bytes).await)
        })
        .buffer_unordered(concurrency(&run.repository));
    while let Some((id, packs)) = decoded.next().await {
        match packs {
            Ok(packs) => {
                let findings = findings.clone();
                let add = move |_: &mut _| {
                    loading.add(packs, &findings)?;
                    Ok(loading)
                };
                loading = run.pool.run(add).await?;
            }
            Err(error) if is_of_stored_bytes(&error) => {
                findings.add(format!("index {id}"), &error, None);
            }
            Err(error) => return Err(error),
        }
    }
    let Loading { builder, packs, repeated, mixed } = loading;
    let index = run.pool.run(move |_| Ok(builder.build())).await?;
    let notes = [
        (index.duplicates(), "blobs are stored more than once; prune removes the copies"),
        (repeated, "packs are named by several index files; prune joins them"),
        (mixed, "packs hold both trees and data, as old programs made them; prune splits them"),
    ];
    for (count, text) in notes.into_iter().filter(|(count, _)| *count > 0) {
        findings.note(format!("{count} {text}"));
    }
    Ok(IndexedPacks { index, packs })
}

#[derive(Default)]
struct Loading {
    builder: IndexBuilder,
    packs: HashMap<PackId, PackFacts>,
    repeated: u64,
    mixed: u64,
}

impl Loading {
    fn add(&mut self, packs: Vec<IndexedPack>, findings: &Findings) -> Result<()> {
        for mut pack in packs {
            let object = || format!("pack {}", pack.id);
            match self.builder.push(&pack)? {
                Pushed::New => {}
                Pushed::Repeated => {
                    self.repeated += 1;
                    continue;
                }
                Pushed::Differs => {
                    findings.add(object(), &"index files name different blobs in it", None);
                    continue;
                }
            }
            pack.blobs.sort_unstable_by_key(|blob| blob.offset);
            if pack.blobs.is_empty() {
                findings.add(object(), &"its index names no blobs in it", None);
            }
            let mut end = 0;
            let is_contiguous = pack.blobs.iter().all(|blob| {
                let follows = u64::from(blob.offset) == end;
                end = blob.end();
                follows
            });
            if !is_contiguous {
                let problem = "its blobs do not follow each other, as its index has them";
                findings.add(object(), &problem, None);
            }
            let kind = pack.blobs.first().map(|blob| blob.kind);
            self.mixed += u64::from(pack.blobs.iter().any(|blob| Some(blob.kind) != kind));
            let facts = PackFacts {
                bytes: pack_bytes(&pack.blobs),
                blobs_hash: hash_blobs(&pack.blobs),
                blobs: pack.blobs.len(),
                is_there: false,
                read: false,
            };
            self.packs.insert(pack.id, facts);
        }
        Ok(())
    }
}

/// A hash over blobs, which must be sorted by offset.
pub(super) fn hash_blobs(blobs: &[PackedBlob]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for blob in blobs {
        hasher.update(blob.id.as_bytes());
        hasher.update([u8::from(blob.kind == BlobKind::Tree)]);
        for number in [blob.offset, blob.sealed_bytes, blob.plain_bytes.unwrap_or_default()] {
            hasher.update(number.to_le_bytes());
        }
    }
    hasher.finalize().into()
}

/// Lists the packs and compares them with the index. Chooses those to read.
pub(super) async fn compare_with_files(
    run: &CheckRun,
    findings: &Findings,
    mut packs: HashMap<PackId, PackFacts>,
    read_data: ReadData,
) -> Result<HashMap<PackId, PackFacts>> {
    let mut files = run.repository.destination().list(&packs_prefix()?);
    let (mut orphans, mut orphan_bytes) = (0_u64, 0_u64);
    while let Some(file) = files.try_next().await? {
        let Some(id) = id_of_name(file.key.name()).map(PackId::from_bytes) else {
            continue;
        };
        // Nobody looks for a pack elsewhere.
        if file.key != pack_key(&id)? {
            continue;
        }
        let Some(facts) = packs.get_mut(&id) else {
            orphans += 1;
            orphan_bytes = orphan_bytes.saturating_add(file.size_bytes);
            continue;
        };
        facts.is_there = true;
        facts.read = read_data.includes(&id);
        if file.size_bytes != facts.bytes {
            let (is, should) = (file.size_bytes, facts.bytes);
            let problem = format!("it has {is} bytes, but by its index it must have {should}");
            findings.add(format!("pack {id}"), &problem, None);
            // What can be read of it is read by its real length.
            facts.bytes = file.size_bytes;
        }
        if facts.read {
            run.counters.add_listed(1);
            run.counters.add_listed_bytes(facts.bytes);
        }
    }
    let mut missing: Vec<_> = packs.iter().filter(|(_, facts)| !facts.is_there).collect();
    missing.sort_unstable_by_key(|(id, _)| **id);
    for (id, facts) in missing {
        let problem = format!("it is missing, and with it {} blobs", facts.blobs);
        findings.add(format!("pack {id}"), &problem, None);
    }
    if orphans > 0 {
        findings.note(format!(
            "{orphans} packs of {orphan_bytes} bytes are in no index: a backup is under way or was \
             interrupted; prune removes them"
        ));
    }
    Ok(packs)
}
