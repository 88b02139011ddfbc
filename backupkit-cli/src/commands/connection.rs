//! `connection`.

use std::ffi::OsStr;
use std::num::NonZeroU32;

use backupkit_core::adapters::fs::FolderKind;
use backupkit_core::manage::{ConnectionBody, ConnectionChange};
use backupkit_core::state::{Record, RecordKind};
use backupkit_core::{Error, ErrorKind, Result};
use serde::Serialize;
use serde_json::value::RawValue;

use super::listing::{print_list, remove};
use super::probe;
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
    #[serde(skip_serializing_if = "Option::is_none")]
    max_runs: Option<NonZeroU32>,
}

pub(super) async fn add(
    app: &App<'_>,
    name: &str,
    folder: &OsStr,
    max_runs: Option<u32>,
) -> Result<Exit> {
    let workspace = app.workspace().await?;
    let max_runs = max_runs.and_then(NonZeroU32::new);
    let connection = ConnectionBody { max_runs, ..to_folder(folder)? };
    let record = workspace.add_connection(name, &connection).await?;
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
    Ok(ConnectionBody::new(FolderKind::NAME, settings.into()))
}

pub(super) async fn set(
    app: &App<'_>,
    name: &str,
    new_name: Option<String>,
    folder: Option<&OsStr>,
    max_runs: Option<u32>,
) -> Result<Exit> {
    let settings = folder.map(to_folder).transpose()?.map(|body| body.settings);
    let change = ConnectionChange { name: new_name, settings, max_runs };
    let changed = app.workspace().await?.update_connection(name, None, change).await?;
    let record = &changed.record;
    let name = format::one_line(&record.content.name);
    app.output.summary_line(format_args!("connection {name} is as you want it"));
    if !changed.dropped_secrets.is_empty() {
        let dropped = changed.dropped_secrets.join(", ");
        app.output.warning(format_args!("it leads elsewhere now, so give these again: {dropped}"));
    }
    app.output.document("connection", &describe(record, &body(record)?));
    Ok(Exit::Success)
}

pub(super) async fn list(app: &App<'_>) -> Result<Exit> {
    let workspace = app.workspace().await?;
    let mut table = Table::new([("NAME", Align::Left), ("KIND", Align::Left), ("AT", Align::Left)]);
    let records = workspace.list_all(RecordKind::Connection).await?;
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
    Ok(probe::print(app, &probe))
}

pub(super) async fn rm(app: &App<'_>, name: &str) -> Result<Exit> {
    let text = format!("removed connection {}", format::one_line(name));
    remove(app, RecordKind::Connection, name, text).await
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
        max_runs: body.max_runs,
    }
}
