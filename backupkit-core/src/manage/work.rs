//! Workers: execute whatever runs wait.

use std::num::NonZeroUsize;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use super::Workspace;
use crate::engine::{Engine, HeldRunOptions, POLL};
use crate::error::{Error, Result};
use crate::state::{Run, RunId};
use crate::token::CancelToken;

/// What changes by itself, such as a lease that runs out, is looked for so often.
const RECHECK: Duration = Duration::from_secs(2);
/// A store in trouble is asked again after so long.
const AFTER_TROUBLE: Duration = Duration::from_secs(5);
/// Whether maintenance is due is looked at so often.
const MAINTENANCE_LOOK: Duration = Duration::from_mins(1);

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// The name of this machine, for snapshots.
    pub host: String,
    /// So many runs are executed side by side.
    pub max_runs: NonZeroUsize,
    /// How they are held.
    pub held: HeldRunOptions,
}

/// What a worker tells.
#[derive(Debug)]
#[non_exhaustive]
pub enum WorkerEvent<'a> {
    /// It ordered maintenance, which was due.
    MaintenanceDue(&'a Run),
    /// It has claimed a run.
    Started(&'a Run),
    /// A run that it executed has ended, rests, or waits for its next attempt.
    Left(&'a Run),
    /// Something went wrong that stands in no run. The worker goes on.
    Trouble(&'a Error),
}

impl Workspace {
    /// Executes whatever runs wait, and orders maintenance when it is due, until `stop` is cancelled.
    /// Then what is under way saves a checkpoint, and is given back to other workers.
    ///
    /// Not cancel safe: if it is dropped, what is under way ends as in a crash.
    pub async fn work(
        &self,
        engine: &Engine,
        options: &WorkerOptions,
        stop: &CancelToken,
        mut tell: impl FnMut(WorkerEvent<'_>),
    ) {
        let clock = self.env.clock();
        let mut executing = FuturesUnordered::new();
        let mut maintenance = Pace::default();
        let mut looks = Pace::default();
        let (mut seen_version, mut last_trouble) = (None, String::new());
        loop {
            let mut pause = POLL;
            let now = clock.elapsed_since_boot();
            if stop.is_cancelled() && executing.is_empty() {
                return;
            }
            if !stop.is_cancelled() && executing.len() < options.max_runs.get() {
                let looked = async {
                    if maintenance.is_due(now, MAINTENANCE_LOOK)
                        && let Some(run) = self.order_due_maintenance().await?
                    {
                        tell(WorkerEvent::MaintenanceDue(&run));
                    }
                    let version = Some(self.store.version().await?);
                    // An idle worker writes nothing.
                    if seen_version == version && !looks.is_due(now, RECHECK) {
                        return Ok(None);
                    }
                    seen_version = version;
                    self.claim(engine, None, options.held).await
                };
                match looked.await {
                    Ok(Some(held)) => {
                        tell(WorkerEvent::Started(held.run()));
                        executing.push(self.execute(held, &options.host, stop));
                        seen_version = None;
                        continue;
                    }
                    Ok(None) => {}
                    Err(error) => {
                        // The same again and again is told once.
                        let trouble = error.report();
                        if trouble != last_trouble {
                            tell(WorkerEvent::Trouble(&error));
                            last_trouble = trouble;
                        }
                        (pause, seen_version) = (AFTER_TROUBLE, None);
                    }
                }
            }
            tokio::select! {
                Some(ended) = executing.next(), if !executing.is_empty() => {
                    match &ended {
                        Ok(run) => tell(WorkerEvent::Left(run)),
                        Err(error) => tell(WorkerEvent::Trouble(error)),
                    }
                    seen_version = None;
                }
                () = clock.sleep(pause) => {}
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
        }
    }

    /// Executes a run once, as soon as no other worker has it, or waits until another one brought it to
    /// its end or to rest.
    ///
    /// # Errors
    /// As for [`execute`](Self::execute); `NotFound` if it was removed.
    pub async fn see_through(
        &self,
        engine: &Engine,
        run: RunId,
        host: &str,
        stop: &CancelToken,
    ) -> Result<Run> {
        let execute = |held| self.execute(held, host, stop);
        let options = HeldRunOptions::default();
        let is_over = |run: &Run, was_executed| was_executed || run.is_still();
        engine.see_through(&self.store, (&self.scope, run), options, is_over, execute).await
    }
}

/// How long ago something was done.
#[derive(Debug, Default)]
struct Pace {
    last_at: Option<Duration>,
}

impl Pace {
    /// Whether it is time, of which the caller then takes care.
    fn is_due(&mut self, now: Duration, interval: Duration) -> bool {
        let is_due = self.last_at.is_none_or(|last| now.saturating_sub(last) >= interval);
        if is_due {
            self.last_at = Some(now);
        }
        is_due
    }
}
