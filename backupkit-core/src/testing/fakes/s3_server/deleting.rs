//! Deletes of many objects.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::bucket::Bucket;
use super::faults::{FaultScript, S3Effect, S3Operation};
use super::reply::{Reply, elements, escape};
use super::request::Request;

const MOST_KEYS: usize = 1_000;
/// One of these must say what the body is.
pub(super) const CHECKSUMS: [&str; 6] = [
    "content-md5",
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
];

/// Deletes what a document names. A refusal of [`S3Operation::DeleteObject`] for a key concerns it here,
/// too.
pub(super) fn delete_many(
    bucket: &mut Bucket,
    request: &Request,
    faults: &FaultScript,
    now: Timestamp,
) -> Reply {
    if !CHECKSUMS.iter().any(|name| request.header(name).is_some()) {
        return Reply::error(400, "InvalidRequest");
    }
    let text = request.text();
    let keys = elements(&text, "Key");
    let is_legal = |one: char| !one.is_control() || matches!(one, '\t' | '\n' | '\r');
    if keys.len() > MOST_KEYS || !text.chars().all(is_legal) {
        return Reply::error(400, "MalformedXML");
    }
    let is_quiet = elements(&text, "Quiet").iter().any(|quiet| quiet == "true");
    let mut content = String::new();
    for key in keys {
        let name = escape(&key);
        let effect = faults.next_of_key(S3Operation::DeleteObject, &key);
        if let Some(S3Effect::Refuse { code, .. }) = effect {
            _ = write!(
                content,
                "<Error><Key>{name}</Key><Code>{code}</Code>\
                 <Message>The fake says {code}.</Message></Error>"
            );
            continue;
        }
        bucket.remove(&key, now);
        if !is_quiet {
            _ = write!(content, "<Deleted><Key>{name}</Key></Deleted>");
        }
    }
    Reply::xml("DeleteResult", &content)
}
