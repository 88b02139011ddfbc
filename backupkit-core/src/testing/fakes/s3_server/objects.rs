//! Single objects.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::Method;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use sha2::{Digest, Sha256};

use super::bucket::{Bucket, CHECKSUM, S3Object, granted, kept_headers};
use super::reply::{Reply, elements, escape};
use super::request::{Request, decode};
use super::{AccessLists, ConditionalWrites, ReadVersions, S3ServerOptions, locks};

/// What becomes of an object that was asked for from an archive.
const RESTORE: &str = "x-amz-restore";
/// Classes whose objects cannot be read.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// Why a write is refused, as things stand.
pub(super) fn refuse_write(
    bucket: &Bucket,
    request: &Request,
    options: &S3ServerOptions,
) -> Option<Reply> {
    let (absent, matching) = (request.header("if-none-match"), request.header("if-match"));
    if absent.is_none() && matching.is_none() {
        return None;
    }
    match options.conditional_writes {
        ConditionalWrites::Ignored => return None,
        ConditionalWrites::Refused => return Some(Reply::error(501, "NotImplemented")),
        ConditionalWrites::OnlyAbsent if absent.is_none() => return None,
        ConditionalWrites::OnlyAbsent | ConditionalWrites::Honoured => {}
    }
    let failed = || Some(Reply::error(412, "PreconditionFailed"));
    match (bucket.objects.get(request.object()), matching) {
        (Some(_), _) if absent == Some("*") => failed(),
        (Some(object), Some(etag)) if object.etag != etag => failed(),
        (None, Some(_)) => Some(Reply::error(404, "NoSuchKey")),
        _ => None,
    }
}

/// Why a write is refused whose headers the server does not know.
pub(super) fn refuse_headers(
    request: &Request,
    options: &S3ServerOptions,
    now: Timestamp,
) -> Option<Reply> {
    let is_unknown = options.unknown_headers.iter().any(|name| request.header(name).is_some());
    if is_unknown {
        return Some(Reply::error(501, "NotImplemented"));
    }
    let has = |beginning: &str| request.headers.keys().any(|name| name.starts_with(beginning));
    if has("x-amz-grant-") && options.access_lists == AccessLists::Refused {
        return Some(Reply::error(400, "AccessControlListNotSupported"));
    }
    locks::refuse_write(request, options, now)
}

pub(super) fn put(
    bucket: &mut Bucket,
    request: &Request,
    options: &S3ServerOptions,
    now: Timestamp,
) -> Reply {
    if let Some(reply) = refuse_headers(request, options, now) {
        return reply;
    }
    if let Some(reply) = refuse_write(bucket, request, options) {
        return reply;
    }
    if let Some(reply) = wrong_checksum(request) {
        return reply;
    }
    let mut object = S3Object::new(request.body.clone(), now);
    object.headers = kept_headers(&request.headers);
    object.grants = granted(&request.headers);
    request.header("x-amz-tagging").unwrap_or_default().clone_into(&mut object.tags);
    if let Some(checksum) = request.header(CHECKSUM) {
        object.headers.insert(CHECKSUM.to_owned(), checksum.to_owned());
    }
    let reply = Reply::new(200).with("etag", &object.etag);
    bucket.store(request.object(), object);
    reply
}

/// The refusal of bytes that are not those of the checksum.
pub(super) fn wrong_checksum(request: &Request) -> Option<Reply> {
    let sent = request.header(CHECKSUM)?;
    let is_right = sent == STANDARD.encode(Sha256::digest(&request.body));
    (!is_right).then(|| Reply::error(400, "BadDigest"))
}

/// GET and HEAD.
pub(super) fn get(bucket: &Bucket, request: &Request, options: &S3ServerOptions) -> Reply {
    let (object, id) = match bucket.find(request) {
        Ok(found) => found,
        Err(reply) => return reply,
    };
    let is_other = request.header("if-match").is_some_and(|etag| etag != object.etag);
    if is_other && options.read_versions == ReadVersions::Kept {
        return Reply::error(412, "PreconditionFailed");
    }
    let is_there = object.headers.get(RESTORE).is_some_and(|text| text.contains("\"false\""));
    if request.method == Method::GET && is_archived(object) && !is_there {
        return Reply::error(403, "InvalidObjectState");
    }
    let length = object.bytes.len();
    let mut reply = match part(object, request).or_else(|| request.range(length)) {
        Some(Err(())) => return Reply::error(416, "InvalidRange"),
        Some(Ok((first, last))) => Reply::new(206)
            .with("content-range", format!("bytes {first}-{last}/{length}"))
            .with_body(object.bytes.slice(first..=last)),
        None => Reply::new(200).with_body(object.bytes.clone()),
    };
    reply = reply.with("accept-ranges", "bytes").with("last-modified", http_date(object.modified));
    if options.read_versions != ReadVersions::Unnamed {
        reply = reply.with("etag", &object.etag);
    }
    let shows_checksum = request.header("x-amz-checksum-mode").is_some() && reply.status == 200;
    for (name, value) in &object.headers {
        let is_hidden = (options.hides_locks || options.locks_on_request)
            && name.starts_with("x-amz-object-lock-");
        if !is_hidden && (name != CHECKSUM || shows_checksum) {
            reply = reply.with(name, value);
        }
    }
    if request.parameter("partNumber").is_some() && !object.parts.is_empty() {
        reply = reply.with("x-amz-mp-parts-count", object.parts.len().to_string());
    }
    if let Some(id) = id.filter(|_| options.names_versions) {
        reply = reply.with("x-amz-version-id", id);
    }
    if !object.tags.is_empty() {
        let count = object.tags.split('&').count();
        reply = reply.with("x-amz-tagging-count", count.to_string());
    }
    reply
}

fn is_archived(object: &S3Object) -> bool {
    let class = object.headers.get("x-amz-storage-class");
    class.is_some_and(|class| ARCHIVES.contains(&class.as_str()))
}

/// Begins to bring an object back from its archive.
pub(super) fn restore(bucket: &mut Bucket, request: &Request) -> Reply {
    let object = match bucket.find(request) {
        Ok((object, _)) => object,
        Err(reply) => return reply,
    };
    if !is_archived(object) {
        return Reply::error(403, "InvalidObjectState");
    }
    let text = request.text();
    if elements(&text, "Tier").is_empty() || elements(&text, "Days").is_empty() {
        return Reply::error(400, "MalformedXML");
    }
    match object.headers.get(RESTORE) {
        Some(text) if text.contains("\"true\"") => Reply::error(409, "RestoreAlreadyInProgress"),
        Some(_) => Reply::new(200),
        None => {
            bucket.change(request.object(), request.parameter("versionId"), |object| {
                object.headers.insert(RESTORE.to_owned(), "ongoing-request=\"true\"".to_owned());
            });
            Reply::new(202)
        }
    }
}

/// All objects that were asked for from their archives are there.
pub(super) fn end_restores(bucket: &mut Bucket) {
    let there = "ongoing-request=\"false\", expiry-date=\"Fri, 01 Jan 2100 00:00:00 GMT\"";
    let versions = bucket.history.values_mut().flatten();
    let kept = versions.filter_map(|version| version.object.as_mut());
    let objects = bucket.objects.values_mut().chain(kept);
    for restoring in objects.filter_map(|one| one.headers.get_mut(RESTORE)) {
        there.clone_into(restoring);
    }
}

/// The first and last byte of the part that is asked for; an error where there is no such part.
fn part(object: &S3Object, request: &Request) -> Option<Result<(usize, usize), ()>> {
    let number: usize = request.parameter("partNumber")?.parse().ok()?;
    let whole = [object.bytes.len()];
    let parts = if object.parts.is_empty() { &whole[..] } else { &object.parts[..] };
    let Some(len_bytes) = number.checked_sub(1).and_then(|index| parts.get(index)) else {
        return Some(Err(()));
    };
    let first: usize = parts[..number - 1].iter().sum();
    // One without bytes has no range.
    len_bytes.checked_sub(1).map(|last| Ok((first, first + last)))
}

pub(super) fn copy(bucket: &mut Bucket, request: &Request, now: Timestamp) -> Reply {
    let from = decode(request.header("x-amz-copy-source").unwrap_or_default(), false);
    let from = from.trim_start_matches('/').split_once('/').map(|(_, key)| key);
    let Some(source) = from.and_then(|key| bucket.objects.get(key)).cloned() else {
        return Reply::error(404, "NoSuchKey");
    };
    let mut object = S3Object { modified: now, ..source };
    if request.header("x-amz-metadata-directive") == Some("REPLACE") {
        object.headers = kept_headers(&request.headers);
    }
    let content = format!("<ETag>{}</ETag><LastModified>{now}</LastModified>", object.etag);
    bucket.store(request.object(), object);
    Reply::xml("CopyObjectResult", &content)
}

pub(super) fn delete(bucket: &mut Bucket, request: &Request, now: Timestamp) -> Reply {
    match request.parameter("versionId") {
        Some(id) => {
            let version = bucket.version(request.object(), id);
            let object = version.and_then(|version| version.object.as_ref());
            if object.is_some_and(|object| locks::is_locked(object, now)) {
                return Reply::error(403, "AccessDenied");
            }
            bucket.remove_version(request.object(), id);
        }
        None => bucket.remove(request.object(), now),
    }
    Reply::new(204)
}

pub(super) fn tagging(bucket: &Bucket, request: &Request) -> Reply {
    let (object, id) = match bucket.find_owner(request) {
        Ok(found) => found,
        Err(reply) => return reply,
    };
    let mut content = String::from("<TagSet>");
    for tag in object.tags.split('&').filter(|tag| !tag.is_empty()) {
        let (name, value) = tag.split_once('=').unwrap_or((tag, ""));
        let (name, value) = (escape(&decode(name, true)), escape(&decode(value, true)));
        _ = write!(content, "<Tag><Key>{name}</Key><Value>{value}</Value></Tag>");
    }
    content.push_str("</TagSet>");
    let reply = Reply::xml("Tagging", &content);
    match id {
        Some(id) => reply.with("x-amz-version-id", id),
        None => reply,
    }
}

/// One bit of some bytes is another.
pub(super) fn flip_bit(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    bytes.into()
}

pub(super) fn http_date(time: Timestamp) -> String {
    let printer = rfc2822::DateTimePrinter::new();
    printer.timestamp_to_rfc9110_string(&time).unwrap_or_default()
}
