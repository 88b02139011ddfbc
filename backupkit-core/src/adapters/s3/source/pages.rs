//! Pages of a listing, the next ones fetched while one is used.

use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::bucket::{AtTime, Bucket, PagedKey, PagedVersion, VersionMarker, incomplete};
use super::moment::{LIST_VERSIONS, explained, not_encoded};
use crate::error::{Error, ErrorKind, Result};

/// Pages that lie ready at most. Each may take some hundred KiB.
const MOST_PAGES: usize = 4;
/// A server may pass by what was deleted, page after page, but not for ever.
const MOST_EMPTY_PAGES: u32 = 10_000;

/// The keys of each page behind a key, as they are or as they were at a time. They are fetched by a task, which
/// ends with the stream: a request that nobody waits for would keep its place among the calls.
pub(super) fn pages(
    bucket: Bucket,
    behind: Option<String>,
    time: Option<Timestamp>,
) -> BoxStream<'static, Result<Vec<PagedKey>>> {
    let (sender, receiver) = mpsc::channel(MOST_PAGES);
    let mut task = JoinSet::new();
    let listing = match time {
        None => Pages::Now { behind, token: None },
        Some(time) => Pages::Then { at_time: AtTime::new(time), marker: None, behind },
    };
    task.spawn(fetch(bucket, listing, sender));
    stream::unfold((receiver, task), |(mut receiver, mut task)| async move {
        if let Some(page) = receiver.recv().await {
            return Some((page, (receiver, task)));
        }
        // A listing that only stops is not at its end.
        match task.join_next().await {
            Some(Err(_)) => {
                let error =
                    Error::new(ErrorKind::Internal, "the task that lists a bucket panicked");
                Some((Err(error), (receiver, task)))
            }
            _ => None,
        }
    })
    .boxed()
}

/// Where a listing is.
enum Pages {
    /// Of what there is now.
    Now { behind: Option<String>, token: Option<String> },
    /// Of what there was.
    Then { at_time: AtTime, behind: Option<String>, marker: Option<VersionMarker> },
}

/// What a page brings.
struct Fetched {
    keys: Vec<PagedKey>,
    /// Whether the server gave nothing at all.
    is_empty: bool,
    goes_on: bool,
}

async fn fetch(bucket: Bucket, mut listing: Pages, pages: mpsc::Sender<Result<Vec<PagedKey>>>) {
    let mut empty_pages = 0;
    loop {
        let mut fetched = listing.next(&bucket).await;
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

impl Pages {
    async fn next(&mut self, bucket: &Bucket) -> Result<Fetched> {
        match self {
            Self::Now { behind, token } => {
                let (key, token_then) = (behind.as_deref(), token.as_deref());
                let page = bucket.list_page_behind("", key, token_then, None).await?;
                *token = page.next;
                let (is_empty, goes_on) = (page.keys.is_empty(), token.is_some());
                Ok(Fetched { keys: page.keys, is_empty, goes_on })
            }
            Self::Then { at_time, behind, marker } => {
                let root = bucket.full_key("");
                let own = behind.as_deref().and_then(|key| key.strip_prefix(root.as_str()));
                let from = marker.take().or_else(|| own.map(VersionMarker::behind));
                let page = bucket.versions_page("", from.as_ref()).await;
                let page = page.map_err(|error| explained(error, LIST_VERSIONS))?;
                let is_empty = page.versions.is_empty();
                if !page.is_encoded && !is_empty {
                    return Err(not_encoded());
                }
                marker.clone_from(&page.next);
                let versions = at_time.take(page).into_iter();
                // Some servers begin at a key, and not behind it.
                let keys = versions.filter(|version| Some(version.key.as_str()) != own);
                let keys = keys.map(paged_key).collect();
                Ok(Fetched { keys, is_empty, goes_on: marker.is_some() })
            }
        }
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
