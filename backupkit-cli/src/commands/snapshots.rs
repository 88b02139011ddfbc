//! `snapshots`.

use backupkit_core::model::SnapshotId;
use backupkit_core::repo::{Snapshot, is_checkpoint};
use backupkit_core::{Error, Result};
use serde::Serialize;

use crate::app::App;
use crate::cli::SnapshotsArguments;
use crate::exit::Exit;
use crate::output::table::{Align, Table};
use crate::output::{Form, format};

#[derive(Serialize)]
struct SnapshotRecord<'a> {
    id: String,
    short_id: String,
    time: String,
    paths: &'a [String],
    hostname: &'a str,
    username: &'a str,
    tags: &'a [String],
    parent: Option<String>,
    tree: String,
    program_version: &'a str,
    /// Whether it only keeps what an interrupted backup stored.
    checkpoint: bool,
    total_files: Option<u64>,
    total_bytes: Option<u64>,
    added_bytes: Option<u64>,
    stored_bytes: Option<u64>,
}

pub(super) async fn run(app: &App<'_>, arguments: SnapshotsArguments) -> Result<Exit> {
    let repository = app.open_to_read(&arguments.repository).await?;
    let (mut snapshots, damage) = repository.readable_snapshots().await?;
    let exit = damaged_snapshots(app, &damage);
    snapshots.retain(|(_, snapshot)| is_wanted(snapshot, &arguments));
    if app.output.form() != Form::Text {
        for (id, snapshot) in &snapshots {
            app.output.item("snapshot", "", &record(*id, snapshot));
        }
        app.output.end_items();
        return Ok(exit);
    }
    if snapshots.is_empty() && damage.is_empty() {
        app.output.note(format!(
            "no snapshots in {}; `backupkit backup` makes one",
            format::one_line(&repository.location())
        ));
        return Ok(exit);
    }
    app.output.line(table(app, &snapshots));
    app.output.summary_line(format::counted(snapshots.len() as u64, "snapshot", "snapshots"));
    Ok(exit)
}

/// Names the snapshots that cannot be read. The others are of use all the same.
pub(super) fn damaged_snapshots(app: &App<'_>, damage: &[Error]) -> Exit {
    for error in damage {
        app.output.error(error, Exit::Damaged);
    }
    if damage.is_empty() { Exit::Success } else { Exit::Damaged }
}

fn is_wanted(snapshot: &Snapshot, arguments: &SnapshotsArguments) -> bool {
    (arguments.all || !is_checkpoint(snapshot))
        && arguments.host.as_ref().is_none_or(|host| *host == snapshot.hostname)
        && arguments.tags.iter().all(|tag| snapshot.tags.contains(tag))
}

fn table(app: &App<'_>, snapshots: &[(SnapshotId, Snapshot)]) -> Table {
    let mut table = Table::new([
        ("ID", Align::Left),
        ("Time", Align::Left),
        ("Host", Align::Left),
        ("Tags", Align::Left),
        ("Size", Align::Right),
        ("Paths", Align::Left),
    ]);
    for (id, snapshot) in snapshots {
        if is_checkpoint(snapshot) {
            let mut row = vec![id.short()];
            row.resize(5, String::new());
            row.push("(what an interrupted backup stored)".to_owned());
            table.row(row);
            continue;
        }
        let size = snapshot.summary.as_ref().map(|summary| summary.total_bytes_processed);
        let mut paths = snapshot.paths.iter().map(|path| format::one_line(path));
        table.row([
            id.short(),
            format::time(&snapshot.time, app.env.time_zone()),
            format::one_line(&snapshot.hostname),
            format::one_line(&snapshot.tags.join(",")),
            size.map_or(String::new(), format::bytes),
            paths.next().unwrap_or_default(),
        ]);
        for path in paths {
            let mut row = vec![String::new(); 5];
            row.push(path);
            table.row(row);
        }
    }
    table
}

fn record(id: SnapshotId, snapshot: &Snapshot) -> SnapshotRecord<'_> {
    let summary = snapshot.summary.as_ref();
    SnapshotRecord {
        id: id.to_string(),
        short_id: id.short(),
        time: snapshot.time.to_string(),
        paths: &snapshot.paths,
        hostname: &snapshot.hostname,
        username: &snapshot.username,
        tags: &snapshot.tags,
        parent: snapshot.parent.map(|parent| parent.to_string()),
        tree: snapshot.tree.to_string(),
        program_version: &snapshot.program_version,
        checkpoint: is_checkpoint(snapshot),
        total_files: summary.map(|summary| summary.total_files_processed),
        total_bytes: summary.map(|summary| summary.total_bytes_processed),
        added_bytes: summary.map(|summary| summary.data_added_bytes),
        stored_bytes: summary.map(|summary| summary.data_added_packed_bytes),
    }
}
