//! Tries a bucket that is to be backed up, step by step.

use super::super::bucket::{Page, PagedKey, Wanted};
use super::S3Source;
use crate::probe::{Probe, Probing};

const LIST: &str = "reach the server and list the bucket";
const READ: &str = "read a byte of the first object";
const TAGS: &str = "read its tags";
const ACCESS_LIST: &str = "read its access list";

pub(super) async fn probe(source: &S3Source) -> Probe {
    // Somebody waits for the result.
    let bucket = source.bucket.impatient(&source.env);
    let mut probing = Probing::new(&source.env);
    let options = &source.options;
    let needs_tags = options.tags || options.filter.asks_for_tags();
    let hint = "check the address of the server, the bucket, the region and the key";
    let listed = probing.step_async(LIST, hint, bucket.list_page("", None, Some(1))).await;
    let key = match listed {
        None => Err("the bucket cannot be reached"),
        Some(Page { mut keys, .. }) => keys.pop().ok_or("there is no object"),
    };
    match key {
        Err(why) => {
            probing.skip(READ, why);
            if needs_tags {
                probing.skip(TAGS, why);
            }
            if options.acls {
                probing.skip(ACCESS_LIST, why);
            }
        }
        Ok(PagedKey { key, len_bytes, .. }) => {
            let key = bucket.full_key(&key);
            let wanted =
                if len_bytes == 0 { Wanted::Whole { most: 0 } } else { Wanted::Range(0..1) };
            let hint = "let this key read objects: s3:GetObject";
            probing.step_async(READ, hint, bucket.read_version(&key, None, &wanted)).await;
            if needs_tags {
                let hint = "let this key do s3:GetObjectTagging, or do not ask for tags";
                probing.step_async(TAGS, hint, bucket.tags(&key)).await;
            }
            if options.acls {
                let hint = "let this key do s3:GetObjectAcl, or do not ask for access lists";
                probing.step_async(ACCESS_LIST, hint, bucket.access_list(&key)).await;
            }
        }
    }
    probing.finish()
}
