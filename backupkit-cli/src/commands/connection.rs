//! `connection`.

use std::ffi::OsStr;
use std::num::NonZeroU32;

use backupkit_core::adapters::fs::FolderKind;
use backupkit_core::manage::{ConnectionBody, ConnectionChange};
use backupkit_core::registry::{ConnectionSecrets, Purpose};
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
#[cfg(feature = "s3")]
use crate::uri::Place;

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
    address: &OsStr,
    max_runs: Option<u32>,
) -> Result<Exit> {
    let workspace = app.workspace().await?;
    let (connection, secrets) = to_place(app, address)?;
    let max_runs = max_runs.and_then(NonZeroU32::new);
    let connection = ConnectionBody { max_runs, ..connection };
    let record = workspace.add_connection_with(name, &connection, secrets).await?;
    let body = body(&record)?;
    app.output.summary_line(format_args!(
        "added connection {}: {}",
        format::one_line(name),
        format::one_line(&workspace.location(&body)?)
    ));
    app.output.document("connection", &describe(&record, &body));
    Ok(Exit::Success)
}

/// A connection to what an address names, and its secrets.
fn to_place(app: &App<'_>, address: &OsStr) -> Result<(ConnectionBody, ConnectionSecrets)> {
    #[cfg(feature = "s3")]
    if let Place::Bucket(bucket) = uri::place(address)? {
        return app.bucket_connection(&bucket);
    }
    _ = app;
    Ok((to_folder(address)?, ConnectionSecrets::default()))
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
    address: Option<&OsStr>,
    max_runs: Option<u32>,
) -> Result<Exit> {
    let (settings, secrets) = match address {
        Some(address) => {
            let (body, secrets) = to_place(app, address)?;
            (Some(body.settings), secrets)
        }
        None => (None, ConnectionSecrets::default()),
    };
    let change = ConnectionChange { name: new_name, settings, secrets, max_runs };
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

pub(super) async fn test(app: &App<'_>, name: &str, purpose: Option<Purpose>) -> Result<Exit> {
    let workspace = app.workspace().await?;
    let probe = workspace.test_connection(name, purpose).await?;
    Ok(probe::print(app, &probe))
}

pub(super) async fn policy(
    app: &App<'_>,
    name: Option<&str>,
    bucket: Option<&OsStr>,
    purpose: Purpose,
) -> Result<Exit> {
    let connection = match (name, bucket) {
        (Some(name), _) => body(&app.workspace().await?.find(RecordKind::Connection, name).await?)?,
        (None, address) => to_anybodys_place(app, address.unwrap_or_default())?,
    };
    let policy = app.registry().get(&connection.kind)?.policy(&connection.settings, purpose)?;
    app.output.line(&policy);
    let document: Box<RawValue> = RawValue::from_string(policy).map_err(|error| {
        Error::new(ErrorKind::Internal, "a policy is no JSON").with_source(error)
    })?;
    app.output.document("policy", &document);
    app.output.note("a bucket that is encrypted with a key of KMS needs rights on that key, too");
    Ok(Exit::Success)
}

/// A connection to what an address names, whoever asks.
fn to_anybodys_place(app: &App<'_>, address: &OsStr) -> Result<ConnectionBody> {
    #[cfg(feature = "s3")]
    if let Place::Bucket(bucket) = uri::place(address)? {
        return app.bucket_for_anybody(&bucket);
    }
    _ = app;
    to_folder(address)
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
