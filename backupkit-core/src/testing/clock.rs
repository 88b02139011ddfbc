//! A clock that the test moves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::watch;

use super::lock;
use crate::env::Clock;

/// A [`Clock`] that stands still until the test moves it. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct ManualClock {
    auto_advance: bool,
    now: Arc<Mutex<Timestamp>>,
    elapsed: Arc<watch::Sender<Duration>>,
    boots: Arc<AtomicU64>,
    sleeping: Arc<watch::Sender<usize>>,
}

impl ManualClock {
    /// Returns a clock that stands at `now`, one day after boot.
    pub fn new(now: Timestamp) -> Self {
        Self {
            auto_advance: false,
            now: Arc::new(Mutex::new(now)),
            elapsed: Arc::new(watch::Sender::new(Duration::from_hours(24))),
            boots: Arc::new(AtomicU64::new(1)),
            sleeping: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Makes every sleep move the clock to its end and return, after other tasks had a turn.
    #[must_use]
    pub fn with_auto_advance(mut self) -> Self {
        self.auto_advance = true;
        self
    }

    /// Moves both the wall clock and the time since boot, and ends the sleeps that are due.
    pub fn advance(&self, duration: Duration) {
        let elapsed = self.elapsed_since_boot().saturating_add(duration);
        self.advance_to(elapsed);
    }

    /// Sets the wall clock alone, as an administrator would. Sleeps do not notice.
    pub fn set_now(&self, now: Timestamp) {
        *lock(&self.now) = now;
    }

    /// Boots again: the time since boot starts over, under another id. The wall clock goes on.
    pub fn reboot(&self) {
        self.boots.fetch_add(1, Ordering::Relaxed);
        self.elapsed.send_replace(Duration::ZERO);
    }

    /// Waits until at least `count` sleeps are under way, so that the test can advance past them.
    pub async fn sleeping(&self, count: usize) {
        // The sender lives in `self`, so this ends by the condition only.
        let mut count_of_sleeps = self.sleeping.subscribe();
        let _reached = count_of_sleeps.wait_for(|sleeping| *sleeping >= count).await;
    }

    fn advance_to(&self, elapsed: Duration) {
        let mut now = lock(&self.now);
        let step = elapsed.saturating_sub(*self.elapsed.borrow());
        *now = now.saturating_add(step).unwrap_or(Timestamp::MAX);
        self.elapsed.send_modify(|current| *current = elapsed.max(*current));
    }
}

impl Default for ManualClock {
    /// Stands at 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self::new(Timestamp::constant(1_767_225_600, 0))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *lock(&self.now)
    }

    fn elapsed_since_boot(&self) -> Duration {
        *self.elapsed.borrow()
    }

    fn boot_id(&self) -> Arc<str> {
        format!("boot {}", self.boots.load(Ordering::Relaxed)).into()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let deadline = self.elapsed_since_boot().saturating_add(duration);
        let clock = self.clone();
        let sleeper = Sleeper::new(&self.sleeping);
        Box::pin(async move {
            let _sleeper = sleeper;
            if clock.auto_advance {
                tokio::task::yield_now().await;
                clock.advance_to(deadline);
                return;
            }
            let mut elapsed = clock.elapsed.subscribe();
            let _due = elapsed.wait_for(|elapsed| *elapsed >= deadline).await;
        })
    }
}

/// Counts a sleep for as long as it lasts.
struct Sleeper(Arc<watch::Sender<usize>>);

impl Sleeper {
    fn new(sleeping: &Arc<watch::Sender<usize>>) -> Self {
        sleeping.send_modify(|count| *count += 1);
        Self(Arc::clone(sleeping))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
