//! Object Lock: what keeps versions of objects from being removed.

use jiff::Timestamp;

use super::S3ServerOptions;
use super::bucket::{Bucket, S3Object};
use super::deleting::CHECKSUMS;
use super::reply::{Reply, elements};
use super::request::Request;

const MODE: &str = "x-amz-object-lock-mode";
const UNTIL: &str = "x-amz-object-lock-retain-until-date";
const HOLD: &str = "x-amz-object-lock-legal-hold";
const MODES: [&str; 2] = ["GOVERNANCE", "COMPLIANCE"];

/// A retention that has not ended.
struct Retention<'a> {
    mode: &'a str,
    until: Timestamp,
}

/// Why a write is refused whose headers lock what it writes.
pub(super) fn refuse_write(
    request: &Request,
    options: &S3ServerOptions,
    now: Timestamp,
) -> Option<Reply> {
    let has = |beginning: &str| request.headers.keys().any(|name| name.starts_with(beginning));
    if !has("x-amz-object-lock-") {
        return None;
    }
    if !options.object_lock {
        return Some(missing());
    }
    // A checksum, or the algorithm of those that parts will have.
    if !has("x-amz-checksum-") && !has("content-md5") {
        return Some(Reply::error(400, "InvalidRequest"));
    }
    match (request.header(MODE), request.header(UNTIL)) {
        (None, None) => None,
        (Some(mode), Some(until)) => wrong_retention(mode, until, now),
        _ => Some(Reply::error(400, "InvalidArgument")),
    }
}

/// Sets the retention of an object or of a version of it: for longer, unless nothing retains it.
pub(super) fn put(
    bucket: &mut Bucket,
    request: &Request,
    options: &S3ServerOptions,
    now: Timestamp,
) -> Reply {
    if !options.object_lock {
        return missing();
    }
    if !CHECKSUMS.iter().any(|name| request.header(name).is_some()) {
        return Reply::error(400, "InvalidRequest");
    }
    let object = match find(bucket, request) {
        Ok(object) => object,
        Err(refusal) => return refusal,
    };
    let text = request.text();
    let (modes, untils) = (elements(&text, "Mode"), elements(&text, "RetainUntilDate"));
    let (Some(mode), Some(until)) = (modes.first(), untils.first()) else {
        return Reply::error(400, "MalformedXML");
    };
    if let Some(refusal) = wrong_retention(mode, until, now) {
        return refusal;
    }
    let is_weaker = |old: &Retention<'_>| {
        old.mode != mode || until.parse::<Timestamp>().is_ok_and(|until| until < old.until)
    };
    if retention(object, now).as_ref().is_some_and(is_weaker) {
        return Reply::error(403, "AccessDenied");
    }
    if options.forgets_longer_locks {
        return Reply::new(200);
    }
    let mut headers = object.headers.clone();
    headers.insert(MODE.to_owned(), mode.clone());
    headers.insert(UNTIL.to_owned(), until.clone());
    bucket.set_headers(request.object(), request.parameter("versionId"), &headers);
    Reply::new(200)
}

/// What retains an object or a version of it; also once that is over.
pub(super) fn get(bucket: &Bucket, request: &Request, options: &S3ServerOptions) -> Reply {
    let headers = match see(bucket, request, options) {
        Ok(object) => &object.headers,
        Err(refusal) => return refusal,
    };
    match (headers.get(MODE), headers.get(UNTIL)) {
        (Some(mode), Some(until)) => {
            let content = format!("<Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate>");
            Reply::xml("Retention", &content)
        }
        _ => Reply::error(404, "NoSuchObjectLockConfiguration"),
    }
}

/// Whether an object or a version of it is held, if that was ever said.
pub(super) fn get_hold(bucket: &Bucket, request: &Request, options: &S3ServerOptions) -> Reply {
    match see(bucket, request, options).map(|object| object.headers.get(HOLD)) {
        Ok(Some(hold)) => Reply::xml("LegalHold", &format!("<Status>{hold}</Status>")),
        Ok(None) => Reply::error(404, "NoSuchObjectLockConfiguration"),
        Err(refusal) => refusal,
    }
}

/// The object or version whose locks are asked for.
fn see<'a>(
    bucket: &'a Bucket,
    request: &Request,
    options: &S3ServerOptions,
) -> Result<&'a S3Object, Reply> {
    if options.hides_locks {
        return Err(Reply::error(403, "AccessDenied"));
    }
    if !options.object_lock {
        return Err(missing());
    }
    find(bucket, request)
}

/// Whether a version must not be removed for good.
pub(super) fn is_locked(object: &S3Object, now: Timestamp) -> bool {
    let is_held = object.headers.get(HOLD).is_some_and(|hold| hold == "ON");
    is_held || retention(object, now).is_some()
}

fn retention(object: &S3Object, now: Timestamp) -> Option<Retention<'_>> {
    let mode = object.headers.get(MODE)?;
    let until: Timestamp = object.headers.get(UNTIL)?.parse().ok()?;
    (until > now).then_some(Retention { mode, until })
}

fn wrong_retention(mode: &str, until: &str, now: Timestamp) -> Option<Reply> {
    let is_later = until.parse::<Timestamp>().is_ok_and(|until| until > now);
    let is_fine = MODES.contains(&mode) && is_later;
    (!is_fine).then(|| Reply::error(400, "InvalidArgument"))
}

fn find<'a>(bucket: &'a Bucket, request: &Request) -> Result<&'a S3Object, Reply> {
    let found = match request.parameter("versionId") {
        None => bucket.objects.get(request.object()).ok_or((404, "NoSuchKey")),
        Some(id) => match bucket.version(request.object(), id) {
            None => Err((404, "NoSuchVersion")),
            Some(version) => version.object.as_ref().ok_or((405, "MethodNotAllowed")),
        },
    };
    found.map_err(|(status, code)| Reply::error(status, code))
}

/// The refusal where the bucket was made without.
fn missing() -> Reply {
    Reply::refusal(400, "InvalidRequest", "Bucket is missing Object Lock Configuration")
}
