//! Deleting many objects: with few requests where the server and the keys allow it.

use std::sync::atomic::Ordering;

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{CONCURRENCY, S3Destination};
use crate::adapters::s3::bucket::MOST_DELETED;
use crate::adapters::s3::errors::{NOT_IMPLEMENTED, REFUSED};
use crate::destination::{ObjectKey, Undeleted, note_deleted};
use crate::error::{ErrorKind, Result};

/// So many requests of many keys are under way.
const BATCHES_AT_ONCE: usize = 4;

impl S3Destination {
    /// Deletes objects.
    ///
    /// # Errors
    /// As for [`delete_many`](crate::destination::Destination::delete_many).
    pub(super) async fn delete_objects(&self, keys: &[ObjectKey]) -> Result<Vec<Undeleted>> {
        // The prefix is all of a key that may have such characters.
        if keys.len() == 1 || !fits_into_xml(&self.bucket.full_key("")) {
            return self.delete_singly(keys).await;
        }
        let batches: Vec<Vec<ObjectKey>> = keys.chunks(MOST_DELETED).map(<[_]>::to_vec).collect();
        let undeleted: Vec<Vec<Undeleted>> = stream::iter(batches)
            .map(|batch| async move { self.delete_batch(&batch).await })
            .buffer_unordered(BATCHES_AT_ONCE)
            .try_collect()
            .await?;
        Ok(undeleted.into_iter().flatten().collect())
    }

    async fn delete_batch(&self, keys: &[ObjectKey]) -> Result<Vec<Undeleted>> {
        if self.deletes_singly.load(Ordering::Relaxed) {
            return self.delete_singly(keys).await;
        }
        let names: Vec<&str> = keys.iter().map(ObjectKey::as_str).collect();
        match self.bucket.delete_batch(&names).await {
            // It knows no such request, or wants it signed in a way of before.
            Err(error) if [NOT_IMPLEMENTED, REFUSED].contains(&error.code()) => {
                self.deletes_singly.store(true, Ordering::Relaxed);
                self.delete_singly(keys).await
            }
            // Keys of some servers may delete objects, but not several at once.
            Err(error) if error.is(ErrorKind::PermissionDenied) => {
                let (first, others) = keys.split_at(1.min(keys.len()));
                if !self.delete_singly(first).await?.is_empty() {
                    return Err(error);
                }
                self.deletes_singly.store(true, Ordering::Relaxed);
                self.delete_singly(others).await
            }
            Err(error) => Err(error),
            Ok(refused) => {
                let told = refused.into_iter().filter_map(|(place, error)| {
                    keys.get(place).map(|key| Undeleted { key: key.clone(), error })
                });
                Ok(told.collect())
            }
        }
    }

    async fn delete_singly(&self, keys: &[ObjectKey]) -> Result<Vec<Undeleted>> {
        let mut deleting = stream::iter(keys.to_vec())
            .map(|key| async move {
                let deleted = self.bucket.delete(key.as_str()).await;
                (key, deleted)
            })
            .buffer_unordered(CONCURRENCY);
        let mut undeleted = Vec::new();
        while let Some((key, deleted)) = deleting.next().await {
            match deleted {
                // Some servers refuse so what is retained.
                Err(error) if error.code() == REFUSED => undeleted.push(Undeleted { key, error }),
                deleted => note_deleted(key, deleted, &mut undeleted)?,
            }
        }
        Ok(undeleted)
    }
}

/// Whether all characters of a key stay what they are in XML 1.0.
fn fits_into_xml(key: &str) -> bool {
    !key.chars().any(|one| one.is_control() || matches!(one, '\u{fffe}' | '\u{ffff}'))
}
