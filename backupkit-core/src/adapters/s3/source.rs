//! Buckets as a source.

mod archive;
mod asked;
mod body;
mod choice;
mod filter;
mod found;
mod history;
mod listing;
mod moment;
mod notes;
mod order;
mod pages;
mod probe;
mod settings_file;
mod shards;
mod sorted;
mod walk;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::sync::OnceCell;

pub use self::archive::{ArchivedObjects, ThawTier};
pub use self::filter::S3Filter;
pub use self::moment::ConsistentAt;
pub use self::order::ListingOrder;

use self::asked::Asked;
use self::listing::{Listing, followed};
use self::moment::{Moment, Reason, require_versions};
use self::notes::Notes;
use super::bucket::Bucket;
use super::credentials::S3Credentials;
use super::errors::{ARCHIVED, CERTIFICATE, REFUSED};
use super::keys::RANGE;
use super::settings::S3Settings;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Entry, Origin};
use crate::probe::Probe;
use crate::snapshot::SnapshotReader;
use crate::source::{
    Body, ListError, Listed, OpenContext, Outcome, Segment, Source, SourceCapabilities,
    SourceNotes, SourceView,
};
use crate::token::{CancelToken, ListToken, ViewToken};

/// Bodies at the same time. What is asked of the server is limited by how it answers.
const CONCURRENCY: usize = 32;

/// A bucket, or what is below a prefix of it, as a source.
///
/// The key `photos/a.jpg` of the bucket `pictures` is the file `/pictures/photos/a.jpg`; any key has a
/// place, also one that no file system can hold. A node keeps what the server says of an object, in the
/// generic attribute `backupkit.s3`: content headers, metadata of users, storage class, what locks it, and
/// tags and access lists if asked for. An object is unchanged if its size, entity tag and time of change are; then nothing is asked
/// of the server but the listing.
///
/// The settings of the bucket `pictures` are the file `/pictures%bucket.json`, if the source is the whole
/// bucket: a JSON object whose field `settings` says of each either `{"value": DOCUMENT}`, with the document
/// of the server as it is, or `"absent"`, `"denied"`, `"unsupported"`, or `"failed"` of what could not be
/// found out, with a warning.
///
/// With [`S3SourceOptions::with_versions`] the older versions of `photos/a.jpg` are the files
/// `/pictures%versions/photos/a.jpg%past/TIME-ID`, from the oldest to the newest: all but the version that is
/// there. The mark of a deletion is an empty file `TIME-ID%deleted`; it is there also if it is the newest one.
/// An older version is as an object is, and costs no request if it was backed up before; one that is removed
/// before it is read is left out and counted.
///
/// An object that is replaced while it is read is read anew; one that is deleted before it is read is left
/// out and counted. A listing that fails, or may not be whole, fails the backup, and so does a key or a
/// server that goes away meanwhile. With [`ConsistentAt`] neither matters, and the backup is of one moment.
#[derive(Clone)]
pub struct S3Source {
    bucket: Bucket,
    env: Env,
    host: Arc<str>,
    excluded: Arc<[String]>,
    options: S3SourceOptions,
}

/// How a bucket is read.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct S3SourceOptions {
    /// Whether the tags of new and changed objects are read: a request for each. A change of tags alone
    /// is not seen, since no listing tells of it; the first backup that asks for tags reads all objects.
    pub tags: bool,
    /// Whether the access lists of new and changed objects are read: a request for each. Kept are those
    /// that say more than that the owner may do all. A change of them alone is not seen, as with tags.
    pub acls: bool,
    /// Whether the settings of the bucket (policy, lifecycle, versioning and the like) are read, if it is
    /// read whole and not below a prefix: about twenty requests in each backup.
    pub bucket_settings: bool,
    /// In which order the server lists keys.
    pub order: ListingOrder,
    /// What to do with new objects that lie in an archive.
    pub archived: ArchivedObjects,
    /// Which objects are read.
    pub filter: S3Filter,
    /// The point in time that the bucket is read as of; nothing: each object as it is when it is read. For
    /// buckets that keep versions.
    pub consistent_at: Option<ConsistentAt>,
    /// Whether the older versions of each key are read, too, in buckets that keep them: all but the one that
    /// is there, and the marks of deletions. What was read before is not read again.
    pub versions: bool,
}

impl Default for S3SourceOptions {
    /// Everything that costs no request for each object.
    fn default() -> Self {
        Self {
            tags: false,
            acls: false,
            bucket_settings: true,
            order: ListingOrder::Found,
            archived: ArchivedObjects::default(),
            filter: S3Filter::default(),
            consistent_at: None,
            versions: false,
        }
    }
}

impl S3SourceOptions {
    /// Says that tags are read.
    #[must_use]
    pub fn with_tags(mut self) -> Self {
        self.tags = true;
        self
    }

    /// Says that access lists are read.
    #[must_use]
    pub fn with_acls(mut self) -> Self {
        self.acls = true;
        self
    }

    /// Says that the settings of the bucket are not read.
    #[must_use]
    pub fn without_bucket_settings(mut self) -> Self {
        self.bucket_settings = false;
        self
    }

    /// Says in which order the server lists keys.
    #[must_use]
    pub fn with_order(mut self, order: ListingOrder) -> Self {
        self.order = order;
        self
    }

    /// Says which objects are read. How many are left out is told in the notes of the view.
    #[must_use]
    pub fn with_filter(mut self, filter: S3Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Says as of which point in time the bucket is read. It must keep versions, and go on to do so. Settings
    /// of the bucket are those of now all the same.
    #[must_use]
    pub fn with_consistent_at(mut self, consistent_at: ConsistentAt) -> Self {
        self.consistent_at = Some(consistent_at);
        self
    }

    /// Says that older versions are read, too: see [`S3Source`] for where they are. With
    /// [`Self::with_consistent_at`], those of that moment. The filter is asked about each version: its key,
    /// size, age and class, and its tags, which takes a request for each in each backup. Marks of deletions
    /// have neither sizes, classes nor tags, and are left out by their key or age alone.
    ///
    /// The bucket must keep versions, or have done so once.
    #[must_use]
    pub fn with_versions(mut self) -> Self {
        self.versions = true;
        self
    }

    /// Says what to do with archived objects.
    #[must_use]
    pub fn with_archived(mut self, archived: ArchivedObjects) -> Self {
        self.archived = archived;
        self
    }
}

impl S3Source {
    /// Returns a source of a bucket for backups on `host`. Nothing is asked of the server yet.
    ///
    /// # Errors
    /// `InvalidConfig` for certificates or a proxy that will not do.
    pub fn new(
        settings: S3Settings,
        credentials: &S3Credentials,
        env: Env,
        host: impl Into<Arc<str>>,
    ) -> Result<Self> {
        let bucket = Bucket::new(settings, credentials, &env)?;
        let (excluded, options) = (Arc::from([]), S3SourceOptions::default());
        Ok(Self { bucket, env, host: host.into(), excluded, options })
    }

    /// Says how the bucket is read.
    #[must_use]
    pub fn with_options(mut self, options: S3SourceOptions) -> Self {
        self.options = options;
        self
    }

    /// Leaves out all that is below these prefixes of the bucket: a repository in it. Each is named in
    /// the notes of the view.
    #[must_use]
    pub fn with_excluded_prefixes(mut self, prefixes: Vec<String>) -> Self {
        let whole = |prefix: String| format!("{}/", prefix.trim_matches('/'));
        self.excluded = prefixes.into_iter().map(whole).collect();
        self
    }
}

impl fmt::Debug for S3Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Source").field("origin", &self.origin()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Source for S3Source {
    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities::new(CONCURRENCY).with_transparent_directories(RANGE)
    }

    fn origin(&self) -> Origin {
        Origin {
            scheme: "s3".to_owned(),
            host: self.host.to_string(),
            paths: vec![self.bucket.settings().uri()],
        }
    }

    async fn check(&self) -> Result<Probe> {
        Ok(probe::probe(self).await)
    }

    async fn open(&self, cx: OpenContext) -> Result<Arc<dyn SourceView>> {
        let (bucket, wanted) = (&self.bucket, self.options.consistent_at);
        let begun = async {
            let resumed = cx.resume.as_ref().map(|token| Moment::resume(token, &self.options));
            let resumed = resumed.transpose()?;
            if let Some(reason) = Reason::of(&self.options) {
                require_versions(bucket, reason).await?;
            }
            match resumed {
                // Ages are those of objects when the backup began, also if it goes on days later.
                Some(moment) => Ok(moment),
                None => Moment::begin(bucket, &self.env, wanted).await,
            }
        };
        let moment = cx.cancel.unless_cancelled(begun).await?;
        Ok(Arc::new(S3View(Arc::new(Shared {
            hasty: self.bucket.impatient(&self.env),
            bucket: self.bucket.clone(),
            excluded: Arc::clone(&self.excluded),
            options: self.options.clone(),
            env: self.env.clone(),
            moment,
            notes: Notes::default(),
            asked: Asked::new(self.options.tags, self.options.acls),
            parent: cx.parent,
            settings_file: OnceCell::new(),
            cancel: cx.cancel,
        }))))
    }
}

/// What the parts of a view share.
#[derive(Debug)]
struct Shared {
    bucket: Bucket,
    /// The same, for calls that nobody waits long for.
    hasty: Bucket,
    excluded: Arc<[String]>,
    options: S3SourceOptions,
    env: Env,
    moment: Moment,
    notes: Notes,
    asked: Asked,
    /// The snapshot that this backup follows.
    parent: Option<Arc<dyn SnapshotReader>>,
    settings_file: OnceCell<Bytes>,
    cancel: CancelToken,
}

impl Shared {
    /// Whether an error of one object says that no other can be read either.
    fn concerns_all(&self, error: &Error) -> bool {
        match error.kind() {
            // What a server refuses for reasons of its own may be about the object.
            ErrorKind::InvalidConfig => error.code() != REFUSED,
            ErrorKind::Unauthenticated | ErrorKind::Cancelled => true,
            ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::RateLimited => {
                error.code() == CERTIFICATE || self.bucket.is_lost()
            }
            _ => error.code() == ARCHIVED && self.options.archived == ArchivedObjects::Fail,
        }
    }

    /// Whether what is wanted of objects may be had already from an earlier backup.
    fn is_compared(&self) -> bool {
        self.parent.is_some() && self.asked.is_wanting()
    }

    /// Whether the settings of the bucket are a part of the backup. What lies below a prefix has none.
    fn has_settings_file(&self) -> bool {
        self.options.bucket_settings && self.bucket.settings().prefix.is_empty()
    }

    /// Where the server seems to be gone, asks it for something else: it may only fail with one object.
    async fn confirm<T>(&self, read: Result<T>) -> Result<T> {
        if read.is_err() && self.bucket.is_lost() {
            drop(self.bucket.list_page("", None, Some(1)).await);
        }
        read
    }
}

/// One look at a bucket: of one point in time only if that is wanted.
#[derive(Debug)]
struct S3View(Arc<Shared>);

#[async_trait]
impl SourceView for S3View {
    fn token(&self) -> ViewToken {
        self.0.moment.token(&self.0.options)
    }

    fn list(&self, after: Option<&ListToken>) -> BoxStream<'static, Result<Listed, ListError>> {
        if after.is_some_and(settings_file::is_behind) {
            return stream::empty().boxed();
        }
        let mut listing = match after.filter(|token| history::is_within(token)) {
            Some(token) if self.0.options.versions => history::list(&self.0, Some(token)),
            _ => match Listing::new(&self.0, after) {
                Ok(listing) if self.0.options.versions => {
                    let shared = Arc::clone(&self.0);
                    followed(listing.into_stream(), move || history::list(&shared, None))
                }
                Ok(listing) => listing.into_stream(),
                Err(error) => stream::iter([Err(ListError::from(error))]).boxed(),
            },
        };
        if self.0.has_settings_file() {
            listing = settings_file::append(&self.0, listing);
        }
        listing
    }

    async fn body(&self, entry: &Entry, _segment: Option<&Segment>) -> Result<Body> {
        let opened = async { self.0.confirm(body::open(&self.0, entry).await).await };
        self.0.cancel.unless_cancelled(opened).await
    }

    async fn bodies(&self, entries: &[Entry]) -> Option<Vec<Result<Body>>> {
        let mut bodies = Vec::with_capacity(entries.len());
        for entry in entries {
            bodies.push(self.body(entry, None));
        }
        Some(stream::iter(bodies).buffered(CONCURRENCY).collect().await)
    }

    fn concerns_all(&self, error: &Error) -> bool {
        self.0.concerns_all(error)
    }

    fn is_slowed_down(&self) -> bool {
        self.0.bucket.is_slowed_down()
    }

    fn untold_warnings(&self) -> u64 {
        self.0.notes.sentences().warnings.len() as u64
    }

    async fn close(&self, _outcome: Outcome) -> Result<SourceNotes> {
        let mut notes = self.0.notes.sentences();
        let read = self.0.moment.fixed().map(|time| format!("the bucket as it was at {time}"));
        notes.remarks.splice(0..0, read);
        Ok(notes)
    }
}
