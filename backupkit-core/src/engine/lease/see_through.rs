//! Executes a run whenever it waits for a worker.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::execute::{HeldRun, HeldRunOptions};
use crate::engine::Engine;
use crate::error::{ErrorKind, Result, Retry};
use crate::state::{Claim, Run, RunId, Scope, StateStore, WorkerId, refusal};

/// So often the store is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(250);
/// So many runs are moved in one go when time passes.
const SWEPT_AT_ONCE: usize = 100;

impl Engine {
    /// Lets time take effect on all runs: those whose worker is gone wait for another one, and what
    /// rests goes on when its time has come.
    ///
    /// Workers see each other through the [instance folder](crate::EngineBuilder::instance_folder) of
    /// the engine, which all processes at one store share.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn sweep(&self, store: &dyn StateStore) -> Result<()> {
        let mut dead = store.holders().await?;
        dead.retain(|worker| self.instance().has_ended(worker.as_str()));
        while store.sweep(&dead, SWEPT_AT_ONCE).await? == SWEPT_AT_ONCE {}
        Ok(())
    }

    /// [Sweeps](Self::sweep), and claims a run that waits, or only one of them; nothing if there is none.
    ///
    /// # Errors
    /// Those of the store; `Unavailable` if the system gives no thread.
    pub async fn claim_next(
        &self,
        store: &Arc<dyn StateStore>,
        only: Option<RunId>,
        options: HeldRunOptions,
    ) -> Result<Option<HeldRun>> {
        let swept = self.sweep(&**store).await;
        if let Err(error) = &swept
            && !error.is(ErrorKind::Corrupt)
        {
            return swept.map(|()| None);
        }
        let claim = Claim::new(WorkerId::new(self.instance().id())?, options.lease);
        let claim = match only {
            Some(run) => claim.only(run),
            None => claim,
        };
        // A run that is damaged holds up no other.
        match self.claim(store, &claim, options).await? {
            Some(held) => Ok(Some(held)),
            None => swept.map(|()| None),
        }
    }

    /// Executes a run as soon as no other worker has it, as often as it takes until `is_over`, and
    /// returns it as it stands then. `is_over` also hears whether it was just executed here.
    ///
    /// # Errors
    /// Those of the store that do not pass; what `execute` returns, but for a lost lease.
    pub(crate) async fn see_through<F>(
        &self,
        store: &Arc<dyn StateStore>,
        (scope, id): (&Scope, RunId),
        options: HeldRunOptions,
        is_over: impl Fn(&Run, bool) -> bool,
        execute: impl Fn(HeldRun) -> F,
    ) -> Result<Run>
    where
        F: Future<Output = Result<Run>>,
    {
        loop {
            let mut was_executed = false;
            let attempt = async {
                if let Some(held) = self.claim_next(store, Some(id), options).await? {
                    match execute(held).await {
                        // Another one has it by now.
                        Err(error) if error.code() == refusal::LEASE_LOST => {}
                        executed => {
                            drop(executed?);
                            was_executed = true;
                        }
                    }
                }
                store.run(scope, id).await?.ok_or_else(|| refusal::run_missing(id))
            };
            let attempted = attempt.await;
            match attempted {
                Ok(run) if is_over(&run, was_executed) => return Ok(run),
                Err(error) if error.retry() == Retry::Never => return Err(error),
                // It waits for its time, for another worker, for a person, or the store is busy.
                Ok(_) | Err(_) => self.env().clock().sleep(POLL).await,
            }
        }
    }
}
