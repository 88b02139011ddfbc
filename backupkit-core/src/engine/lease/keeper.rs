//! Keeps a lease alive, and says when it is not.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::env::{Env, within};
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::guard::Liveness;
use crate::state::refusal::LEASE_LOST;
use crate::state::{LeaseRef, Renewal, StateStore};

/// How often it looks whether a person wants something else.
const POLL: Duration = Duration::from_millis(250);

/// Tells how far the run is.
pub(super) type ReadProgress = Box<dyn Fn() -> Option<Arc<RawValue>> + Send>;

/// Renews a lease from a thread of its own, so that no work of the run holds it up, until dropped.
#[derive(Debug)]
pub(super) struct LeaseKeeper {
    lease: Arc<HeldLease>,
    heard: watch::Receiver<Renewal>,
    stop: CancellationToken,
}

/// A lease, as whoever is about to write asks for it.
#[derive(Debug)]
struct HeldLease {
    env: Env,
    time: Duration,
    /// When the last renewal that succeeded was sent, since boot.
    renewed_at: watch::Sender<Duration>,
    /// Ends when the lease is known to be lost.
    gone: CancellationToken,
}

/// What the thread works with.
struct Keeping {
    store: Arc<dyn StateStore>,
    lease: LeaseRef,
    held: Arc<HeldLease>,
    heard: watch::Sender<Renewal>,
    progress: ReadProgress,
}

impl LeaseKeeper {
    /// Starts to keep a lease of `time` that was asked for at `asked_at`, since boot.
    ///
    /// # Errors
    /// `Unavailable` if the system gives no thread.
    pub(super) fn start(
        store: &Arc<dyn StateStore>,
        lease: LeaseRef,
        env: &Env,
        (asked_at, time): (Duration, Duration),
        first: Renewal,
        progress: ReadProgress,
    ) -> Result<Self> {
        let failed = |error| {
            Error::new(ErrorKind::Unavailable, "cannot start the thread that keeps the lease")
                .with_source(error)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(failed)?;
        let held = Arc::new(HeldLease {
            env: env.clone(),
            time,
            renewed_at: watch::Sender::new(asked_at),
            gone: CancellationToken::new(),
        });
        let (sender, heard) = watch::channel(first);
        let store = Arc::clone(store);
        let keeping = Keeping { store, lease, held: Arc::clone(&held), heard: sender, progress };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("lease".to_owned())
            .spawn(move || {
                // However it ends, also by a panic: a lease that nobody keeps is as good as lost.
                let _lost = keeping.held.gone.clone().drop_guard();
                runtime.block_on(stopped.run_until_cancelled(keeping.keep()));
            })
            .map_err(failed)?;
        // It ends by itself once this is dropped; nobody has to wait for a call that is under way.
        drop(thread);
        Ok(Self { lease: held, heard, stop })
    }

    /// Says before each publishing write whether the lease is alive.
    pub(super) fn liveness(&self) -> Arc<dyn Liveness> {
        Arc::clone(&self.lease) as Arc<dyn Liveness>
    }

    /// What a person wants of the run, and where it stands.
    pub(super) fn heard(&self) -> watch::Receiver<Renewal> {
        self.heard.clone()
    }

    /// Ends when the lease is known to be lost.
    pub(super) fn gone(&self) -> &CancellationToken {
        &self.lease.gone
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl HeldLease {
    /// Whether a renewal of then still counts. Some of the time is left to whoever looked and then writes.
    fn counts(&self, renewed_at: Duration) -> bool {
        let now = self.env.clock().elapsed_since_boot();
        now.saturating_sub(renewed_at) < self.time / 4 * 3
    }
}

#[async_trait]
impl Liveness for HeldLease {
    /// After the machine slept it waits for what the next renewal says.
    async fn is_alive(&self) -> bool {
        let mut renewed_at = self.renewed_at.subscribe();
        tokio::select! {
            biased;
            () = self.gone.cancelled() => false,
            counts = renewed_at.wait_for(|at| self.counts(*at)) => counts.is_ok(),
        }
    }
}

impl Keeping {
    /// Ends once the lease is lost.
    async fn keep(self) {
        let clock = Arc::clone(self.held.env.clock());
        let renew_every = self.held.time / 4;
        let mut version = None;
        loop {
            clock.sleep(POLL.min(renew_every)).await;
            let now = clock.elapsed_since_boot();
            let renewed_at = *self.held.renewed_at.borrow();
            let is_due = now.saturating_sub(renewed_at) >= renew_every;
            let asking = async {
                if is_due {
                    let progress = (self.progress)();
                    self.store.renew(&self.lease, self.held.time, progress).await.map(Some)
                } else {
                    self.look(&mut version).await
                }
            };
            // A store that hangs does not keep the lease alive.
            match within(&clock, renew_every, asking).await {
                Ok(heard) => {
                    if is_due {
                        self.held.renewed_at.send_replace(now);
                    }
                    if let Some(heard) = heard {
                        self.heard
                            .send_if_modified(|known| std::mem::replace(known, heard) != heard);
                    }
                }
                Err(error) if error.code() == LEASE_LOST => return,
                // It may pass. If not, the time runs out.
                Err(_) => {}
            }
            if !self.held.counts(*self.held.renewed_at.borrow()) {
                return;
            }
        }
    }

    /// What a person wants, if anything has changed.
    async fn look(&self, version: &mut Option<u64>) -> Result<Option<Renewal>> {
        let now = Some(self.store.version().await?);
        if *version == now {
            return Ok(None);
        }
        let heard = self.store.renewal(&self.lease).await?;
        *version = now;
        Ok(Some(heard))
    }
}
