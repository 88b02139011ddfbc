//! The contract of [`Source`] and [`SourceView`], case by case.

mod bodies;

pub use bodies::{
    a_range_past_the_end_is_short, a_stream_continues_behind_every_token,
    any_range_of_a_body_can_be_read, bodies_can_be_read_at_the_same_time,
    bodies_opened_in_one_go_are_those_opened_one_by_one, pieces_of_a_stream_are_bounded,
    segments_make_up_the_whole_and_do_not_move,
};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::StreamExt;

use super::{KeepAlive, not_applicable};
use crate::error::ErrorKind;
use crate::model::{Entry, EntryKind, EntryPath};
use crate::source::{
    BodyContent, BodyEnd, Listed, ListedItem, OpenContext, Outcome, RangedBody, Segment, Source,
    SourceView, StreamBody,
};
use crate::store::{AdapterStore, InMemoryAdapterStore};
use crate::testing::entropy::Random;
use crate::token::{CancelToken, ListToken, ReadToken};

/// Makes one test for each line of the contract of [`Source`](crate::source::Source) and
/// [`SourceView`](crate::source::SourceView), in a module `$name`. `$fixture` is an async closure that
/// returns a source and what is in it as a
/// [`SourceFixture`](crate::testing::conformance::SourceFixture), for each test a new one.
#[macro_export]
macro_rules! source_conformance {
    ($name:ident, $fixture:expr $(,)?) => {
        $crate::__conformance_tests! { source, $name, $fixture;
            check_is_healthy
            capabilities_and_origin_are_constant
            each_path_is_listed_once
            the_listing_is_what_the_source_holds
            every_directory_with_entries_is_done_once
            nothing_is_listed_below_a_directory_that_is_done
            listing_behind_every_token_gives_the_same_rest
            bodies_give_the_bytes_of_their_entries
            any_range_of_a_body_can_be_read
            a_range_past_the_end_is_short
            a_stream_continues_behind_every_token
            pieces_of_a_stream_are_bounded
            segments_make_up_the_whole_and_do_not_move
            bodies_can_be_read_at_the_same_time
            bodies_opened_in_one_go_are_those_opened_one_by_one
            late_entries_come_after_the_others
            a_view_opened_by_token_gives_the_same
            a_vanished_entry_is_not_found
            a_cancelled_view_stops_and_never_looks_complete
            a_view_can_be_closed_with_every_outcome
        }
    };
}

type Vanish = Box<dyn Fn(EntryPath) -> BoxFuture<'static, ()> + Send + Sync>;

/// A source, what is in it, and what keeps it alive.
pub struct SourceFixture {
    source: Arc<dyn Source>,
    files: BTreeMap<EntryPath, Bytes>,
    late_files: BTreeMap<EntryPath, Bytes>,
    others: BTreeSet<EntryPath>,
    empty_directories: BTreeSet<EntryPath>,
    roots: Vec<EntryPath>,
    vanish: Option<Vanish>,
    store: Arc<dyn AdapterStore>,
    keep_alive: KeepAlive,
}

impl fmt::Debug for SourceFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceFixture").field("source", &self.source).finish_non_exhaustive()
    }
}

impl SourceFixture {
    /// Returns a fixture of a source that lists these files, by path as the source lists them. There
    /// should be empty ones and directories in directories among them.
    pub fn new(source: impl Source, files: BTreeMap<EntryPath, Bytes>) -> Self {
        Self {
            source: Arc::new(source),
            files,
            late_files: BTreeMap::new(),
            others: BTreeSet::new(),
            empty_directories: BTreeSet::new(),
            roots: vec![EntryPath::root()],
            vanish: None,
            store: Arc::new(InMemoryAdapterStore::default()),
            keep_alive: Vec::new(),
        }
    }

    /// Adds files that are listed late.
    #[must_use]
    pub fn with_late_files(mut self, files: BTreeMap<EntryPath, Bytes>) -> Self {
        self.late_files = files;
        self
    }

    /// Adds entries that are not files, such as links.
    #[must_use]
    pub fn with_other_entries(mut self, paths: impl IntoIterator<Item = EntryPath>) -> Self {
        self.others.extend(paths);
        self
    }

    /// Adds directories without entries.
    #[must_use]
    pub fn with_empty_directories(mut self, paths: impl IntoIterator<Item = EntryPath>) -> Self {
        self.empty_directories.extend(paths);
        self
    }

    /// Names the roots: directories above them are not announced. The root of all by default, which
    /// has no name and need not be announced either.
    #[must_use]
    pub fn with_roots(mut self, roots: impl IntoIterator<Item = EntryPath>) -> Self {
        self.roots = roots.into_iter().collect();
        self
    }

    /// Says how to remove a file from the source.
    #[must_use]
    pub fn with_vanish(
        mut self,
        vanish: impl Fn(EntryPath) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        self.vanish = Some(Box::new(vanish));
        self
    }

    /// Keeps something until the case has ended, such as a temporary directory.
    #[must_use]
    pub fn keeping(mut self, thing: impl Send + Sync + 'static) -> Self {
        self.keep_alive.push(Box::new(thing));
        self
    }

    fn context(&self) -> OpenContext {
        OpenContext {
            resume: None,
            parent: None,
            store: Arc::clone(&self.store),
            cancel: CancelToken::new(),
        }
    }

    async fn open(&self) -> Arc<dyn SourceView> {
        let view = self.source.open(self.context()).await;
        view.expect("the source can be opened")
    }

    fn bytes_of(&self, path: &EntryPath) -> Bytes {
        let known = self.files.get(path).or(self.late_files.get(path));
        known.expect("a file of the manifest").clone()
    }
}

async fn list(view: &dyn SourceView, after: Option<&ListToken>) -> Vec<Listed> {
    let mut items = view.list(after);
    let mut listed = Vec::new();
    while let Some(item) = items.next().await {
        listed.push(item.expect("the source can be listed"));
    }
    listed
}

async fn list_late(view: &dyn SourceView) -> Vec<Listed> {
    let mut items = view.late();
    let mut listed = Vec::new();
    while let Some(item) = items.next().await {
        listed.push(item.expect("late entries can be listed"));
    }
    listed
}

/// Everything in the order the engine hears of it, all bodies read before the late entries.
async fn list_all(view: &dyn SourceView) -> Vec<Listed> {
    let mut listed = list(view, None).await;
    for entry in entries(&listed) {
        if entry.kind == EntryKind::File {
            read(view, &entry).await;
        }
    }
    listed.extend(list_late(view).await);
    listed
}

fn path(listed: &Listed) -> &EntryPath {
    match &listed.item {
        ListedItem::Entry(entry) => &entry.path,
        ListedItem::DirDone { path, .. } => path,
    }
}

fn entries(listed: &[Listed]) -> Vec<Entry> {
    let entries = listed.iter().filter_map(|listed| match &listed.item {
        ListedItem::Entry(entry) => Some((**entry).clone()),
        ListedItem::DirDone { .. } => None,
    });
    entries.collect()
}

fn files(listed: &[Listed]) -> Vec<Entry> {
    let mut files = entries(listed);
    files.retain(|entry| entry.kind == EntryKind::File);
    files
}

fn directories(listed: &[Listed]) -> Vec<EntryPath> {
    let done = listed.iter().filter_map(|listed| match &listed.item {
        ListedItem::Entry(_) => None,
        ListedItem::DirDone { path, .. } => Some(path.clone()),
    });
    done.collect()
}

fn same_item(one: &ListedItem, other: &ListedItem) -> bool {
    match (one, other) {
        (ListedItem::Entry(one), ListedItem::Entry(other)) => one == other,
        (
            ListedItem::DirDone { path, metadata },
            ListedItem::DirDone { path: other_path, metadata: other_metadata },
        ) => path == other_path && metadata == other_metadata,
        _ => false,
    }
}

fn assert_same_items(found: &[Listed], wanted: &[Listed], what: &str) {
    let first =
        found.iter().zip(wanted).find(|(found, wanted)| !same_item(&found.item, &wanted.item));
    if let Some((found, wanted)) = first {
        panic!("{what}: {:?} instead of {:?}", found.item, wanted.item);
    }
    assert_eq!(found.len(), wanted.len(), "{what}: another number of items");
}

/// All of `0..count`, or about `most` of them by chance.
fn sample(count: usize, most: usize) -> Vec<usize> {
    let mut random = Random::new(1);
    let mut chosen: BTreeSet<_> = (0..count).collect();
    while chosen.len() > most {
        let at = random.below(chosen.len() as u64);
        let at = usize::try_from(at).expect("an index");
        let index = *chosen.iter().nth(at).expect("an index below the length");
        // The first and last ones are where mistakes are.
        if chosen.len() <= 2 || (index != 0 && index != count - 1) {
            chosen.remove(&index);
        }
    }
    chosen.into_iter().collect()
}

async fn read_ranged(body: &dyn RangedBody) -> Bytes {
    const STEP_BYTES: u64 = 1 << 20;
    let mut bytes = BytesMut::new();
    loop {
        let at = bytes.len() as u64;
        let piece = body.read_at(at..at + STEP_BYTES).await;
        let piece = piece.expect("a body can be read");
        bytes.extend_from_slice(&piece);
        if (piece.len() as u64) < STEP_BYTES {
            return bytes.freeze();
        }
    }
}

/// The bytes behind a token, and where in them there are tokens.
async fn read_stream(
    body: &dyn StreamBody,
    from: Option<&ReadToken>,
) -> (Bytes, Vec<(usize, ReadToken)>) {
    let mut bytes = BytesMut::new();
    let mut tokens = Vec::new();
    let mut pieces = body.pieces(from);
    while let Some(piece) = pieces.next().await {
        let piece = piece.expect("a stream can be read");
        bytes.extend_from_slice(&piece.bytes);
        tokens.extend(piece.token.map(|token| (bytes.len(), token)));
    }
    (bytes.freeze(), tokens)
}

async fn open_body(view: &dyn SourceView, entry: &Entry, segment: Option<&Segment>) -> BodyContent {
    let body = view.body(entry, segment).await;
    let body = body.expect("a body can be opened");
    if let Some(refreshed) = &body.refreshed {
        assert_eq!(refreshed.path, entry.path, "a body moved its entry");
    }
    body.content
}

async fn read_content(content: BodyContent) -> Bytes {
    match content {
        BodyContent::Ranged(body) => {
            let bytes = read_ranged(&*body).await;
            let end = body.finish().await.expect("a body can be finished");
            assert_eq!(end, BodyEnd::Consistent, "nothing changed here");
            bytes
        }
        BodyContent::Stream(body) => read_stream(&*body, None).await.0,
    }
}

/// The bytes of an entry, segment by segment if it has any.
async fn read(view: &dyn SourceView, entry: &Entry) -> Bytes {
    let segments = view.segments(entry).await;
    let segments = segments.expect("segments can be asked for");
    if segments.is_empty() {
        return read_content(open_body(view, entry, None).await).await;
    }
    let mut bytes = BytesMut::new();
    for segment in &segments {
        let content = open_body(view, entry, Some(segment)).await;
        bytes.extend_from_slice(&read_content(content).await);
    }
    bytes.freeze()
}

/// The parts of all files that are read in order.
async fn streams(view: &dyn SourceView) -> Vec<(EntryPath, Arc<dyn StreamBody>)> {
    let mut streams = Vec::new();
    for entry in files(&list(view, None).await) {
        let segments = view.segments(&entry).await;
        let segments = segments.expect("segments can be asked for");
        let mut parts: Vec<_> = segments.iter().map(Some).collect();
        if parts.is_empty() {
            parts.push(None);
        }
        for part in parts {
            if let BodyContent::Stream(body) = open_body(view, &entry, part).await {
                streams.push((entry.path.clone(), body));
            }
        }
    }
    streams
}

/// The files that are read at any place.
async fn ranged(view: &dyn SourceView) -> Vec<(EntryPath, Arc<dyn RangedBody>)> {
    let mut bodies = Vec::new();
    for entry in files(&list(view, None).await) {
        let segments = view.segments(&entry).await;
        if segments.expect("segments can be asked for").is_empty()
            && let BodyContent::Ranged(body) = open_body(view, &entry, None).await
        {
            bodies.push((entry.path.clone(), body));
        }
    }
    bodies
}

fn assert_bytes(path: &EntryPath, found: &Bytes, wanted: &Bytes) {
    // Not `assert_eq`: nobody wants to see megabytes.
    assert!(
        found == wanted,
        "{path} gives {} other bytes than the {} it has",
        found.len(),
        wanted.len()
    );
}

/// `check`.
pub async fn check_is_healthy(fixture: SourceFixture) {
    let probe = fixture.source.check().await;
    let probe = probe.expect("a check comes to an end");
    assert!(probe.is_healthy(), "{probe:?}");
    assert!(!probe.steps.is_empty(), "a check tries nothing");
}

/// `capabilities` and `origin`.
pub async fn capabilities_and_origin_are_constant(fixture: SourceFixture) {
    let (before, origin) = (fixture.source.capabilities(), fixture.source.origin());
    let view = fixture.open().await;
    list(&*view, None).await;
    assert_eq!(fixture.source.capabilities(), before);
    assert_eq!(fixture.source.origin(), origin);
    assert!(before.concurrency > 0, "no body may be read");
    assert!(!origin.scheme.is_empty(), "nobody can tell what it is");
    assert!(!origin.paths.is_empty(), "nobody can tell what is backed up");
}

/// Contract 1.
pub async fn each_path_is_listed_once(fixture: SourceFixture) {
    let view = fixture.open().await;
    let mut seen = BTreeSet::new();
    for listed in list_all(&*view).await {
        let path = path(&listed).clone();
        assert!(seen.insert(path.clone()), "{path} is listed twice");
    }
}

/// `list`.
pub async fn the_listing_is_what_the_source_holds(fixture: SourceFixture) {
    let view = fixture.open().await;
    let listed = list(&*view, None).await;
    let found: BTreeSet<_> = files(&listed).into_iter().map(|file| file.path).collect();
    let wanted: BTreeSet<_> = fixture.files.keys().cloned().collect();
    assert_eq!(found, wanted, "the files of the listing");
    let mut others = entries(&listed);
    others.retain(|entry| entry.kind != EntryKind::File);
    let others: BTreeSet<_> = others.into_iter().map(|entry| entry.path).collect();
    assert_eq!(others, fixture.others, "the other entries of the listing");
}

/// Contract 1.
pub async fn every_directory_with_entries_is_done_once(fixture: SourceFixture) {
    let view = fixture.open().await;
    let listed = list_all(&*view).await;
    let found = directories(&listed);
    let done: BTreeSet<_> = found.iter().cloned().collect();
    assert_eq!(done.len(), found.len(), "a directory is done twice");
    let mut wanted = fixture.empty_directories.clone();
    for listed in &listed {
        let mut above = path(listed).parent();
        while let Some(directory) = above {
            above = directory.parent();
            let announced = |root| directory.starts_with(root) && !directory.is_empty();
            if fixture.roots.iter().any(announced) {
                wanted.insert(directory);
            }
        }
    }
    let missing: Vec<_> = wanted.difference(&done).collect();
    assert!(missing.is_empty(), "never done: {missing:?}");
}

/// Contract 1.
pub async fn nothing_is_listed_below_a_directory_that_is_done(fixture: SourceFixture) {
    let view = fixture.open().await;
    let mut done = BTreeSet::new();
    for listed in list_all(&*view).await {
        let mut above = path(&listed).parent();
        while let Some(directory) = above {
            assert!(
                !done.contains(&directory),
                "{} is listed below {directory}, which is done",
                path(&listed)
            );
            above = directory.parent();
        }
        if let ListedItem::DirDone { path, .. } = listed.item {
            done.insert(path);
        }
    }
}

/// Contract 2.
pub async fn listing_behind_every_token_gives_the_same_rest(fixture: SourceFixture) {
    let view = fixture.open().await;
    let all = list(&*view, None).await;
    for index in sample(all.len(), 64) {
        let rest = list(&*view, Some(&all[index].token)).await;
        let what = format!("behind {}", path(&all[index]));
        assert_same_items(&rest, &all[index + 1..], &what);
        // A token of the second listing is as good as one of the first.
        if let Some(middle) = rest.get(rest.len() / 2) {
            let tail = list(&*view, Some(&middle.token)).await;
            assert_same_items(&tail, &rest[rest.len() / 2 + 1..], &what);
        }
    }
}

/// Contract 3.
pub async fn bodies_give_the_bytes_of_their_entries(fixture: SourceFixture) {
    let view = fixture.open().await;
    for entry in files(&list(&*view, None).await) {
        let wanted = fixture.bytes_of(&entry.path);
        assert_bytes(&entry.path, &read(&*view, &entry).await, &wanted);
        // Reading does not use it up.
        assert_bytes(&entry.path, &read(&*view, &entry).await, &wanted);
    }
}

/// [`SourceView::late`].
pub async fn late_entries_come_after_the_others(fixture: SourceFixture) {
    let view = fixture.open().await;
    list(&*view, None).await;
    let late = files(&list_late(&*view).await);
    let found: BTreeSet<_> = late.iter().map(|entry| &entry.path).collect();
    assert_eq!(found, fixture.late_files.keys().collect());
    for entry in &late {
        let found = read(&*view, entry).await;
        assert_bytes(&entry.path, &found, &fixture.bytes_of(&entry.path));
    }
    if late.is_empty() {
        not_applicable("no entry is late");
    }
}

/// [`SourceView::token`] and [`OpenContext::resume`].
pub async fn a_view_opened_by_token_gives_the_same(fixture: SourceFixture) {
    let view = fixture.open().await;
    let all = list(&*view, None).await;
    let mut segments = Vec::new();
    for entry in files(&all) {
        let parts = view.segments(&entry).await;
        segments.push((entry, parts.expect("segments can be asked for")));
    }
    let token = view.token();
    assert_eq!(view.token(), token, "a token moves");
    let closed = view.close(Outcome::Paused).await;
    closed.expect("a view can be closed");
    drop(view);

    let resumed = OpenContext { resume: Some(token.clone()), ..fixture.context() };
    let view = fixture.source.open(resumed).await;
    let view = view.expect("a view can be opened by its token");
    assert_eq!(view.token(), token);
    assert_same_items(&list(&*view, None).await, &all, "in the second view");
    if let Some(middle) = all.get(all.len() / 2) {
        let rest = list(&*view, Some(&middle.token)).await;
        assert_same_items(&rest, &all[all.len() / 2 + 1..], "in the second view");
    }
    for (entry, parts) in segments {
        let mut bytes = BytesMut::new();
        for segment in &parts {
            let content = open_body(&*view, &entry, Some(segment)).await;
            bytes.extend_from_slice(&read_content(content).await);
        }
        let bytes = if parts.is_empty() { read(&*view, &entry).await } else { bytes.freeze() };
        assert_bytes(&entry.path, &bytes, &fixture.bytes_of(&entry.path));
    }
}

/// [`SourceView::body`].
pub async fn a_vanished_entry_is_not_found(fixture: SourceFixture) {
    let Some(vanish) = &fixture.vanish else {
        return not_applicable("the fixture cannot remove files");
    };
    let view = fixture.open().await;
    let listed = files(&list(&*view, None).await);
    let entry = listed.first().expect("a file to remove");
    vanish(entry.path.clone()).await;
    let error = view.body(entry, None).await.expect_err("the file is gone");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    let other = listed.last().expect("a file that stays");
    let bytes = read(&*view, other).await;
    assert_bytes(&other.path, &bytes, &fixture.bytes_of(&other.path));
}

/// [`OpenContext::cancel`].
pub async fn a_cancelled_view_stops_and_never_looks_complete(fixture: SourceFixture) {
    let cx = fixture.context();
    let cancel = cx.cancel.clone();
    let view = fixture.source.open(cx).await;
    let view = view.expect("the source can be opened");
    let all = list(&*view, None).await.len();
    let mut items = view.list(None);
    let first = items.next().await.expect("a source with entries");
    first.expect("the source can be listed");
    cancel.cancel();
    let mut count = 1;
    let mut stopped = false;
    while let Some(item) = items.next().await {
        match item {
            Ok(_) => count += 1,
            Err(error) => {
                assert_eq!(error.error.kind(), ErrorKind::Cancelled, "{error:?}");
                assert_eq!(error.path, None, "a cancelled listing goes on");
                stopped = true;
            }
        }
    }
    assert!(stopped || count == all, "a part of a listing looks as if it were all");
    let closed = view.close(Outcome::Abandoned).await;
    closed.expect("a cancelled view can be closed");
}

/// [`SourceView::close`].
pub async fn a_view_can_be_closed_with_every_outcome(fixture: SourceFixture) {
    for outcome in [Outcome::Paused, Outcome::Abandoned, Outcome::Completed] {
        let view = fixture.open().await;
        list_all(&*view).await;
        let notes = view.close(outcome).await;
        notes.expect("a view can be closed");
    }
}
