//! `plan run`, `repo restore`, `maintenance run`, `run resume --follow` and `worker`: execute runs.

use backupkit_core::manage::{NewRestore, Workspace};
use backupkit_core::model::Wanted;
use backupkit_core::state::{LogFilter, Run, refusal};
use backupkit_core::{CancelToken, Engine, Error, HeldRunOptions, Result};

use super::{Log, POLL, is_still, print_ordered, print_run};
use crate::app::App;
use crate::cli::RunName;
use crate::commands::maintenance::Timer;
use crate::exit::Exit;
use crate::signals::Signals;

/// Runs a plan, or goes on with its run that has not ended, and follows it.
pub(in crate::commands) async fn plan(app: &App<'_>, name: &str) -> Result<Exit> {
    let mut desk = Desk::open(app).await?;
    let mut active = desk.workspace.active_run(name).await?;
    if let Some(run) = active.take_if(|run| run.wanted == Wanted::Cancel) {
        app.output.note(format_args!("cancelling run {} first", run.number));
        let stop = CancelToken::new();
        tokio::select! {
            cancelled = execute(app, &desk.workspace, &desk.engine, &run, &stop) => cancelled?,
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

/// Executes whatever runs wait, one after the other, until a signal comes.
pub(in crate::commands) async fn worker(app: &App<'_>, take_over: bool) -> Result<Exit> {
    let mut signals = Signals::listen()?;
    let (workspace, engine) = (app.workspace_here(take_over).await?, app.worker_engine()?);
    app.output.note("waiting for runs; Ctrl-C gives back what is under way, and ends");
    let stop = CancelToken::new();
    let mut timer = Timer::default();
    let working = async {
        while !stop.is_cancelled() {
            if let Err(error) = timer.look(app, &workspace).await {
                app.output.warning(error.report());
            }
            let options = HeldRunOptions::default();
            match workspace.claim(&engine, None, options).await {
                Ok(Some(held)) => {
                    let (number, title) = (held.run().number, held.run().new.title.clone());
                    app.output.summary_line(format_args!("run {number} ({title}): started"));
                    match workspace.execute(held, &app.identity.hostname, &stop).await {
                        Ok(run) => {
                            let state = run.state;
                            app.output
                                .summary_line(format_args!("run {number} ({title}): {state}"));
                        }
                        Err(error) => app.output.warning(error.report()),
                    }
                }
                Ok(None) => tokio::select! {
                    () = stop.cancelled() => {}
                    () = app.env.clock().sleep(POLL) => {}
                },
                Err(error) => {
                    app.output.warning(error.report());
                    app.env.clock().sleep(POLL * 20).await;
                }
            }
        }
    };
    let mut working = std::pin::pin!(working);
    let mut asked = 0_u8;
    loop {
        tokio::select! {
            () = &mut working => return Ok(Exit::Success),
            () = signals.next() => {
                asked += 1;
                if asked > 1 {
                    return Err(Error::cancelled());
                }
                stop.cancel();
            }
        }
    }
}

/// Executes a run as soon as no other worker has it, or waits until another one brought it to rest.
async fn execute(
    app: &App<'_>,
    workspace: &Workspace,
    engine: &Engine,
    run: &Run,
    stop: &CancelToken,
) -> Result<()> {
    let id = run.new.id;
    loop {
        let held = workspace.claim(engine, Some(id), HeldRunOptions::default()).await?;
        if let Some(held) = held {
            match workspace.execute(held, &app.identity.hostname, stop).await {
                // Another one has it by now.
                Err(error) if error.code() == refusal::LEASE_LOST => {}
                executed => return executed.map(drop),
            }
        }
        if is_still(&workspace.run(id).await?) {
            return Ok(());
        }
        app.env.clock().sleep(POLL).await;
    }
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
        let executing = execute(app, &workspace, &engine, &run, &stop);
        let mut executing = std::pin::pin!(executing);
        let mut has_ended = false;
        let mut asked = 0_u8;
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
            // One that failed for now is tried again by whoever comes next.
            if has_ended {
                break run;
            }
        };
        print_run(app, &run);
        if run.not_before.is_some() && !is_still(&run) {
            let number = run.number;
            app.output.note(format_args!(
                "a worker or `backupkit run resume {number} --follow` tries it again"
            ));
        }
        Ok(Exit::of_run(run.state))
    }
}
