//! Tries a bucket that is to be backed up, step by step.

use super::super::bucket::{Bucket, Page, PagedVersion, Wanted};
use super::S3Source;
use super::found::ListedObject;
use super::moment::{Reason, require_versions};
use super::pages::versions_page;
use crate::error::{ErrorKind, Result};
use crate::probe::{Probe, Probing};

const LIST: &str = "reach the server and list the bucket";
const KEEPS_VERSIONS: &str = "see that the bucket keeps versions";
const VERSIONS: &str = "list versions of objects";
const READ: &str = "read a byte of the first object";
const TAGS: &str = "read its tags";
const ACCESS_LIST: &str = "read its access list";
const READ_VERSION: &str = "read a byte of a version";

pub(super) async fn probe(source: &S3Source) -> Probe {
    // Somebody waits for the result.
    let bucket = source.bucket.impatient(&source.env);
    let mut probing = Probing::new(&source.env);
    let options = &source.options;
    let needs_tags = options.tags || options.filter.asks_for_tags();
    let hint = "check the address of the server, the bucket, the region and the key";
    let listed = probing.step_async(LIST, hint, bucket.list_page("", None, Some(1))).await;
    let is_reached = listed.is_some();
    let found = match listed {
        None => Err("the bucket cannot be reached"),
        Some(_) if options.consistent_at.is_some() => {
            first_version(&bucket, &mut probing, Reason::ConsistentAt).await
        }
        Some(Page { mut keys, .. }) => keys.pop().ok_or("there is no object").map(|listed| {
            let key = bucket.full_key(&listed.key);
            let (len_bytes, etag, modified) = (listed.len_bytes, listed.etag, 0);
            ListedObject { key, len_bytes, etag, modified, version: None, past: None }
        }),
    };
    match found {
        Err(why) => {
            probing.skip(READ, why);
            if needs_tags {
                probing.skip(TAGS, why);
            }
            if options.acls {
                probing.skip(ACCESS_LIST, why);
            }
        }
        Ok(object) => {
            let (named, is_empty) = (object.named(), object.len_bytes == 0);
            let wanted = if is_empty { Wanted::Whole { most: 0 } } else { Wanted::Range(0..1) };
            let [read, tags, access_list] = if named.version.is_some() {
                [
                    "let this key read versions of objects: s3:GetObjectVersion",
                    "let this key do s3:GetObjectVersionTagging, or do not ask for tags",
                    "let this key do s3:GetObjectVersionAcl, or do not ask for access lists",
                ]
            } else {
                [
                    "let this key read objects: s3:GetObject",
                    "let this key do s3:GetObjectTagging, or do not ask for tags",
                    "let this key do s3:GetObjectAcl, or do not ask for access lists",
                ]
            };
            let reading = bucket.read_version(named, None, &wanted);
            probing.step_async(READ, read, naming(read, reading)).await;
            if needs_tags {
                probing.step_async(TAGS, tags, naming(tags, bucket.tags(named))).await;
            }
            if options.acls {
                let asking = naming(access_list, bucket.access_list(named));
                probing.step_async(ACCESS_LIST, access_list, asking).await;
            }
        }
    }
    if options.versions && options.consistent_at.is_none() {
        probe_versions(&bucket, &mut probing, is_reached).await;
    }
    probing.finish()
}

/// Tries what older versions need.
async fn probe_versions(bucket: &Bucket, probing: &mut Probing<'_>, is_reached: bool) {
    let found = if is_reached {
        first_version(bucket, probing, Reason::Versions).await
    } else {
        Err("the bucket cannot be reached")
    };
    match found {
        Err(why) => probing.skip(READ_VERSION, why),
        Ok(version) => {
            let (named, is_empty) = (version.named(), version.len_bytes == 0);
            let wanted = if is_empty { Wanted::Whole { most: 0 } } else { Wanted::Range(0..1) };
            let hint = "let this key read versions of objects: s3:GetObjectVersion";
            let reading = naming(hint, bucket.read_version(named, None, &wanted));
            probing.step_async(READ_VERSION, hint, reading).await;
        }
    }
}

/// Names what a key must be allowed, where it is not.
async fn naming<T>(hint: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    work.await.map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => error.with_hint(hint),
        _ => error,
    })
}

/// The first version in the bucket that is no mark of a deletion; why there is none, to try reading with.
async fn first_version(
    bucket: &Bucket,
    probing: &mut Probing<'_>,
    reason: Reason,
) -> Result<ListedObject, &'static str> {
    let hint = reason.keeping_hint();
    let kept = require_versions(bucket, reason);
    let kept = probing.step_async(KEEPS_VERSIONS, &hint, kept).await;
    let why = "versions cannot be listed";
    if kept.is_none() {
        probing.skip(VERSIONS, "no versions are kept");
        return Err(why);
    }
    let listing = versions_page(bucket, "", None, reason);
    let page = probing.step_async(VERSIONS, &reason.listing_hint(), listing).await.ok_or(why)?;
    let first = page.versions.into_iter().find(|version| !version.is_mark());
    let PagedVersion { key, len_bytes, etag, modified, id, .. } =
        first.ok_or("there is no object")?;
    let key = bucket.full_key(&key);
    let (len_bytes, modified) = (len_bytes.unwrap_or_default(), modified.as_second());
    Ok(ListedObject { key, len_bytes, etag, modified, version: id, past: None })
}
