//! Pages of a listing, the next ones fetched while one is used.

mod ahead;
mod plan;
mod starts;

use std::future::Future;

use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub(super) use self::ahead::{Known, pages_of_now};
use self::plan::MOST_EMPTY_PAGES;
use super::super::bucket::{
    AtTime, Bucket, PagedKey, PagedVersion, VersionMarker, VersionsPage, incomplete,
};
use super::moment::{Reason, not_encoded};
use crate::error::{Error, ErrorKind, Result};

/// Pages that lie ready at most. Each may take some hundred KiB.
const MOST_PAGES: usize = 4;

/// Goes from page to page.
pub(super) trait Paging: Send + 'static {
    /// What pages have.
    type Line: Send + 'static;

    /// The next page.
    fn next(&mut self, bucket: &Bucket)
    -> impl Future<Output = Result<Fetched<Self::Line>>> + Send;
}

/// What a page brings.
pub(super) struct Fetched<T> {
    lines: Vec<T>,
    /// Whether the server gave nothing at all.
    is_empty: bool,
    goes_on: bool,
}

/// Keys as they were at a time.
pub(super) struct Then {
    at_time: AtTime,
    behind: Option<String>,
    marker: Option<VersionMarker>,
}

/// Versions of all keys.
pub(super) struct Versions {
    /// The key that is listed, before those behind it are.
    only: Option<String>,
    behind: Option<String>,
    marker: Option<VersionMarker>,
}

impl Then {
    /// Behind a key. Versions of a second are told apart by the order of the listing if that is wanted.
    pub(super) fn new(
        bucket: &Bucket,
        behind: Option<&str>,
        time: Timestamp,
        is_by_order: bool,
    ) -> Self {
        let at_time = if is_by_order { AtTime::in_order(time) } else { AtTime::new(time) };
        let root = bucket.full_key("");
        let behind = behind.and_then(|key| key.strip_prefix(root.as_str())).map(str::to_owned);
        Self { at_time, behind, marker: None }
    }
}

impl Versions {
    /// From a key on, which is without the prefix of the settings, or from the beginning.
    pub(super) fn new(from: Option<String>) -> Self {
        Self { only: from, behind: None, marker: None }
    }
}

/// The lines of each page. They are fetched by a task, which ends with the stream: a request that nobody
/// waits for would keep its place among the calls.
pub(super) fn pages<P: Paging>(
    bucket: Bucket,
    paging: P,
) -> BoxStream<'static, Result<Vec<P::Line>>> {
    let (sender, receiver) = mpsc::channel(MOST_PAGES);
    let mut task = JoinSet::new();
    task.spawn(fetch(bucket, paging, sender));
    streamed(receiver, task)
}

/// What a task sends, and that it panicked.
fn streamed<T: Send + 'static>(
    receiver: mpsc::Receiver<Result<T>>,
    task: JoinSet<()>,
) -> BoxStream<'static, Result<T>> {
    stream::unfold((receiver, task), |(mut receiver, mut task)| async move {
        if let Some(page) = receiver.recv().await {
            return Some((page, (receiver, task)));
        }
        // A listing that only stops is not at its end.
        match task.join_next().await {
            Some(Err(_)) => Some((Err(panicked()), (receiver, task))),
            _ => None,
        }
    })
    .boxed()
}

fn panicked() -> Error {
    Error::new(ErrorKind::Internal, "the task that lists a bucket panicked")
}

async fn fetch<P: Paging>(
    bucket: Bucket,
    mut paging: P,
    pages: mpsc::Sender<Result<Vec<P::Line>>>,
) {
    let mut empty_pages = 0;
    loop {
        let mut fetched = paging.next(&bucket).await;
        if let Ok(Fetched { is_empty, goes_on, .. }) = fetched {
            empty_pages = if is_empty { empty_pages + 1 } else { 0 };
            if goes_on && empty_pages >= MOST_EMPTY_PAGES {
                let why = "page after page is empty, and none is the last one";
                fetched = Err(incomplete("list the bucket", why));
            }
        }
        let goes_on = fetched.as_ref().is_ok_and(|fetched| fetched.goes_on);
        let page = fetched.map(|fetched| fetched.lines);
        if pages.send(page).await.is_err() || !goes_on {
            return;
        }
    }
}

impl Paging for Then {
    type Line = PagedKey;

    async fn next(&mut self, bucket: &Bucket) -> Result<Fetched<PagedKey>> {
        let own = self.behind.as_deref();
        let from = self.marker.take().or_else(|| own.map(VersionMarker::behind));
        let page = versions_page(bucket, "", from.as_ref(), Reason::ConsistentAt).await?;
        let is_empty = page.versions.is_empty();
        self.marker.clone_from(&page.next);
        let versions = self.at_time.take(page).into_iter();
        // Some servers begin at a key, and not behind it.
        let keys = versions.filter(|version| Some(version.key.as_str()) != own);
        let lines = keys.map(paged_key).collect();
        Ok(Fetched { lines, is_empty, goes_on: self.marker.is_some() })
    }
}

impl Paging for Versions {
    type Line = PagedVersion;

    async fn next(&mut self, bucket: &Bucket) -> Result<Fetched<PagedVersion>> {
        let behind = self.behind.as_deref();
        let from = self.marker.take().or_else(|| behind.map(VersionMarker::behind));
        // In every order, a key comes before those that begin with it.
        let prefix = self.only.as_deref().unwrap_or_default();
        let page = versions_page(bucket, prefix, from.as_ref(), Reason::Versions).await?;
        let VersionsPage { versions: mut lines, next, .. } = page;
        let (is_empty, listed) = (lines.is_empty(), lines.len());
        lines.retain(|line| match &self.only {
            Some(only) => line.key == *only,
            None => Some(&line.key) != self.behind.as_ref(),
        });
        self.marker = next;
        let mut goes_on = self.marker.is_some();
        if self.only.is_some() && (lines.len() < listed || !goes_on) {
            // What is behind the key is listed as a whole, not only what begins with it.
            (self.behind, self.marker, goes_on) = (self.only.take(), None, true);
        }
        Ok(Fetched { lines, is_empty, goes_on })
    }
}

/// A page whose keys can be told.
pub(super) async fn versions_page(
    bucket: &Bucket,
    prefix: &str,
    behind: Option<&VersionMarker>,
    reason: Reason,
) -> Result<VersionsPage> {
    let page = bucket.versions_page(prefix, behind).await;
    let page = page.map_err(|error| reason.explain_listing(error))?;
    if page.is_encoded || page.versions.is_empty() { Ok(page) } else { Err(not_encoded(reason)) }
}

fn paged_key(version: PagedVersion) -> PagedKey {
    PagedKey {
        key: version.key,
        len_bytes: version.len_bytes.unwrap_or_default(),
        etag: version.etag,
        modified: Some(version.modified.as_second()),
        storage_class: version.storage_class,
        version: version.id,
    }
}
