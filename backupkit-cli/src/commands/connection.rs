//! `connection`.

use std::ffi::OsStr;

use backupkit_core::adapters::fs::FolderKind;
use backupkit_core::manage::ConnectionBody;
use backupkit_core::state::{Record, RecordKind};
use backupkit_core::{Error, ErrorKind, ProbeOutcome, Result};
use serde::Serialize;
use serde_json::value::RawValue;

use super::listing::{all, print_list};
use crate::app::App;
use crate::exit::{Exit, usage};
use crate::output::format;
use crate::output::table::{Align, Table};
use crate::uri;

#[derive(Serialize)]
struct ConnectionRecord<'a> {
    name: &'a str,
    id: String,
    kind: String,
    settings: &'a RawValue,
}

pub(super) async fn add(app: &App<'_>, name: &str, folder: &OsStr) -> Result<Exit> {
    let workspace = app.workspace().await?;
    let ConnectionBody { kind, settings } = to_folder(folder)?;
    let record = workspace.add_connection(name, &kind, settings).await?;
    let body = body(&record)?;
    app.output.summary_line(format_args!(
        "added connection {}: {}",
        format::one_line(name),
        format::one_line(&workspace.location(&body)?)
    ));
    app.output.document("connection", &describe(&record, &body));
    Ok(Exit::Success)
}

/// A connection to a local folder, given as a path or URI.
pub(super) fn to_folder(folder: &OsStr) -> Result<ConnectionBody> {
    let folder = uri::absolute_folder(folder)?;
    let Some(path) = folder.to_str() else {
        return Err(usage(format!("{} is not UTF-8", folder.display()))
            .with_hint("connections need a path that is; `backup` and `restore` take any"));
    };
    let settings = serde_json::json!({ "path": path }).to_string();
    let settings = RawValue::from_string(settings).map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot write a path as JSON").with_source(error)
    })?;
    Ok(ConnectionBody { kind: FolderKind::NAME.to_owned(), settings: settings.into() })
}

pub(super) async fn list(app: &App<'_>) -> Result<Exit> {
    let workspace = app.workspace().await?;
    let mut table = Table::new([("NAME", Align::Left), ("KIND", Align::Left), ("AT", Align::Left)]);
    let records = all(&workspace, RecordKind::Connection).await?;
    let bodies = records.iter().map(body).collect::<Result<Vec<_>>>()?;
    let described: Vec<_> =
        records.iter().zip(&bodies).map(|(record, body)| describe(record, body)).collect();
    for (connection, body) in described.iter().zip(&bodies) {
        table.row([
            format::one_line(connection.name),
            connection.kind.clone(),
            format::one_line(&workspace.location(body)?),
        ]);
    }
    let none = "no connections; `backupkit connection add` makes one";
    print_list(app, "connection", &table, &described, none);
    Ok(Exit::Success)
}

pub(super) async fn test(app: &App<'_>, name: &str) -> Result<Exit> {
    let workspace = app.workspace().await?;
    let probe = workspace.test_connection(name).await?;
    for step in &probe.steps {
        let outcome = match &step.outcome {
            ProbeOutcome::Ok => "ok".to_owned(),
            ProbeOutcome::Failed(why) => format!("failed: {why}"),
            ProbeOutcome::Skipped(why) => format!("skipped: {why}"),
        };
        let took = format::duration(step.took);
        app.output.line(format_args!("{}: {} ({took})", step.name, format::one_line(&outcome)));
        if let Some(hint) = &step.hint {
            app.output.line(format_args!("  {}", format::one_line(hint)));
        }
    }
    app.output.document("probe", &probe);
    Ok(if probe.is_healthy() { Exit::Success } else { Exit::Failure })
}

pub(super) async fn rm(app: &App<'_>, name: &str) -> Result<Exit> {
    app.workspace().await?.remove(RecordKind::Connection, name).await?;
    app.output.summary_line(format_args!("removed connection {}", format::one_line(name)));
    Ok(Exit::Success)
}

fn body(record: &Record) -> Result<ConnectionBody> {
    record.decode()
}

fn describe<'a>(record: &'a Record, body: &'a ConnectionBody) -> ConnectionRecord<'a> {
    ConnectionRecord {
        name: &record.content.name,
        id: record.itself.id.to_string(),
        kind: body.kind.clone(),
        settings: &body.settings,
    }
}
