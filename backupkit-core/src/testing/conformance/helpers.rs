//! What suites of state stores share.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::error::{Error, ErrorKind};

/// No call waits more often before it ends.
pub(super) const MOST_POLLS: usize = 1000;

#[track_caller]
pub(super) fn assert_refused<T: fmt::Debug>(
    result: Result<T, Error>,
    kind: ErrorKind,
    code: &str,
) -> String {
    let error = result.expect_err("a refusal");
    assert_eq!((error.kind(), error.code()), (kind, code), "{}", error.report());
    error.report()
}

/// Runs the same at the same time, and returns what came of each.
pub(super) async fn race<T: Send + 'static>(
    racers: usize,
    start: impl Fn(usize) -> futures::future::BoxFuture<'static, T>,
) -> Vec<T> {
    let barrier = Arc::new(Barrier::new(racers));
    let mut tasks = JoinSet::new();
    for number in 0..racers {
        let (barrier, work) = (Arc::clone(&barrier), start(number));
        tasks.spawn(async move {
            barrier.wait().await;
            work.await
        });
    }
    tasks.join_all().await
}

/// Polls so often, then drops. Returns whether it came to its end. Polls only when woken, so that it
/// counts waits, however long they take.
pub(super) async fn poll_times<T>(times: usize, call: impl Future<Output = T>) -> bool {
    let mut call = pin!(call);
    let mut left = times;
    poll_fn(|cx| {
        left = left.saturating_sub(1);
        match call.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
