//! A database server: streams with a token for each document, segments, late entries, and a restore in
//! phases.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use futures::stream::{self, BoxStream, StreamExt};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Entry, EntryKind, EntryPath, FileMode, FileTime, Metadata, Origin};
use crate::probe::Probe;
use crate::snapshot::SnapshotEntry;
use crate::source::{
    Body, ListError, Listed, OpenContext, Piece, Segment, Source, SourceCapabilities, SourceView,
    StreamBody,
};
use crate::target::{
    BodyReader, Phase, RestoreContext, RestoreNotes, RestoreSession, RestoreTarget, Step,
    StepAction, TargetCapabilities, Verdict, VerifyLevel, Written,
};
use crate::testing::listing::Listing;
use crate::testing::unfinished::UnfinishedFiles;
use crate::testing::{healthy, lock};
use crate::token::{CancelToken, ListToken, ReadToken, ViewToken, WriteToken};

const ROOT: &str = "dump";
const OPLOG: &str = "oplog.bson";
const MANIFEST: &str = "manifest.json";

/// A source that behaves as a database server does. Clones are the same server.
///
/// A collection is `dump/<database>/<collection>.bson`, its documents by ascending id, and
/// `<collection>.metadata.json` beside it. After all else come `oplog.bson`, with what was inserted
/// since the view was opened, and `manifest.json`.
#[derive(Debug, Clone)]
pub struct FakeMongoDb {
    documents_per_segment: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    collections: BTreeMap<(String, String), BTreeMap<u64, Bytes>>,
    oplog: Vec<Bytes>,
}

impl FakeMongoDb {
    /// Returns a server without databases, that cuts collections into segments of this many documents.
    pub fn new(documents_per_segment: usize) -> Self {
        Self { documents_per_segment: documents_per_segment.max(1), state: Arc::default() }
    }

    /// Inserts or replaces a document and writes that into the oplog.
    pub fn insert(&self, database: &str, collection: &str, id: u64, body: &[u8]) {
        let mut document = BytesMut::new();
        let len_bytes = u32::try_from(body.len() + 12).unwrap_or(u32::MAX);
        document.extend_from_slice(&len_bytes.to_le_bytes());
        document.extend_from_slice(&id.to_le_bytes());
        document.extend_from_slice(body);
        let document = document.freeze();
        let mut state = lock(&self.state);
        let name = (database.to_owned(), collection.to_owned());
        let documents = state.collections.entry(name).or_default();
        documents.insert(id, document.clone());
        state.oplog.push(document);
    }

    /// Adds a collection without documents.
    pub fn create_collection(&self, database: &str, collection: &str) {
        let name = (database.to_owned(), collection.to_owned());
        lock(&self.state).collections.entry(name).or_default();
    }

    /// Removes a collection.
    pub fn drop_collection(&self, database: &str, collection: &str) {
        let name = (database.to_owned(), collection.to_owned());
        lock(&self.state).collections.remove(&name);
    }

    /// What a dump of this moment holds, without the late entries.
    pub fn dump(&self) -> BTreeMap<EntryPath, Bytes> {
        let state = lock(&self.state);
        let mut files = BTreeMap::new();
        for ((database, collection), documents) in &state.collections {
            let documents: Vec<_> = documents.values().cloned().collect();
            files.insert(data_path(database, collection), documents.concat().into());
            let metadata = metadata_json(collection);
            files.insert(metadata_path(database, collection), metadata);
        }
        files
    }

    /// What comes late in a view that was opened after `since` inserts.
    pub fn late_dump(&self, since: u64) -> BTreeMap<EntryPath, Bytes> {
        let state = lock(&self.state);
        let since = usize::try_from(since).unwrap_or(usize::MAX);
        let oplog = state.oplog.get(since..).unwrap_or_default();
        let manifest = format!("{{\"operations\":{}}}", oplog.len());
        BTreeMap::from([
            (root().join(OPLOG.as_bytes()), oplog.concat().into()),
            (root().join(MANIFEST.as_bytes()), manifest.into()),
        ])
    }

    /// How many inserts there were.
    pub fn oplog_time(&self) -> u64 {
        lock(&self.state).oplog.len() as u64
    }
}

fn root() -> EntryPath {
    EntryPath::from_names([ROOT])
}

fn data_path(database: &str, collection: &str) -> EntryPath {
    EntryPath::from_names([ROOT, database, &format!("{collection}.bson")])
}

fn metadata_path(database: &str, collection: &str) -> EntryPath {
    EntryPath::from_names([ROOT, database, &format!("{collection}.metadata.json")])
}

fn metadata_json(collection: &str) -> Bytes {
    format!("{{\"collectionName\":\"{collection}\",\"indexes\":[]}}").into()
}

fn file(path: EntryPath, handle: Option<String>, size_bytes: u64) -> Entry {
    let metadata = Metadata::new(FileMode::FILE, FileTime::EPOCH);
    Entry { handle, ..Entry::file(path, metadata, size_bytes) }
}

#[async_trait]
impl Source for FakeMongoDb {
    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities::new(4).with_point_in_time()
    }

    fn origin(&self) -> Origin {
        Origin {
            scheme: String::from("mongodb"),
            host: String::from("db.example"),
            paths: vec![String::from("mongodb://db.example")],
        }
    }

    async fn check(&self) -> Result<Probe> {
        Ok(healthy("ask the server"))
    }

    async fn open(&self, cx: OpenContext) -> Result<Arc<dyn SourceView>> {
        let now = self.oplog_time();
        let since = match &cx.resume {
            None => now,
            Some(token) => <[u8; 8]>::try_from(token.as_bytes())
                .map(u64::from_le_bytes)
                .ok()
                .filter(|since| *since <= now)
                .ok_or_else(|| Error::new(ErrorKind::SourceChanged, "the oplog has moved on"))?,
        };
        Ok(Arc::new(View { server: self.clone(), since, cancel: cx.cancel }))
    }
}

#[derive(Debug)]
struct View {
    server: FakeMongoDb,
    /// The oplog time at which the view was opened.
    since: u64,
    cancel: CancelToken,
}

impl View {
    fn collection(&self, entry: &Entry) -> Option<(String, String)> {
        let (database, collection) = entry.handle.as_deref()?.split_once('.')?;
        let name = (database.to_owned(), collection.to_owned());
        let state = lock(&self.server.state);
        state.collections.contains_key(&name).then_some(name)
    }

    fn give(&self, items: Vec<Listed>) -> BoxStream<'static, Result<Listed, ListError>> {
        let cancel = self.cancel.clone();
        stream::iter(items)
            .scan(false, move |over, item| {
                let give = !*over;
                let checked = cancel.check();
                *over = checked.is_err();
                let item = checked.map(|()| item).map_err(ListError::from);
                std::future::ready(give.then_some(item))
            })
            .boxed()
    }
}

#[async_trait]
impl SourceView for View {
    fn token(&self) -> ViewToken {
        ViewToken::new(self.since.to_le_bytes())
    }

    fn list(&self, after: Option<&ListToken>) -> BoxStream<'static, Result<Listed, ListError>> {
        let mut entries = Vec::new();
        for ((database, collection), documents) in &lock(&self.server.state).collections {
            let handle = format!("{database}.{collection}");
            let size_bytes = documents.values().map(|one| one.len() as u64).sum();
            let data = data_path(database, collection);
            entries.push(file(data, Some(handle), size_bytes));
            let metadata = metadata_path(database, collection);
            let size_bytes = metadata_json(collection).len() as u64;
            entries.push(file(metadata, None, size_bytes));
        }
        let mut listing = Listing::new(&root(), entries, []);
        // Done once the late entries are.
        listing.remove(&root());
        self.give(listing.behind(after))
    }

    async fn segments(&self, entry: &Entry) -> Result<Vec<Segment>> {
        let Some(name) = self.collection(entry) else {
            return Ok(Vec::new());
        };
        let state = lock(&self.server.state);
        let Some(documents) = state.collections.get(&name) else {
            return Ok(Vec::new());
        };
        // Edges are ids, the outermost open, so that a later insert falls into one segment.
        let step = self.server.documents_per_segment;
        let mut edges: Vec<u64> = documents.keys().copied().step_by(step).collect();
        if let Some(first) = edges.first_mut() {
            *first = 0;
        }
        let ends = edges.iter().skip(1).copied().chain([u64::MAX]);
        let segments = edges.iter().zip(ends).map(|(start, end)| Segment {
            token: ReadToken::new([start.to_le_bytes(), end.to_le_bytes()].concat()),
            size_hint_bytes: None,
        });
        Ok(segments.collect())
    }

    async fn body(&self, entry: &Entry, segment: Option<&Segment>) -> Result<Body> {
        self.cancel.check()?;
        let path = &entry.path;
        if let Some(late) = self.server.late_dump(self.since).remove(path) {
            return Ok(Body::in_memory(late));
        }
        let Some(found) = self.server.dump().remove(path) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{path} is no longer on the server"),
            ));
        };
        let Some(collection) = self.collection(entry) else {
            return Ok(Body::in_memory(found));
        };
        let (start, end) = match segment {
            None => (0, u64::MAX),
            Some(segment) => edges(segment)?,
        };
        Ok(Body::stream(Documents { server: self.server.clone(), collection, start, end }))
    }

    fn late(&self) -> BoxStream<'static, Result<Listed, ListError>> {
        let files = self.server.late_dump(self.since).into_iter();
        let entries = files.map(|(path, bytes)| file(path, None, bytes.len() as u64));
        self.give(Listing::new(&root(), entries, []).behind(None))
    }
}

fn edges(segment: &Segment) -> Result<(u64, u64)> {
    match segment.token.as_bytes().as_chunks::<8>() {
        ([start, end], []) => Ok((u64::from_le_bytes(*start), u64::from_le_bytes(*end))),
        _ => Err(Error::new(ErrorKind::InvalidInput, "not a segment of ours")),
    }
}

/// The documents of a range of ids, `end` not included unless it is the largest id.
#[derive(Debug, Clone)]
struct Documents {
    server: FakeMongoDb,
    collection: (String, String),
    start: u64,
    end: u64,
}

impl Documents {
    fn next(&self, from: u64) -> Option<(u64, Bytes)> {
        let state = lock(&self.server.state);
        let mut behind = state.collections.get(&self.collection)?.range(from..);
        let (id, document) = behind.next()?;
        let inside = *id < self.end || self.end == u64::MAX;
        inside.then(|| (*id, document.clone()))
    }
}

impl StreamBody for Documents {
    fn pieces(&self, from: Option<&ReadToken>) -> BoxStream<'static, Result<Piece>> {
        // The token is the last id read.
        let last = from.and_then(|token| <[u8; 8]>::try_from(token.as_bytes()).ok());
        let start = match last {
            None => Some(self.start),
            Some(last) => u64::from_le_bytes(last).checked_add(1),
        };
        let documents = self.clone();
        stream::unfold(start, move |next| {
            let found = next.and_then(|next| documents.next(next));
            std::future::ready(found.map(|(id, bytes)| {
                let token = Some(ReadToken::new(id.to_le_bytes()));
                (Ok(Piece { bytes, token }), id.checked_add(1))
            }))
        })
        .boxed()
    }
}

/// A target that behaves as a database server does. Clones are the same server.
///
/// Phase 1 fills collections under temporary names, phase 2 makes their indexes, phase 3 replays the
/// oplog, and finishing puts the collections under their own names. Other files are refused.
#[derive(Debug, Clone, Default)]
pub struct FakeMongoDbTarget(Arc<Mutex<Restored>>);

#[derive(Debug, Default)]
struct Restored {
    staged: BTreeMap<EntryPath, Bytes>,
    published: BTreeMap<EntryPath, Bytes>,
    ended: Vec<Phase>,
    unfinished: UnfinishedFiles,
}

impl FakeMongoDbTarget {
    /// Returns an empty server.
    pub fn new() -> Self {
        Self::default()
    }

    /// The files of the dump that were restored and stand under their own names.
    pub fn published(&self) -> BTreeMap<EntryPath, Bytes> {
        lock(&self.0).published.clone()
    }

    fn unfinished(&self) -> UnfinishedFiles {
        lock(&self.0).unfinished.clone()
    }

    /// The phases that were ended, in order.
    pub fn ended_phases(&self) -> Vec<Phase> {
        lock(&self.0).ended.clone()
    }
}

#[async_trait]
impl RestoreTarget for FakeMongoDbTarget {
    fn capabilities(&self) -> TargetCapabilities {
        TargetCapabilities::new(2)
    }

    fn location(&self) -> String {
        String::from("mongodb://db.example")
    }

    async fn check(&self) -> Result<Probe> {
        Ok(healthy("ask the server"))
    }

    async fn open(&self, cx: RestoreContext) -> Result<Arc<dyn RestoreSession>> {
        Ok(Arc::new(Session { target: self.clone(), cx }))
    }
}

#[derive(Debug)]
struct Session {
    target: FakeMongoDbTarget,
    cx: RestoreContext,
}

fn step(entry: SnapshotEntry, base: usize) -> Option<Step> {
    if entry.kind == EntryKind::Directory {
        return None;
    }
    let name = String::from_utf8_lossy(entry.path.name().unwrap_or_default());
    let phase = match name.rsplit_once('.') {
        _ if name == MANIFEST => return None,
        _ if name == OPLOG => Some(3),
        Some((_, "bson")) => Some(1),
        Some((rest, "json")) if rest.ends_with(".metadata") => Some(2),
        _ => None,
    };
    let action = match phase {
        Some(_) => StepAction::Create,
        None => StepAction::Refuse(format!("{} is no part of a dump", entry.path)),
    };
    Some(Step {
        phase: Phase(phase.unwrap_or(1)),
        destination: EntryPath::from_names(entry.path.names().skip(base)),
        bytes: if phase.is_some() { entry.size_bytes } else { 0 },
        entry,
        action,
        follows: false,
    })
}

#[async_trait]
impl RestoreSession for Session {
    fn plan(&self) -> BoxStream<'static, Result<Step>> {
        let base = self.cx.options.path.len();
        let entries = self.cx.snapshot.walk(&self.cx.options.path);
        let steps = async move {
            let steps = entries.try_filter_map(async |entry| Ok(step(entry, base)));
            let mut steps: Vec<Step> = steps.try_collect().await?;
            steps.sort_by_key(|step| step.phase);
            Ok(stream::iter(steps).map(Ok))
        };
        stream::once(steps).try_flatten().boxed()
    }

    async fn write(
        &self,
        step: &Step,
        mut body: BodyReader,
        from: Option<WriteToken>,
    ) -> Result<Written> {
        if let StepAction::Refuse(why) = &step.action {
            return Err(Error::new(ErrorKind::InvalidInput, why.clone()));
        }
        let (place, size_bytes) = (&step.destination, step.bytes);
        let mut documents = match from {
            Some(token) => self.target.unfinished().go_on(place, &token, size_bytes)?,
            None => self.target.unfinished().begin(place, size_bytes),
        };
        while let Some(piece) = body.next().await {
            self.cx.cancel.check()?;
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => {
                    documents.broke_off(&error);
                    return Err(error);
                }
            };
            if piece.offset != documents.bytes_in_order() {
                return Err(Error::new(ErrorKind::InvalidInput, "bytes out of order"));
            }
            documents.write(&piece)?;
            if body.wants_tokens() {
                let (bytes, token) = documents.keep();
                body.report(bytes, token);
            }
        }
        let bytes = documents.finish()?;
        let written = bytes.len() as u64;
        lock(&self.target.0).staged.insert(place.clone(), bytes);
        Ok(Written { bytes: written, warnings: Vec::new() })
    }

    async fn can_resume(&self, step: &Step, from: &WriteToken) -> Result<bool> {
        let unfinished = self.target.unfinished();
        Ok(unfinished.can_go_on(&step.destination, from, step.bytes))
    }

    async fn end_phase(&self, phase: Phase) -> Result<()> {
        lock(&self.target.0).ended.push(phase);
        Ok(())
    }

    async fn verify(&self, step: &Step, level: VerifyLevel) -> Result<Verdict> {
        let found = {
            let restored = lock(&self.target.0);
            let place = &step.destination;
            let staged = restored.staged.get(place);
            staged.or(restored.published.get(place)).cloned()
        };
        let Some(found) = found else {
            return Ok(Verdict::Differs(String::from("it is missing")));
        };
        let wanted = self.cx.snapshot.read(&step.entry, 0..step.bytes).await?;
        Ok(match level {
            VerifyLevel::Checksum => Verdict::Cannot(String::from("no checksums are kept")),
            _ if found == wanted => Verdict::Same(level),
            _ => Verdict::Differs(String::from("documents differ")),
        })
    }

    async fn finish(&self) -> Result<RestoreNotes> {
        let mut restored = lock(&self.target.0);
        restored.unfinished.clear();
        let staged = std::mem::take(&mut restored.staged);
        restored.published.extend(staged);
        Ok(RestoreNotes::default())
    }

    async fn abort(&self) -> Result<()> {
        let mut restored = lock(&self.target.0);
        restored.unfinished.clear();
        restored.staged.clear();
        Ok(())
    }
}
