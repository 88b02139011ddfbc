//! Packs that a crashed run stored without an index are found and used again.

use std::collections::HashSet;

use futures::{StreamExt as _, TryStreamExt as _};

use crate::destination::ObjectMeta;
use crate::error::{ErrorKind, Result};
use crate::model::PackId;
use crate::repo::index::Index;
use crate::repo::index_file::IndexedPack;
use crate::repo::layout::{id_of_name, pack_key, packs_prefix};
use crate::repo::pack_header::{TRAILER_BYTES, parse_header, parse_trailer};
use crate::repo::repository::Repository;

/// Reads the headers of all packs that no index names.
pub(super) async fn find_unindexed(
    repository: &Repository,
    index: &Index,
) -> Result<Vec<IndexedPack>> {
    let known: HashSet<PackId> = index.packs().iter().copied().collect();
    let packs: Vec<(PackId, u64)> = repository
        .destination()
        .list(&packs_prefix()?)
        .try_filter_map(|ObjectMeta { key, size_bytes }| {
            let id = id_of_name(key.name()).map(PackId::from_bytes);
            let unknown = id.filter(|id| !known.contains(id));
            async move { Ok(unknown.map(|id| (id, size_bytes))) }
        })
        .try_collect()
        .await?;
    read_headers(repository, packs).await
}

/// Reads the headers of packs that a journal names. Packs that are gone are left out.
pub(super) async fn find_recorded(
    repository: &Repository,
    index: &Index,
    recorded: Vec<PackId>,
) -> Result<Vec<IndexedPack>> {
    let known: HashSet<PackId> = index.packs().iter().copied().collect();
    let mut packs = Vec::new();
    for id in recorded {
        if known.contains(&id) {
            continue;
        }
        match repository.destination().stat(&pack_key(&id)?).await {
            Ok(meta) => packs.push((id, meta.size_bytes)),
            Err(error) if error.is(ErrorKind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    read_headers(repository, packs).await
}

async fn read_headers(
    repository: &Repository,
    packs: Vec<(PackId, u64)>,
) -> Result<Vec<IndexedPack>> {
    let concurrency = repository.destination().capabilities().concurrency.max(1);
    futures::stream::iter(packs)
        .map(|(id, size)| async move {
            match read_header(repository, id, size).await {
                Ok(pack) => Ok(Some(pack)),
                // Not of a run of ours, or damaged: nothing refers to it, so it only takes room.
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        })
        .buffer_unordered(concurrency)
        .try_filter_map(|pack| async move { Ok(pack) })
        .try_collect()
        .await
}

async fn read_header(repository: &Repository, id: PackId, size: u64) -> Result<IndexedPack> {
    use crate::error::Error;
    let damaged = |why: &dyn std::fmt::Display| Error::corrupt(format!("pack {id}"), why);
    let key = pack_key(&id)?;
    let trailer_at = size
        .checked_sub(TRAILER_BYTES as u64)
        .ok_or_else(|| damaged(&"it is shorter than any pack"))?;
    let trailer = repository.destination().get(&key, Some(trailer_at..size)).await?;
    let trailer: [u8; TRAILER_BYTES] =
        trailer[..].try_into().map_err(|_| damaged(&"its end is missing"))?;
    let length = u64::from(parse_trailer(trailer, size)?);
    let start = trailer_at.checked_sub(length).ok_or_else(|| damaged(&"its header is too long"))?;
    let sealed = repository.destination().get(&key, Some(start..trailer_at)).await?;
    let plain = repository.key().open(&sealed).map_err(|error| damaged(&error))?;
    let blobs = parse_header(&plain)?;
    if blobs.last().is_none_or(|blob| blob.end() != start) {
        return Err(damaged(&"its header does not fit its blobs"));
    }
    Ok(IndexedPack { id, blobs })
}
