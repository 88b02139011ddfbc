//! A snapshot as a source: what was backed up into one repository is stored in others, without the
//! system that it came from.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::stream::{self, BoxStream, StreamExt as _};

use crate::destination::Destination;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{
    Entry, EntryKind, EntryPath, FileTime, Fingerprint, Metadata, Origin, SnapshotId,
};
use crate::probe::{Probe, Probing};
use crate::repo::reader::{ReaderOptions, RepositoryReader};
use crate::repo::repository::Repository;
use crate::repo::snapshot_file::Snapshot;
use crate::snapshot::{SnapshotEntry, SnapshotReader};
use crate::source::{
    Body, ListError, Listed, ListedItem, OpenContext, Outcome, RangedBody, Segment, Source,
    SourceCapabilities, SourceNotes, SourceView,
};
use crate::token::{CancelToken, ListToken, ViewToken};

/// Bodies that are read at the same time.
const CONCURRENCY: usize = 4;

/// Reads a snapshot of a repository. A backup of it makes snapshots with the same tree wherever chunks
/// are cut at the same places, for the same host and paths.
///
/// No lock is taken in the repository: while another program prunes, entries may fail.
#[derive(Debug, Clone)]
pub struct SnapshotSource {
    repository: Repository,
    id: SnapshotId,
    snapshot: Arc<Snapshot>,
    missing_entries: u64,
}

impl SnapshotSource {
    /// Loads a snapshot of a repository.
    ///
    /// # Errors
    /// `NotFound` if there is none with this id; `Corrupt` if it is damaged.
    pub async fn load(repository: &Repository, id: SnapshotId) -> Result<Self> {
        let snapshot = Arc::new(repository.snapshot(id).await?);
        Ok(Self { repository: repository.clone(), id, snapshot, missing_entries: 0 })
    }

    /// Says how many entries the snapshot lacks, so that a copy of what is incomplete is not called
    /// complete.
    #[must_use]
    pub fn with_missing_entries(mut self, count: u64) -> Self {
        self.missing_entries = count;
        self
    }

    /// The snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// When the backup started that made the snapshot.
    pub fn time(&self) -> FileTime {
        self.snapshot.time
    }
}

#[async_trait]
impl Source for SnapshotSource {
    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities::new(CONCURRENCY).with_point_in_time()
    }

    fn origin(&self) -> Origin {
        let scheme = self.snapshot.paths.first().and_then(|path| path.split_once("://"));
        Origin {
            scheme: scheme.map_or("fs", |(scheme, _)| scheme).to_owned(),
            host: self.snapshot.hostname.clone(),
            paths: self.snapshot.paths.clone(),
        }
    }

    async fn check(&self) -> Result<Probe> {
        let mut probing = Probing::new(self.repository.env());
        let hint = "check that the repository can be reached, and that the snapshot is still there";
        let loading = self.repository.snapshot(self.id);
        let name = format!("load snapshot {}", self.id.short());
        drop(probing.step_async(name, hint, loading).await);
        Ok(probing.finish())
    }

    async fn open(&self, cx: OpenContext) -> Result<Arc<dyn SourceView>> {
        let token = ViewToken::new(*self.id.as_bytes());
        if cx.resume.is_some_and(|resume| resume != token) {
            return Err(Error::new(ErrorKind::SourceChanged, "another source was read before"));
        }
        let reader: RepositoryReader = self.repository.reader(ReaderOptions::default()).await?;
        let reader = reader.open_snapshot(&self.snapshot);
        let is_local = self.origin().scheme == "fs";
        let (missing_entries, cancel) = (self.missing_entries, cx.cancel);
        let place = Arc::clone(self.repository.destination());
        Ok(Arc::new(SnapshotView { reader, place, token, is_local, missing_entries, cancel }))
    }
}

#[derive(Debug)]
struct SnapshotView {
    reader: Arc<dyn SnapshotReader>,
    place: Arc<dyn Destination>,
    token: ViewToken,
    is_local: bool,
    missing_entries: u64,
    cancel: CancelToken,
}

#[async_trait]
impl SourceView for SnapshotView {
    fn token(&self) -> ViewToken {
        self.token.clone()
    }

    fn list(&self, after: Option<&ListToken>) -> BoxStream<'static, Result<Listed, ListError>> {
        let listing = Listing {
            walk: self.reader.walk(&EntryPath::root()),
            open: Vec::new(),
            waiting: VecDeque::new(),
            after: after.cloned(),
            is_local: self.is_local,
            is_over: false,
            cancel: self.cancel.clone(),
        };
        stream::unfold(listing, |mut listing| async {
            let next = listing.next().await?;
            Some((next, listing))
        })
        .boxed()
    }

    /// What is damaged or missing is one entry's; a repository that is out of reach has none of them.
    fn concerns_all(&self, error: &Error) -> bool {
        !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound)
    }

    fn is_slowed_down(&self) -> bool {
        self.place.is_slowed_down()
    }

    fn untold_warnings(&self) -> u64 {
        u64::from(self.missing_entries > 0)
    }

    async fn close(&self, _outcome: Outcome) -> Result<SourceNotes> {
        let mut notes = SourceNotes::default();
        if self.missing_entries > 0 {
            let text = format!(
                "the snapshot that was copied lacks entries that could not be read: {}",
                self.missing_entries
            );
            notes.warnings.push(text);
        }
        Ok(notes)
    }

    async fn body(&self, entry: &Entry, _segment: Option<&Segment>) -> Result<Body> {
        let found = self.reader.find(&entry.path).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("{} is not in the snapshot", entry.path))
        })?;
        Ok(Body::ranged(SnapshotBody { reader: Arc::clone(&self.reader), entry: found }))
    }
}

/// Turns a walk, which gives directories before what they hold, into a listing, which ends with them.
struct Listing {
    walk: BoxStream<'static, Result<SnapshotEntry>>,
    /// The directories that the walk is in.
    open: Vec<(EntryPath, Metadata)>,
    waiting: VecDeque<Listed>,
    /// What comes up to this item was listed before.
    after: Option<ListToken>,
    is_local: bool,
    is_over: bool,
    cancel: CancelToken,
}

impl Listing {
    async fn next(&mut self) -> Option<Result<Listed, ListError>> {
        loop {
            if let Err(error) = self.cancel.check().map_err(ListError::from)
                && !self.is_over
            {
                self.is_over = true;
                self.waiting.clear();
                self.after = None;
                return Some(Err(error));
            }
            if let Some(listed) = self.waiting.pop_front() {
                match self.after.take_if(|after| *after == listed.token) {
                    None if self.after.is_none() => return Some(Ok(listed)),
                    // It was listed before, as the last one or an earlier one.
                    Some(_) | None => continue,
                }
            }
            if self.is_over {
                // A snapshot does not change.
                let lost = || Error::new(ErrorKind::InvalidInput, "the listing has no such token");
                return self.after.take().map(|_| Err(lost().into()));
            }
            let next = self.cancel.unless_cancelled(self.walk.next().map(Option::transpose)).await;
            match next.transpose() {
                Some(Ok(entry)) => self.take(entry),
                Some(Err(error)) => {
                    self.is_over = true;
                    self.after = None;
                    return Some(Err(error.into()));
                }
                None => {
                    self.is_over = true;
                    self.close_all_but(None);
                }
            }
        }
    }

    fn take(&mut self, found: SnapshotEntry) {
        self.close_all_but(Some(&found.path));
        let SnapshotEntry { path, kind, mut metadata, size_bytes, .. } = found;
        // What it has not was not there.
        metadata.extended_attributes.get_or_insert_default();
        if kind == EntryKind::Directory {
            self.open.push((path, metadata));
            return;
        }
        let fingerprint = if self.is_local { Fingerprint::Stat } else { Fingerprint::None };
        let token = token(&path, false);
        let entry = Entry { path, handle: None, kind, metadata, size_bytes, fingerprint };
        self.waiting.push_back(Listed { item: ListedItem::Entry(Box::new(entry)), token });
    }

    /// Ends the directories that a path is not in.
    fn close_all_but(&mut self, path: Option<&EntryPath>) {
        let is_left =
            |(open, _): &mut (EntryPath, Metadata)| path.is_none_or(|path| !path.starts_with(open));
        while let Some((path, metadata)) = self.open.pop_if(is_left) {
            let token = token(&path, true);
            let item = ListedItem::DirDone { path, metadata: Box::new(metadata) };
            self.waiting.push_back(Listed { item, token });
        }
    }
}

fn token(path: &EntryPath, is_done: bool) -> ListToken {
    let mut bytes = vec![u8::from(is_done)];
    bytes.extend(path.to_token());
    ListToken::new(bytes)
}

#[derive(Debug)]
struct SnapshotBody {
    reader: Arc<dyn SnapshotReader>,
    entry: SnapshotEntry,
}

#[async_trait]
impl RangedBody for SnapshotBody {
    fn len_bytes(&self) -> u64 {
        self.entry.size_bytes
    }

    async fn read_at(&self, range: Range<u64>) -> Result<Bytes> {
        let end = range.end.min(self.entry.size_bytes);
        self.reader.read(&self.entry, range.start.min(end)..end).await
    }
}
