//! `worker`.

use std::num::NonZeroUsize;

use backupkit_core::manage::{WorkerEvent, WorkerOptions};
use backupkit_core::{CancelToken, Error, HeldRunOptions, Result};

use crate::app::App;
use crate::exit::Exit;
use crate::signals::Signals;

/// Executes whatever runs wait, until a signal comes.
pub(in crate::commands) async fn work(
    app: &App<'_>,
    take_over: bool,
    max_runs: NonZeroUsize,
) -> Result<Exit> {
    let mut signals = Signals::listen()?;
    let (workspace, engine) = (app.workspace_here(take_over).await?, app.worker_engine()?);
    app.output.note("waiting for runs; Ctrl-C gives back what is under way, and ends");
    let host = app.identity.hostname.clone();
    let options = WorkerOptions { host, max_runs, held: HeldRunOptions::default() };
    let stop = CancelToken::new();
    let tell = |event: WorkerEvent<'_>| tell(app, &event);
    let mut working = std::pin::pin!(workspace.work(&engine, &options, &stop, tell));
    loop {
        tokio::select! {
            () = &mut working => return Ok(Exit::Success),
            // The second one ends it as a crash would.
            () = signals.next() => {
                if stop.is_cancelled() {
                    return Err(Error::cancelled());
                }
                stop.cancel();
            }
        }
    }
}

fn tell(app: &App<'_>, event: &WorkerEvent<'_>) {
    match event {
        WorkerEvent::MaintenanceDue(run) => {
            app.output.note(format_args!("maintenance is due: run {}", run.number));
        }
        WorkerEvent::Started(run) => {
            let (number, title) = (run.number, &run.new.title);
            app.output.summary_line(format_args!("run {number} ({title}): started"));
        }
        WorkerEvent::Left(run) => {
            let (number, title, state) = (run.number, &run.new.title, run.state);
            app.output.summary_line(format_args!("run {number} ({title}): {state}"));
        }
        WorkerEvent::Trouble(error) => app.output.warning(error.report()),
        _ => {}
    }
}
