//! How many calls run at the same time, and which are made again.
//!
//! A server that is not asked to its limit serves best. So the number of calls starts small and
//! doubles with each round that goes well, until the server first asks to slow down; from then on it
//! grows by one with each such round, and is halved when the server asks again. A server that does not
//! answer, or fails, has too much to do as well.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::credentials::Provider;
use super::errors::{EXPIRED, UNAVAILABLE, UNKNOWN_KEY, UNREACHABLE};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result, Retry};

const FIRST_LIMIT: u32 = 8;
const MOST_CALLS: u32 = 64;
/// A call that fails otherwise than by being asked to slow down is made so often at most.
const MOST_ATTEMPTS: u32 = 10;
/// No attempt begins later than this after the first, unless the server asked to slow down, or
/// attempts take so long that there were hardly any.
const ATTEMPTS_TIME: Duration = Duration::from_mins(15);
const LEAST_ATTEMPTS: u32 = 3;
/// For so long a server may ask all calls to slow down, without one that succeeds.
const THROTTLED_TIME: Duration = Duration::from_mins(30);
/// For so long it may ask one call to slow down, although others succeed.
const CALL_TIME: Duration = Duration::from_hours(1);
/// For so long after the last wait that a server asked for it counts as slow.
const SLOW_TIME: Duration = Duration::from_secs(30);
const FIRST_DELAY: Duration = Duration::from_millis(200);
const MOST_DELAY: Duration = Duration::from_secs(30);

/// The calls of one bucket.
#[derive(Debug)]
pub(super) struct Calls {
    env: Env,
    /// Who may know of another key if one is refused.
    provider: Option<Provider>,
    is_patient: bool,
    /// Room for calls: who came first goes first.
    room: Semaphore,
    state: Mutex<State>,
}

/// What an attempt that did not fail brought.
#[derive(Debug)]
pub(super) enum Came<T> {
    /// All of it.
    All(T),
    /// A part; the next attempt asks for the rest.
    Part,
}

#[derive(Debug)]
struct State {
    limit: u32,
    /// So much room goes as soon as calls end.
    excess: u32,
    /// Calls that went well since the limit was last raised.
    successes: u32,
    /// Whether the server has ever asked to slow down.
    was_throttled: bool,
    /// When there was last too much to do, since boot.
    halved_at: Option<Duration>,
    /// When a call last succeeded, since boot.
    succeeded_at: Duration,
    /// Until then the server counts as one that wants fewer calls, since boot.
    slow_until: Duration,
    /// Whether a call was given up while none succeeded, and none has since.
    is_lost: bool,
}

impl Calls {
    /// Calls that are made again as their errors advise.
    pub(super) fn new(env: &Env, provider: Option<Provider>) -> Self {
        Self::with(env, provider, true)
    }

    /// Calls that are made once.
    pub(super) fn once(env: &Env, provider: Option<Provider>) -> Self {
        Self::with(env, provider, false)
    }

    fn with(env: &Env, provider: Option<Provider>, is_patient: bool) -> Self {
        let state = State {
            limit: FIRST_LIMIT,
            excess: 0,
            successes: 0,
            was_throttled: false,
            halved_at: None,
            succeeded_at: env.clock().elapsed_since_boot(),
            slow_until: Duration::ZERO,
            is_lost: false,
        };
        let room = Semaphore::new(FIRST_LIMIT as usize);
        Self { env: env.clone(), provider, is_patient, room, state: Mutex::new(state) }
    }

    /// Makes a call when there is room for it, and again as its errors advise.
    ///
    /// # Errors
    /// The last one. Cancel safe: a dropped call makes no further attempt.
    pub(super) async fn run<T, F>(&self, call: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.run_in_parts(|| {
            let called = call();
            async move { called.await.map(Came::All) }
        })
        .await
    }

    /// As [`Self::run`], for calls of which a part may come. Each part begins a new count of attempts.
    ///
    /// # Errors
    /// The last one. Cancel safe: a dropped call makes no further attempt.
    pub(super) async fn run_in_parts<T, F>(&self, call: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<Came<T>>>,
    {
        let mut attempts = Attempts::begun(self.now());
        loop {
            let slot = self.slot().await?;
            let called_at = self.now();
            let forgotten = self.provider.as_ref().map_or(0, Provider::forgotten);
            // The client's futures are large.
            let result = Box::pin(call()).await;
            match &result {
                // Neither good nor bad.
                Ok(Came::Part) => {}
                Err(error) if is_of_load(error) => self.halve(called_at, error),
                // A refusal is an answer, too.
                Err(error) if error.retry() != Retry::Never => {}
                _ => self.succeeded(),
            }
            drop(slot);
            let wait = match result {
                Ok(Came::All(value)) => return Ok(value),
                Ok(Came::Part) => {
                    attempts = Attempts::begun(self.now());
                    self.delay(1)
                }
                Err(error) if self.has_other_key(&mut attempts, &error, forgotten) => continue,
                Err(error) => self.wait_after(&mut attempts, error)?,
            };
            self.env.clock().sleep(wait).await;
        }
    }

    /// Whether the server is taken for gone: a call was given up although it was made again and again,
    /// and since it was first made no other has succeeded.
    pub(super) fn is_lost(&self) -> bool {
        self.state().is_lost
    }

    /// Whether the server has lately asked for fewer calls.
    pub(super) fn is_slowed_down(&self) -> bool {
        self.now() < self.state().slow_until
    }

    pub(super) fn provider(&self) -> Option<&Provider> {
        self.provider.as_ref()
    }

    async fn slot(&self) -> Result<Slot<'_>> {
        let room = self.room.acquire().await.map_err(|error| {
            Error::new(ErrorKind::Internal, "calls have ended").with_source(error)
        })?;
        Ok(Slot { calls: self, room: Some(room) })
    }

    fn succeeded(&self) {
        let now = self.now();
        let mut state = self.state();
        state.succeeded_at = now;
        state.is_lost = false;
        state.successes = state.successes.saturating_add(1);
        let is_raised = if state.was_throttled {
            // One more with each round.
            state.successes >= state.limit
        } else {
            // One more with each success: twice as many with each round.
            true
        };
        // Where there is room, nobody waits for more of it.
        let is_full = self.room.available_permits() == 0;
        if is_raised && is_full && state.limit < MOST_CALLS {
            state.limit += 1;
            state.successes = 0;
            if state.excess > 0 {
                state.excess -= 1;
            } else {
                self.room.add_permits(1);
            }
        }
    }

    fn halve(&self, called_at: Duration, error: &Error) {
        let now = self.now();
        let mut state = self.state();
        // Calls of the same round say it only once.
        if state.halved_at.is_none_or(|halved_at| called_at >= halved_at) {
            let limit = (state.limit / 2).max(1);
            let less = state.limit - limit;
            let gone = u32::try_from(self.room.forget_permits(less as usize)).unwrap_or(less);
            state.excess += less.saturating_sub(gone);
            state.limit = limit;
            state.successes = 0;
            state.halved_at = Some(now);
        }
        // A connection may break for other reasons.
        state.was_throttled |= error.is(ErrorKind::RateLimited) || error.is(ErrorKind::Timeout);
    }

    /// Whether there may be another key by now than the one that was refused. `forgotten` is how many
    /// were when the call began.
    fn has_other_key(&self, attempts: &mut Attempts, error: &Error, forgotten: u64) -> bool {
        let is_of_key = error.code() == EXPIRED || error.code() == UNKNOWN_KEY;
        let is_first = is_of_key && !std::mem::replace(&mut attempts.has_other_key, is_of_key);
        is_first && self.provider.as_ref().is_some_and(|provider| provider.renew(forgotten))
    }

    /// How long to wait before the next attempt; the error if there should be none.
    fn wait_after(&self, attempts: &mut Attempts, error: Error) -> Result<Duration> {
        if !self.is_patient {
            return Err(error);
        }
        let is_throttled = error.is(ErrorKind::RateLimited);
        let count = if is_throttled { &mut attempts.throttled } else { &mut attempts.failed };
        *count = count.saturating_add(1);
        let count = *count;
        let delay = match error.retry() {
            Retry::Never => return Err(error),
            Retry::Soon => self.delay(count),
            // Not a moment earlier, and not all at the same one.
            Retry::After(named) => named.saturating_add(self.delay(count) / 8),
        };
        if is_throttled {
            let until = self.now().saturating_add(delay).saturating_add(SLOW_TIME);
            let mut state = self.state();
            state.slow_until = state.slow_until.max(until);
        }
        let spent = self.now().saturating_sub(attempts.started);
        let is_over = if is_throttled {
            let since = attempts.started.max(self.state().succeeded_at);
            self.now().saturating_sub(since) > THROTTLED_TIME || spent > CALL_TIME
        } else {
            let is_late = spent.saturating_add(delay) > ATTEMPTS_TIME;
            count >= MOST_ATTEMPTS || is_late && count >= LEAST_ATTEMPTS
        };
        if !is_over {
            return Ok(delay);
        }
        let mut state = self.state();
        state.is_lost = state.succeeded_at <= attempts.started;
        drop(state);
        let made = attempts.throttled.saturating_add(attempts.failed);
        Err(if made > 1 { error.with_context("attempts", made) } else { error })
    }

    /// Anything between a little and all of the wait that is due, by chance: so many callers do not
    /// come back together.
    fn delay(&self, made: u32) -> Duration {
        let doubled = 2u32.saturating_pow(made.saturating_sub(1).min(16));
        let due = FIRST_DELAY.saturating_mul(doubled).min(MOST_DELAY);
        // Without randomness callers may come back together, which is no reason to fail.
        let chance = self.env.random::<2>().map_or(u16::MAX, u16::from_le_bytes);
        due.mul_f64(f64::from(chance) / f64::from(u16::MAX)).max(FIRST_DELAY / 4)
    }

    fn now(&self) -> Duration {
        self.env.clock().elapsed_since_boot()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a server that has too much to do says so, or behaves so.
fn is_of_load(error: &Error) -> bool {
    error.is(ErrorKind::RateLimited)
        || error.is(ErrorKind::Timeout)
        || error.retry() != Retry::Never && [UNAVAILABLE, UNREACHABLE].contains(&error.code())
}

/// The attempts of one call.
#[derive(Debug)]
struct Attempts {
    started: Duration,
    /// How often the server asked to slow down, and how often it failed otherwise.
    throttled: u32,
    failed: u32,
    /// Whether another key was looked for.
    has_other_key: bool,
}

impl Attempts {
    fn begun(started: Duration) -> Self {
        Self { started, throttled: 0, failed: 0, has_other_key: false }
    }
}

/// Room for one call.
#[derive(Debug)]
struct Slot<'a> {
    calls: &'a Calls,
    room: Option<SemaphorePermit<'a>>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = self.calls.state();
        if state.excess > 0
            && let Some(room) = self.room.take()
        {
            state.excess -= 1;
            room.forget();
        }
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::FutureExt as _;

    use super::*;
    use crate::testing::ManualClock;

    fn calls(clock: &ManualClock) -> Calls {
        Calls::new(&Env::system().with_clock(Arc::new(clock.clone())), None)
    }

    #[tokio::test]
    async fn calls_that_take_long_to_fail_are_made_a_few_times() {
        let clock = ManualClock::default().with_auto_advance();
        let made = AtomicU32::new(0);
        let call = || async {
            made.fetch_add(1, Ordering::Relaxed);
            clock.advance(Duration::from_hours(1));
            Err::<(), _>(Error::new(ErrorKind::Timeout, "no reply"))
        };
        calls(&clock).run(call).await.unwrap_err();
        assert_eq!(made.into_inner(), LEAST_ATTEMPTS);
    }

    #[tokio::test]
    async fn who_waits_goes_before_who_comes_later() {
        let clock = ManualClock::default().with_auto_advance();
        let calls = calls(&clock);
        let mut slots = futures::future::join_all((0..8).map(|_| calls.slot())).await;
        let mut waits = Box::pin(calls.slot());
        assert!(waits.as_mut().now_or_never().is_none());
        drop(slots.pop());
        assert!(calls.slot().now_or_never().is_none(), "the room is kept for who waits");
        assert!(waits.now_or_never().is_some());
    }

    #[tokio::test]
    async fn less_room_is_left_at_once_or_as_calls_end() {
        let clock = ManualClock::default().with_auto_advance();
        let calls = calls(&clock);
        let busy = Error::new(ErrorKind::RateLimited, "slow down");
        let slots = futures::future::join_all((0..6).map(|_| calls.slot())).await;
        calls.halve(calls.now(), &busy);
        assert_eq!(calls.room.available_permits(), 0, "four of eight, and six are in use");
        let mut slots = slots.into_iter().map(Result::unwrap);
        for left in [0, 0, 1, 2, 3, 4] {
            drop(slots.next());
            assert_eq!(calls.room.available_permits(), left);
        }
        clock.advance(Duration::from_secs(1));
        calls.halve(calls.now(), &busy);
        assert_eq!(calls.room.available_permits(), 2);
    }
}
