//! Deleting many objects.

use futures::StreamExt as _;
use futures::stream;

use super::{Destination, ObjectKey};
use crate::error::{Error, ErrorKind, Result};

/// An object that was not deleted, and why.
#[derive(Debug)]
pub struct Undeleted {
    /// Its key.
    pub key: ObjectKey,
    /// Why it stays.
    pub error: Error,
}

/// Deletes one object after the other, as many at the same time as the destination works best with.
///
/// # Errors
/// As for [`Destination::delete_many`].
pub(crate) async fn delete_singly<D: Destination + ?Sized>(
    destination: &D,
    keys: &[ObjectKey],
) -> Result<Vec<Undeleted>> {
    let concurrency = destination.capabilities().concurrency.max(1);
    let mut deleting = stream::iter(keys.to_vec())
        .map(|key| async move {
            let deleted = destination.delete(&key).await;
            (key, deleted)
        })
        .buffer_unordered(concurrency);
    let mut undeleted = Vec::new();
    while let Some((key, deleted)) = deleting.next().await {
        note_deleted(key, deleted, &mut undeleted)?;
    }
    Ok(undeleted)
}

/// Tells what is refused for one object from what says the same of all others.
pub(crate) fn note_deleted(
    key: ObjectKey,
    deleted: Result<()>,
    undeleted: &mut Vec<Undeleted>,
) -> Result<()> {
    use ErrorKind::{Conflict, Locked, PermissionDenied, Unsupported};
    match deleted {
        Err(error)
            if matches!(error.kind(), Conflict | Locked | PermissionDenied | Unsupported) =>
        {
            undeleted.push(Undeleted { key, error });
            Ok(())
        }
        deleted => deleted,
    }
}
