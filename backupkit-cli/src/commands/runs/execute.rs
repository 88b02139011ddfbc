//! `plan run`, `repo restore`, `maintenance run`, `run resume --follow`: execute a run, and follow it.

use backupkit_core::manage::{NewRestore, Workspace};
use backupkit_core::model::Wanted;
use backupkit_core::state::{LogFilter, Run};
use backupkit_core::{CancelToken, Engine, Error, Result};

use super::{Log, POLL, exit, print_ordered, print_run, record};
use crate::app::App;
use crate::cli::RunName;
use crate::exit::Exit;
use crate::signals::Signals;

/// Runs a plan, or goes on with its run that has not ended, and follows it.
pub(in crate::commands) async fn plan(app: &App<'_>, name: &str) -> Result<Exit> {
    let mut desk = Desk::open(app).await?;
    let mut active = desk.workspace.active_run(name).await?;
    if let Some(run) = active.take_if(|run| run.wanted == Wanted::Cancel) {
        app.output.note(format_args!("cancelling run {} first", run.number));
        let (stop, host) = (CancelToken::new(), &app.identity.hostname);
        let executing = desk.workspace.see_through(&desk.engine, run.new.id, host, &stop);
        tokio::select! {
            cancelled = executing => drop(cancelled?),
            () = desk.signals.next() => return Err(Error::cancelled()),
        }
    }
    let run = match active {
        Some(run) => desk.resume(run).await?,
        None => desk.workspace.order_backup(name).await?,
    };
    desk.follow(run).await
}

/// Restores out of a repository that has a name, and follows.
pub(in crate::commands) async fn restore(app: &App<'_>, order: NewRestore<'_>) -> Result<Exit> {
    let desk = Desk::open(app).await?;
    let run = desk.workspace.order_restore(order).await?;
    desk.go_on(run).await
}

/// Orders maintenance, or goes on with the one that has not ended, and follows it.
pub(in crate::commands) async fn maintenance(app: &App<'_>, dry_run: bool) -> Result<Exit> {
    let desk = Desk::open(app).await?;
    let run = desk.workspace.order_maintenance(dry_run).await?;
    desk.go_on(run).await
}

/// Lets a run go on, and follows it.
pub(in crate::commands) async fn resume(app: &App<'_>, name: &RunName) -> Result<Exit> {
    let desk = Desk::open(app).await?;
    let run = desk.workspace.find_run(&name.name).await?;
    let run = desk.workspace.ask(run.new.id, Wanted::Run).await?;
    desk.follow(run).await
}

/// Makes again what a run could not.
pub(in crate::commands) async fn retry(
    app: &App<'_>,
    name: &RunName,
    is_followed: bool,
) -> Result<Exit> {
    let desk = Desk::open(app).await?;
    let failed = desk.workspace.find_run(&name.name).await?;
    let run = desk.workspace.order_retry(failed.new.id).await?;
    if is_followed {
        return desk.follow(run).await;
    }
    print_ordered(app, &run);
    Ok(Exit::Success)
}

/// What whoever orders a run and follows it works with.
struct Desk<'a> {
    app: &'a App<'a>,
    workspace: Workspace,
    engine: Engine,
    signals: Signals,
}

impl<'a> Desk<'a> {
    async fn open(app: &'a App<'a>) -> Result<Self> {
        // Before the run starts, so that no signal can kill it half way.
        let signals = Signals::listen()?;
        let (workspace, engine) = (app.workspace().await?, app.worker_engine()?);
        // One whose process was killed waits for us from now on.
        workspace.sweep(&engine).await?;
        Ok(Self { app, workspace, engine, signals })
    }

    /// Follows a run that was ordered now, or before.
    async fn go_on(self, run: Run) -> Result<Exit> {
        let run = if run.started_at.is_some() { self.resume(run).await? } else { run };
        self.follow(run).await
    }

    /// Lets a run go on that was ordered before.
    async fn resume(&self, run: Run) -> Result<Run> {
        self.app.output.note(format_args!("going on with run {}", run.number));
        self.workspace.ask(run.new.id, Wanted::Run).await
    }

    /// Follows a run to its end or rest, and executes it as long as no worker does.
    async fn follow(self, run: Run) -> Result<Exit> {
        let Self { app, workspace, engine, mut signals } = self;
        let id = run.new.id;
        let (filter, after) = (LogFilter::default(), run.last_log);
        let mut log = Log { run: id, filter, after, is_result: false };
        let stop = CancelToken::new();
        let executing = workspace.see_through(&engine, id, &app.identity.hostname, &stop);
        let mut executing = std::pin::pin!(executing);
        let mut has_ended = false;
        let mut asked = 0_u8;
        let mut told = None;
        let run = loop {
            tokio::select! {
                result = &mut executing => {
                    result?;
                    has_ended = true;
                }
                () = signals.next() => {
                    asked += 1;
                    let wanted = match asked {
                        1 => {
                            app.output.note(
                                "pausing: storing what was read; press Ctrl-C again to cancel the run",
                            );
                            Wanted::Pause
                        }
                        2 => {
                            app.output.note("cancelling");
                            Wanted::Cancel
                        }
                        _ => return Err(Error::cancelled()),
                    };
                    // It may have ended by itself meanwhile.
                    if let Err(error) = workspace.ask(id, wanted).await {
                        app.output.warning(error.report());
                    }
                }
                () = app.env.clock().sleep(POLL) => {}
            }
            // Looked at before the log is read: what is told at the end is read after it.
            let run = workspace.run(id).await?;
            log.print_new(app, &workspace).await?;
            let standing =
                (run.state, run.wanted, run.progress.clone().map(|json| json.get().to_owned()));
            if !has_ended && told.as_ref() != Some(&standing) {
                app.output.status(&record(&run));
                told = Some(standing);
            }
            // One that failed for now is tried again by whoever comes next.
            if has_ended {
                break run;
            }
        };
        print_run(app, "summary", &run);
        if run.not_before.is_some() && !run.is_still() {
            let number = run.number;
            app.output.note(format_args!(
                "a worker or `backupkit run resume {number} --follow` tries it again"
            ));
        }
        exit(&workspace, &run).await
    }
}
