//! Removing files of a repository, with a look at the guard before each batch.

use std::collections::HashSet;

use super::Maintenance;
use crate::error::Result;
use crate::pipeline::guard::Guard;
use crate::repo::layout::FileKind;
use crate::repo::repository::Repository;

impl Maintenance<'_> {
    /// Removes files, and returns those that are gone. The others are one warning.
    pub(super) async fn remove_files(
        &self,
        repository: &Repository,
        kind: FileKind,
        ids: &[[u8; 32]],
        guard: &Guard,
    ) -> Result<HashSet<[u8; 32]>> {
        let (mut removed, mut refused) = (HashSet::new(), Vec::new());
        for batch in ids.chunks(repository.removed_at_once()) {
            guard.check().await?;
            removed.extend(batch);
            refused.extend(repository.delete_many(kind, batch).await?);
        }
        for (id, _) in &refused {
            removed.remove(id);
        }
        let count = refused.len();
        if let Some((_, error)) = refused.into_iter().next() {
            let (of, noun, place) = (ids.len(), kind.noun(), repository.location());
            self.warn(format!("remove {count} of {of} {noun} files in {place}"), error)?;
        }
        Ok(removed)
    }
}
