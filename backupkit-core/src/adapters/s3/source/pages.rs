//! Pages of a listing, the next ones fetched while one is used.

mod density;
mod plan;

use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::plan::{Plan, Request};
use super::super::bucket::{Bucket, PagedKey};
use crate::error::{Error, ErrorKind, Result};

/// The keys of each page behind a key, in order. Where the server is known to list by bytes, or shows it,
/// several stretches are listed at the same time. They are fetched by a task, which ends with the stream:
/// a request that nobody waits for would keep its place among the calls.
pub(super) fn pages(
    bucket: Bucket,
    behind: Option<String>,
    is_by_bytes: bool,
) -> BoxStream<'static, Result<Vec<PagedKey>>> {
    let (sender, receiver) = mpsc::channel(1);
    let mut task = JoinSet::new();
    task.spawn(fetch(bucket, behind, is_by_bytes, sender));
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

async fn fetch(
    bucket: Bucket,
    behind: Option<String>,
    is_by_bytes: bool,
    pages: mpsc::Sender<Result<Vec<PagedKey>>>,
) {
    let root = bucket.full_key("");
    let behind = behind.map(|key| key.strip_prefix(&root).unwrap_or_default().to_owned());
    let mut plan = Plan::new(behind, is_by_bytes);
    let mut calls = JoinSet::new();
    while !plan.is_over() {
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
            else => return,
        }
    }
}

fn panicked() -> Error {
    Error::new(ErrorKind::Internal, "the task that lists a bucket panicked")
}
