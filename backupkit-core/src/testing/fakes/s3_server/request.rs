//! What a client asks for.

use std::collections::BTreeMap;

use bytes::Bytes;
use hyper::Method;
use hyper::http::request::Parts;

use super::faults::S3Operation;
use super::settings;

/// A request that has arrived whole.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) operation: S3Operation,
    pub(super) bucket: String,
    pub(super) key: Option<String>,
    /// The path as it was sent.
    pub(super) raw_path: String,
    /// Decoded.
    pub(super) query: BTreeMap<String, String>,
    /// Names in lower case. Values that are not text are left out.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Bytes,
}

impl Request {
    pub(super) fn new(parts: &Parts, body: Bytes) -> Self {
        let raw_path = parts.uri.path().to_owned();
        let path = decode(raw_path.strip_prefix('/').unwrap_or(&raw_path), false);
        let (bucket, key) = match path.split_once('/') {
            Some((bucket, key)) => (bucket.to_owned(), Some(key.to_owned())),
            None => (path, None),
        };
        let key = key.filter(|key| !key.is_empty());
        let pairs = parts.uri.query().unwrap_or_default().split('&').filter(|one| !one.is_empty());
        let query: BTreeMap<_, _> = pairs
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(name, true), decode(value, true))
            })
            .collect();
        let text = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let headers: BTreeMap<_, _> = parts.headers.iter().filter_map(text).collect();
        let is_copy = headers.contains_key("x-amz-copy-source");
        let has = |name: &str| query.contains_key(name);
        let operation = match (&parts.method, key.is_some()) {
            (&Method::HEAD, false) => S3Operation::HeadBucket,
            (&Method::GET, false) if has("uploads") => S3Operation::ListUploads,
            (&Method::GET, false) if has("versioning") => S3Operation::GetVersioning,
            (&Method::GET, false) if has("versions") => S3Operation::ListVersions,
            (&Method::GET, false) if has("list-type") => S3Operation::ListObjects,
            (&Method::POST, false) if has("delete") => S3Operation::DeleteObjects,
            (&Method::HEAD, true) => S3Operation::HeadObject,
            (&Method::GET, false) if settings::is_asked_for(has) => S3Operation::GetBucketSetting,
            (&Method::GET, true) if has("acl") => S3Operation::GetAccessList,
            (&Method::GET, true) if has("retention") => S3Operation::GetRetention,
            (&Method::GET, true) if has("legal-hold") => S3Operation::GetLegalHold,
            (&Method::GET, true) if has("tagging") => S3Operation::GetTagging,
            (&Method::GET, true) if has("uploadId") => S3Operation::ListParts,
            (&Method::GET, true) => S3Operation::GetObject,
            (&Method::PUT, true) if has("retention") => S3Operation::PutRetention,
            (&Method::PUT, true) if has("partNumber") => S3Operation::UploadPart,
            (&Method::PUT, true) if is_copy => S3Operation::CopyObject,
            (&Method::PUT, true) if !has("tagging") => S3Operation::PutObject,
            (&Method::POST, true) if has("restore") => S3Operation::RestoreObject,
            (&Method::POST, true) if has("uploads") => S3Operation::CreateUpload,
            (&Method::POST, true) if has("uploadId") => S3Operation::CompleteUpload,
            (&Method::DELETE, true) if has("uploadId") => S3Operation::AbortUpload,
            (&Method::DELETE, true) => S3Operation::DeleteObject,
            _ => S3Operation::Other,
        };
        let method = parts.method.clone();
        Self { method, operation, bucket, key, raw_path, query, headers, body }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// The key; an empty one where there is none.
    pub(super) fn object(&self) -> &str {
        self.key.as_deref().unwrap_or_default()
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first and last byte that `Range` names, of an object of this length; `None` without the
    /// header, an error where the object has no such bytes.
    pub(super) fn range(&self, length: usize) -> Option<Result<(usize, usize), ()>> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        let (first, last) = range.split_once('-')?;
        let bounds = if first.is_empty() {
            let suffix: usize = last.parse().ok()?;
            (length.saturating_sub(suffix), length.saturating_sub(1))
        } else {
            let last = if last.is_empty() { usize::MAX } else { last.parse().ok()? };
            (first.parse().ok()?, last.min(length.saturating_sub(1)))
        };
        Some(if length == 0 || bounds.0 > bounds.1 { Err(()) } else { Ok(bounds) })
    }
}

/// Text without percent encoding. `is_form`: a `+` is a space.
pub(super) fn decode(text: &str, is_form: bool) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let (high, low) = (digit(bytes.next()), digit(bytes.next()));
                let value = high.unwrap_or_default() * 16 + low.unwrap_or_default();
                decoded.push(u8::try_from(value).unwrap_or_default());
            }
            b'+' if is_form => decoded.push(b' '),
            other => decoded.push(other),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
