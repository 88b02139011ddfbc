//! `restore`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backupkit_core::adapters::fs::FsTarget;
use backupkit_core::manage::{NewRestore, RestorePlace};
use backupkit_core::model::{EntryKind, EntryPath};
use backupkit_core::target::{
    ConflictPolicy, Durability, RestoreOptions, RestoreTarget, Step, StepAction, VerifyLevel,
};
use backupkit_core::{
    RestoreCounts, RestoreRecord, RestoreReport, RestoreRequest, Result, VerifyCounts,
};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{connection, runs};
use crate::app::App;
use crate::cli::{Conflict, RestoreArguments, RestoreHow, SnapshotPath, TargetOption, Verify};
use crate::exit::Exit;
#[cfg(feature = "s3")]
use crate::exit::usage;
use crate::output::format;
use crate::output::record::{EventRecord, PathFields};
use crate::uri::{self, Place};
use crate::watch::{Run, watch_beside};

/// Steps that a dry run plans ahead of their being printed.
const STEPS_AHEAD: usize = 256;

#[derive(Serialize)]
struct ReportRecord<'a> {
    dry_run: bool,
    complete: bool,
    snapshot: String,
    target: String,
    #[serde(flatten)]
    counts: RestoreCounts,
    verified: Option<VerifyCounts>,
    notes: &'a [String],
    problem_count: u64,
    problems: Vec<EventRecord<'a>>,
}

#[derive(Serialize)]
struct StepRecord {
    action: &'static str,
    #[serde(flatten)]
    path: PathFields,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

pub(super) async fn run(app: &App<'_>, arguments: RestoreArguments) -> Result<Exit> {
    let wanted = SnapshotPath::parse(&arguments.snapshot)?;
    let (place, target) = place(app, &arguments)?;
    let repository = app.open_to_read(&arguments.repository).await?;
    let engine = app.engine_with(&arguments.resources)?;
    let (snapshot, _) = repository.find_snapshot(&wanted.snapshot).await?;
    let options = options(wanted.path, &arguments.how);
    let mut request = RestoreRequest::new(repository, snapshot, place)
        .with_options(options)
        .with_verify(level(arguments.how.verify));
    let (sender, mut steps) = mpsc::channel(STEPS_AHEAD);
    if arguments.dry_run {
        request = request.dry_run().with_preview(sender);
    } else {
        drop(sender);
    }
    let show_steps = async {
        let mut folders_in = None;
        while let Some(step) = steps.recv().await {
            // Later phases finish the folders that were made in the first.
            if step.entry.kind == EntryKind::Directory
                && *folders_in.get_or_insert(step.phase) != step.phase
            {
                continue;
            }
            app.output.detail("step", step_line(&step, &target), &step_record(&step));
        }
    };
    let report = watch_beside(app, Run::Restore, || engine.restore(request), show_steps).await?;
    print(app, &arguments, &snapshot.to_string(), &target, &report);
    Ok(Exit::of_restore(&report))
}

/// What to restore into, and how it is shown.
fn place(app: &App<'_>, arguments: &RestoreArguments) -> Result<(Arc<dyn RestoreTarget>, PathBuf)> {
    match uri::place(&arguments.to)? {
        Place::Folder(folder) => Ok((Arc::new(FsTarget::new(&folder, app.env.clone())), folder)),
        #[cfg(feature = "s3")]
        Place::Bucket(bucket) => {
            let target = app.bucket_target(&bucket, &arguments.repository.repository.repository)?;
            let shown = target.location().into();
            Ok((target, shown))
        }
    }
}

/// Restores out of a repository that has a name, as a run.
pub(super) async fn run_named(
    app: &App<'_>,
    repository: &str,
    snapshot: &OsStr,
    target: &TargetOption,
    how: &RestoreHow,
) -> Result<Exit> {
    let wanted = SnapshotPath::parse(snapshot)?;
    let target = match target {
        #[cfg(feature = "s3")]
        TargetOption { to: Some(address), .. } if uri::is_bucket(address) => {
            return Err(usage("a run needs the key of its bucket each time it goes on").with_hint(
                "add a connection with `backupkit connection add`, and name it with --to-connection",
            ));
        }
        TargetOption { to: Some(folder), .. } => {
            RestorePlace::Unnamed(connection::to_folder(folder)?)
        }
        TargetOption { to_connection, .. } => {
            RestorePlace::Connection(to_connection.clone().unwrap_or_default())
        }
    };
    let order = NewRestore {
        repository,
        snapshot: &wanted.snapshot,
        target,
        options: options(wanted.path, how),
        verify: level(how.verify),
    };
    runs::execute::restore(app, order).await
}

fn options(path: EntryPath, how: &RestoreHow) -> RestoreOptions {
    let durability = if how.no_sync { Durability::Written } else { Durability::Durable };
    RestoreOptions { path, conflict: policy(how.conflict), durability }
}

fn policy(conflict: Conflict) -> ConflictPolicy {
    match conflict {
        Conflict::Skip => ConflictPolicy::Skip,
        Conflict::Newer => ConflictPolicy::Newer,
        Conflict::Overwrite => ConflictPolicy::Overwrite,
        Conflict::Rename => ConflictPolicy::Rename,
    }
}

fn level(verify: Verify) -> Option<VerifyLevel> {
    match verify {
        Verify::None => None,
        Verify::Count => Some(VerifyLevel::Count),
        Verify::Checksum => Some(VerifyLevel::Checksum),
        Verify::Bytes => Some(VerifyLevel::Bytes),
    }
}

/// `create     /home/a/b`.
fn step_line(step: &Step, target: &Path) -> String {
    let place = format::lossy(&below(target, destination(step)));
    let size =
        if step.bytes > 0 { format!("  {}", format::bytes(step.bytes)) } else { String::new() };
    let reason = reason(step).map_or(String::new(), |reason| format!(": {reason}"));
    format!("{:<9}  {place}{size}{reason}", action(step))
}

fn step_record(step: &Step) -> StepRecord {
    StepRecord {
        action: action(step),
        path: PathFields::new(destination(step)),
        bytes: step.bytes,
        reason: reason(step).map(str::to_owned),
    }
}

fn action(step: &Step) -> &'static str {
    match step.action {
        StepAction::Create => "create",
        StepAction::Overwrite => "overwrite",
        StepAction::Skip => "skip",
        StepAction::Rename(_) => "rename",
        StepAction::Refuse(_) => "refuse",
    }
}

fn reason(step: &Step) -> Option<&str> {
    match &step.action {
        StepAction::Refuse(reason) => Some(reason),
        _ => None,
    }
}

/// Where a step really writes.
fn destination(step: &Step) -> &EntryPath {
    match &step.action {
        StepAction::Rename(renamed) => renamed,
        _ => &step.destination,
    }
}

fn below(target: &Path, path: &EntryPath) -> Vec<u8> {
    let mut place = target.as_os_str().as_bytes().to_vec();
    if place.ends_with(b"/") {
        place.pop();
    }
    for name in path.names() {
        place.push(b'/');
        place.extend_from_slice(name);
    }
    place
}

fn print(
    app: &App<'_>,
    arguments: &RestoreArguments,
    snapshot: &str,
    target: &Path,
    report: &RestoreReport,
) {
    for line in lines(arguments.dry_run, target, report) {
        app.output.summary_line(line);
    }
    app.output.document(
        "summary",
        &ReportRecord {
            dry_run: arguments.dry_run,
            complete: report.is_complete(),
            snapshot: snapshot.to_owned(),
            target: format::lossy(target.as_os_str().as_bytes()),
            counts: report.counts,
            verified: report.verified,
            notes: &report.notes,
            problem_count: report.problem_count,
            problems: report.problems.iter().map(EventRecord::new).collect(),
        },
    );
}

fn lines(dry_run: bool, target: &Path, report: &RestoreReport) -> Vec<String> {
    let target = format::lossy(target.as_os_str().as_bytes());
    let counts = counts_line(report.counts);
    let bytes = format::bytes(report.counts.written_bytes);
    if dry_run {
        return vec![format!("dry run into {target}: {counts}, {bytes}; nothing was written")];
    }
    vec![
        format!("restored into {target}: {counts}, {bytes} written"),
        verified_line(report.verified),
    ]
    .into_iter()
    .chain(problems_line(report.problem_count, "named above"))
    .collect()
}

/// What came of a restore that was a run.
pub(super) fn summary(record: &RestoreRecord) -> Vec<String> {
    let counts = counts_line(record.counts);
    let (target, bytes) = (&record.target, format::bytes(record.counts.written_bytes));
    vec![format!("into {target}: {counts}, {bytes} written"), verified_line(record.verified)]
        .into_iter()
        .chain(problems_line(record.problem_count, "in the log"))
        .collect()
}

fn counts_line(counts: RestoreCounts) -> String {
    let named = [
        (counts.created, "created"),
        (counts.overwritten, "overwritten"),
        (counts.renamed, "restored under a new name"),
        (counts.skipped, "left alone"),
        (counts.refused, "refused"),
        (counts.failed, "FAILED"),
    ];
    let counts = named.into_iter().filter(|(number, _)| *number > 0);
    let counts: Vec<_> =
        counts.map(|(number, what)| format!("{} {what}", format::count(number))).collect();
    if counts.is_empty() { "nothing to do".to_owned() } else { counts.join(", ") }
}

fn verified_line(verified: Option<VerifyCounts>) -> String {
    let Some(counts) = verified else { return "not verified".to_owned() };
    let mut text = format!("verified: {} the same", format::count(counts.same));
    if counts.differs > 0 {
        text = format!("{text}, {} DIFFER", format::count(counts.differs));
    }
    if counts.cannot > 0 {
        text = format!("{text}, {} cannot be compared", format::count(counts.cannot));
    }
    text
}

fn problems_line(count: u64, place: &str) -> Option<String> {
    (count > 0).then(|| format!("{}, {place}", format::counted(count, "problem", "problems")))
}
