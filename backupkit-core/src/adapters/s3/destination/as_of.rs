//! A bucket as it was, through the versions that it keeps.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;
use tokio::sync::OnceCell;

use super::list::digest;
use super::{CONCURRENCY, S3Destination};
use crate::adapters::s3::bucket::{
    AtTime, Bucket, PagedVersion, VersionMarker, Versioning, incomplete,
};
use crate::destination::{Destination, DestinationCapabilities, ObjectKey, ObjectMeta, Payload};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::probe::{Probe, Probing};

/// So many versions are known by heart; of others the server is asked again.
const MOST_KNOWN: usize = 1 << 16;

/// What a bucket held at a time. Nothing is written through it.
///
/// Of each key the newest version counts that is not younger than that time, unless the key was deleted
/// between the two; see [`AtTime`].
#[derive(Clone)]
pub(super) struct S3AsOf {
    bucket: Bucket,
    env: Env,
    time: Timestamp,
    known: Arc<Mutex<HashMap<String, Found>>>,
    is_versioned: Arc<OnceCell<()>>,
}

/// A version that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    id: Option<String>,
    len_bytes: u64,
}

impl Found {
    fn of(version: &PagedVersion) -> Self {
        let len_bytes = version.len_bytes.unwrap_or_default();
        Self { id: version.id.clone(), len_bytes }
    }
}

impl S3AsOf {
    pub(super) fn new(destination: &S3Destination, time: Timestamp) -> Self {
        Self {
            bucket: destination.bucket.clone(),
            env: destination.env.clone(),
            time,
            known: Arc::default(),
            is_versioned: Arc::default(),
        }
    }

    fn at(&self) -> String {
        self.bucket.settings().location()
    }

    fn refused(&self, doing: &str) -> Error {
        let (at, time) = (self.at(), self.time);
        let message = format!("cannot {doing}: this is {at} as it was at {time}, only to read");
        Error::new(ErrorKind::Unsupported, message)
            .with_code("read-only-view")
            .with_hint("restore from it, or change the repository as it is now")
    }

    /// Makes sure that what was deleted can be seen at all.
    async fn require_versions(&self) -> Result<()> {
        let tried = self.is_versioned.get_or_try_init(|| async {
            // What was kept before that was suspended is there still.
            if self.bucket.versioning().await? != Versioning::Never {
                return Ok(());
            }
            let message =
                format!("cannot show {} as it was: the bucket keeps no versions", self.at());
            Err(Error::new(ErrorKind::Unsupported, message)
                .with_code("s3-no-versions")
                .with_hint("turn versioning on, to be able to from now on"))
        });
        tried.await.copied()
    }

    async fn find(&self, key: &ObjectKey) -> Result<Found> {
        self.require_versions().await?;
        if let Some(found) = self.known().get(key.as_str()) {
            return Ok(found.clone());
        }
        let (mut at_time, mut behind) = (AtTime::new(self.time), None);
        let found = loop {
            let page = self.bucket.versions_page(key.as_str(), behind.as_ref()).await?;
            behind.clone_from(&page.next);
            let mut over = at_time.take(page).into_iter();
            let found = over.find(|version| version.key == key.as_str());
            if found.is_some() || behind.is_none() {
                break found.as_ref().map(Found::of);
            }
        };
        let found = found.ok_or_else(|| {
            let message = format!("there was no {key} at {} at {}", self.at(), self.time);
            Error::new(ErrorKind::NotFound, message)
        })?;
        self.remember(key.as_str(), &found);
        Ok(found)
    }

    fn remember(&self, key: &str, found: &Found) {
        let mut known = self.known();
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(key.to_owned(), found.clone());
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Found>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listing under way.
struct Listing {
    view: S3AsOf,
    prefix: ObjectKey,
    behind: Option<VersionMarker>,
    is_over: bool,
    at_time: AtTime,
    given: HashSet<[u8; 16]>,
}

impl Listing {
    async fn next_page(&mut self) -> Result<Option<Vec<ObjectMeta>>> {
        if self.is_over {
            return Ok(None);
        }
        self.view.require_versions().await?;
        let bucket = &self.view.bucket;
        let page = bucket.versions_page(self.prefix.as_str(), self.behind.as_ref()).await?;
        self.is_over = page.next.is_none();
        self.behind.clone_from(&page.next);
        let versions = self.at_time.take(page);
        let mut objects = Vec::with_capacity(versions.len());
        for version in versions {
            if !self.given.insert(digest(&version.key)) {
                let doing = format!("list {} as it was", self.prefix);
                return Err(incomplete(&doing, "the server gives keys twice"));
            }
            // What cannot be a key was not created here.
            let Ok(name) = ObjectKey::new(version.key.as_str()) else { continue };
            if name.is_below(&self.prefix) {
                let found = Found::of(&version);
                self.view.remember(&version.key, &found);
                objects.push(ObjectMeta { key: name, size_bytes: found.len_bytes });
            }
        }
        Ok(Some(objects))
    }
}

#[async_trait]
impl Destination for S3AsOf {
    fn capabilities(&self) -> DestinationCapabilities {
        DestinationCapabilities::new(CONCURRENCY).frozen()
    }

    fn location(&self) -> String {
        format!("{} as of {}", self.at(), self.time)
    }

    fn is_slowed_down(&self) -> bool {
        self.bucket.is_slowed_down()
    }

    async fn check(&self) -> Result<Probe> {
        let mut probing = Probing::new(&self.env);
        let hint = "turn versioning on, and let this key see it and list versions";
        let tried = async {
            self.require_versions().await?;
            self.bucket.versions_page("config", None).await
        };
        probing.step_async("list versions of the bucket", hint, tried).await;
        Ok(probing.finish())
    }

    async fn create(&self, key: &ObjectKey, payload: Payload) -> Result<()> {
        drop(payload);
        Err(self.refused(&format!("create {key}")))
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes> {
        let found = self.find(key).await?;
        if let Some(range) = range.clone().filter(|range| range.start >= range.end) {
            if range.start == range.end && range.end <= found.len_bytes {
                return Ok(Bytes::new());
            }
            let message = format!("cannot read {key}: the range is beyond its end");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        self.bucket.get_version(key.as_str(), found.id.as_deref(), range).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let found = self.find(key).await?;
        Ok(ObjectMeta { key: key.clone(), size_bytes: found.len_bytes })
    }

    fn list(&self, prefix: &ObjectKey) -> BoxStream<'static, Result<ObjectMeta>> {
        let listing = Listing {
            view: self.clone(),
            prefix: prefix.clone(),
            behind: None,
            is_over: false,
            at_time: AtTime::new(self.time),
            given: HashSet::new(),
        };
        let pages = stream::try_unfold(listing, |mut listing| async move {
            let page = listing.next_page().await?;
            Ok::<_, Error>(page.map(|objects| (objects, listing)))
        });
        pages
            .flat_map(|page| match page {
                Ok(objects) => stream::iter(objects.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(error) => stream::iter(vec![Err(error)]),
            })
            .boxed()
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        Err(self.refused(&format!("delete {key}")))
    }

    fn as_of(&self, time: Timestamp) -> Result<Arc<dyn Destination>> {
        Ok(Arc::new(Self { time, known: Arc::default(), ..self.clone() }))
    }
}

impl fmt::Debug for S3AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3AsOf").field("at", &self.location()).finish_non_exhaustive()
    }
}
