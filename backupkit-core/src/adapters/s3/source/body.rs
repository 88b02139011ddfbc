//! The bytes of objects, and what the server says of them on that occasion.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::super::bucket::{Version, Wanted, other_version};
use super::super::errors::{ARCHIVED, NO_SUCH_VERSION};
use super::super::object::{ATTRIBUTE, ObjectRecord, fingerprint};
use super::Shared;
use super::archive::left_out;
use super::asked::{Extras, add_parts, complete};
use super::found::Past;
use super::settings_file;
use super::walk::ListedObject;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::model::{Entry, EntryKind, EntryPath, FileMode, FileTime, Fingerprint, Metadata};
use crate::source::{Body, RangedBody, VANISHED};

/// Objects up to this size are read in one go. Memory for them is set apart by whoever asks.
const SMALL_BYTES: u64 = 512 << 10;
/// The code of an object that the server both has and has not.
const CONTRADICTION: &str = "s3-listed-without-object";
/// Ends the fingerprint of the mark of a deletion. No entity tag is such a word.
const DELETED: &str = "deleted";
/// How often an object that is replaced while it is opened is looked at again.
pub(super) const ATTEMPTS: u32 = 3;

/// An entry as the listing has it. Its handle is the object, and the part of the key that its name
/// does not tell.
pub(super) fn entry_of(
    shared: &Shared,
    path: EntryPath,
    part: Option<&str>,
    object: &ListedObject,
) -> Result<Entry> {
    // Without the attribute: that of the earlier node stands if the entry is unchanged, else what the
    // server says when the bytes are read.
    let metadata = Metadata::new(FileMode::FILE, time(object.modified));
    let handle = serde_json::to_string(&(object, part)).map_err(unwritten)?;
    let mut fingerprint = attribute_fingerprint(shared, &object.etag, object.modified);
    if let Fingerprint::Attribute { others, .. } = &mut fingerprint {
        let enough = shared.asked.enough().into_iter();
        others.extend(enough.map(|less| fingerprint_of(&object.etag, object.modified, less)));
    }
    Ok(Entry {
        path,
        handle: Some(handle),
        kind: EntryKind::File,
        metadata,
        size_bytes: object.len_bytes,
        fingerprint,
    })
}

/// The entry of a mark of a deletion: all of it is known from the listing.
pub(super) fn deletion_entry(path: EntryPath, mark: &ListedObject) -> Result<Entry> {
    let value = format!("{} {DELETED}", timestamp(mark.modified));
    let mut metadata = Metadata::new(FileMode::FILE, time(mark.modified));
    let record = ObjectRecord { fingerprint: value.clone(), ..ObjectRecord::new() };
    record.put_into(&mut metadata)?;
    let attribute = ATTRIBUTE.to_owned();
    let part: Option<&str> = None;
    let handle = serde_json::to_string(&(mark, part)).map_err(unwritten)?;
    Ok(Entry {
        path,
        handle: Some(handle),
        kind: EntryKind::File,
        metadata,
        size_bytes: 0,
        fingerprint: Fingerprint::Attribute { attribute, value, others: Vec::new() },
    })
}

/// What tells that an object is the same, with all that is wanted of it; nothing if the server names no
/// versions.
fn attribute_fingerprint(shared: &Shared, etag: &str, modified: i64) -> Fingerprint {
    if etag.is_empty() {
        return Fingerprint::None;
    }
    let value = fingerprint_of(etag, modified, shared.asked.wanted());
    Fingerprint::Attribute { attribute: ATTRIBUTE.to_owned(), value, others: Vec::new() }
}

/// The text of it. Replies name a time in seconds, whatever listings do.
pub(super) fn fingerprint_of(etag: &str, modified: i64, extras: Extras) -> String {
    let mut text = fingerprint(etag, &timestamp(modified).to_string());
    text.push_str(extras.words());
    text
}

/// A time of a node: the same wherever the backup runs.
pub(super) fn time(modified: i64) -> FileTime {
    FileTime::from_timestamp(timestamp(modified), &TimeZone::UTC)
}

fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Opens the bytes of an entry.
pub(super) async fn open(shared: &Arc<Shared>, entry: &Entry) -> Result<Body> {
    if let Some(body) = settings_file::open(shared, entry).await? {
        return Ok(body);
    }
    let (object, part): (ListedObject, Option<String>) =
        entry.handle.as_deref().and_then(|text| serde_json::from_str(text).ok()).ok_or_else(
            || Error::new(ErrorKind::SourceChanged, "an entry of another version of this program"),
        )?;
    if object.past == Some(Past::Deletion) {
        let now = deletion_entry(entry.path.clone(), &object)?;
        return Ok(Body::in_memory(Bytes::new()).with_refreshed(now));
    }
    let mut attempt = 1;
    let (version, bytes, mut record, extras) = loop {
        let (version, bytes) = match read(shared, &object).await {
            Err(error) if error.is(ErrorKind::NotFound) => gone(shared, &object).await?,
            Err(error) if error.code() == ARCHIVED => {
                return Err(left_out(shared, &object, error).await);
            }
            read => read?,
        };
        let (record, id) = (version.record.clone(), version.id.as_deref());
        let is_last = attempt == ATTEMPTS;
        match complete(shared, &object, id, record, is_last).await {
            // It was replaced since it was read.
            Err(error) if error.is(ErrorKind::SourceChanged) && !is_last => attempt += 1,
            completed => {
                let (record, extras) = completed?;
                break (version, bytes, record, extras);
            }
        }
    };
    let is_listed = version.etag.as_deref() == Some(object.etag.as_str());
    // Some servers name another time in replies than in listings.
    let modified = version.modified.filter(|_| !is_listed).unwrap_or(object.modified);
    let mut now = entry.clone();
    now.size_bytes = version.len_bytes;
    now.metadata.mtime = time(modified);
    now.metadata.atime = now.metadata.mtime;
    now.metadata.ctime = now.metadata.mtime;
    let etag = version.etag.as_deref().unwrap_or_default();
    now.fingerprint = attribute_fingerprint(shared, etag, modified);
    add_parts(shared, &object, &version, &mut record).await;
    record.part = part;
    if !etag.is_empty() {
        record.fingerprint = fingerprint_of(etag, modified, extras);
    }
    record.put_into(&mut now.metadata)?;
    let body = match bytes {
        Some(bytes) => Body::in_memory(bytes),
        None => Body::ranged(Object { shared: Arc::clone(shared), listed: object, version }),
    };
    Ok(body.with_refreshed(now))
}

/// The error of an object that the server does not have: that of one that vanished, if the server does
/// not list it any more either. A version that was kept does not vanish, but by being removed for good,
/// which is usual for older ones.
pub(super) async fn gone<T>(shared: &Shared, object: &ListedObject) -> Result<T> {
    let key = object.key.escape_debug();
    if object.past.is_some() {
        let id = object.version.as_deref().unwrap_or_default();
        if shared.bucket.has_version(&object.key, id).await? {
            let why = "the server lists an older version, and says that there is none";
            return Err(contradiction(&object.key, why));
        }
        shared.notes.vanished_version(&object.key);
        let error =
            Error::new(ErrorKind::NotFound, format!("an older version of {key} was removed"));
        return Err(error.with_code(VANISHED));
    }
    if let Some(time) = shared.moment.fixed() {
        let why = format!("its version of {time} was removed for good");
        return Err(Error::new(ErrorKind::NotFound, format!("cannot read {key}: {why}"))
            .with_code(NO_SUCH_VERSION)
            .with_hint(
                "see who removes versions, or whether a rule of the bucket does so too soon",
            ));
    }
    if shared.bucket.is_listed(&object.key).await? {
        let why = "the server lists it, and says that there is no such key";
        return Err(contradiction(&object.key, why));
    }
    shared.notes.vanished(&object.key);
    let error = Error::new(ErrorKind::NotFound, format!("{key} was deleted before it was read"));
    Err(error.with_code(VANISHED))
}

fn contradiction(key: &str, why: &str) -> Error {
    let message = format!("cannot read {}: {why}", key.escape_debug());
    let error = Error::new(ErrorKind::Unavailable, message);
    error.with_code(CONTRADICTION).with_retry(Retry::Never)
}

/// Looks at an object as it is now, and takes its bytes if they are few.
async fn read(shared: &Shared, object: &ListedObject) -> Result<(Version, Option<Bytes>)> {
    let bucket = &shared.bucket;
    let (mut etag, mut len_bytes) = (Some(object.etag.as_str()), object.len_bytes);
    etag = etag.filter(|etag| !etag.is_empty());
    // Nothing else will do than the version that is meant.
    let attempts = if object.version.is_some() { 1 } else { ATTEMPTS };
    let mut attempt = 1;
    loop {
        let is_small = len_bytes <= SMALL_BYTES;
        let wanted =
            if is_small { Wanted::Whole { most: SMALL_BYTES } } else { Wanted::Range(0..1) };
        match bucket.read_version(object.named(), etag, &wanted).await {
            Ok((version, bytes)) => {
                require_listed(object, &version)?;
                return Ok((version, is_small.then_some(bytes)));
            }
            Err(error) if error.is(ErrorKind::SourceChanged) && attempt < attempts => {}
            Err(error) => return Err(error),
        }
        attempt += 1;
        // Whichever version is there now. If that is no small one any more, it is a large one, and the
        // other way round.
        if etag.take().is_none() {
            len_bytes = if is_small { u64::MAX } else { 0 };
        }
    }
}

/// Makes sure that it is the version that was listed, if that one is meant. A server that names versions in
/// its replies was compared before.
pub(super) fn require_listed(object: &ListedObject, read: &Version) -> Result<()> {
    let is_same = object.version.is_none()
        || read.id.is_some()
        || object.len_bytes == read.len_bytes
            && read.modified.is_none_or(|modified| modified == object.modified)
            && read.etag.as_ref().is_none_or(|etag| object.etag.is_empty() || *etag == object.etag);
    if is_same {
        Ok(())
    } else {
        Err(other_version(&format!("read {}", object.key.escape_debug())))
    }
}

/// A version of a large object.
#[derive(Debug)]
struct Object {
    shared: Arc<Shared>,
    listed: ListedObject,
    version: Version,
}

#[async_trait]
impl RangedBody for Object {
    fn len_bytes(&self) -> u64 {
        self.version.len_bytes
    }

    async fn read_at(&self, range: Range<u64>) -> Result<Bytes> {
        let length = self.version.len_bytes;
        let range = range.start.min(length)..range.end.min(length);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let shared = &*self.shared;
        let wanted = Wanted::Range(range);
        let etag = self.version.etag.as_deref();
        let read = async {
            let named = self.listed.named();
            shared.confirm(shared.bucket.read_version(named, etag, &wanted).await).await
        };
        let (version, bytes) = shared.cancel.unless_cancelled(read).await?;
        if !version.is_same(&self.version) {
            let message =
                format!("cannot read {}: it was replaced", self.listed.key.escape_debug());
            return Err(Error::new(ErrorKind::SourceChanged, message));
        }
        Ok(bytes)
    }
}

fn unwritten(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Internal, "cannot write what is known of an object").with_source(error)
}
