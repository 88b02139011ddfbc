//! Looks after the lanes while something else goes on, whatever that waits for.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::lane;
use super::store::Store;
use crate::counters::Counters;
use crate::events::Events;
use crate::model::{EventKind, Level};
use crate::repo::repository::Repository;
use crate::source::SourceView;

/// How often lanes are looked after.
const INTERVAL: Duration = Duration::from_secs(5);

/// Looks after the lanes of a run, and tells when a system that takes part slows it down.
pub(crate) struct Attendant {
    store: Store,
    events: Events,
    counters: Arc<Counters>,
    stall_after: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is read, and where it is, once it is open.
    source: Option<(Arc<dyn SourceView>, String)>,
    /// Who slowed the run down when this was last looked at.
    slow: BTreeSet<String>,
}

impl Attendant {
    /// Returns one for these lanes. A lane that stores nothing for `stall_after` while others do is set
    /// aside, unless it was asked to wait.
    pub(crate) fn new(
        store: &Store,
        events: &Events,
        counters: &Arc<Counters>,
        stall_after: Duration,
    ) -> Self {
        let (store, events, counters) = (store.clone(), events.clone(), Arc::clone(counters));
        Self { store, events, counters, stall_after, state: Mutex::default() }
    }

    /// Says what is read from now on, and where it is.
    pub(crate) fn watch_source(&self, view: &Arc<dyn SourceView>, place: String) {
        self.state().source = Some((Arc::clone(view), place));
    }

    /// Does `work`, and meanwhile closes packs that wait for long and sets a lane aside that hangs. It
    /// runs beside the work and not in it: the work may be waiting for the very lane that hangs.
    pub(crate) async fn beside<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.attend() => match never {},
        }
    }

    async fn attend(&self) -> Infallible {
        loop {
            let interval = INTERVAL.min(self.stall_after);
            self.events.env().clock().sleep(interval).await;
            self.look_after_lanes();
            self.tell_who_is_slow();
        }
    }

    fn look_after_lanes(&self) {
        let live: Vec<_> = self.store.live_lanes().cloned().collect();
        let stuck: Vec<bool> = live.iter().map(|lane| lane.is_stuck(self.stall_after)).collect();
        let some_move = stuck.iter().any(|stuck| !stuck);
        for (lane, stuck) in live.iter().zip(stuck) {
            if stuck && some_move {
                lane.set_aside(lane::stalled(lane.repository()));
            } else {
                lane.close_old_packs();
            }
        }
    }

    fn tell_who_is_slow(&self) {
        let lanes = self.store.live_lanes().map(|lane| lane.repository());
        let mut now: BTreeSet<String> = lanes
            .filter(|repository| repository.destination().is_slowed_down())
            .map(Repository::location)
            .collect();
        let mut state = self.state();
        let source = state.source.as_ref().filter(|(view, _)| view.is_slowed_down());
        now.extend(source.map(|(_, place)| place.clone()));
        for place in now.difference(&state.slow).cloned() {
            self.events.tell(Level::Info, EventKind::SlowedDown { place });
        }
        for place in state.slow.difference(&now).cloned() {
            self.events.tell(Level::Info, EventKind::SpeedsUp { place });
        }
        self.counters.set_slowed_down(!now.is_empty());
        state.slow = now;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
