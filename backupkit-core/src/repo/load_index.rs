//! Loading the index of a repository.

use std::collections::BTreeMap;
use std::path::Path;

use futures::{StreamExt as _, TryStreamExt as _};

use super::index::{Index, IndexBuilder};
use super::index_cache::{CacheWriter, CachedIndex, IndexCache};
use super::index_file::{self, IndexedPack};
use super::layout::{FileKind, id_of_name};
use super::repository::Repository;
use crate::error::{Error, ErrorKind, Result};
use crate::model::IndexId;
use crate::pool::Pool;

/// Index files read at the same time. Each may hold 10 MB of JSON while it is decoded.
const MAX_CONCURRENCY: usize = 8;
/// A prune in another process replaces index files; then the listing is taken again so often.
const ATTEMPTS: usize = 3;
/// The cache is written anew once this many index files are not in it, or one eighth of its size.
const MAX_UNCACHED_FILES: usize = 8;

/// The index of a repository.
#[derive(Debug)]
pub(crate) struct LoadedIndex {
    pub(crate) index: Index,
    /// The files that it was loaded from.
    pub(crate) files: Vec<IndexId>,
}

/// Loads all index files. With a cache folder, those that were loaded before come from there.
///
/// # Errors
/// `Corrupt` naming the index file that is damaged.
pub(crate) async fn load_index(
    repository: &Repository,
    pool: &Pool,
    cache_folder: Option<&Path>,
) -> Result<LoadedIndex> {
    let cache = cache_folder.map(|folder| IndexCache::new(folder, repository.id()));
    let mut attempt = 1;
    loop {
        match load_listed(repository, pool, cache.as_ref()).await {
            Err(error) if error.is(ErrorKind::NotFound) && attempt < ATTEMPTS => attempt += 1,
            result => return result,
        }
    }
}

async fn load_listed(
    repository: &Repository,
    pool: &Pool,
    cache: Option<&IndexCache>,
) -> Result<LoadedIndex> {
    let files = list_index_files(repository).await?;
    let cached = match cache.cloned() {
        Some(cache) => {
            let existing = files.keys().copied().collect();
            pool.run(move |_| Ok(cache.load(&existing))).await?
        }
        None => None,
    };
    let missing: Vec<(IndexId, u64)> = files
        .iter()
        .filter(|(id, _)| cached.as_ref().is_none_or(|cached| !cached.contains(id)))
        .map(|(id, size_bytes)| (*id, *size_bytes))
        .collect();
    let rewrite = cache.filter(|_| is_worth_writing(&missing, cached.as_ref()));
    let writer = match rewrite {
        Some(cache) => {
            let suffix = hex::encode(repository.env().random::<8>()?);
            cache.writer(&suffix)
        }
        None => None,
    };
    let mut loading = match cached {
        Some(cached) => pool.run(move |_| Ok(Loading::continue_from(cached, writer))).await?,
        None => Loading { builder: IndexBuilder::new(), writer },
    };
    let mut decoded = futures::stream::iter(missing)
        .map(|(id, size_bytes)| read_index_file(repository, pool, id, size_bytes))
        .buffer_unordered(concurrency(repository));
    while let Some(packs) = decoded.try_next().await? {
        loading = pool
            .run(move |_| {
                loading.add(&packs)?;
                Ok(loading)
            })
            .await?;
    }
    drop(decoded);
    let files: Vec<IndexId> = files.into_keys().collect();
    pool.run(move |_| {
        if let Some(writer) = loading.writer {
            writer.finish(&files);
        }
        Ok(LoadedIndex { index: loading.builder.build(), files })
    })
    .await
}

/// What has been loaded so far.
struct Loading {
    builder: IndexBuilder,
    writer: Option<CacheWriter>,
}

impl Loading {
    fn continue_from(cached: CachedIndex, writer: Option<CacheWriter>) -> Self {
        let writer = writer.and_then(|writer| writer.copy(&cached));
        Self { builder: cached.into_builder(), writer }
    }

    fn add(&mut self, packs: &[IndexedPack]) -> Result<()> {
        for pack in packs {
            self.builder.push(pack)?;
        }
        self.writer = self.writer.take().and_then(|writer| writer.push(packs));
        Ok(())
    }
}

fn is_worth_writing(missing: &[(IndexId, u64)], cached: Option<&CachedIndex>) -> bool {
    let Some(cached) = cached else {
        return !missing.is_empty();
    };
    let missing_bytes: u64 = missing.iter().map(|(_, size_bytes)| size_bytes).sum();
    missing.len() >= MAX_UNCACHED_FILES
        || (!missing.is_empty() && missing_bytes >= cached.size_bytes() / 8)
}

/// Returns the index files with their sizes.
pub(crate) async fn list_index_files(repository: &Repository) -> Result<BTreeMap<IndexId, u64>> {
    let files = repository.destination().list(&FileKind::Index.prefix()?);
    files
        .try_filter_map(|object| async move {
            let id = id_of_name(object.key.name()).map(IndexId::from_bytes);
            Ok(id.map(|id| (id, object.size_bytes)))
        })
        .try_collect()
        .await
}

/// How many index files to read at the same time.
pub(crate) fn concurrency(repository: &Repository) -> usize {
    repository.destination().capabilities().concurrency.clamp(1, MAX_CONCURRENCY)
}

/// Reads one index file.
///
/// # Errors
/// `Corrupt` naming the file; `NotFound` if it is gone.
pub(crate) async fn read_index_file(
    repository: &Repository,
    pool: &Pool,
    id: IndexId,
    size_bytes: u64,
) -> Result<Vec<IndexedPack>> {
    let named = move |error: Error| error.while_doing(format!("load index {id}"));
    if size_bytes > FileKind::Index.max_bytes() {
        let detail = format!("{size_bytes} bytes are more than such a file has");
        return Err(Error::corrupt(format!("index {id}"), detail));
    }
    let key = FileKind::Index.key(id.as_bytes())?;
    let sealed = repository.destination().get(&key, None).await.map_err(named)?;
    let repository = repository.clone();
    pool.run(move |_| {
        let json = repository.open_sealed(FileKind::Index, id.as_bytes(), &sealed)?;
        drop(sealed);
        let mut packs = Vec::new();
        index_file::decode(&json, |pack| {
            packs.push(pack);
            Ok(())
        })
        .map_err(named)?;
        Ok(packs)
    })
    .await
}
