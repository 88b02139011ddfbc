//! Where the events of a run go: to whoever listens, and into counts that are complete.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::{self, BoxStream};
use tokio::sync::broadcast;

use crate::env::Env;
use crate::error::Error;
use crate::model::{EntryPath, Event, EventKind, Level};

/// A listener may lag so many events behind before it misses some.
const BACKLOG: usize = 4096;
/// So many problems of a code are kept at hand; all are counted.
pub(crate) const KEPT_PER_CODE: usize = 1000;

/// The events of one run. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Events(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    env: Env,
    live: broadcast::Sender<Event>,
    problems: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    next: u64,
    problems: Vec<Event>,
    counts: BTreeMap<&'static str, usize>,
}

impl Events {
    pub(crate) fn new(env: &Env) -> Self {
        let (live, _) = broadcast::channel(BACKLOG);
        Self(Arc::new(Inner {
            env: env.clone(),
            live,
            problems: AtomicU64::new(0),
            kept: Mutex::default(),
        }))
    }

    /// The environment of the run.
    pub(crate) fn env(&self) -> &Env {
        &self.0.env
    }

    /// Tells what happened.
    pub(crate) fn tell(&self, level: Level, kind: EventKind) {
        let code = kind.code();
        let at = self.0.env.now();
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.next += 1;
        let event = Event { number: kept.next, at, level, kind };
        if level >= Level::Warning {
            self.0.problems.fetch_add(1, Ordering::Relaxed);
            let count = kept.counts.entry(code).or_default();
            *count += 1;
            if *count <= KEPT_PER_CODE {
                kept.problems.push(event.clone());
            }
        }
        // Sent under the lock, so that listeners see the numbers in order. Nobody may be listening.
        drop(self.0.live.send(event));
    }

    /// Tells that an entry is missing from the result.
    pub(crate) fn entry_failed(&self, path: &EntryPath, error: &Error) {
        let (reason, kind) = (error.report(), error.kind().as_str());
        let path = path.clone();
        self.tell(Level::Error, EventKind::EntryFailed { path, reason, error: kind });
    }

    /// Tells one sentence.
    pub(crate) fn note(&self, level: Level, text: impl Into<String>) {
        self.tell(level, EventKind::Note { text: text.into() });
    }

    /// Counts warnings and errors that an earlier attempt of the run told.
    pub(crate) fn add_earlier_problems(&self, count: u64) {
        self.0.problems.fetch_add(count, Ordering::Relaxed);
    }

    /// How many warnings and errors there were, also in earlier attempts of the run.
    pub(crate) fn problem_count(&self) -> u64 {
        self.0.problems.load(Ordering::Relaxed)
    }

    /// The first warnings and errors of each code.
    pub(crate) fn problems(&self) -> Vec<Event> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).problems.clone()
    }

    /// All that happens from now on. Ends with the run.
    pub(crate) fn subscribe(&self) -> BoxStream<'static, Event> {
        let live = self.0.live.subscribe();
        let env = self.0.env.clone();
        Box::pin(stream::unfold((live, env), |(mut live, env)| async move {
            match live.recv().await {
                Ok(event) => Some((event, (live, env))),
                Err(broadcast::error::RecvError::Closed) => None,
                Err(broadcast::error::RecvError::Lagged(events)) => {
                    let kind = EventKind::Missed { events };
                    let event = Event { number: 0, at: env.now(), level: Level::Warning, kind };
                    Some((event, (live, env)))
                }
            }
        }))
    }
}
