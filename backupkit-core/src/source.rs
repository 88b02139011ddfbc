//! The trait to implement for reading a new kind of source.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Entry, EntryPath, Metadata, Origin};
use crate::probe::Probe;
use crate::snapshot::SnapshotReader;
use crate::store::AdapterStore;
use crate::token::{CancelToken, ListToken, ReadToken, ViewToken};

/// Something that can be backed up.
#[async_trait]
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// What the source can do. Constant over its life.
    fn capabilities(&self) -> SourceCapabilities;

    /// Whose data it reads. Constant over its life.
    fn origin(&self) -> Origin;

    /// Tests whether the source can be reached and read. Reads no data of the user.
    async fn check(&self) -> Result<Probe>;

    /// Opens one look at the source.
    ///
    /// # Errors
    /// `SourceChanged` if the view to resume no longer exists; the run then starts over.
    async fn open(&self, cx: OpenContext) -> Result<Arc<dyn SourceView>>;
}

/// The most bytes that are asked of a body at a time, and the most in one piece of a stream.
pub(crate) const RANGE_BYTES: u64 = 8 << 20;

/// The code of a `NotFound` of a source in which entries come and go all the time: the entry is left out
/// of the snapshot, and the run has no warning for it.
pub const VANISHED: &str = "vanished";

/// What a source can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceCapabilities {
    /// How many bodies it likes to give at the same time.
    pub concurrency: usize,
    /// Whether all entries of a view are of one point in time.
    pub point_in_time: bool,
    /// How many bytes of a byte-addressable body it likes to be asked for at a time. The engine asks
    /// for no more than 8 MiB, which is the default. Less memory is held where this is smaller.
    pub range_bytes: u64,
    /// How names of directories begin that only divide the directory they stand in. An entry that is
    /// in another of them than it was, or in none, counts as the same one.
    pub transparent_directories: Option<&'static str>,
}

impl SourceCapabilities {
    /// Returns capabilities with this concurrency and nothing special.
    pub fn new(concurrency: usize) -> Self {
        Self {
            concurrency,
            point_in_time: false,
            range_bytes: RANGE_BYTES,
            transparent_directories: None,
        }
    }

    /// Says how many bytes of a body it likes to be asked for at a time.
    #[must_use]
    pub fn with_range_bytes(mut self, bytes: u64) -> Self {
        self.range_bytes = bytes;
        self
    }

    /// Says how names of directories begin that only divide the directory they stand in.
    ///
    /// The rest of such a name is that of the first entry that was put there. Entries come in the order of
    /// their names, more or less; those that come in another may be read although they did not change.
    #[must_use]
    pub fn with_transparent_directories(mut self, prefix: &'static str) -> Self {
        self.transparent_directories = Some(prefix);
        self
    }

    /// Says that all entries of a view are of one point in time.
    #[must_use]
    pub fn with_point_in_time(mut self) -> Self {
        self.point_in_time = true;
        self
    }
}

/// What a source gets when it is opened.
#[derive(Debug, Clone)]
pub struct OpenContext {
    /// The view to go on with, after a pause or crash.
    pub resume: Option<ViewToken>,
    /// The snapshot that this backup follows, if there is one in every repository of the run.
    pub parent: Option<Arc<dyn SnapshotReader>>,
    /// A small store of the adapter's own.
    pub store: Arc<dyn AdapterStore>,
    /// Tells the view to stop.
    pub cancel: CancelToken,
}

/// One look at a source, as consistent as the source can give.
///
/// # Contract
/// 1. [`list`](Self::list) gives each path once, and nothing below a directory after its `DirDone`.
///    Directories may interleave. Every directory with entries, the roots included, gets a `DirDone`;
///    an empty directory is a `DirDone` alone. The directories above the roots get none: the engine
///    makes them up, unless the view announces them too.
/// 2. Listing after a token gives the same items that followed it, in the same order.
/// 3. A body gives the bytes of one version of its entry, or `SourceChanged`.
/// 4. After a [`ReadToken`] come exactly the bytes that followed it, or `SourceChanged`.
/// 5. A stream that failed stays failed; the engine asks for a new one.
/// 6. What the view keeps for the next one, such as a change token, moves on only in
///    [`close`](Self::close) with [`Outcome::Completed`].
#[async_trait]
pub trait SourceView: fmt::Debug + Send + Sync + 'static {
    /// Names this view for [`OpenContext::resume`].
    fn token(&self) -> ViewToken;

    /// Lists the source, behind `after` if given. An error item concerns one path if it has one
    /// ([`ListError`]) and ends the listing otherwise.
    fn list(&self, after: Option<&ListToken>) -> BoxStream<'static, Result<Listed, ListError>>;

    /// Parts of an entry with edges that do not move; empty for an entry that is read as a whole.
    /// Asked once a run and kept in its checkpoint.
    async fn segments(&self, entry: &Entry) -> Result<Vec<Segment>> {
        let _ = entry;
        Ok(Vec::new())
    }

    /// Opens the bytes of an entry, or of one segment of it.
    ///
    /// # Errors
    /// `NotFound` if it vanished since it was listed, `PermissionDenied` if it may not be read,
    /// `SourceChanged` if the listed version is gone. `NotFound` with the code [`VANISHED`] is no
    /// problem: the view counts such entries in its remarks.
    async fn body(&self, entry: &Entry, segment: Option<&Segment>) -> Result<Body>;

    /// Opens the bytes of several small entries in one go: one result for each, in order, as
    /// [`Self::body`] would give it. `None`: this source has no cheaper way than one by one.
    async fn bodies(&self, entries: &[Entry]) -> Option<Vec<Result<Body>>> {
        let _ = entries;
        None
    }

    /// Whether a failure to read one entry says that no other can be read either, as where a key has
    /// expired or a server is gone. The run then ends or rests with it and can go on later, and does not
    /// go on without the entry.
    fn concerns_all(&self, error: &Error) -> bool {
        matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::InvalidConfig)
    }

    /// Lists what can only be known after all else is read. The engine calls this last.
    fn late(&self) -> BoxStream<'static, Result<Listed, ListError>> {
        Box::pin(stream::empty())
    }

    /// Whether the system behind the view has lately asked for fewer requests, and gets them more slowly
    /// for that. The engine says so. Wrappers ask what they wrap.
    fn is_slowed_down(&self) -> bool {
        false
    }

    /// How many warnings [`Self::close`] would tell now. Checkpoints and snapshots count them, since a
    /// run that crashes or rests goes on without this view.
    fn untold_warnings(&self) -> u64 {
        0
    }

    /// Ends the view and returns what is worth telling about it. Called last, once it is known what
    /// came of the run: after the snapshots are there, or after the checkpoint. What it returns goes
    /// into the report of the run and not into the snapshots. A run that crashes never calls it.
    async fn close(&self, outcome: Outcome) -> Result<SourceNotes> {
        let _ = outcome;
        Ok(SourceNotes::default())
    }
}

/// One item of a listing.
#[derive(Debug, Clone)]
pub struct Listed {
    /// What was found.
    pub item: ListedItem,
    /// Continues the listing behind this item.
    pub token: ListToken,
}

/// What a listing finds.
#[derive(Debug, Clone)]
pub enum ListedItem {
    /// A file, link or other leaf.
    Entry(Box<Entry>),
    /// A directory of which everything has been listed.
    DirDone {
        /// Where it stands.
        path: EntryPath,
        /// What is known of it.
        metadata: Box<Metadata>,
    },
}

/// A failure while listing.
#[derive(Debug)]
pub struct ListError {
    /// The path that could not be listed; the listing goes on with the others. `None` if the listing
    /// as a whole cannot go on.
    pub path: Option<EntryPath>,
    /// Why.
    pub error: Error,
}

impl From<Error> for ListError {
    fn from(error: Error) -> Self {
        Self { path: None, error }
    }
}

/// A part of an entry with edges that do not move, such as a range of ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Names the part; only the adapter understands it.
    pub token: ReadToken,
    /// About how many bytes it has.
    pub size_hint_bytes: Option<u64>,
}

/// The bytes of an entry, opened.
#[derive(Debug)]
pub struct Body {
    /// The entry as the handle that gives the bytes sees it, where that is known better than at
    /// listing. Its path stays.
    pub refreshed: Option<Box<Entry>>,
    /// The bytes.
    pub content: BodyContent,
}

/// The two ways to give bytes.
#[derive(Debug)]
pub enum BodyContent {
    /// Any stretch can be read at any time.
    Ranged(Arc<dyn RangedBody>),
    /// The bytes come in order only.
    Stream(Arc<dyn StreamBody>),
}

/// Bytes of which any stretch can be read.
#[async_trait]
pub trait RangedBody: fmt::Debug + Send + Sync + 'static {
    /// The number of bytes when it was opened.
    fn len_bytes(&self) -> u64;

    /// Reads a stretch. Shorter than asked only where the bytes end, which the engine takes for the
    /// new end. Several calls may run at the same time.
    async fn read_at(&self, range: Range<u64>) -> Result<Bytes>;

    /// Says, after the last read, whether the bytes may be of several versions.
    async fn finish(&self) -> Result<BodyEnd> {
        Ok(BodyEnd::Consistent)
    }
}

/// Whether a body stayed the same while it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// All bytes are of one version.
    Consistent,
    /// It changed while it was read. The engine reads it once more, then keeps what one handle gave
    /// and says so.
    Changed,
}

/// Bytes that come in order.
pub trait StreamBody: fmt::Debug + Send + Sync + 'static {
    /// Gives the bytes, behind `from` if given. A piece is at most 8 MiB and rather below 1 MiB.
    fn pieces(&self, from: Option<&ReadToken>) -> BoxStream<'static, Result<Piece>>;
}

/// Some bytes of a stream.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The bytes.
    pub bytes: Bytes,
    /// Continues the stream behind these bytes. The engine can only pause where there is one.
    pub token: Option<ReadToken>,
}

/// How a view was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was read, and what was read is stored for good in at least one repository: the next
    /// view may go on from here.
    Completed,
    /// The run rests and will come back with the view's token.
    Paused,
    /// The run ended otherwise: not everything was read, or no repository has it. The next view must
    /// not count on anything of this one.
    Abandoned,
}

/// What a source has to tell at the end.
#[derive(Debug, Clone, Default)]
pub struct SourceNotes {
    /// Sentences for people about what the snapshot lacks or a view could not guarantee: the run ends
    /// with warnings. No secrets.
    pub warnings: Vec<String>,
    /// Sentences that are good to know and no problem, such as what was left out on purpose.
    pub remarks: Vec<String>,
}

impl Body {
    /// Returns a body that can be read at any place.
    pub fn ranged(body: impl RangedBody) -> Self {
        Self { refreshed: None, content: BodyContent::Ranged(Arc::new(body)) }
    }

    /// Returns a body that comes in order.
    pub fn stream(body: impl StreamBody) -> Self {
        Self { refreshed: None, content: BodyContent::Stream(Arc::new(body)) }
    }

    /// Returns a body of bytes that are already in memory.
    pub fn in_memory(bytes: impl Into<Bytes>) -> Self {
        Self::ranged(InMemoryBody(bytes.into()))
    }

    /// Adds the entry as the handle of the body sees it.
    #[must_use]
    pub fn with_refreshed(mut self, entry: Entry) -> Self {
        self.refreshed = Some(Box::new(entry));
        self
    }
}

#[derive(Debug)]
struct InMemoryBody(Bytes);

#[async_trait]
impl RangedBody for InMemoryBody {
    fn len_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    async fn read_at(&self, range: Range<u64>) -> Result<Bytes> {
        let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(self.0.len());
        let (start, end) = (clamp(range.start), clamp(range.end));
        if start > end {
            return Err(Error::new(ErrorKind::InvalidInput, "range ends before it starts"));
        }
        Ok(self.0.slice(start..end))
    }
}
