//! Backups and restores as runs on record in a state store, for programs that bring their own sources and
//! targets.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::stream::{self, BoxStream};
use serde_json::value::RawValue;

use super::lease::POLL;
use super::{BackupRequest, Engine, HeldRun, HeldRunOptions, RestoreRequest};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{RunKind, RunState, Wanted};
use crate::pipeline::task::{self, OwnedTask};
use crate::state::{
    Actor, LogFilter, LogLine, NewRun, Run, RunFilter, RunId, Scope, StateStore, refusal,
};
use crate::token::CancelToken;

/// Says in the settings of a run that a program executes it which knows the rest.
const SETTINGS: &str = r#"{"request":"of the program"}"#;
/// In whose name runs are started and steered.
const ACTOR: &str = "program";
/// So many lines of a log are read at once.
const LINES_AT_ONCE: usize = 500;

/// A run on record in the state store, and executed by this process as long as this is kept. It survives
/// the process: started again under the same name, the same run goes on from its last checkpoint.
///
/// Dropping it ends the execution as a crash would, not the run.
pub struct DurableRun {
    store: Arc<dyn StateStore>,
    engine: Engine,
    actor: Actor,
    id: RunId,
    executing: Option<OwnedTask<Run>>,
}

impl Engine {
    /// Starts a backup as a run of this name on record in the [store](crate::EngineBuilder::store) of the
    /// engine, or goes on with the one that has not ended. `request` has to be the same then.
    ///
    /// Such runs are for programs that bring sources of their own. A worker that knows nothing of
    /// them, such as `backupkit worker`, would fail them, and must not use the same store.
    ///
    /// # Errors
    /// `InvalidConfig` if the engine has no store; `InvalidInput` for a name that is none; those of the
    /// store.
    pub async fn start_backup(&self, name: &str, request: BackupRequest) -> Result<DurableRun> {
        let execute = move |held: HeldRun| {
            let request = request.clone();
            async move {
                if held.run().state == RunState::Cancelling {
                    return held.cancel_backup(request.repositories().cloned().collect()).await;
                }
                held.back_up(request, &CancelToken::new()).await
            }
        };
        DurableRun::start(self, RunKind::Backup, name, execute).await
    }

    /// Starts a restore as a run, as [`start_backup`](Self::start_backup) does for backups.
    ///
    /// # Errors
    /// Those of [`start_backup`](Self::start_backup); `InvalidInput` for a dry run.
    pub async fn start_restore(&self, name: &str, request: RestoreRequest) -> Result<DurableRun> {
        if request.dry_run {
            let message = "a dry run leaves nothing to go on with: use `Engine::restore`";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let execute = move |held: HeldRun| {
            let request = request.clone();
            async move {
                if held.run().state == RunState::Cancelling {
                    return held.cancel_restore(request).await;
                }
                held.restore(request, &CancelToken::new()).await
            }
        };
        DurableRun::start(self, RunKind::Restore, name, execute).await
    }
}

impl DurableRun {
    async fn start<F>(
        engine: &Engine,
        kind: RunKind,
        name: &str,
        execute: impl Fn(HeldRun) -> F + Send + Sync + 'static,
    ) -> Result<Self>
    where
        F: Future<Output = Result<Run>> + Send,
    {
        let store = Arc::clone(engine.store()?);
        let actor = Actor::new(ACTOR)?;
        let is_over = |run: &Run, _| run.state.is_terminal();
        let options = HeldRunOptions::default();
        let id = loop {
            let run = order(engine, &*store, &actor, kind, name).await?;
            if run.wanted != Wanted::Cancel {
                break run.new.id;
            }
            // One that was to be cancelled when its process died comes to its end first.
            let which = (&run.scope, run.new.id);
            engine.see_through(&store, which, options, is_over, &execute).await?;
        };
        let (executor, executed) = (engine.clone(), Arc::clone(&store));
        let executing = async move {
            let which = (&Scope::default(), id);
            executor.see_through(&executed, which, options, is_over, execute).await
        };
        let executing = Some(task::start(executing));
        Ok(Self { store, engine: engine.clone(), actor, id, executing })
    }

    /// Its id in the store.
    pub fn id(&self) -> RunId {
        self.id
    }

    /// The run as it stands now.
    ///
    /// # Errors
    /// Those of the store; `NotFound` if it was removed.
    pub async fn run(&self) -> Result<Run> {
        look(&*self.store, self.id).await
    }

    /// Asks the run to rest: it stores what it has read, saves a checkpoint, and gives up its locks.
    ///
    /// # Errors
    /// `Conflict` with code `run-refused` if it is too late for that; those of the store.
    pub async fn pause(&self) -> Result<Run> {
        self.ask(Wanted::Pause).await
    }

    /// Lets the run go on, also before the time at which it would be tried again.
    ///
    /// # Errors
    /// As for [`pause`](Self::pause).
    pub async fn resume(&self) -> Result<Run> {
        self.ask(Wanted::Run).await
    }

    /// Asks the run to stop for good. A backup writes no snapshot then, and nothing stays that it would
    /// have gone on from.
    ///
    /// # Errors
    /// As for [`pause`](Self::pause).
    pub async fn cancel(&self) -> Result<Run> {
        self.ask(Wanted::Cancel).await
    }

    /// The log of the run behind number `after`, and what comes to it until it ends. Numbers have no
    /// gaps, so that whoever was away goes on where he was.
    pub fn events(&self, after: u64) -> BoxStream<'static, Result<LogLine>> {
        let follower = Follower {
            store: Arc::clone(&self.store),
            engine: self.engine.clone(),
            id: self.id,
            after,
            waiting: VecDeque::new(),
            is_over: false,
        };
        Box::pin(stream::try_unfold(follower, Follower::next))
    }

    /// Waits until the run has ended, or rests, and returns it as it stands then. Its
    /// [report](Run::report) is a [`BackupRecord`](crate::BackupRecord) or a
    /// [`RestoreRecord`](crate::RestoreRecord).
    ///
    /// Cancel safe: the run goes on.
    ///
    /// # Errors
    /// What keeps this process from executing the run, such as a store on a full disk. The run itself
    /// goes on once it is started again. What goes wrong in the run is no error: it stands in it.
    pub async fn wait(&mut self) -> Result<Run> {
        loop {
            let run = self.run().await?;
            let Some(executing) = self.executing.as_mut().filter(|_| !run.is_still()) else {
                return Ok(run);
            };
            tokio::select! {
                ended = executing => {
                    self.executing = None;
                    return ended;
                }
                () = self.engine.env().clock().sleep(POLL) => {}
            }
        }
    }

    async fn ask(&self, wanted: Wanted) -> Result<Run> {
        self.store.ask(&Scope::default(), &self.actor, self.id, wanted).await
    }
}

impl fmt::Debug for DurableRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableRun").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Follows the log of a run.
struct Follower {
    store: Arc<dyn StateStore>,
    engine: Engine,
    id: RunId,
    after: u64,
    waiting: VecDeque<LogLine>,
    is_over: bool,
}

impl Follower {
    async fn next(mut self) -> Result<Option<(LogLine, Self)>> {
        loop {
            if let Some(line) = self.waiting.pop_front() {
                self.after = line.number;
                return Ok(Some((line, self)));
            }
            if self.is_over {
                return Ok(None);
            }
            // Looked at before the log is read: what is told at the end is read after it.
            let has_ended = look(&*self.store, self.id).await?.state.is_terminal();
            let (scope, filter) = (Scope::default(), LogFilter::default());
            let lines =
                self.store.logs(&scope, self.id, &filter, self.after, LINES_AT_ONCE).await?;
            self.is_over = has_ended && lines.len() < LINES_AT_ONCE;
            if lines.is_empty() && !self.is_over {
                self.engine.env().clock().sleep(POLL).await;
            }
            self.waiting.extend(lines);
        }
    }
}

async fn look(store: &dyn StateStore, id: RunId) -> Result<Run> {
    let run = store.run(&Scope::default(), id).await?;
    run.ok_or_else(|| refusal::run_missing(id))
}

/// The run of this name that has not ended, which may go on now unless it is to be cancelled; or a new one.
async fn order(
    engine: &Engine,
    store: &dyn StateStore,
    actor: &Actor,
    kind: RunKind,
    name: &str,
) -> Result<Run> {
    let scope = Scope::default();
    let exclusive = format!("{kind} of the program: {name}");
    let settings = RawValue::from_string(SETTINGS.to_owned()).map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot write settings as JSON").with_source(error)
    })?;
    let run = NewRun {
        exclusive: Some(exclusive.clone()),
        ..NewRun::new(RunId::random(engine.env())?, kind, name, settings.into())
    };
    engine.sweep(store).await?;
    match store.create_run(&scope, actor, run).await {
        Err(error) if error.code() == refusal::RUN_ACTIVE => {
            let active = find_active(store, &exclusive).await?.ok_or(error)?;
            match active.wanted {
                Wanted::Cancel => Ok(active),
                _ => store.ask(&scope, actor, active.new.id, Wanted::Run).await,
            }
        }
        created => created,
    }
}

async fn find_active(store: &dyn StateStore, exclusive: &str) -> Result<Option<Run>> {
    let (scope, filter) = (Scope::default(), RunFilter::not_ended());
    let mut before = None;
    loop {
        let page = store.runs(&scope, &filter, before, LINES_AT_ONCE).await?;
        let is_over = page.is_empty();
        before = page.last().map(|run| run.number);
        let mut page = page.into_iter();
        let found = page.find(|run| run.new.exclusive.as_deref() == Some(exclusive));
        if found.is_some() || is_over {
            return Ok(found);
        }
    }
}
