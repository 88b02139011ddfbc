//! A source that does exactly what the test wrote down, also what no source may do.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use backupkit::model::{
    Entry, EntryKind, EntryPath, FileMode, FileTime, Fingerprint, Metadata, Origin,
};
use backupkit::source::{
    Body, BodyEnd, ListError, Listed, ListedItem, OpenContext, Piece, RangedBody, Segment, Source,
    SourceCapabilities, SourceView, StreamBody,
};
use backupkit::testing::PausePoint;
use backupkit::{Error, ErrorKind, ListToken, Probe, ReadToken, ViewToken};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use crate::scene::path;

/// Lists what it was told to, in that order. Clones are the same source.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scripted {
    items: Vec<Item>,
    bodies: BTreeMap<EntryPath, Bytes>,
    streams: bool,
    /// Entries that change each time they are read.
    restless: bool,
    away: bool,
    divided_by: Option<&'static str>,
    before: Option<(usize, PausePoint)>,
    memory: Arc<Memory>,
}

#[derive(Debug, Clone)]
enum Item {
    Entry(Box<Entry>),
    Done(EntryPath),
    Fails(Option<EntryPath>, ErrorKind),
}

/// How many bytes of bodies are alive, and how many were at most.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    now: AtomicUsize,
    most: AtomicUsize,
    opened: Mutex<BTreeMap<EntryPath, usize>>,
}

impl Scripted {
    pub(crate) fn file(mut self, name: &str, bytes: impl Into<Bytes>) -> Self {
        let (path, bytes) = (path(name), bytes.into());
        self.items.push(Item::Entry(Box::new(entry(&path, bytes.len()))));
        self.bodies.insert(path, bytes);
        self
    }

    /// A file that is listed with another size than it has.
    pub(crate) fn file_listed_with(mut self, name: &str, size: usize, bytes: Bytes) -> Self {
        let path = path(name);
        self.items.push(Item::Entry(Box::new(entry(&path, size))));
        self.bodies.insert(path, bytes);
        self
    }

    pub(crate) fn link(mut self, name: &str) -> Self {
        let mut link = entry(&path(name), 0);
        link.kind = EntryKind::Symlink { target: b"x".to_vec() };
        self.items.push(Item::Entry(Box::new(link)));
        self
    }

    pub(crate) fn done(mut self, name: &str) -> Self {
        self.items.push(Item::Done(path(name)));
        self
    }

    pub(crate) fn fails(mut self, name: Option<&str>, kind: ErrorKind) -> Self {
        self.items.push(Item::Fails(name.map(path), kind));
        self
    }

    /// Bodies come in order, in pieces of 100 kB.
    pub(crate) fn streams(mut self) -> Self {
        self.streams = true;
        self
    }

    pub(crate) fn restless(mut self) -> Self {
        self.restless = true;
        self
    }

    /// It cannot be opened.
    pub(crate) fn away(mut self) -> Self {
        self.away = true;
        self
    }

    /// Entries are the same if their size and times are.
    pub(crate) fn with_fingerprints(mut self) -> Self {
        for item in &mut self.items {
            if let Item::Entry(entry) = item {
                entry.fingerprint = Fingerprint::Stat;
            }
        }
        self
    }

    /// Directories whose names begin so only divide others.
    pub(crate) fn divided_by(mut self, prefix: &'static str) -> Self {
        self.divided_by = Some(prefix);
        self
    }

    /// The listing waits here before its `n`-th item, counted from 0.
    pub(crate) fn waits_before(mut self, n: usize, point: &PausePoint) -> Self {
        self.before = Some((n, point.clone()));
        self
    }

    pub(crate) fn most_bytes_alive(&self) -> usize {
        self.memory.most.load(Ordering::SeqCst)
    }

    pub(crate) fn opened(&self, name: &str) -> usize {
        let opened = self.memory.opened.lock().unwrap();
        opened.get(&path(name)).copied().unwrap_or_default()
    }
}

fn entry(path: &EntryPath, size: usize) -> Entry {
    let metadata = Metadata::new(FileMode::FILE, FileTime::from_unix(1_000_000_000, 0));
    Entry::file(path.clone(), metadata, size as u64)
}

#[async_trait]
impl Source for Scripted {
    fn capabilities(&self) -> SourceCapabilities {
        let capabilities = SourceCapabilities::new(4);
        match self.divided_by {
            Some(prefix) => capabilities.with_transparent_directories(prefix),
            None => capabilities,
        }
    }

    fn origin(&self) -> Origin {
        Origin {
            scheme: "memory".to_owned(),
            host: "memory".to_owned(),
            paths: vec!["/".to_owned()],
        }
    }

    async fn check(&self) -> backupkit::Result<Probe> {
        Ok(Probe::default())
    }

    async fn open(&self, _: OpenContext) -> backupkit::Result<Arc<dyn SourceView>> {
        if self.away {
            return Err(Error::new(ErrorKind::Unavailable, "nobody answers"));
        }
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl SourceView for Scripted {
    fn token(&self) -> ViewToken {
        ViewToken::new(*b"view")
    }

    fn list(&self, after: Option<&ListToken>) -> BoxStream<'static, Result<Listed, ListError>> {
        let from = after.map_or(0, |token| usize::from(token.as_bytes()[0]) + 1);
        let items: Vec<_> = self.items.iter().cloned().enumerate().skip(from).collect();
        let before = self.before.clone();
        stream::iter(items)
            .then(move |(number, item)| {
                let before = before.clone();
                async move {
                    if let Some((at, point)) = before
                        && at == number
                    {
                        point.pass().await;
                    }
                    let token = ListToken::new([u8::try_from(number).unwrap_or(u8::MAX)]);
                    let item = match item {
                        Item::Entry(entry) => ListedItem::Entry(entry),
                        Item::Done(path) => ListedItem::DirDone {
                            path,
                            metadata: Box::new(Metadata::new(FileMode::DIRECTORY, FileTime::EPOCH)),
                        },
                        Item::Fails(path, kind) => {
                            let error = Error::new(kind, "scripted");
                            return Err(ListError { path, error });
                        }
                    };
                    Ok(Listed { item, token })
                }
            })
            .boxed()
    }

    async fn body(&self, entry: &Entry, _: Option<&Segment>) -> backupkit::Result<Body> {
        let path = entry.path.clone();
        *self.memory.opened.lock().unwrap().entry(path).or_default() += 1;
        let Some(bytes) = self.bodies.get(&entry.path) else {
            return Err(Error::new(ErrorKind::NotFound, "no such file"));
        };
        let body = ScriptedBody {
            bytes: bytes.clone(),
            restless: self.restless,
            memory: Arc::clone(&self.memory),
        };
        Ok(if self.streams { Body::stream(body) } else { Body::ranged(body) })
    }
}

#[derive(Debug, Clone)]
struct ScriptedBody {
    bytes: Bytes,
    restless: bool,
    memory: Arc<Memory>,
}

impl ScriptedBody {
    /// A copy of a stretch that counts for as long as anything holds it.
    fn counted(&self, range: Range<usize>) -> Bytes {
        let now = self.memory.now.fetch_add(range.len(), Ordering::SeqCst) + range.len();
        self.memory.most.fetch_max(now, Ordering::SeqCst);
        Bytes::from_owner(Counted {
            bytes: self.bytes[range].to_vec(),
            memory: Arc::clone(&self.memory),
        })
    }
}

struct Counted {
    bytes: Vec<u8>,
    memory: Arc<Memory>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.memory.now.fetch_sub(self.bytes.len(), Ordering::SeqCst);
    }
}

#[async_trait]
impl RangedBody for ScriptedBody {
    fn len_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn read_at(&self, range: Range<u64>) -> backupkit::Result<Bytes> {
        let at = |offset: u64| usize::try_from(offset).unwrap().min(self.bytes.len());
        Ok(self.counted(at(range.start)..at(range.end)))
    }

    async fn finish(&self) -> backupkit::Result<BodyEnd> {
        Ok(if self.restless { BodyEnd::Changed } else { BodyEnd::Consistent })
    }
}

impl StreamBody for ScriptedBody {
    fn pieces(&self, from: Option<&ReadToken>) -> BoxStream<'static, backupkit::Result<Piece>> {
        let start = from.map_or(0, |token| {
            usize::try_from(u64::from_le_bytes(token.as_bytes().try_into().unwrap())).unwrap()
        });
        let body = self.clone();
        stream::iter((start..self.bytes.len()).step_by(100_000))
            .map(move |start| {
                let end = (start + 100_000).min(body.bytes.len());
                let token = Some(ReadToken::new((end as u64).to_le_bytes()));
                let bytes = body.counted(start..end);
                Ok(Piece { bytes, token })
            })
            .boxed()
    }
}
