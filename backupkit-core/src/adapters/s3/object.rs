//! What nodes keep of objects, besides their bytes: one generic attribute.
//!
//! Its text is compact, its fields are in a fixed order, and what has its usual value is left out: the
//! same object always has the same text. Reading takes what it knows and passes over what it does not.

mod access;
mod lock;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(super) use self::access::AccessList;
pub(super) use self::lock::ObjectLock;

use crate::error::{Error, ErrorKind, Result};
use crate::model::Metadata;

/// The name of the attribute.
pub(super) const ATTRIBUTE: &str = "backupkit.s3";
/// What the attribute is written as.
const VERSION: u32 = 1;
/// Servers allow a few KiB of metadata and tags, some of them more. A larger attribute is neither
/// written nor read.
const MOST_BYTES: usize = 64 << 10;
/// What a server says of an object whose type nobody named.
const USUAL_TYPE: &str = "binary/octet-stream";
const USUAL_CLASS: &str = "STANDARD";

/// What a node keeps of an object, or a directory of its marker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ObjectRecord {
    #[serde(rename = "v")]
    pub(super) version: u32,
    /// What tells that the bytes are those of an earlier snapshot; see [`fingerprint`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) fingerprint: String,
    /// The entity tag as the server gives it, in quotes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) etag: String,
    #[serde(rename = "sc", skip_serializing_if = "Option::is_none")]
    pub(super) storage_class: Option<String>,
    /// `None` is `binary/octet-stream`: say so when the object is written again, since clients have
    /// another default.
    #[serde(rename = "ct", skip_serializing_if = "Option::is_none")]
    pub(super) content_type: Option<String>,
    #[serde(rename = "ce", skip_serializing_if = "Option::is_none")]
    pub(super) content_encoding: Option<String>,
    #[serde(rename = "cl", skip_serializing_if = "Option::is_none")]
    pub(super) content_language: Option<String>,
    #[serde(rename = "cd", skip_serializing_if = "Option::is_none")]
    pub(super) content_disposition: Option<String>,
    #[serde(rename = "cc", skip_serializing_if = "Option::is_none")]
    pub(super) cache_control: Option<String>,
    /// As the server gives it, which need not be a date.
    #[serde(rename = "exp", skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<String>,
    #[serde(rename = "wr", skip_serializing_if = "Option::is_none")]
    pub(super) website_redirect: Option<String>,
    /// Metadata of users, by name without `x-amz-meta-`; values as the server gives them.
    #[serde(rename = "meta", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) user_metadata: BTreeMap<String, String>,
    /// Whether there is metadata that could not be read or kept.
    #[serde(rename = "incomplete", skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_incomplete: bool,
    /// Tags by name; `None` if nobody asked for them, or nobody may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tags: Option<BTreeMap<String, String>>,
    /// What keeps it from being deleted; nothing, too, if nobody may know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lock: Option<ObjectLock>,
    /// Who may do what with it, if that is unusual; `None`, too, if nobody asked for it, or nobody may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) acl: Option<AccessList>,
    /// How many bytes each of the parts has that it was written in, but for the last one.
    #[serde(rename = "parts", skip_serializing_if = "Option::is_none")]
    pub(super) part_bytes: Option<u64>,
    /// How the server encrypts it, if it says so and it is not its usual way.
    #[serde(rename = "sse", skip_serializing_if = "Option::is_none")]
    pub(super) encryption: Option<String>,
    /// The key that it encrypts it with.
    #[serde(rename = "kms", skip_serializing_if = "Option::is_none")]
    pub(super) encryption_key: Option<String>,
    /// The part of the key that the name does not tell.
    #[serde(rename = "seg", skip_serializing_if = "Option::is_none")]
    pub(super) part: Option<String>,
}

/// What the node of a directory keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct DirectoryRecord {
    #[serde(rename = "v")]
    version: u32,
    /// The part of the key that the name does not tell.
    #[serde(rename = "seg", skip_serializing_if = "Option::is_none")]
    pub(super) part: Option<String>,
    /// The object without bytes whose key is that of the directory, with `/` at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) marker: Option<ObjectRecord>,
}

impl ObjectRecord {
    /// Returns a record of the version that is written.
    pub(super) fn new() -> Self {
        Self { version: VERSION, ..Self::default() }
    }

    /// What goes with an object that is ours.
    pub(super) fn of_ours(storage_class: Option<&str>) -> Self {
        let storage_class = storage_class.map(str::to_owned);
        let content_type = Some("application/octet-stream".to_owned());
        Self { storage_class, content_type, ..Self::new() }
    }

    /// What `Content-Type` was.
    pub(super) fn content_type(&self) -> &str {
        self.content_type.as_deref().unwrap_or(USUAL_TYPE)
    }

    /// Keeps the type, unless it is the usual one.
    pub(super) fn set_content_type(&mut self, content_type: Option<&str>) {
        self.content_type = content_type.filter(|text| *text != USUAL_TYPE).map(str::to_owned);
    }

    /// Keeps the storage class, unless it is the usual one.
    pub(super) fn set_storage_class(&mut self, class: Option<&str>) {
        self.storage_class =
            class.filter(|text| !text.is_empty() && *text != USUAL_CLASS).map(str::to_owned);
    }

    /// Reads the record of a file; nothing if its node has none, such as in a snapshot of a folder.
    ///
    /// # Errors
    /// `Corrupt` if it is none that we write.
    pub(super) fn of(metadata: &Metadata) -> Result<Option<Self>> {
        read(metadata)
    }

    /// Puts the record into metadata. What is too large is left out, and the record says so.
    pub(super) fn put_into(mut self, metadata: &mut Metadata) -> Result<()> {
        if encoded_len(&self)? > MOST_BYTES {
            self.leave_out();
        }
        write(&self, metadata)
    }

    /// Leaves out what may be of any length.
    fn leave_out(&mut self) {
        *self = Self {
            version: self.version,
            fingerprint: std::mem::take(&mut self.fingerprint),
            etag: std::mem::take(&mut self.etag),
            storage_class: self.storage_class.take(),
            lock: self.lock.take(),
            part_bytes: self.part_bytes.take(),
            part: self.part.take(),
            is_incomplete: true,
            ..Self::default()
        };
    }
}

impl DirectoryRecord {
    /// Returns a record; nothing if there is nothing to keep.
    pub(super) fn new(part: Option<String>, marker: Option<ObjectRecord>) -> Option<Self> {
        let is_needed = part.is_some() || marker.is_some();
        is_needed.then_some(Self { version: VERSION, part, marker })
    }

    /// Reads the record of a directory; nothing if its node has none.
    ///
    /// # Errors
    /// `Corrupt` if it is none that we write.
    pub(super) fn of(metadata: &Metadata) -> Result<Option<Self>> {
        read(metadata)
    }

    /// Puts the record into metadata. What is too large is left out, and the record says so.
    pub(super) fn put_into(mut self, metadata: &mut Metadata) -> Result<()> {
        if encoded_len(&self)? > MOST_BYTES
            && let Some(marker) = &mut self.marker
        {
            marker.leave_out();
        }
        write(&self, metadata)
    }
}

/// What tells two versions of an object apart: its tag, and when it was written.
pub(super) fn fingerprint(etag: &str, modified: &str) -> String {
    format!("{modified} {}", etag.trim_matches('"'))
}

/// How many parts an object was written in, as its entity tag tells; nothing if that is not one of parts.
pub(super) fn parts_of(etag: &str) -> Option<u64> {
    let (_, count) = etag.trim_matches('"').rsplit_once('-')?;
    count.parse().ok().filter(|count| *count > 0)
}

fn read<T: for<'de> Deserialize<'de>>(metadata: &Metadata) -> Result<Option<T>> {
    let Some(text) = metadata.attributes.get(ATTRIBUTE) else { return Ok(None) };
    let refused = |why| Err(Error::corrupt("the attribute of an object", why));
    if text.get().len() > MOST_BYTES {
        return refused("it is too large");
    }
    match serde_json::from_str(text.get()) {
        Ok(record) => Ok(Some(record)),
        Err(_) => refused("it is not one that this program writes"),
    }
}

fn write(record: &impl Serialize, metadata: &mut Metadata) -> Result<()> {
    let value = serde_json::value::to_raw_value(record).map_err(unwritten)?;
    metadata.attributes.insert(ATTRIBUTE.to_owned(), value);
    Ok(())
}

fn encoded_len(record: &impl Serialize) -> Result<usize> {
    let value: Box<RawValue> = serde_json::value::to_raw_value(record).map_err(unwritten)?;
    Ok(value.get().len())
}

fn unwritten(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Internal, "cannot write the attribute of an object").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FileMode, FileTime};

    fn metadata() -> Metadata {
        Metadata::new(FileMode::FILE, FileTime::from_unix(0, 0))
    }

    fn with(text: &str) -> Metadata {
        let mut metadata = metadata();
        let value = RawValue::from_string(text.to_owned()).unwrap();
        metadata.attributes.insert(ATTRIBUTE.to_owned(), value);
        metadata
    }

    #[test]
    fn an_ordinary_object_keeps_little() {
        let mut record = ObjectRecord::new();
        record.etag = "\"e\"".to_owned();
        record.fingerprint = fingerprint(&record.etag, "2026-01-01T00:00:00Z");
        record.set_content_type(Some(USUAL_TYPE));
        record.set_storage_class(Some(USUAL_CLASS));
        let mut metadata = metadata();
        record.clone().put_into(&mut metadata).unwrap();
        assert_eq!(
            metadata.attributes[ATTRIBUTE].get(),
            r#"{"v":1,"fingerprint":"2026-01-01T00:00:00Z e","etag":"\"e\""}"#
        );
        let back = ObjectRecord::of(&metadata).unwrap().unwrap();
        assert_eq!(back, record);
        assert_eq!((back.content_type(), &back.storage_class), (USUAL_TYPE, &None));
    }

    #[test]
    fn all_that_an_object_has_comes_back() {
        let text = |text: &str| Some(text.to_owned());
        let mut record = ObjectRecord {
            content_encoding: text("gzip"),
            content_language: text("de, en"),
            content_disposition: text("attachment; filename=\"ä\u{2028}<&>.txt\""),
            cache_control: text("no-store"),
            expires: text("never"),
            website_redirect: text("/elsewhere"),
            user_metadata: [("a".to_owned(), "=?UTF-8?Q?=C3=A4?=".to_owned())].into(),
            tags: Some([("k".to_owned(), "v".to_owned())].into()),
            lock: ObjectLock::new(
                Some("GOVERNANCE"),
                Some(&aws_sdk_s3::primitives::DateTime::from_secs(1_900_000_000)),
                true,
            ),
            acl: serde_json::from_str(r#"{"READ":["id=x","owner"]}"#).unwrap(),
            part_bytes: Some(5 << 20),
            encryption: text("aws:kms"),
            encryption_key: text("arn:x"),
            part: text("long"),
            ..ObjectRecord::new()
        };
        record.set_content_type(Some("text/plain"));
        record.set_storage_class(Some("GLACIER_IR"));
        let mut file = metadata();
        record.clone().put_into(&mut file).unwrap();
        assert_eq!(ObjectRecord::of(&file).unwrap().unwrap(), record);
        let directory = DirectoryRecord::new(text("long"), Some(record)).unwrap();
        let mut folder = metadata();
        directory.clone().put_into(&mut folder).unwrap();
        assert_eq!(DirectoryRecord::of(&folder).unwrap().unwrap(), directory);
        assert_eq!(DirectoryRecord::new(None, None), None);
    }

    #[test]
    fn what_is_not_known_is_passed_over() {
        let read = ObjectRecord::of(&with(r#"{"v":7,"etag":"e","later":{"x":[1]}}"#)).unwrap();
        assert_eq!(read.unwrap().etag, "e");
        assert_eq!(ObjectRecord::of(&metadata()).unwrap(), None);
        for text in ["1", r#"{"etag":1}"#, r#"["v"]"#] {
            assert!(ObjectRecord::of(&with(text)).unwrap_err().is(ErrorKind::Corrupt), "{text}");
        }
        let large = format!(r#"{{"etag":"{}"}}"#, "e".repeat(MOST_BYTES));
        assert!(ObjectRecord::of(&with(&large)).is_err());
    }

    #[test]
    fn what_is_too_large_is_left_out_and_told() {
        let mut record = ObjectRecord::new();
        record.etag = "e".to_owned();
        record.user_metadata.insert("a".to_owned(), "x".repeat(MOST_BYTES));
        let mut file = metadata();
        record.clone().put_into(&mut file).unwrap();
        let back = ObjectRecord::of(&file).unwrap().unwrap();
        assert!(back.is_incomplete && back.user_metadata.is_empty() && back.etag == "e");
        let mut folder = metadata();
        DirectoryRecord::new(None, Some(record)).unwrap().put_into(&mut folder).unwrap();
        assert!(DirectoryRecord::of(&folder).unwrap().unwrap().marker.unwrap().is_incomplete);
    }
}
