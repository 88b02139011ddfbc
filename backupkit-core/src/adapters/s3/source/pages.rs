//! Pages of a listing, the next ones fetched while one is used.

mod plan;
mod starts;

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::plan::{MOST_EMPTY_PAGES, MOST_PAGES, Plan, Request};
use self::starts::send_starts;
use super::super::bucket::{AtTime, Bucket, PagedKey, PagedVersion, VersionMarker, incomplete};
use super::super::keys::Name;
use super::moment::{LIST_VERSIONS, explained, not_encoded};
use crate::error::{Error, ErrorKind, Result};
use crate::model::EntryPath;
use crate::snapshot::SnapshotReader;

/// Pages as of a time that lie ready at most. Each may take some hundred KiB.
const MOST_PAGES_OF_THEN: usize = 4;

/// What is known of a bucket before it is listed.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Whether the server lists by bytes.
    pub(super) is_by_bytes: bool,
    /// An earlier snapshot of it.
    pub(super) parent: Option<Arc<dyn SnapshotReader>>,
}

/// The keys of each page behind a key, as they are or as they were at a time. What there is now is listed in
/// several places at the same time, if an earlier snapshot tells where. Pages are fetched by a task, which ends
/// with the stream: a request that nobody waits for would keep its place among the calls.
pub(super) fn pages(
    bucket: Bucket,
    behind: Option<String>,
    known: Known,
    time: Option<Timestamp>,
) -> BoxStream<'static, Result<Vec<PagedKey>>> {
    let root = bucket.full_key("");
    let behind = behind.map(|key| key.strip_prefix(&root).unwrap_or_default().to_owned());
    let mut task = JoinSet::new();
    let receiver = match time {
        None => {
            let (sender, receiver) = mpsc::channel(1);
            task.spawn(fetch_now(bucket, behind, known, sender));
            receiver
        }
        Some(time) => {
            let (sender, receiver) = mpsc::channel(MOST_PAGES_OF_THEN);
            let then = Then { at_time: AtTime::new(time), marker: None, behind };
            task.spawn(fetch_then(bucket, then, sender));
            receiver
        }
    };
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

/// Fetches what there is now, as a plan has it.
async fn fetch_now(
    bucket: Bucket,
    behind: Option<String>,
    mut known: Known,
    pages: mpsc::Sender<Result<Vec<PagedKey>>>,
) {
    let mut plan = Plan::new(behind, known.is_by_bytes);
    let (mut calls, mut walk) = (JoinSet::new(), JoinSet::new());
    let (sender, mut starts) = mpsc::channel(MOST_PAGES);
    let mut sender = Some(sender);
    while !plan.is_over() {
        if let Some(page_keys) = plan.page_keys()
            && let (Some(sender), Some(parent)) = (sender.take(), known.parent.take())
        {
            let directory = Name::of(&bucket.settings().bucket).text;
            let directory = EntryPath::from_names([directory.as_bytes()]);
            walk.spawn(send_starts(parent, directory, bucket.full_key(""), page_keys, sender));
        }
        while plan.wants_start()
            && let Ok(start) = starts.try_recv()
        {
            plan.add_start(start);
        }
        while let Some(Request { number, behind, token }) = plan.ask() {
            let (bucket, behind) = (bucket.clone(), behind.map(|key| bucket.full_key(&key)));
            calls.spawn(async move {
                (number, bucket.objects_page(behind.as_deref(), token.as_deref()).await)
            });
        }
        tokio::select! {
            biased;
            place = pages.reserve(), if plan.is_ready() => {
                let (Ok(place), Some(keys)) = (place, plan.give()) else { return };
                let goes_on = keys.is_ok();
                place.send(keys);
                if !goes_on {
                    return;
                }
            }
            () = pages.closed() => return,
            Some(answered) = calls.join_next() => {
                let Ok((number, page)) = answered else {
                    // Nobody is left to be told if this fails.
                    drop(pages.send(Err(panicked())).await);
                    return;
                };
                plan.take(number, page);
            }
        }
    }
}

/// Where a listing as of a time is.
struct Then {
    at_time: AtTime,
    behind: Option<String>,
    marker: Option<VersionMarker>,
}

/// What a page as of a time brings.
struct Fetched {
    keys: Vec<PagedKey>,
    /// Whether the server gave nothing at all.
    is_empty: bool,
    goes_on: bool,
}

/// Fetches what there was, each page where the one before ends.
async fn fetch_then(bucket: Bucket, mut then: Then, pages: mpsc::Sender<Result<Vec<PagedKey>>>) {
    let mut empty_pages = 0;
    loop {
        let mut fetched = then.next(&bucket).await;
        if let Ok(Fetched { is_empty, goes_on, .. }) = fetched {
            empty_pages = if is_empty { empty_pages + 1 } else { 0 };
            if goes_on && empty_pages >= MOST_EMPTY_PAGES {
                let why = "page after page is empty, and none is the last one";
                fetched = Err(incomplete("list the bucket", why));
            }
        }
        let goes_on = fetched.as_ref().is_ok_and(|fetched| fetched.goes_on);
        let page = fetched.map(|fetched| fetched.keys);
        if pages.send(page).await.is_err() || !goes_on {
            return;
        }
    }
}

impl Then {
    async fn next(&mut self, bucket: &Bucket) -> Result<Fetched> {
        let own = self.behind.as_deref();
        let from = self.marker.take().or_else(|| own.map(VersionMarker::behind));
        let page = bucket.versions_page("", from.as_ref()).await;
        let page = page.map_err(|error| explained(error, LIST_VERSIONS))?;
        let is_empty = page.versions.is_empty();
        if !page.is_encoded && !is_empty {
            return Err(not_encoded());
        }
        self.marker.clone_from(&page.next);
        let versions = self.at_time.take(page).into_iter();
        // Some servers begin at a key, and not behind it.
        let keys = versions.filter(|version| Some(version.key.as_str()) != own);
        let keys = keys.map(paged_key).collect();
        Ok(Fetched { keys, is_empty, goes_on: self.marker.is_some() })
    }
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
