//! What there is now, several pages at the same time.

use std::sync::Arc;

use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::super::bucket::{Bucket, PagedKey};
use super::super::super::keys::Name;
use super::plan::{MOST_PAGES, Plan, Request};
use super::starts::send_starts;
use super::{panicked, streamed};
use crate::error::Result;
use crate::model::EntryPath;
use crate::snapshot::SnapshotReader;

/// What is known of a bucket before it is listed.
#[derive(Debug, Default)]
pub(in super::super) struct Known {
    /// Whether the server lists by bytes.
    pub(in super::super) is_by_bytes: bool,
    /// An earlier snapshot of it.
    pub(in super::super) parent: Option<Arc<dyn SnapshotReader>>,
}

/// The keys of each page behind a key. They are listed in several places at the same time, if an earlier
/// snapshot tells where.
pub(in super::super) fn pages_of_now(
    bucket: Bucket,
    behind: Option<&str>,
    known: Known,
) -> BoxStream<'static, Result<Vec<PagedKey>>> {
    let root = bucket.full_key("");
    let behind = behind.map(|key| key.strip_prefix(&root).unwrap_or_default().to_owned());
    let (sender, receiver) = mpsc::channel(1);
    let mut task = JoinSet::new();
    task.spawn(fetch(bucket, behind, known, sender));
    streamed(receiver, task)
}

/// Fetches pages as a plan has it.
async fn fetch(
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
                (
                    number,
                    bucket.list_page_behind("", behind.as_deref(), token.as_deref(), None).await,
                )
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
