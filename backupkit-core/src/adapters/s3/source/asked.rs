//! What is known of objects only by requests of its own, if that is wanted.

use std::sync::atomic::{AtomicBool, Ordering};

use super::super::bucket::Version;
use super::super::object::{ObjectRecord, parts_of};
use super::Shared;
use crate::error::{Error, ErrorKind, Result};

/// What is asked for besides the objects themselves: wanted, and as far as is known to be had.
#[derive(Debug)]
pub(super) struct Asked {
    tags: AtomicBool,
    access_lists: AtomicBool,
}

impl Asked {
    pub(super) fn new(tags: bool, access_lists: bool) -> Self {
        Self { tags: AtomicBool::new(tags), access_lists: AtomicBool::new(access_lists) }
    }
}

/// Adds to what is known of an object whatever else is wanted.
pub(super) async fn complete(
    shared: &Shared,
    key: &str,
    mut record: ObjectRecord,
) -> Result<ObjectRecord> {
    add_tags(shared, key, &mut record).await?;
    add_access_list(shared, key, &mut record).await?;
    if record.is_incomplete {
        shared.notes.incomplete(key);
    }
    Ok(record)
}

/// Adds how large the parts of an object are that was written in parts: with the same ones its entity tag
/// is the same again. Nothing is added that does not fit its length.
pub(super) async fn add_parts(
    shared: &Shared,
    key: &str,
    version: &Version,
    record: &mut ObjectRecord,
) {
    let Some(etag) = &version.etag else { return };
    let Some(count) = parts_of(etag) else { return };
    let first = shared.bucket.first_part_bytes(key, etag).await;
    record.part_bytes =
        first.filter(|bytes| *bytes > 0 && version.len_bytes.div_ceil(*bytes) == count);
}

async fn add_tags(shared: &Shared, key: &str, record: &mut ObjectRecord) -> Result<()> {
    if !shared.asked.tags.load(Ordering::Relaxed) {
        return Ok(());
    }
    match shared.bucket.tags(key).await {
        Ok(tags) => record.tags = Some(tags).filter(|tags| !tags.is_empty()),
        // The bytes that were read are still those of a version.
        Err(error) if error.is(ErrorKind::NotFound) => {}
        Err(error) => {
            let hint = "let this key do s3:GetObjectTagging, or do not ask for tags";
            shared.notes.no_tags(why_not(error, hint, "this server has none")?);
            shared.asked.tags.store(false, Ordering::Relaxed);
        }
    }
    Ok(())
}

async fn add_access_list(shared: &Shared, key: &str, record: &mut ObjectRecord) -> Result<()> {
    if !shared.asked.access_lists.load(Ordering::Relaxed) {
        return Ok(());
    }
    match shared.bucket.access_list(key).await {
        Ok((list, is_whole)) => {
            record.is_incomplete |= !is_whole;
            record.acl = Some(list).filter(|list| !list.is_usual());
        }
        Err(error) if error.is(ErrorKind::NotFound) => {}
        Err(error) => {
            let hint = "let this key do s3:GetObjectAcl, or do not ask for access lists";
            shared.notes.no_access_lists(why_not(error, hint, "this bucket has none")?);
            shared.asked.access_lists.store(false, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Why no other object need be asked about.
///
/// # Errors
/// The error, if it says nothing of others.
fn why_not(error: Error, denied: &'static str, unsupported: &'static str) -> Result<&'static str> {
    match error.kind() {
        ErrorKind::PermissionDenied => Ok(denied),
        ErrorKind::Unsupported => Ok(unsupported),
        _ => Err(error),
    }
}
