//! A run under way, from outside.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream};

use super::{Engine, RunContext};
use crate::counters::Counters;
use crate::error::Result;
use crate::events::Events;
use crate::model::{Event, EventKind, Level, Progress};
use crate::pipeline::control::Control;
use crate::pipeline::task::{self, OwnedTask};

/// A run under way. Dropping it ends the run as a crash would: nothing incomplete is published, and
/// the next run of the same origin goes on from what was stored.
pub struct RunHandle<T> {
    task: OwnedTask<T>,
    run: RunContext,
    /// Subscribed before the run starts, so that no event is missed.
    events: Option<BoxStream<'static, Event>>,
}

/// Steers and watches a run while somebody else waits for it.
#[derive(Debug, Clone)]
pub struct RunControl {
    control: Control,
    counters: Arc<Counters>,
    events: Events,
}

impl<T: Send + 'static> RunHandle<T> {
    pub(crate) fn start<F>(
        engine: &Engine,
        can_rest: bool,
        run: impl FnOnce(RunContext) -> F,
    ) -> Self
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let context = RunContext {
            engine: engine.clone(),
            events: Events::new(engine.env()),
            counters: Arc::new(Counters::default()),
            control: Control::new(can_rest),
        };
        let events = Some(context.events.subscribe());
        Self { task: task::start(run(context.clone())), run: context, events }
    }

    /// Waits for the end.
    pub async fn wait(self) -> Result<T> {
        let Self { task, run, events } = self;
        drop(events);
        let result = task.await;
        drop(run);
        result
    }

    /// What happens in the run: from its start at the first call, from now on at later ones. Ends
    /// after the run once the handle is gone. A listener that lags far behind misses some, and is told
    /// how many.
    pub fn events(&mut self) -> BoxStream<'static, Event> {
        self.events.take().unwrap_or_else(|| self.run.events.subscribe())
    }

    /// Returns what steers the run, to be kept while somebody waits for it.
    pub fn control(&self) -> RunControl {
        RunControl {
            control: self.run.control.clone(),
            counters: Arc::clone(&self.run.counters),
            events: self.run.events.clone(),
        }
    }

    /// Asks the run to rest: see [`RunControl::pause`].
    pub fn pause(&self) {
        self.control().pause();
    }

    /// Asks the run to stop: see [`RunControl::cancel`].
    pub fn cancel(&self) {
        self.control().cancel();
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.control().progress()
    }
}

impl RunControl {
    /// Asks the run to rest: it reads nothing more, stores or restores what it has read, writes a
    /// checkpoint and ends as paused. The next backup of the same origin, or restore with the same
    /// journal, goes on from there. Checks and dry runs cannot rest; they stop.
    pub fn pause(&self) {
        self.control.pause();
    }

    /// Asks the run to stop. It ends with a `Cancelled` error and publishes nothing.
    pub fn cancel(&self) {
        self.control.cancel_token().cancel();
    }

    /// Whether it was asked to rest or to stop.
    pub(crate) fn was_steered(&self) -> bool {
        self.control.is_pausing() || self.control.cancel_token().is_cancelled()
    }

    /// Writes down that the run was asked to rest, for those who did not ask.
    pub(crate) fn tell_pausing(&self) {
        if !self.control.is_pausing() {
            self.events.tell(Level::Info, EventKind::Pausing);
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.counters.progress(self.events.problem_count())
    }

    /// How far it is, again and again. Never ends; drop it with the run.
    pub fn progress_every(&self, interval: Duration) -> BoxStream<'static, Progress> {
        let clock = Arc::clone(self.events.env().clock());
        Box::pin(stream::unfold((self.clone(), clock), move |(control, clock)| async move {
            clock.sleep(interval).await;
            let progress = control.progress();
            Some((progress, (control, clock)))
        }))
    }
}

impl<T> fmt::Debug for RunHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunHandle").finish_non_exhaustive()
    }
}
