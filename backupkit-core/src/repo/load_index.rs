//! Stub until merged.
use super::index::{Index, IndexBuilder};
use super::index_file;
use super::layout::FileKind;
use super::repository::Repository;
use crate::error::Result;
use crate::pipeline::pool::Pool;
use std::path::Path;
#[derive(Debug)]
pub(crate) struct LoadedIndex {
    pub(crate) index: Index,
}
pub(crate) async fn load_index(
    r: &Repository,
    _pool: &Pool,
    _cache: Option<&Path>,
) -> Result<LoadedIndex> {
    let mut b = IndexBuilder::default();
    for id in r.list(FileKind::Index).await? {
        let json = r.load(FileKind::Index, &id).await?;
        index_file::decode(&json, |p| {
            let _x = b.push(&p);
            Ok(())
        })?;
    }
    Ok(LoadedIndex { index: b.build() })
}
