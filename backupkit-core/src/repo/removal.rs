//! Removing many files of a repository.

use super::layout::{FileKind, id_of_name};
use super::repository::Repository;
use crate::error::{Error, Result};

/// A file that was not removed, and why.
pub(crate) type Unremoved = ([u8; 32], Error);

impl Repository {
    /// How many files are removed at once, so that whoever may remove them is asked in between.
    pub(crate) fn removed_at_once(&self) -> usize {
        let capabilities = self.destination().capabilities();
        capabilities.delete_batch.max(capabilities.concurrency).max(1)
    }

    /// Removes files, and returns those that must stay, each for a reason of its own.
    ///
    /// # Errors
    /// Those that concern all of them. Some may be gone then.
    pub(crate) async fn delete_many(
        &self,
        kind: FileKind,
        ids: &[[u8; 32]],
    ) -> Result<Vec<Unremoved>> {
        let keys = ids.iter().map(|id| kind.key(id)).collect::<Result<Vec<_>>>()?;
        let undeleted = self.destination().delete_many(&keys).await?;
        let named = undeleted.into_iter();
        Ok(named.filter_map(|one| Some((id_of_name(one.key.name())?, one.error))).collect())
    }
}
