//! Objects of users: their versions, metadata and tags. Keys are whole ones here.

use std::collections::BTreeMap;
use std::ops::Range;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ObjectLockLegalHoldStatus, ObjectLockMode};
use bytes::{Bytes, BytesMut};
use tokio::sync::Mutex;

use super::Bucket;
use crate::adapters::s3::calls::Came;
use crate::adapters::s3::errors::{
    INVALID_RANGE, NO_SUCH_KEY, NOT_IMPLEMENTED, UNREADABLE, broken_off, failed, odd_reply,
};
use crate::adapters::s3::object::{ObjectLock, ObjectRecord, parts_of};
use crate::adapters::s3::whole::Whole;
use crate::error::{Error, ErrorKind, Result, Retry};

/// Which object is meant. The key is a whole one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::adapters::s3) struct ObjectRef<'a> {
    pub(in crate::adapters::s3) key: &'a str,
    /// Nothing means whatever is there now.
    pub(in crate::adapters::s3) version: Option<&'a str>,
}

impl<'a> ObjectRef<'a> {
    /// What has this key now.
    pub(in crate::adapters::s3) fn newest(key: &'a str) -> Self {
        Self { key, version: None }
    }

    /// The version as a parameter of a request.
    pub(super) fn version(self) -> Option<String> {
        self.version.map(str::to_owned)
    }
}

/// The tags of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::adapters::s3) struct Tagged {
    pub(in crate::adapters::s3) tags: BTreeMap<String, String>,
    /// Of which version they are, if the server says so.
    pub(in crate::adapters::s3) version: Option<String>,
}

/// What is asked of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::adapters::s3) enum Wanted {
    /// All of it, if it has no more bytes than this.
    Whole {
        /// The most bytes.
        most: u64,
    },
    /// A range that is not empty.
    Range(Range<u64>),
}

/// What a reply says of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::adapters::s3) struct Version {
    /// Nothing if the bucket keeps no versions.
    pub(in crate::adapters::s3) id: Option<String>,
    pub(in crate::adapters::s3) etag: Option<String>,
    pub(in crate::adapters::s3) len_bytes: u64,
    /// In seconds since 1970.
    pub(in crate::adapters::s3) modified: Option<i64>,
    /// All but the fingerprint, the tags, the access list and the part of the key.
    pub(in crate::adapters::s3) record: ObjectRecord,
}

impl Version {
    /// Whether another look saw the same version, as far as the server tells.
    pub(in crate::adapters::s3) fn is_same(&self, other: &Self) -> bool {
        self.etag == other.etag
            && self.len_bytes == other.len_bytes
            && (self.etag.is_some() || self.modified == other.modified)
    }
}

/// How far a version has been read.
#[derive(Debug, Default)]
struct Progress {
    version: Option<Version>,
    bytes: BytesMut,
}

impl Bucket {
    /// Reads a version of an object, and what the server says of it. Without a tag, and if none is named,
    /// whichever is there; all bytes are of one.
    ///
    /// # Errors
    /// `SourceChanged` if there is another version than that of the tag, or one that has no such range
    /// or more bytes than wanted; `NotFound`.
    pub(in crate::adapters::s3) async fn read_version(
        &self,
        object: ObjectRef<'_>,
        etag: Option<&str>,
        wanted: &Wanted,
    ) -> Result<(Version, Bytes)> {
        let doing = format!("read {}", object.key.escape_debug());
        let progress = Mutex::new(Progress::default());
        let call = || async {
            let mut progress = progress.lock().await;
            let before = progress.bytes.len();
            match self.read_on(object, etag, wanted, &doing, &mut progress).await {
                Ok(()) => Ok(Came::All(())),
                // The next one asks for the rest.
                Err(error)
                    if error.retry() != Retry::Never
                        && progress.can_go_on()
                        && progress.bytes.len() > before =>
                {
                    Ok(Came::Part)
                }
                Err(error) => Err(error),
            }
        };
        self.0.calls.run_in_parts(call).await?;
        let Progress { version, bytes } = progress.into_inner();
        let version = version.ok_or_else(|| odd(&doing))?;
        Ok((version, bytes.freeze()))
    }

    /// Asks for what has not come yet, and takes it as far as it comes.
    async fn read_on(
        &self,
        object: ObjectRef<'_>,
        etag: Option<&str>,
        wanted: &Wanted,
        doing: &str,
        progress: &mut Progress,
    ) -> Result<()> {
        if !progress.can_go_on() {
            *progress = Progress::default();
        }
        let got = progress.bytes.len() as u64;
        let etag = progress.version.as_ref().and_then(|version| version.etag.as_deref()).or(etag);
        let request = self.0.client.get_object().bucket(self.name()).key(object.key);
        let mut request = request.set_version_id(object.version());
        let range = match (wanted, got, &progress.version) {
            (Wanted::Whole { .. }, 0, _) => None,
            (Wanted::Whole { .. }, _, Some(version)) => Some(got..version.len_bytes),
            (Wanted::Whole { .. }, _, None) => return Err(odd(doing)),
            (Wanted::Range(range), ..) => Some(range.start.saturating_add(got)..range.end),
        };
        if let Some(range) = &range {
            if range.is_empty() {
                return Ok(());
            }
            request = request.range(format!("bytes={}-{}", range.start, range.end - 1));
        }
        let reply = request.set_if_match(etag.map(str::to_owned)).send().await;
        let mut reply = match reply.map_err(|error| failed(doing, error)) {
            Err(error) if error.is(ErrorKind::Conflict) || error.code() == INVALID_RANGE => {
                return Err(changed(doing));
            }
            // It says the same of the object whenever it is asked.
            Err(error) if error.code() == UNREADABLE => {
                return Err(error.with_retry(Retry::Never));
            }
            reply => reply?,
        };
        require_version(object.version, reply.version_id(), doing)?;
        let (came, total) = placed(&reply).ok_or_else(|| odd(doing))?;
        let version = version_of(&reply, total);
        // Not every server knows the condition.
        if etag.is_some_and(|etag| version.etag.as_deref() != Some(etag))
            || progress.version.as_ref().is_some_and(|known| !known.is_same(&version))
        {
            return Err(changed(doing));
        }
        let expected = match (range, wanted) {
            (Some(range), _) if range.end > total => return Err(changed(doing)),
            (Some(range), _) => range,
            (None, Wanted::Whole { most }) if total > *most => return Err(changed(doing)),
            (None, _) => 0..total,
        };
        if came != expected {
            return Err(odd(doing));
        }
        progress.version.get_or_insert(version);
        let mut left = came.end - came.start;
        // Both kinds are bounded by whoever asks.
        progress.bytes.reserve(usize::try_from(left).unwrap_or_default());
        while let Some(piece) = reply.body.next().await {
            let piece = piece.map_err(|error| broken_off(doing, &error))?;
            left = left.checked_sub(piece.len() as u64).ok_or_else(|| odd(doing))?;
            progress.bytes.extend_from_slice(&piece);
        }
        if left == 0 { Ok(()) } else { Err(odd(doing)) }
    }

    /// How many bytes the first part of a version has; nothing if the server does not tell parts apart, or
    /// has another version, or fails: whoever wants to know has another guess.
    pub(in crate::adapters::s3) async fn first_part_bytes(
        &self,
        object: ObjectRef<'_>,
        etag: &str,
    ) -> Option<u64> {
        let doing = format!("look at the parts of {}", object.key.escape_debug());
        let head = || async {
            let request = self.0.client.head_object().bucket(self.name()).key(object.key);
            let request = request.set_version_id(object.version()).part_number(1).if_match(etag);
            let reply = match request.send().await {
                // A reply to HEAD has no body, and so no reason.
                Err(error) if error.raw_response().is_some_and(is_refusal) => return Ok(None),
                reply => reply.map_err(|error| failed(&doing, error))?,
            };
            let parts = reply.parts_count().and_then(|count| u64::try_from(count).ok());
            let is_same = reply.e_tag() == Some(etag) && parts == parts_of(etag);
            let length = reply.content_length().filter(|_| is_same);
            Ok::<_, Error>(length.and_then(|length| u64::try_from(length).ok()))
        };
        self.0.calls.run(head).await.ok().flatten()
    }

    /// The tags of an object.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied` without `s3:GetObjectTagging`, or `s3:GetObjectVersionTagging` for a
    /// version; `Unsupported` by servers without tags.
    pub(in crate::adapters::s3) async fn tags(&self, object: ObjectRef<'_>) -> Result<Tagged> {
        let doing = format!("read the tags of {}", object.key.escape_debug());
        let asked = self
            .0
            .calls
            .run(|| async {
                let request = self.0.client.get_object_tagging().bucket(self.name());
                let request = request.key(object.key).set_version_id(object.version());
                let whole = Whole::default();
                let sent = request.customize().interceptor(whole.clone()).send();
                let reply = sent.await.map_err(|error| failed(&doing, error))?;
                whole.require(&doing)?;
                let tags = reply.tag_set().iter();
                let pairs = tags.map(|tag| (tag.key().to_owned(), tag.value().to_owned()));
                require_version(object.version, reply.version_id(), &doing)?;
                let version = reply.version_id().filter(|id| !id.is_empty()).map(str::to_owned);
                Ok(Tagged { tags: pairs.collect(), version })
            })
            .await;
        self.or_gone(object, asked).await
    }

    /// Servers that keep versions say of an object that was deleted only that its tags or access list
    /// cannot be asked for.
    pub(super) async fn or_gone<T>(&self, object: ObjectRef<'_>, asked: Result<T>) -> Result<T> {
        let error = match asked {
            Err(error) if error.code() == NOT_IMPLEMENTED && object.version.is_none() => error,
            asked => return asked,
        };
        if matches!(self.is_listed(object.key).await, Ok(false)) {
            let message = format!("{} was deleted meanwhile", object.key.escape_debug());
            return Err(Error::new(ErrorKind::NotFound, message).with_code(NO_SUCH_KEY));
        }
        Err(error)
    }
}

impl Progress {
    /// Whether the rest of what came can be asked for, and told from that of another version.
    fn can_go_on(&self) -> bool {
        let has_tag = self.version.as_ref().is_some_and(|version| version.etag.is_some());
        has_tag && !self.bytes.is_empty()
    }
}

/// Whether asking again would bring the same.
fn is_refusal(reply: &HttpResponse) -> bool {
    let status = reply.status();
    status.is_client_error() && !matches!(status.as_u16(), 408 | 429)
}

/// Which bytes of the object a reply has, and how long the object is.
fn placed(reply: &GetObjectOutput) -> Option<(Range<u64>, u64)> {
    let length = u64::try_from(reply.content_length()?).ok()?;
    let Some(text) = reply.content_range() else { return Some((0..length, length)) };
    let (bounds, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = bounds.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let end = last.checked_add(1)?;
    (end.checked_sub(first)? == length).then_some((first..end, total.parse().ok()?))
}

fn version_of(reply: &GetObjectOutput, total: u64) -> Version {
    let text = |value: Option<&str>| value.map(str::to_owned);
    let mut record = ObjectRecord {
        etag: reply.e_tag().unwrap_or_default().to_owned(),
        content_encoding: text(reply.content_encoding()),
        content_language: text(reply.content_language()),
        content_disposition: text(reply.content_disposition()),
        cache_control: text(reply.cache_control()),
        expires: text(reply.expires_string()),
        website_redirect: text(reply.website_redirect_location()),
        is_incomplete: reply.missing_meta().is_some_and(|count| count > 0),
        lock: ObjectLock::new(
            reply.object_lock_mode().map(ObjectLockMode::as_str),
            reply.object_lock_retain_until_date(),
            reply.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On),
        ),
        encryption: text(
            reply.server_side_encryption().map(aws_sdk_s3::types::ServerSideEncryption::as_str),
        )
        // What AWS does by itself.
        .filter(|algorithm| algorithm != "AES256"),
        encryption_key: text(reply.ssekms_key_id()),
        ..ObjectRecord::new()
    };
    record.set_content_type(reply.content_type());
    record.set_storage_class(reply.storage_class().map(aws_sdk_s3::types::StorageClass::as_str));
    if let Some(metadata) = reply.metadata() {
        let pairs = metadata.iter().map(|(name, value)| (name.clone(), value.clone()));
        record.user_metadata.extend(pairs);
    }
    Version {
        id: text(reply.version_id()).filter(|id| !id.is_empty()),
        etag: text(reply.e_tag()).filter(|etag| !etag.is_empty()),
        len_bytes: total,
        modified: reply.last_modified().map(DateTime::secs),
        record,
    }
}

/// Makes sure that a reply is of the version that was asked for, if it says of which one it is.
///
/// # Errors
/// `Unsupported` if it is another one: the server passes over what it was asked.
pub(super) fn require_version(asked: Option<&str>, came: Option<&str>, doing: &str) -> Result<()> {
    match (asked, came.filter(|id| !id.is_empty())) {
        (Some(asked), Some(came)) if asked != came => Err(other_version(doing)),
        _ => Ok(()),
    }
}

/// The error of a server that gives another version than it was asked for.
pub(in crate::adapters::s3) fn other_version(doing: &str) -> Error {
    let message = format!("cannot {doing}: the server gives another version than was asked for");
    Error::new(ErrorKind::Unsupported, message).with_code("s3-other-version").with_hint(
        "this server, or what stands before it, passes over versions: what was there at a time cannot be \
         read from it",
    )
}

fn changed(doing: &str) -> Error {
    Error::new(ErrorKind::SourceChanged, format!("cannot {doing}: it was replaced meanwhile"))
        .with_code("s3-replaced")
}

fn odd(doing: &str) -> Error {
    odd_reply(doing, "the server gives other bytes than it says")
}
