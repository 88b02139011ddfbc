//! Tasks that end with whoever waits for them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use crate::error::{Error, ErrorKind, Result};

/// A task that runs on its own and is aborted when this is dropped, so that nothing outlives its run.
#[derive(Debug)]
pub(crate) struct OwnedTask<T>(JoinHandle<Result<T>>);

/// Starts a task. The caller bounds how many there are.
#[expect(clippy::disallowed_methods, reason = "the one door: the handle aborts the task")]
pub(crate) fn start<T: Send + 'static>(
    future: impl Future<Output = Result<T>> + Send + 'static,
) -> OwnedTask<T> {
    OwnedTask(tokio::spawn(future))
}

impl<T> Future for OwnedTask<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|joined| match joined {
            Ok(result) => result,
            Err(error) if error.is_cancelled() => Err(Error::cancelled()),
            Err(_) => Err(Error::new(ErrorKind::Internal, "a task of the run panicked")),
        })
    }
}

impl<T> Drop for OwnedTask<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
