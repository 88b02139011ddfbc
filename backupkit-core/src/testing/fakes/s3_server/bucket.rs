//! What a bucket holds.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::settings::BucketSetting;
use super::versions::{Version, Versioning};

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Object {
    /// Its bytes.
    pub bytes: Bytes,
    /// The entity tag, in quotes. Not MD5, which nobody may rely on.
    pub etag: String,
    /// When it was made.
    pub modified: Timestamp,
    /// What came with it: content headers, user metadata, storage class, checksums.
    pub headers: BTreeMap<String, String>,
    /// Its tags as they were sent, such as `a=1&b=2`.
    pub tags: String,
    /// Who may do what, by the header that grants it, such as `x-amz-grant-read`. Without any, the owner
    /// may do all.
    pub grants: BTreeMap<String, String>,
    /// How many bytes each part has that it was written in; none if it was written in one go.
    pub parts: Vec<usize>,
}

/// Headers that come back as they were sent.
const KEPT: [&str; 11] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
];

/// The checksum that is kept and compared.
pub(super) const CHECKSUM: &str = "x-amz-checksum-sha256";

/// An upload in parts that is not complete.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) started: Timestamp,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) tags: String,
    pub(super) grants: BTreeMap<String, String>,
    pub(super) parts: BTreeMap<u32, Bytes>,
}

/// A bucket.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    pub(super) objects: BTreeMap<String, S3Object>,
    /// By upload id.
    pub(super) uploads: BTreeMap<String, Upload>,
    /// What was there, of each key the oldest first.
    pub(super) history: BTreeMap<String, Vec<Version>>,
    pub(super) versioning: Versioning,
    /// How many versions were made.
    pub(super) made: u64,
    /// By the parameter that asks for it.
    pub(super) settings: BTreeMap<String, BucketSetting>,
}

impl S3Object {
    pub(super) fn new(bytes: Bytes, modified: Timestamp) -> Self {
        let etag = entity_tag(&bytes);
        let (headers, grants) = (BTreeMap::new(), BTreeMap::new());
        let (tags, parts) = (String::new(), Vec::new());
        Self { bytes, etag, modified, headers, tags, grants, parts }
    }
}

pub(super) fn entity_tag(bytes: &[u8]) -> String {
    format!("\"{}\"", &hex::encode(Sha256::digest(bytes))[..32])
}

/// What of a request's headers stays with the object.
pub(super) fn kept_headers(headers: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_kept = |name: &str| KEPT.contains(&name) || name.starts_with("x-amz-meta-");
    let kept = headers.iter().filter(|(name, _)| is_kept(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What a request's headers grant.
pub(super) fn granted(headers: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let granted = headers.iter().filter(|(name, _)| name.starts_with("x-amz-grant-"));
    granted.map(|(name, value)| (name.clone(), value.clone())).collect()
}
