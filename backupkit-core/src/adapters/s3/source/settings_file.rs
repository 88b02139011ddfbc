//! The settings of a bucket, as a file beside its directory: `pictures%bucket.json` beside `pictures`.
//!
//! An unchanged bucket makes the same bytes. They are asked for once in a view, behind all objects; what
//! cannot be known is said in the file, and never fails a backup.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::super::bucket::{Bucket, Configured, Setting};
use super::super::keys;
use super::super::object::{ATTRIBUTE, ObjectRecord};
use super::Shared;
use super::body::time;
use super::listing::followed;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Entry, EntryKind, EntryPath, FileMode, FileTime, Fingerprint, Metadata};
use crate::source::{Body, ListError, Listed, ListedItem};
use crate::token::ListToken;

/// The handle of its entry. Those of objects are JSON.
const HANDLE: &str = "settings of the bucket";
/// The list token behind it: none of those of listings begins with it.
const TOKEN: &[u8; 1] = &[4];
const VERSION: u32 = 1;
/// Settings that are asked for at the same time.
const AT_ONCE: usize = 8;
/// A setting that cannot be found out is asked for so often.
const ATTEMPTS: usize = 2;

/// What the file holds.
#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    bucket: &'a str,
    settings: &'a BTreeMap<&'static str, Configured>,
}

/// Whether nothing follows a token.
pub(super) fn is_behind(token: &ListToken) -> bool {
    token.as_bytes() == TOKEN
}

/// A listing, and the file at its end.
pub(super) fn append(
    shared: &Arc<Shared>,
    listing: BoxStream<'static, Result<Listed, ListError>>,
) -> BoxStream<'static, Result<Listed, ListError>> {
    let shared = Arc::clone(shared);
    followed(listing, || {
        stream::once(async move { list(&shared).await.map_err(ListError::from) }).boxed()
    })
}

/// The bytes of the file.
pub(super) async fn open(shared: &Shared, entry: &Entry) -> Result<Option<Body>> {
    if entry.handle.as_deref() != Some(HANDLE) {
        return Ok(None);
    }
    let bytes = bytes(shared).await?;
    let now = entry_of(shared, &bytes).await?;
    Ok(Some(Body::in_memory(bytes).with_refreshed(now)))
}

async fn list(shared: &Shared) -> Result<Listed> {
    let bytes = shared.cancel.unless_cancelled(bytes(shared)).await?;
    let entry = entry_of(shared, &bytes).await?;
    Ok(Listed { item: ListedItem::Entry(Box::new(entry)), token: ListToken::new(TOKEN.to_vec()) })
}

async fn entry_of(shared: &Shared, bytes: &Bytes) -> Result<Entry> {
    let mut path = EntryPath::root();
    path.push(keys::settings_name(&shared.bucket.settings().bucket).as_bytes());
    let fingerprint = format!("sha256 {}", hex::encode(Sha256::digest(bytes)));
    let since = since(shared, &path, &fingerprint).await;
    let mut metadata = Metadata::new(FileMode::FILE, since);
    let record = ObjectRecord { fingerprint: fingerprint.clone(), ..ObjectRecord::new() };
    record.put_into(&mut metadata)?;
    Ok(Entry {
        path,
        handle: Some(HANDLE.to_owned()),
        kind: EntryKind::File,
        metadata,
        size_bytes: bytes.len() as u64,
        fingerprint: Fingerprint::Attribute {
            attribute: ATTRIBUTE.to_owned(),
            value: fingerprint,
            others: Vec::new(),
        },
    })
}

/// When the settings were first seen as they are: servers do not tell when they were made.
async fn since(shared: &Shared, path: &EntryPath, fingerprint: &str) -> FileTime {
    let now = time(shared.moment.as_second());
    let Some(parent) = &shared.parent else { return now };
    // What cannot be read there is as good as not there.
    let Ok(Some(earlier)) = parent.find(path).await else { return now };
    match ObjectRecord::of(&earlier.metadata) {
        Ok(Some(record)) if record.fingerprint == fingerprint => earlier.metadata.mtime,
        _ => now,
    }
}

async fn bytes(shared: &Shared) -> Result<Bytes> {
    shared.settings_file.get_or_try_init(|| read(shared)).await.cloned()
}

async fn read(shared: &Shared) -> Result<Bytes> {
    // What a server does not answer at once, it may not know.
    let bucket = &shared.hasty;
    let settings: BTreeMap<_, _> = stream::iter(Setting::ALL)
        .map(|setting| async move { (setting.name(), ask(bucket, setting).await) })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let named = |wanted: &Configured| -> Vec<&'static str> {
        let found = settings.iter().filter(|(_, configured)| *configured == wanted);
        found.map(|(name, _)| *name).collect()
    };
    shared.notes.settings(named(&Configured::Denied), named(&Configured::Failed));
    let bucket = &*shared.bucket.settings().bucket;
    let document = Document { version: VERSION, bucket, settings: &settings };
    let mut text = serde_json::to_vec_pretty(&document).map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot write the settings of a bucket").with_source(error)
    })?;
    text.push(b'\n');
    Ok(text.into())
}

async fn ask(bucket: &Bucket, setting: Setting) -> Configured {
    let mut configured = Configured::Failed;
    for _ in 0..ATTEMPTS {
        configured = bucket.configured(setting).await;
        if configured != Configured::Failed {
            break;
        }
    }
    configured
}
