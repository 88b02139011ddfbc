//! What a backup says at its end.

use std::ffi::OsStr;
use std::time::Duration;

use backupkit_core::model::SnapshotId;
use backupkit_core::{BackupReport, Error, OutputReport, RunStatus, Summary};
use serde::Serialize;

use super::Opened;
use crate::app::App;
use crate::exit::Exit;
use crate::output::format;
use crate::output::record::{ErrorRecord, EventRecord};

#[derive(Serialize)]
struct ReportRecord<'a> {
    status: RunStatus,
    summary: Summary,
    outputs: Vec<OutputRecord>,
    problem_count: u64,
    problems: Vec<EventRecord<'a>>,
}

#[derive(Default, Serialize)]
struct OutputRecord {
    repository: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository_id: Option<String>,
    snapshot: Option<String>,
    /// What keeps the parts of a paused backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<String>,
    parent: Option<String>,
    added_bytes: u64,
    stored_bytes: u64,
    data_blobs: u64,
    tree_blobs: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    restore_command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorRecord>,
}

/// Prints the report and returns the exit code.
pub(super) fn print(app: &App<'_>, opened: &[Opened], report: &BackupReport) -> Exit {
    let all_opened = opened.iter().all(|opened| opened.result.is_ok());
    let status = match report.status {
        RunStatus::Succeeded | RunStatus::Warnings if !all_opened => RunStatus::Partial,
        status => status,
    };
    let outputs: Vec<_> = opened.iter().map(|opened| output(app, opened, report)).collect();
    // A run without any snapshot is not partial: it failed.
    let nothing =
        status == RunStatus::Partial && outputs.iter().all(|output| output.snapshot.is_none());
    let exit = if nothing { Exit::Failure } else { Exit::of_status(status) };
    for line in lines(status, opened, &outputs, report) {
        app.output.summary_line(line);
    }
    if status == RunStatus::Paused {
        app.output.note("paused: what was read is stored; run the same command again to continue");
    }
    app.output.document(
        "summary",
        &ReportRecord {
            status,
            summary: report.summary,
            outputs,
            problem_count: report.problem_count,
            problems: report.problems.iter().map(EventRecord::new).collect(),
        },
    );
    exit
}

fn output(app: &App<'_>, opened: &Opened, report: &BackupReport) -> OutputRecord {
    let failed = |error: &Error| Some(ErrorRecord::new(error, Exit::of_error(error)));
    let repository = match &opened.result {
        Ok(repository) => repository,
        Err(error) => {
            let repository = opened.location.clone();
            return OutputRecord { repository, error: failed(error), ..OutputRecord::default() };
        }
    };
    let mut ours = report.outputs.iter();
    let Some(output) = ours.find(|output| output.repository_id == repository.id()) else {
        return OutputRecord::default();
    };
    let OutputReport { added_bytes, stored_bytes, data_blobs, tree_blobs, .. } = *output;
    let paused = report.status == RunStatus::Paused;
    let finished = output.snapshot.filter(|_| !paused);
    OutputRecord {
        repository: output.repository.clone(),
        repository_id: Some(output.repository_id.clone()),
        snapshot: finished.map(|id| id.to_string()),
        checkpoint: output.snapshot.filter(|_| paused).map(|id| id.to_string()),
        parent: output.parent.map(|id| id.to_string()),
        added_bytes,
        stored_bytes,
        data_blobs,
        tree_blobs,
        restore_command: finished.map(|id| restore_command(app, id, &opened.address)),
        error: output.error.as_ref().and_then(failed),
    }
}

fn lines(
    status: RunStatus,
    opened: &[Opened],
    outputs: &[OutputRecord],
    report: &BackupReport,
) -> Vec<String> {
    let summary = &report.summary;
    let mut lines = Vec::new();
    if status != RunStatus::Paused {
        lines.push(format!(
            "files: {} new, {} changed, {} unmodified{}",
            format::count(summary.files_new),
            format::count(summary.files_changed),
            format::count(summary.files_unmodified),
            match summary.files_failed {
                0 => String::new(),
                failed => format!(", {} NOT backed up", format::count(failed)),
            }
        ));
        lines.push(format!(
            "processed {} in {}, read {}",
            format::bytes(summary.total_bytes),
            format::duration(Duration::try_from_secs_f64(summary.seconds).unwrap_or_default()),
            format::bytes(summary.read_bytes)
        ));
    }
    for (opened, output) in opened.iter().zip(outputs) {
        let location = format::lossy(opened.address.as_encoded_bytes());
        let Some(id) = &output.snapshot else {
            if output.error.is_some() {
                lines.push(format!("{location}: no snapshot, it failed"));
            }
            continue;
        };
        lines.push(format!(
            "{location}: snapshot {}, added {}, stored as {}",
            id.get(..8).unwrap_or(id),
            format::bytes(output.added_bytes),
            format::bytes(output.stored_bytes)
        ));
        if let Some(command) = &output.restore_command {
            lines.push(format!("  to restore it: {command}"));
        }
    }
    if report.problem_count > 0 {
        let problems = format::counted(report.problem_count, "problem", "problems");
        lines.push(format!("{problems}, named above"));
    }
    lines
}

/// The command that puts the snapshot back, ready for a shell.
fn restore_command(app: &App<'_>, id: SnapshotId, repository: &OsStr) -> String {
    let id = id.short();
    let mut words: Vec<&OsStr> = vec![
        app.environment.program(),
        OsStr::new("restore"),
        OsStr::new(&id),
        OsStr::new("--repo"),
        repository,
        OsStr::new("--to"),
        OsStr::new("./restored"),
    ];
    if let Some(file) = &app.options.password_file {
        words.extend([OsStr::new("--password-file"), file.as_os_str()]);
    }
    if let Some(command) = &app.options.password_command {
        words.extend([OsStr::new("--password-command"), command]);
    }
    #[cfg(feature = "s3")]
    for option in &app.options.s3 {
        words.extend([OsStr::new("--s3"), OsStr::new(option)]);
    }
    words.into_iter().map(format::shell_word).collect::<Vec<_>>().join(" ")
}
