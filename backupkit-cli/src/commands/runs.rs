//! `run`: watches and steers runs.

pub(super) mod execute;
pub(super) mod worker;

use std::time::Duration;

use backupkit_core::manage::Workspace;
use backupkit_core::model::{Level, MaintenanceRecord, RunKind, RunState, Wanted};
use backupkit_core::state::{LogFilter, LogLine, Run, RunFilter, RunId};
use backupkit_core::{BackupRecord, OutputRecord, RestoreRecord, Result};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::listing::print_list;
use crate::app::App;
use crate::cli::{LogLevel, RunName};
use crate::exit::Exit;
use crate::output::format;
use crate::output::table::{Align, Table};

/// How often somebody who waits looks again.
const POLL: Duration = Duration::from_millis(250);
/// So many lines are read at once.
const PAGE: usize = 500;

/// Which lines of a log are printed.
pub(super) struct LogOptions {
    pub(super) follow: bool,
    pub(super) after: u64,
    pub(super) level: LogLevel,
    pub(super) search: Option<String>,
}

#[derive(Serialize)]
struct RunRecord<'a> {
    number: u64,
    id: String,
    kind: &'a str,
    title: &'a str,
    state: RunState,
    wanted: Wanted,
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_reason: Option<String>,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    not_before: Option<Timestamp>,
    /// The latest, while it has not ended.
    progress: Option<&'a RawValue>,
    report: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct LineRecord<'a> {
    number: u64,
    at: Timestamp,
    level: Level,
    code: &'a str,
    text: &'a str,
    fields: &'a RawValue,
}

pub(super) async fn list(app: &App<'_>, limit: u16) -> Result<Exit> {
    let workspace = app.workspace().await?;
    let runs = workspace.runs(&RunFilter::default(), None, usize::from(limit)).await?;
    let mut table = Table::new([
        ("RUN", Align::Right),
        ("KIND", Align::Left),
        ("TITLE", Align::Left),
        ("STATE", Align::Left),
        ("STARTED", Align::Left),
        ("TOOK", Align::Right),
    ]);
    for run in &runs {
        let took = run.started_at.zip(run.ended_at).map(|(start, end)| end.duration_since(start));
        let took = took.and_then(|took| Duration::try_from(took).ok());
        table.row([
            run.number.to_string(),
            run.new.kind.to_string(),
            format::one_line(&run.new.title),
            standing(run),
            run.started_at.map(|at| shown(app, at)).unwrap_or_default(),
            took.map(format::duration).unwrap_or_default(),
        ]);
    }
    let records: Vec<_> = runs.iter().map(record).collect();
    print_list(app, "run", &table, &records, "no runs; `backupkit plan run` starts one");
    Ok(Exit::Success)
}

pub(super) async fn show(app: &App<'_>, name: &RunName) -> Result<Exit> {
    let run = app.workspace().await?.find_run(&name.name).await?;
    print_run(app, "run", &run);
    Ok(Exit::Success)
}

pub(super) async fn ask(app: &App<'_>, name: &RunName, wanted: Wanted) -> Result<Exit> {
    let workspace = app.workspace().await?;
    let run = workspace.find_run(&name.name).await?;
    let run = workspace.ask(run.new.id, wanted).await?;
    // Whoever has it hears of it.
    let who = if run.wanted == Wanted::Cancel && run.worker.is_none() && !run.state.is_terminal() {
        ": a worker does it"
    } else {
        ""
    };
    app.output.summary_line(format_args!("run {} is {}{who}", run.number, standing(&run)));
    app.output.document("run", &record(&run));
    Ok(Exit::Success)
}

pub(super) async fn wait(app: &App<'_>, name: &RunName) -> Result<Exit> {
    let workspace = app.workspace().await?;
    let mut run = workspace.find_run(&name.name).await?;
    while !run.is_still() {
        app.env.clock().sleep(POLL).await;
        run = workspace.run(run.new.id).await?;
    }
    print_run(app, "run", &run);
    exit(&workspace, &run).await
}

/// What a run that is followed ends the program with.
async fn exit(workspace: &Workspace, run: &Run) -> Result<Exit> {
    Ok(Exit::of_run(run, workspace.found_damage(run).await?))
}

pub(super) async fn logs(app: &App<'_>, name: &RunName, options: LogOptions) -> Result<Exit> {
    let workspace = app.workspace().await?;
    let run = workspace.find_run(&name.name).await?;
    let level = match options.level {
        LogLevel::Info => None,
        LogLevel::Warning => Some(Level::Warning),
        LogLevel::Error => Some(Level::Error),
    };
    let mut log = Log {
        run: run.new.id,
        filter: LogFilter { level, text: options.search },
        after: options.after,
        is_result: true,
    };
    loop {
        // Looked at before the log is read: what is told at the end is read after it.
        let is_over = workspace.run(log.run).await?.state.is_terminal();
        log.print_new(app, &workspace).await?;
        if is_over || !options.follow || app.output.is_closed() {
            app.output.end_items();
            return Ok(Exit::Success);
        }
        app.env.clock().sleep(POLL).await;
    }
}

/// The log of a run, as far as it was printed.
struct Log {
    run: RunId,
    filter: LogFilter,
    after: u64,
    /// Whether the lines are the result, not what is told beside it.
    is_result: bool,
}

impl Log {
    /// Prints what came since.
    async fn print_new(&mut self, app: &App<'_>, workspace: &Workspace) -> Result<()> {
        loop {
            let lines = workspace.logs(self.run, &self.filter, self.after, PAGE).await?;
            for line in &lines {
                self.after = line.number;
                print_line(app, line, self.is_result);
            }
            if lines.len() < PAGE {
                return Ok(());
            }
        }
    }
}

fn print_line(app: &App<'_>, LogLine { number, line }: &LogLine, is_result: bool) {
    let level = match line.level {
        Level::Info => "",
        Level::Warning => "warning: ",
        Level::Error => "error: ",
    };
    let text = format!("{} {level}{}", shown(app, line.at), format::one_line(&line.text));
    let fields = &line.body;
    let (at, code) = (line.at, line.code.as_str());
    let record =
        LineRecord { number: *number, at, level: line.level, code, text: &line.text, fields };
    if is_result {
        app.output.item("log", text, &record);
    } else {
        app.output.detail("log", text, &record);
    }
}

/// Says what becomes of a run that nobody follows.
fn print_ordered(app: &App<'_>, run: &Run) {
    let number = run.number;
    app.output.summary_line(format_args!(
        "run {number} is queued: a worker or `backupkit run resume {number} --follow` executes it"
    ));
    app.output.document("run", &record(run));
}

/// In a stream it is an object of this kind.
fn print_run(app: &App<'_>, kind: &'static str, run: &Run) {
    let line = |name: &str, value: String| {
        if !value.is_empty() {
            app.output.line(format_args!("{name:<9} {}", format::one_line(&value)));
        }
    };
    let time = |at: Option<Timestamp>| at.map(|at| shown(app, at)).unwrap_or_default();
    line("run", run.number.to_string());
    line("kind", run.new.kind.to_string());
    line("title", run.new.title.clone());
    line("state", standing(run));
    line("created", format!("{} by {}", shown(app, run.created_at), run.actor));
    line("started", time(run.started_at));
    line("ended", time(run.ended_at));
    line(
        "attempts",
        Some(run.attempts).filter(|n| *n > 0).map_or(String::new(), |n| n.to_string()),
    );
    line("again at", time(run.not_before));
    line("cause", run.cause.as_ref().map(|cause| cause.message.clone()).unwrap_or_default());
    if let Some(restored) = report::<RestoreRecord>(run, RunKind::Restore) {
        for part in super::restore::summary(&restored) {
            line("restored", part);
        }
    }
    if let Some(tidied) = report::<MaintenanceRecord>(run, RunKind::Maintenance) {
        for (name, step) in super::maintenance::summary(&tidied) {
            line(name, step);
        }
    }
    let report: Option<BackupRecord> = report(run, RunKind::Backup);
    for OutputRecord { source, repository, snapshot, error, .. } in
        report.into_iter().flat_map(|report| report.outputs)
    {
        let snapshot = snapshot.map(|id| format!("snapshot {}", id.get(..8).unwrap_or(&id)));
        let outcome = snapshot.or(error).unwrap_or_else(|| "no snapshot".to_owned());
        line("output", format!("{source} into {repository}: {outcome}"));
    }
    line("next", next_step(run));
    app.output.document(kind, &record(run));
}

/// What came of a run of this kind, once it has finished.
fn report<T: DeserializeOwned>(run: &Run, kind: RunKind) -> Option<T> {
    let report = run.report.as_ref().filter(|_| run.new.kind == kind)?;
    serde_json::from_str(report.get()).ok()
}

fn record(run: &Run) -> RunRecord<'_> {
    RunRecord {
        number: run.number,
        id: run.new.id.to_string(),
        kind: run.new.kind.as_str(),
        title: &run.new.title,
        state: run.state,
        wanted: run.wanted,
        pause_reason: run.pause_reason.map(|reason| reason.to_string()),
        attempts: run.attempts,
        cause: run.cause.as_ref().map(|cause| cause.message.as_str()),
        created_at: run.created_at,
        started_at: run.started_at,
        ended_at: run.ended_at,
        not_before: run.not_before,
        progress: run.progress.as_deref().filter(|_| !run.state.is_terminal()),
        report: run.report.as_deref(),
    }
}

/// Where a run stands, and what a person wants of it if that is something else.
fn standing(run: &Run) -> String {
    let reason = run.pause_reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let wanted = match (run.state, run.wanted) {
        (
            RunState::Queued | RunState::Running | RunState::Pausing | RunState::Paused,
            Wanted::Cancel,
        ) => ", to be cancelled",
        (RunState::Queued | RunState::Running, Wanted::Pause) => ", to be paused",
        _ => "",
    };
    format!("{}{reason}{wanted}", run.state)
}

/// What a person does about a run that does not go on by itself.
fn next_step(run: &Run) -> String {
    let number = run.number;
    match run.state {
        RunState::Partial => format!("`backupkit run retry {number}` makes what is missing"),
        RunState::Paused => format!("`backupkit run resume {number} --follow` goes on"),
        _ => String::new(),
    }
}

fn shown(app: &App<'_>, at: Timestamp) -> String {
    at.to_zoned(app.env.time_zone().clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}
