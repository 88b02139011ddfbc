//! A source in memory, with hooks for what real sources do at bad moments.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};

use super::listing::Listing;
use super::{PausePoint, healthy, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Fingerprint;
use crate::model::{Entry, EntryKind, EntryPath, FileMode, FileTime, Metadata, Origin};
use crate::probe::Probe;
use crate::source::{
    Body, BodyContent, BodyEnd, ListError, Listed, OpenContext, Outcome, Piece, RangedBody, Source,
    SourceCapabilities, SourceNotes, SourceView, StreamBody,
};
use crate::token::{CancelToken, ListToken, ReadToken, ViewToken};

/// A [`Source`] of what the test puts into it. Clones are the same source.
///
/// It behaves as a file system does: a body keeps the bytes that its entry had when it was opened and
/// says at the end if they changed. With [`Self::with_validators`] it behaves as an object store does:
/// of another version than the listed one it gives nothing.
#[derive(Debug, Clone, Default)]
pub struct MemorySource {
    validators: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<EntryPath, File>,
    late_files: BTreeSet<EntryPath>,
    directories: BTreeSet<EntryPath>,
    epoch: u64,
    changes: u32,
    opened: u64,
    outcomes: Vec<Outcome>,
    bytes_read: BTreeMap<EntryPath, u64>,
    pauses: Vec<(EntryPath, u64, PausePoint)>,
}

#[derive(Debug, Clone)]
struct File {
    kind: EntryKind,
    bytes: Bytes,
    /// Streams have a size of their pieces.
    piece_bytes: Option<usize>,
    version: u32,
}

impl MemorySource {
    /// Returns an empty source.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives only bytes of the listed version, else `SourceChanged`.
    #[must_use]
    pub fn with_validators(mut self) -> Self {
        self.validators = true;
        self
    }

    /// Adds a file that is read at any place.
    #[must_use]
    pub fn with_file(self, path: &EntryPath, bytes: impl Into<Bytes>) -> Self {
        self.set(path, bytes);
        self
    }

    /// Adds a file that is read in order, in pieces of this size with a token each.
    #[must_use]
    pub fn with_stream(
        self,
        path: &EntryPath,
        bytes: impl Into<Bytes>,
        piece_bytes: usize,
    ) -> Self {
        self.insert(path, EntryKind::File, bytes.into(), Some(piece_bytes.max(1)));
        self
    }

    /// Adds a file that is listed after all else is read.
    #[must_use]
    pub fn with_late_file(self, path: &EntryPath, bytes: impl Into<Bytes>) -> Self {
        self.set(path, bytes);
        lock(&self.state).late_files.insert(path.clone());
        self
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn with_link(self, path: &EntryPath, target: impl Into<Vec<u8>>) -> Self {
        let target = target.into();
        self.insert(path, EntryKind::Symlink { target }, Bytes::new(), None);
        self
    }

    /// Adds a directory, which may be empty.
    #[must_use]
    pub fn with_directory(self, path: &EntryPath) -> Self {
        lock(&self.state).directories.insert(path.clone());
        self
    }

    /// Adds a file, or gives it new bytes.
    pub fn set(&self, path: &EntryPath, bytes: impl Into<Bytes>) {
        let piece_bytes = lock(&self.state).files.get(path).and_then(|f| f.piece_bytes);
        self.insert(path, EntryKind::File, bytes.into(), piece_bytes);
    }

    /// Removes a file.
    pub fn remove(&self, path: &EntryPath) {
        lock(&self.state).files.remove(path);
    }

    /// Makes views opened so far impossible to resume.
    pub fn forget_views(&self) {
        lock(&self.state).epoch += 1;
    }

    /// A read that reaches the byte at `offset` of this file waits at the point first.
    pub fn pause_at(&self, path: &EntryPath, offset: u64, point: &PausePoint) {
        let pause = (path.clone(), offset, point.clone());
        lock(&self.state).pauses.push(pause);
    }

    /// How many bytes were read in all.
    pub fn bytes_read(&self) -> u64 {
        lock(&self.state).bytes_read.values().sum()
    }

    /// How many bytes of one file were read.
    pub fn bytes_read_of(&self, path: &EntryPath) -> u64 {
        let state = lock(&self.state);
        state.bytes_read.get(path).copied().unwrap_or_default()
    }

    /// How many views were opened.
    pub fn views_opened(&self) -> u64 {
        lock(&self.state).opened
    }

    /// How views were closed, in order.
    pub fn outcomes(&self) -> Vec<Outcome> {
        lock(&self.state).outcomes.clone()
    }

    fn insert(&self, path: &EntryPath, kind: EntryKind, bytes: Bytes, piece_bytes: Option<usize>) {
        let mut state = lock(&self.state);
        state.changes += 1;
        let file = File { kind, bytes, piece_bytes, version: state.changes };
        state.files.insert(path.clone(), file);
    }

    /// Waits where the test wants it, and counts.
    async fn reading(&self, path: &EntryPath, range: Range<u64>) {
        let points: Vec<_> = {
            let state = lock(&self.state);
            let reached =
                |(of, at, _): &&(EntryPath, u64, PausePoint)| of == path && range.contains(at);
            let reached = state.pauses.iter().filter(reached);
            reached.map(|(_, _, point)| point.clone()).collect()
        };
        for point in points {
            point.pass().await;
        }
        let read = range.end.saturating_sub(range.start);
        *lock(&self.state).bytes_read.entry(path.clone()).or_default() += read;
    }
}

impl State {
    fn entry(path: &EntryPath, file: &File) -> Entry {
        // Each change is a second later, so that stat shows it.
        let modified = FileTime::from_unix(1_000_000_000 + i64::from(file.version), 0);
        let mode = match file.kind {
            EntryKind::Symlink { .. } => FileMode::from_unix(0o120_777),
            _ => FileMode::FILE,
        };
        let mut metadata = Metadata::new(mode, modified);
        metadata.inode = u64::from(file.version);
        Entry {
            handle: Some(file.version.to_string()),
            kind: file.kind.clone(),
            fingerprint: Fingerprint::Stat,
            ..Entry::file(path.clone(), metadata, file.bytes.len() as u64)
        }
    }
}

#[async_trait]
impl Source for MemorySource {
    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities::new(4)
    }

    fn origin(&self) -> Origin {
        Origin {
            scheme: String::from("memory"),
            host: String::from("memory"),
            paths: vec![String::from("/")],
        }
    }

    async fn check(&self) -> Result<Probe> {
        Ok(healthy("use memory"))
    }

    async fn open(&self, cx: OpenContext) -> Result<Arc<dyn SourceView>> {
        let mut state = lock(&self.state);
        let token = ViewToken::new(state.epoch.to_le_bytes());
        if cx.resume.is_some_and(|resume| resume != token) {
            return Err(Error::new(ErrorKind::SourceChanged, "this view is gone"));
        }
        state.opened += 1;
        Ok(Arc::new(View { source: self.clone(), token, cancel: cx.cancel }))
    }
}

#[derive(Debug)]
struct View {
    source: MemorySource,
    token: ViewToken,
    cancel: CancelToken,
}

impl View {
    /// The listing as the source is now, and what of it comes late.
    fn listing(&self) -> (Listing, Vec<Listed>) {
        let guard = lock(&self.source.state);
        let state = &*guard;
        let entries = |late: bool| {
            let files = state.files.iter();
            files
                .filter(move |(path, _)| state.late_files.contains(*path) == late)
                .map(move |(path, file)| State::entry(path, file))
        };
        let root = EntryPath::root();
        let late = Listing::new(&root, entries(true), []);
        let directories = state.directories.iter().cloned();
        let mut listing = Listing::new(&root, entries(false), directories);
        let late = late.behind(None);
        for listed in &late {
            // A directory is done once its late files are.
            if let crate::source::ListedItem::DirDone { path, .. } = &listed.item {
                listing.remove(path);
            }
        }
        (listing, late)
    }

    fn give(&self, items: Vec<Listed>) -> BoxStream<'static, Result<Listed, ListError>> {
        let cancel = self.cancel.clone();
        let items = stream::iter(items);
        let items = items.map(move |listed| {
            cancel.check()?;
            Ok(listed)
        });
        // An error of a cancelled listing is its last item.
        items
            .scan(false, |over, item: Result<_, ListError>| {
                let give = !*over;
                *over = item.is_err();
                std::future::ready(give.then_some(item))
            })
            .boxed()
    }
}

#[async_trait]
impl SourceView for View {
    fn token(&self) -> ViewToken {
        self.token.clone()
    }

    fn list(&self, after: Option<&ListToken>) -> BoxStream<'static, Result<Listed, ListError>> {
        let (listing, _) = self.listing();
        self.give(listing.behind(after))
    }

    async fn body(&self, entry: &Entry, _segment: Option<&crate::source::Segment>) -> Result<Body> {
        self.cancel.check()?;
        let (file, now) = {
            let state = lock(&self.source.state);
            let Some(file) = state.files.get(&entry.path) else {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!("{} has vanished", entry.path),
                ));
            };
            (file.clone(), State::entry(&entry.path, file))
        };
        if self.source.validators && now.handle != entry.handle {
            return Err(changed(&entry.path));
        }
        let piece_bytes = file.piece_bytes;
        let body =
            Arc::new(FileBody { source: self.source.clone(), path: entry.path.clone(), file });
        Ok(Body {
            refreshed: (now != *entry).then(|| Box::new(now)),
            content: match piece_bytes {
                None => BodyContent::Ranged(body),
                Some(_) => BodyContent::Stream(body),
            },
        })
    }

    fn late(&self) -> BoxStream<'static, Result<Listed, ListError>> {
        let (_, late) = self.listing();
        self.give(late)
    }

    async fn close(&self, outcome: Outcome) -> Result<SourceNotes> {
        lock(&self.source.state).outcomes.push(outcome);
        Ok(SourceNotes::default())
    }
}

fn changed(path: &EntryPath) -> Error {
    Error::new(ErrorKind::SourceChanged, format!("{path} has changed since it was listed"))
}

#[derive(Debug, Clone)]
struct FileBody {
    source: MemorySource,
    path: EntryPath,
    file: File,
}

impl FileBody {
    fn is_current(&self) -> bool {
        let state = lock(&self.source.state);
        let now = state.files.get(&self.path);
        now.is_some_and(|now| now.version == self.file.version)
    }

    async fn stretch(&self, range: Range<usize>) -> Result<Bytes> {
        let length = self.file.bytes.len();
        let (start, end) = (range.start.min(length), range.end.min(length));
        let range = start as u64..end as u64;
        self.source.reading(&self.path, range).await;
        if self.source.validators && !self.is_current() {
            return Err(changed(&self.path));
        }
        if start > end {
            return Err(Error::new(ErrorKind::InvalidInput, "range ends before it starts"));
        }
        Ok(self.file.bytes.slice(start..end))
    }
}

#[async_trait]
impl RangedBody for FileBody {
    fn len_bytes(&self) -> u64 {
        self.file.bytes.len() as u64
    }

    async fn read_at(&self, range: Range<u64>) -> Result<Bytes> {
        let index = |at| usize::try_from(at).unwrap_or(usize::MAX);
        self.stretch(index(range.start)..index(range.end)).await
    }

    async fn finish(&self) -> Result<BodyEnd> {
        Ok(if self.is_current() { BodyEnd::Consistent } else { BodyEnd::Changed })
    }
}

impl StreamBody for FileBody {
    fn pieces(&self, from: Option<&ReadToken>) -> BoxStream<'static, Result<Piece>> {
        // Offset and version: after a token come only bytes of the same version.
        let start = match from.map(|token| <[u8; 12]>::try_from(token.as_bytes())) {
            None => Some(0),
            Some(Ok(token)) => {
                let (offset, version) = token.split_at(8);
                let offset = u64::from_le_bytes(offset.try_into().unwrap_or_default());
                let same = version == self.file.version.to_le_bytes();
                usize::try_from(offset).ok().filter(|_| same)
            }
            Some(Err(_)) => None,
        };
        let Some(start) = start else {
            let error = changed(&self.path);
            return stream::once(async { Err(error) }).boxed();
        };
        let body = self.clone();
        stream::try_unfold((body, start), |(body, start)| async move {
            let step = body.file.piece_bytes.unwrap_or(1);
            let bytes = body.stretch(start..start.saturating_add(step)).await?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let end = start + bytes.len();
            let mut token = (end as u64).to_le_bytes().to_vec();
            token.extend_from_slice(&body.file.version.to_le_bytes());
            let piece = Piece { bytes, token: Some(ReadToken::new(token)) };
            Ok(Some((piece, (body, end))))
        })
        .boxed()
    }
}
