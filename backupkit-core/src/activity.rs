//! Whether somebody who is asked still answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::env::Clock;

/// The calls under way to one place, and when one last got on. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Activity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    calls: usize,
    /// When the last call came back, or the first of those under way began.
    progressed_at: Duration,
}

impl Activity {
    /// Returns one without a call.
    pub(crate) fn new(clock: &Arc<dyn Clock>) -> Self {
        let progressed_at = clock.elapsed_since_boot();
        let state = Mutex::new(State { calls: 0, progressed_at });
        Self(Arc::new(Inner { clock: Arc::clone(clock), state }))
    }

    /// Counts a call for as long as the value returned lives.
    pub(crate) fn begin(&self) -> CallUnderWay {
        let now = self.0.clock.elapsed_since_boot();
        let mut state = self.state();
        if state.calls == 0 {
            state.progressed_at = now;
        }
        state.calls += 1;
        CallUnderWay(self.clone())
    }

    /// Whether calls are under way and none has come back for `limit`.
    pub(crate) fn is_stuck(&self, limit: Duration) -> bool {
        let now = self.0.clock.elapsed_since_boot();
        let state = self.state();
        state.calls > 0 && now.saturating_sub(state.progressed_at) >= limit
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that has not come back.
#[derive(Debug)]
pub(crate) struct CallUnderWay(Activity);

impl Drop for CallUnderWay {
    fn drop(&mut self) {
        let now = self.0.0.clock.elapsed_since_boot();
        let mut state = self.0.state();
        state.calls -= 1;
        state.progressed_at = now;
    }
}
