//! Blobs on their way into the lanes.
//!
//! Once begun they get there, even if whoever brought them has gone: others may have been told that
//! the lane has them.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};

use crate::error::{Error, ErrorKind, Result};

/// The work of a run that ends with the run and not before. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct UnderWay(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    tasks: JoinSet<Result<()>>,
    /// The first failure that nobody was there to hear of.
    failure: Option<Error>,
}

/// Waits for the result of one piece of work. Dropping it stops nothing.
#[derive(Debug)]
pub(crate) struct Answer<T>(oneshot::Receiver<Result<T>>);

impl UnderWay {
    /// Starts work. The caller bounds how much there is.
    pub(super) fn start<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.state();
        while let Some(ended) = state.tasks.try_join_next() {
            state.note(ended);
        }
        state.tasks.spawn(async move {
            match reply.send(work.await) {
                Err(Err(error)) => Err(error),
                _ => Ok(()),
            }
        });
        Answer(answer)
    }

    /// Waits until nothing is under way.
    ///
    /// # Errors
    /// The first failure that nobody has heard of yet.
    pub(super) async fn settle(&self) -> Result<()> {
        while let Some(ended) = poll_fn(|cx| self.state().tasks.poll_join_next(cx)).await {
            self.state().note(ended);
        }
        self.state().failure.take().map_or(Ok(()), Err)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note(&mut self, ended: Result<Result<()>, JoinError>) {
        let failure = match ended {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => Error::new(ErrorKind::Internal, "a task of the run panicked"),
        };
        self.failure.get_or_insert(failure);
    }
}

impl<T> Future for Answer<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|answer| {
            answer.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Internal, "a task of the run ended without an answer"))
            })
        })
    }
}
