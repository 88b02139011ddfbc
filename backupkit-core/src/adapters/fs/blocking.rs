//! The way from async code to system calls that block: in pieces that are worth a change of thread.

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use crate::error::{Error, ErrorKind, Result};

/// Items of one message.
pub(super) const BATCH_ITEMS: usize = 256;

/// Runs `work` where blocking is allowed. A dropped call lets it run to its end.
pub(super) async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(lost_work(error)),
    }
}

/// Something that gives items batch by batch and blocks while it makes one.
pub(super) trait Batches: Send + 'static {
    /// What it gives.
    type Item: Send + 'static;

    /// Adds about [`BATCH_ITEMS`] items; `false` if there are no more behind them.
    fn next_batch(&mut self, items: &mut Vec<Self::Item>) -> bool;
}

enum Pull<B: Batches> {
    Idle(B),
    Running(JoinHandle<(B, Vec<B::Item>, bool)>),
    Ended,
}

/// Streams the items. While one batch is used the next is made, and no more than that.
pub(super) fn stream_batches<B, T, E>(batches: B) -> BoxStream<'static, Result<T, E>>
where
    B: Batches<Item = Result<T, E>>,
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    let chunks = stream::unfold(Pull::Idle(batches), async |state| {
        let running = match state {
            Pull::Idle(batches) => start(batches),
            Pull::Running(running) => running,
            Pull::Ended => return None,
        };
        match running.await {
            Ok((batches, items, true)) => Some((items, Pull::Running(start(batches)))),
            Ok((_, items, false)) => Some((items, Pull::Ended)),
            Err(error) => Some((vec![Err(E::from(lost_work(error)))], Pull::Ended)),
        }
    });
    chunks.map(stream::iter).flatten().boxed()
}

fn start<B: Batches>(mut batches: B) -> JoinHandle<(B, Vec<B::Item>, bool)> {
    spawn_blocking(move || {
        let mut items = Vec::with_capacity(BATCH_ITEMS);
        let more = batches.next_batch(&mut items);
        (batches, items, more)
    })
}

fn lost_work(error: JoinError) -> Error {
    if error.is_panic() {
        Error::new(ErrorKind::Internal, "a call to the file system panicked").with_source(error)
    } else {
        Error::cancelled()
    }
}
