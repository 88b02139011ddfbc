//! `worker`.

use std::cell::Cell;
use std::num::NonZeroUsize;

use backupkit_core::manage::{WorkerEvent, WorkerOptions};
use backupkit_core::{CancelToken, Error, HeldRunOptions, Result};
use serde::Serialize;

use super::record;
use crate::app::App;
use crate::exit::Exit;
use crate::signals::Signals;

#[derive(Serialize)]
struct WorkerRecord {
    /// How often it executed a run.
    executed: u64,
}

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
    let (stop, executed) = (CancelToken::new(), Cell::new(0));
    let tell = |event: WorkerEvent<'_>| tell(app, &executed, &event);
    let mut working = std::pin::pin!(workspace.work(&engine, &options, &stop, tell));
    loop {
        tokio::select! {
            () = &mut working => {
                app.output.document("summary", &WorkerRecord { executed: executed.get() });
                return Ok(Exit::Success);
            }
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

fn tell(app: &App<'_>, executed: &Cell<u64>, event: &WorkerEvent<'_>) {
    match event {
        WorkerEvent::MaintenanceDue(run) => {
            let text = format!("maintenance is due: run {}", run.number);
            app.output.detail("run", text, &record(run));
        }
        WorkerEvent::Started(run) => {
            let text = format!("run {} ({}): started", run.number, run.new.title);
            app.output.detail("run", text, &record(run));
        }
        WorkerEvent::Left(run) => {
            executed.update(|executed| executed + 1);
            let text = format!("run {} ({}): {}", run.number, run.new.title, run.state);
            app.output.detail("run", text, &record(run));
        }
        WorkerEvent::Trouble(error) => app.output.warning(error.report()),
        _ => {}
    }
}
