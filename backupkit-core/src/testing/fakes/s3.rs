//! A bucket: raw key order, two listings side by side, entity tags.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::json;
use serde_json::value::to_raw_value;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Entry, EntryPath, FileMode, FileTime, Fingerprint, Metadata, Origin};
use crate::probe::Probe;
use crate::source::{
    Body, ListError, Listed, ListedItem, OpenContext, RangedBody, Segment, Source,
    SourceCapabilities, SourceView,
};
use crate::testing::{healthy, lock, random_bytes};
use crate::token::{CancelToken, ListToken, ViewToken};

const BUCKET: &[u8] = b"bucket";
const ATTRIBUTE: &str = "backupkit.s3";

/// A source that behaves as an S3 bucket does. Clones are the same bucket.
///
/// Keys come in byte order, in which `a-b` stands before `a/x`. Two halves of the keys are listed side
/// by side, so that directories interleave. A body is of the listed version or `SourceChanged`.
#[derive(Debug, Clone)]
pub struct FakeS3 {
    objects: Objects,
}

#[derive(Clone)]
enum Objects {
    Stored(Arc<Mutex<BTreeMap<String, Bytes>>>),
    Generated { count: u64, len_bytes: usize },
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").finish_non_exhaustive()
    }
}

impl Default for FakeS3 {
    fn default() -> Self {
        Self { objects: Objects::Stored(Arc::default()) }
    }
}

impl FakeS3 {
    /// Returns an empty bucket.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a bucket of `count` objects of `len_bytes` each, a thousand in a folder, that are made
    /// up when asked for.
    pub fn generated(count: u64, len_bytes: usize) -> Self {
        Self { objects: Objects::Generated { count, len_bytes } }
    }

    /// Adds or replaces an object; does nothing to a generated bucket.
    pub fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        if let Objects::Stored(objects) = &self.objects {
            lock(objects).insert(key.to_owned(), bytes.into());
        }
    }

    /// Removes an object; does nothing to a generated bucket.
    pub fn remove(&self, key: &str) {
        if let Objects::Stored(objects) = &self.objects {
            lock(objects).remove(key);
        }
    }

    /// Where the object of a key is listed.
    pub fn path(key: &str) -> EntryPath {
        EntryPath::from_names([BUCKET].into_iter().chain(key.split('/').map(str::as_bytes)))
    }

    fn object(&self, key: &str) -> Option<Bytes> {
        match &self.objects {
            Objects::Stored(objects) => lock(objects).get(key).cloned(),
            Objects::Generated { len_bytes, .. } => {
                let number = key.rsplit('/').next()?.parse().ok()?;
                Some(random_bytes(number, *len_bytes))
            }
        }
    }

    /// The keys as a listing sees them from its start to its end.
    fn keys(&self) -> Keys {
        match &self.objects {
            Objects::Stored(objects) => Keys::Stored(lock(objects).keys().cloned().collect()),
            Objects::Generated { count, .. } => Keys::Generated(*count),
        }
    }
}

#[derive(Debug)]
enum Keys {
    Stored(Vec<String>),
    Generated(u64),
}

impl Keys {
    fn len(&self) -> u64 {
        match self {
            Self::Stored(keys) => keys.len() as u64,
            Self::Generated(count) => *count,
        }
    }

    fn path(&self, index: u64) -> Option<(String, EntryPath)> {
        let key = match self {
            Self::Stored(keys) => keys.get(usize::try_from(index).ok()?)?.clone(),
            // Fixed widths: the order of the numbers is the order of the keys.
            Self::Generated(count) if index < *count => {
                format!("folder-{:06}/{index:09}", index / 1_000)
            }
            Self::Generated(_) => return None,
        };
        let path = FakeS3::path(&key);
        Some((key, path))
    }
}

fn entity_tag(bytes: &[u8]) -> String {
    crate::model::BlobId::of(bytes).to_string()[..32].to_owned()
}

#[async_trait]
impl Source for FakeS3 {
    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities::new(16)
    }

    fn origin(&self) -> Origin {
        Origin {
            scheme: String::from("s3"),
            host: String::from("s3.example"),
            paths: vec![String::from("s3://bucket")],
        }
    }

    async fn check(&self) -> Result<Probe> {
        Ok(healthy("list the bucket"))
    }

    async fn open(&self, cx: OpenContext) -> Result<Arc<dyn SourceView>> {
        Ok(Arc::new(View { bucket: self.clone(), cancel: cx.cancel }))
    }
}

#[derive(Debug)]
struct View {
    bucket: FakeS3,
    cancel: CancelToken,
}

/// How far the two listings are, and how many items after the last key were given: what a token
/// holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    lower: u64,
    upper: u64,
    given: u64,
}

impl Cursor {
    fn to_token(self) -> ListToken {
        let words = [self.lower, self.upper, self.given].map(u64::to_le_bytes);
        ListToken::new(words.concat())
    }

    fn from_token(token: &ListToken) -> Option<Self> {
        let (words, rest) = token.as_bytes().as_chunks::<8>();
        match (words, rest) {
            ([lower, upper, given], []) => Some(Self {
                lower: u64::from_le_bytes(*lower),
                upper: u64::from_le_bytes(*upper),
                given: u64::from_le_bytes(*given),
            }),
            _ => None,
        }
    }
}

struct Lister {
    bucket: FakeS3,
    keys: Keys,
    middle: u64,
    cancel: CancelToken,
    cursor: Cursor,
    over: bool,
}

impl Lister {
    /// The next key of the half that is behind, and the directories that are complete with it.
    fn step(&self, cursor: Cursor) -> Option<(Vec<ListedItem>, Cursor)> {
        let lower_open = cursor.lower < self.middle;
        let upper_open = cursor.upper < self.keys.len();
        let take_lower = lower_open && (!upper_open || cursor.lower <= cursor.upper - self.middle);
        let index = match (take_lower, upper_open) {
            (true, _) => cursor.lower,
            (false, true) => cursor.upper,
            (false, false) => return None,
        };
        let mut next = Cursor { given: 0, ..cursor };
        if take_lower {
            next.lower += 1;
        } else {
            next.upper += 1;
        }
        let (key, path) = self.keys.path(index)?;
        let mut items = Vec::new();
        // An object that went away since the listing began is not listed.
        if let Some(bytes) = self.bucket.object(&key) {
            items.push(ListedItem::Entry(Box::new(entry(key, path.clone(), &bytes))));
        }
        let mut above = path.parent();
        while let Some(directory) = above.filter(|directory| !directory.is_empty()) {
            // Keys of a directory stand together, so it is complete if neither half has its next
            // key in it, and it does not reach from one half into what is left of the other.
            let still_in = |index: u64, end: u64| {
                index < end
                    && self.keys.path(index).is_some_and(|(_, path)| path.starts_with(&directory))
            };
            let lower_left = next.lower < self.middle;
            if still_in(next.lower, self.middle)
                || still_in(next.upper, self.keys.len())
                || (lower_left && still_in(self.middle - 1, self.middle))
            {
                break;
            }
            above = directory.parent();
            items.push(ListedItem::DirDone {
                path: directory,
                metadata: Box::new(Metadata::new(FileMode::DIRECTORY, FileTime::EPOCH)),
            });
        }
        Some((items, next))
    }

    /// The items of one step that were not given yet, each with the token to go on behind it.
    fn batch(&mut self) -> Option<Vec<Result<Listed, ListError>>> {
        if self.over {
            return None;
        }
        if let Err(error) = self.cancel.check() {
            self.over = true;
            return Some(vec![Err(error.into())]);
        }
        let (items, next) = self.step(self.cursor)?;
        let mut batch = Vec::with_capacity(items.len());
        let (before, count) = (self.cursor, items.len() as u64);
        for (n, item) in (1..).zip(items) {
            if n > before.given {
                let cursor = if n == count { next } else { Cursor { given: n, ..before } };
                let token = cursor.to_token();
                batch.push(Ok(Listed { item, token }));
            }
        }
        self.cursor = next;
        Some(batch)
    }
}

fn entry(key: String, path: EntryPath, bytes: &Bytes) -> Entry {
    let tag = entity_tag(bytes);
    let modified = FileTime::from_unix(1_700_000_000, 0);
    let mut metadata = Metadata::new(FileMode::FILE, modified);
    if let Ok(attribute) = to_raw_value(&json!({ "fingerprint": tag })) {
        metadata.attributes.insert(ATTRIBUTE.to_owned(), attribute);
    }
    Entry {
        handle: Some(key),
        fingerprint: Fingerprint::Attribute {
            attribute: ATTRIBUTE.to_owned(),
            value: tag,
            others: Vec::new(),
        },
        ..Entry::file(path, metadata, bytes.len() as u64)
    }
}

#[async_trait]
impl SourceView for View {
    fn token(&self) -> ViewToken {
        // A bucket has no views: what is listed is what is there.
        ViewToken::new(*b"bucket")
    }

    fn list(&self, after: Option<&ListToken>) -> BoxStream<'static, Result<Listed, ListError>> {
        let keys = self.bucket.keys();
        let middle = keys.len() / 2;
        let start = Cursor { lower: 0, upper: middle, given: 0 };
        let lister = Lister {
            bucket: self.bucket.clone(),
            keys,
            middle,
            cancel: self.cancel.clone(),
            cursor: after.and_then(Cursor::from_token).unwrap_or(start),
            over: false,
        };
        stream::unfold(lister, |mut lister| async move {
            let batch = lister.batch()?;
            Some((stream::iter(batch), lister))
        })
        .flatten()
        .boxed()
    }

    async fn body(&self, entry: &Entry, _segment: Option<&Segment>) -> Result<Body> {
        self.cancel.check()?;
        let body = ObjectBody { bucket: self.bucket.clone(), entry: entry.clone() };
        body.read(0..0)?;
        Ok(Body::ranged(body))
    }
}

#[derive(Debug)]
struct ObjectBody {
    bucket: FakeS3,
    entry: Entry,
}

impl ObjectBody {
    /// As a request with `If-Match`.
    fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let path = &self.entry.path;
        let key = self.entry.handle.as_deref().unwrap_or_default();
        let Some(bytes) = self.bucket.object(key) else {
            return Err(Error::new(ErrorKind::NotFound, format!("no object {path}")));
        };
        let listed = match &self.entry.fingerprint {
            Fingerprint::Attribute { value, .. } => value.as_str(),
            _ => "",
        };
        if entity_tag(&bytes) != listed {
            return Err(Error::new(
                ErrorKind::SourceChanged,
                format!("{path} has changed since it was listed"),
            ));
        }
        let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        let (start, end) = (index(range.start), index(range.end));
        Ok(bytes.slice(start.min(end)..end))
    }
}

#[async_trait]
impl RangedBody for ObjectBody {
    fn len_bytes(&self) -> u64 {
        self.entry.size_bytes
    }

    async fn read_at(&self, range: Range<u64>) -> Result<Bytes> {
        self.read(range)
    }
}
