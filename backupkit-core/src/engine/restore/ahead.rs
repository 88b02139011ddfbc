//! Reading ahead: while one window is written, the next ones are gathered and read side by side.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use super::Tools;
use super::window::{Gatherer, Item, Next, Window};
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::task::{self, OwnedTask};
use crate::repo::fetch::{BlobFetcher, Fetched};
use crate::repo::pack_header::BlobKind;
use crate::target::Phase;

/// Windows that are read or wait to be written, beside the one that is written.
const WINDOWS_AHEAD: usize = 3;

/// What a restore does next.
pub(super) enum Ready {
    Window(Window, Fetched),
    /// All steps of this phase were given.
    PhaseEnd(Phase),
    /// The run is asked to rest.
    Pause,
}

/// Takes windows from a gatherer and reads them before they are needed. They come in their order.
pub(super) struct ReadAhead {
    gatherer: Arc<Mutex<Gatherer>>,
    fetcher: BlobFetcher,
    tools: Tools,
    gathering: Option<OwnedTask<Option<Next>>>,
    ahead: VecDeque<Ahead>,
}

enum Ahead {
    Window(Window, OwnedTask<Fetched>),
    /// What needs no bytes, or an error.
    Other(Result<Option<Ready>>),
}

impl ReadAhead {
    pub(super) fn new(gatherer: Gatherer, fetcher: &BlobFetcher, tools: &Tools) -> Self {
        Self {
            gatherer: Arc::new(Mutex::new(gatherer)),
            fetcher: fetcher.clone(),
            tools: tools.clone(),
            gathering: None,
            ahead: VecDeque::new(),
        }
    }

    /// The next window with its bytes, or the end of a phase; nothing after the last phase. At a pause
    /// what is still being read is left, so nothing may be asked for afterwards.
    ///
    /// # Errors
    /// `Cancelled`, and those of reading in the place of what was to be read.
    pub(super) async fn next(&mut self) -> Result<Option<Ready>> {
        if self.ahead.is_empty() {
            self.gather_on();
        }
        let (cancel, control) = (self.tools.cancel.clone(), self.tools.control.clone());
        // Nothing is torn off here but reading.
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::cancelled()),
            ready = self.arrive() => ready,
            () = control.pausing() => Ok(Some(Ready::Pause)),
        }
    }

    /// Reads until `work` is done.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            self.gather_on();
            if self.gathering.is_none() {
                return work.await;
            }
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.gathered() => {}
            }
        }
    }

    /// The gatherer, once it gathers nothing.
    pub(super) async fn rest(&mut self) -> MutexGuard<'_, Gatherer> {
        self.gathered().await;
        self.gatherer.lock().await
    }

    /// Starts to gather, if there is room. Not beyond the end of a phase before that is taken: the
    /// target may plan by what it has.
    fn gather_on(&mut self) {
        let goes_on = matches!(self.ahead.back(), None | Some(Ahead::Window(..)));
        if goes_on && self.ahead.len() < WINDOWS_AHEAD && self.gathering.is_none() {
            let gatherer = Arc::clone(&self.gatherer);
            let gathering = task::start(async move { gatherer.lock().await.next_or_pause().await });
            self.gathering = Some(gathering);
        }
    }

    /// Waits for what is gathered, if there is something, and starts to read it. Cancel safe.
    async fn gathered(&mut self) {
        let Some(gathering) = &mut self.gathering else {
            return;
        };
        let next = gathering.await;
        self.gathering = None;
        self.ahead.push_back(match next {
            Ok(Some(Next::Window(window))) => {
                let reading = self.read(&window);
                Ahead::Window(window, reading)
            }
            Ok(Some(Next::PhaseEnd(phase))) => Ahead::Other(Ok(Some(Ready::PhaseEnd(phase)))),
            Ok(Some(Next::Pause)) => Ahead::Other(Ok(Some(Ready::Pause))),
            Ok(None) => Ahead::Other(Ok(None)),
            Err(error) => Ahead::Other(Err(error)),
        });
    }

    fn read(&self, window: &Window) -> OwnedTask<Fetched> {
        let ids: Vec<_> = window.items.iter().flat_map(Item::blob_ids).collect();
        let (fetcher, counters) = (self.fetcher.clone(), Arc::clone(&self.tools.counters));
        task::start(async move {
            let blobs = fetcher.fetch(BlobKind::Data, ids).await?;
            counters.add_read(blobs.read_bytes);
            Ok(blobs)
        })
    }

    /// Waits for what comes first. Cancel safe.
    async fn arrive(&mut self) -> Result<Option<Ready>> {
        if self.ahead.is_empty() {
            self.gathered().await;
        }
        let fetched = match self.ahead.front_mut() {
            Some(Ahead::Window(_, reading)) => reading.await?,
            _ => Fetched::default(),
        };
        match self.ahead.pop_front() {
            Some(Ahead::Window(window, _)) => Ok(Some(Ready::Window(window, fetched))),
            Some(Ahead::Other(other)) => other,
            // Not "nothing more": that would end the restore as if it were whole.
            None => Err(Error::new(ErrorKind::Internal, "a window of the restore was lost")),
        }
    }
}
