//! Pages of a listing, the next ones fetched while one is used.

use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::bucket::{Bucket, Page, PagedKey, incomplete};
use crate::error::{Error, ErrorKind, Result};

/// Pages that lie ready at most. Each may take some hundred KiB.
const MOST_PAGES: usize = 4;
/// A server may pass by what was deleted, page after page, but not for ever.
const MOST_EMPTY_PAGES: u32 = 10_000;

/// The keys of each page behind a key. They are fetched by a task, which ends with the stream: a request that
/// nobody waits for would keep its place among the calls.
pub(super) fn pages(
    bucket: Bucket,
    behind: Option<String>,
) -> BoxStream<'static, Result<Vec<PagedKey>>> {
    let (sender, receiver) = mpsc::channel(MOST_PAGES);
    let mut task = JoinSet::new();
    task.spawn(fetch(bucket, behind, sender));
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

async fn fetch(bucket: Bucket, behind: Option<String>, pages: mpsc::Sender<Result<Vec<PagedKey>>>) {
    let mut token = None;
    let mut empty_pages = 0;
    loop {
        let mut page = bucket.objects_page(behind.as_deref(), token.as_deref()).await;
        if let Ok(Page { keys, next }) = &page {
            empty_pages = if keys.is_empty() { empty_pages + 1 } else { 0 };
            token.clone_from(next);
            if token.is_some() && empty_pages >= MOST_EMPTY_PAGES {
                let why = "page after page is empty, and none is the last one";
                page = Err(incomplete("list the bucket", why));
            }
        }
        let goes_on = page.is_ok() && token.is_some();
        if pages.send(page.map(|page| page.keys)).await.is_err() || !goes_on {
            return;
        }
    }
}
