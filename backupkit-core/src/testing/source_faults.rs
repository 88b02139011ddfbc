//! A source that fails as planned.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};

use super::lock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Entry, EntryPath, Origin};
use crate::probe::Probe;
use crate::source::{
    Body, BodyContent, BodyEnd, ListError, Listed, ListedItem, OpenContext, Outcome, Piece,
    RangedBody, Segment, Source, SourceCapabilities, SourceNotes, SourceView, StreamBody,
};
use crate::token::{ListToken, ReadToken, ViewToken};

/// What goes wrong in a source. Clones are the same plan.
#[derive(Debug, Clone, Default)]
pub struct SourceFaults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    listed: u64,
    end_listing_at: Option<(u64, ErrorKind)>,
    unlisted: BTreeMap<EntryPath, ErrorKind>,
    unopened: BTreeMap<EntryPath, (ErrorKind, u64)>,
    unread: BTreeMap<EntryPath, (u64, ErrorKind, u64)>,
    altered: BTreeMap<EntryPath, u64>,
    is_slowed_down: bool,
}

impl SourceFaults {
    /// Returns a plan in which nothing goes wrong.
    pub fn new() -> Self {
        Self::default()
    }

    /// The `n`-th listed item of all, counted from 1, is an error that ends the listing. Once.
    pub fn end_listing_at(&self, n: u64, kind: ErrorKind) {
        lock(&self.0).end_listing_at = Some((n, kind));
    }

    /// An error is listed in place of this entry.
    pub fn fail_listing_of(&self, path: EntryPath, kind: ErrorKind) {
        lock(&self.0).unlisted.insert(path, kind);
    }

    /// The body of this entry cannot be opened, `times` times.
    pub fn fail_body(&self, path: EntryPath, kind: ErrorKind, times: u64) {
        lock(&self.0).unopened.insert(path, (kind, times));
    }

    /// Reading this entry at or behind `offset` fails, `times` times.
    pub fn fail_read_at(&self, path: EntryPath, offset: u64, kind: ErrorKind, times: u64) {
        lock(&self.0).unread.insert(path, (offset, kind, times));
    }

    /// The byte at `offset` of this entry is another one each time it is read.
    pub fn alter_byte_at(&self, path: EntryPath, offset: u64) {
        lock(&self.0).altered.insert(path, offset);
    }

    /// Whether the source asks for fewer requests from now on. It only says so.
    pub fn set_slowed_down(&self, is_slowed_down: bool) {
        lock(&self.0).is_slowed_down = is_slowed_down;
    }

    fn read(&self, path: &EntryPath, start: u64, bytes: Bytes) -> Result<Bytes> {
        let end = start + bytes.len() as u64;
        let mut state = lock(&self.0);
        if let Some((offset, kind, times)) = state.unread.get_mut(path)
            && *times > 0
            && end > *offset
        {
            *times -= 1;
            return Err(planned(*kind));
        }
        match state.altered.get(path) {
            Some(offset) if (start..end).contains(offset) => {
                let mut bytes = bytes.to_vec();
                if let Some(byte) =
                    usize::try_from(offset - start).ok().and_then(|at| bytes.get_mut(at))
                {
                    *byte = !*byte;
                }
                Ok(bytes.into())
            }
            _ => Ok(bytes),
        }
    }

    fn listed(&self, listed: Result<Listed, ListError>) -> (Result<Listed, ListError>, Continues) {
        let mut state = lock(&self.0);
        state.listed += 1;
        let number = state.listed;
        if let Some((_, kind)) = state.end_listing_at.take_if(|(at, _)| *at == number) {
            return (Err(planned(kind).into()), Continues::No);
        }
        if let Ok(Listed { item: ListedItem::Entry(entry), .. }) = &listed
            && let Some(kind) = state.unlisted.get(&entry.path)
        {
            let error = ListError { path: Some(entry.path.clone()), error: planned(*kind) };
            return (Err(error), Continues::Yes);
        }
        (listed, Continues::Yes)
    }
}

#[derive(PartialEq)]
enum Continues {
    Yes,
    No,
}

fn planned(kind: ErrorKind) -> Error {
    Error::new(kind, "planned fault").with_code("planned-fault")
}

/// Makes a [`Source`] fail as its [`SourceFaults`] say.
#[derive(Debug, Clone)]
pub struct FaultSource {
    inner: Arc<dyn Source>,
    faults: SourceFaults,
}

impl FaultSource {
    /// Wraps a source.
    pub fn new(inner: Arc<dyn Source>, faults: &SourceFaults) -> Self {
        Self { inner, faults: faults.clone() }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Source for FaultSource {
    fn capabilities(&self) -> SourceCapabilities {
        self.inner.capabilities()
    }

    fn origin(&self) -> Origin {
        self.inner.origin()
    }

    async fn check(&self) -> Result<Probe> {
        self.inner.check().await
    }

    async fn open(&self, cx: OpenContext) -> Result<Arc<dyn SourceView>> {
        Ok(Arc::new(FaultView { inner: self.inner.open(cx).await?, faults: self.faults.clone() }))
    }
}

impl SourceFaults {
    /// Refuses to open an entry as often as was asked for.
    fn open(&self, entry: &Entry) -> Result<()> {
        if let Some((kind, times)) = lock(&self.0).unopened.get_mut(&entry.path)
            && *times > 0
        {
            *times -= 1;
            return Err(planned(*kind));
        }
        Ok(())
    }

    fn wrap(&self, entry: &Entry, mut body: Body) -> Body {
        let (faults, path) = (self.clone(), entry.path.clone());
        body.content = match body.content {
            BodyContent::Ranged(inner) => {
                BodyContent::Ranged(Arc::new(FaultBody { inner, faults, path }))
            }
            BodyContent::Stream(inner) => {
                BodyContent::Stream(Arc::new(FaultBody { inner, faults, path }))
            }
        };
        body
    }
}

#[derive(Debug)]
struct FaultView {
    inner: Arc<dyn SourceView>,
    faults: SourceFaults,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl SourceView for FaultView {
    fn token(&self) -> ViewToken {
        self.inner.token()
    }

    fn list(&self, after: Option<&ListToken>) -> BoxStream<'static, Result<Listed, ListError>> {
        let state = Some((self.inner.list(after), self.faults.clone()));
        stream::unfold(state, |state| async move {
            let (mut items, faults) = state?;
            let (item, continues) = faults.listed(items.next().await?);
            Some((item, (continues == Continues::Yes).then_some((items, faults))))
        })
        .boxed()
    }

    async fn segments(&self, entry: &Entry) -> Result<Vec<Segment>> {
        self.inner.segments(entry).await
    }

    async fn body(&self, entry: &Entry, segment: Option<&Segment>) -> Result<Body> {
        self.faults.open(entry)?;
        Ok(self.faults.wrap(entry, self.inner.body(entry, segment).await?))
    }

    async fn bodies(&self, entries: &[Entry]) -> Option<Vec<Result<Body>>> {
        let bodies = self.inner.bodies(entries).await?;
        let with_faults = |(entry, body): (&Entry, Result<Body>)| {
            self.faults.open(entry)?;
            Ok(self.faults.wrap(entry, body?))
        };
        Some(entries.iter().zip(bodies).map(with_faults).collect())
    }

    fn concerns_all(&self, error: &Error) -> bool {
        self.inner.concerns_all(error)
    }

    fn is_slowed_down(&self) -> bool {
        lock(&self.faults.0).is_slowed_down || self.inner.is_slowed_down()
    }

    fn late(&self) -> BoxStream<'static, Result<Listed, ListError>> {
        self.inner.late()
    }

    fn untold_warnings(&self) -> u64 {
        self.inner.untold_warnings()
    }

    async fn close(&self, outcome: Outcome) -> Result<SourceNotes> {
        self.inner.close(outcome).await
    }
}

#[derive(Debug)]
struct FaultBody<B: ?Sized> {
    inner: Arc<B>,
    faults: SourceFaults,
    path: EntryPath,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl RangedBody for FaultBody<dyn RangedBody> {
    fn len_bytes(&self) -> u64 {
        self.inner.len_bytes()
    }

    async fn read_at(&self, range: Range<u64>) -> Result<Bytes> {
        let start = range.start;
        let bytes = self.inner.read_at(range).await?;
        self.faults.read(&self.path, start, bytes)
    }

    async fn finish(&self) -> Result<BodyEnd> {
        self.inner.finish().await
    }
}

impl StreamBody for FaultBody<dyn StreamBody> {
    /// Offsets count from the place where this stream begins.
    fn pieces(&self, from: Option<&ReadToken>) -> BoxStream<'static, Result<Piece>> {
        let (faults, path) = (self.faults.clone(), self.path.clone());
        let pieces = self.inner.pieces(from);
        pieces
            .scan(0, move |offset, piece| {
                let piece = piece.and_then(|piece| {
                    let start = *offset;
                    *offset += piece.bytes.len() as u64;
                    let bytes = faults.read(&path, start, piece.bytes)?;
                    Ok(Piece { bytes, token: piece.token })
                });
                std::future::ready(Some(piece))
            })
            .boxed()
    }
}
