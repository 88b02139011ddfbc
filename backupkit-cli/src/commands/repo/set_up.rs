//! Repositories that plans know.

use backupkit_core::Result;
use backupkit_core::manage::{
    AddedRepository, NewRepository, RepositoryBody, RepositoryChange, RepositoryPassword,
};
use backupkit_core::state::{Record, RecordKind};
use secrecy::ExposeSecret as _;
use serde::Serialize;

use crate::app::App;
use crate::commands::listing::{print_list, remove};
use crate::commands::probe;
use crate::exit::Exit;
use crate::output::format;
use crate::output::table::{Align, Table};
use crate::password::{PasswordFinder, Purpose};

#[derive(Serialize)]
struct AddedRecord<'a> {
    #[serde(flatten)]
    repository: KnownRecord,
    location: &'a str,
    /// Only where it was generated, and only here.
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    /// With the password, restic alone reads the repository.
    restore_command: String,
}

#[derive(Serialize)]
struct KnownRecord {
    name: String,
    id: String,
    #[serde(flatten)]
    body: RepositoryBody,
}

pub(in crate::commands) async fn add(
    app: &App<'_>,
    name: &str,
    connection: &str,
    path: &str,
) -> Result<Exit> {
    let finder = PasswordFinder {
        environment: app.environment,
        // Who gives none gets a good one.
        may_prompt: false,
        file: app.options.password_file.clone(),
        command: app.options.password_command.clone(),
        purpose: Purpose::Open,
    };
    let password = match finder.find() {
        Err(error) if error.code() == "no-password" => None,
        found => Some(found?),
    };
    let workspace = app.workspace().await?;
    let owner = app.key_owner();
    let new = NewRepository { name, connection, path, password, owner };
    let added = workspace.add_repository(new).await?;
    let shown = show_added(app, &added);
    let (Err(error), RepositoryPassword::Generated(_)) = (&shown, &added.password) else {
        return shown.map(|()| Exit::Success);
    };
    // Nobody knows the password, so nobody may come to rely on the repository.
    let removed = workspace.remove(RecordKind::Repository, name).await;
    let forget = match removed {
        Ok(()) => String::new(),
        Err(_) => format!("run `backupkit repo rm {}`, ", format::shell_word(name.as_ref())),
    };
    let hint =
        format!("{forget}delete the new, empty repository at {}, and add it again", added.location);
    Err(error.duplicate().while_doing("show the new password").with_hint(hint))
}

/// Prints what was added, and makes sure that it was taken.
fn show_added(app: &App<'_>, added: &AddedRepository) -> Result<()> {
    let AddedRepository { record, location, password } = added;
    let name = format::one_line(&record.content.name);
    app.output.summary_line(format_args!("added repository {name}"));
    let place = format::shell_word(location.as_ref());
    let restore_command = format!("restic -r {place} restore latest --target ./restored");
    let password = match password {
        RepositoryPassword::Given => None,
        RepositoryPassword::Generated(password) => Some(password.expose_secret()),
    };
    if let Some(password) = password {
        app.output.line(format_args!("password: {password}"));
        app.output.summary_line(format_args!(
            "Write it down and keep it apart from this machine. It is shown only now.\n\
             With it, restic alone reads the repository:\n  {restore_command}",
        ));
    }
    let repository = describe(record)?;
    app.output
        .document("repository", &AddedRecord { repository, location, password, restore_command });
    if password.is_some() { app.output.deliver() } else { Ok(()) }
}

pub(in crate::commands) async fn list(app: &App<'_>) -> Result<Exit> {
    let workspace = app.workspace().await?;
    let connections = workspace.list_all(RecordKind::Connection).await?;
    let named = |id: &str| {
        let mut connections = connections.iter();
        let found = connections.find(|connection| connection.itself.id.to_string() == id);
        found.map(|connection| format::one_line(&connection.content.name)).unwrap_or_default()
    };
    let mut table =
        Table::new([("NAME", Align::Left), ("CONNECTION", Align::Left), ("PATH", Align::Left)]);
    let records = workspace.list_all(RecordKind::Repository).await?;
    let known = records.iter().map(describe).collect::<Result<Vec<_>>>()?;
    for repository in &known {
        table.row([
            format::one_line(&repository.name),
            named(&repository.body.connection),
            format::one_line(&repository.body.path),
        ]);
    }
    let none = "no repositories; `backupkit repo add` adds one";
    print_list(app, "repository", &table, &known, none);
    Ok(Exit::Success)
}

/// What `repo set` changes.
pub(in crate::commands) struct Change {
    pub(in crate::commands) name: Option<String>,
    pub(in crate::commands) connection: Option<String>,
    pub(in crate::commands) path: Option<String>,
    pub(in crate::commands) password: bool,
}

pub(in crate::commands) async fn set(app: &App<'_>, name: &str, change: Change) -> Result<Exit> {
    let password = change.password.then(|| app.password(Purpose::Open)).transpose()?;
    let Change { name: new_name, connection, path, .. } = change;
    let change = RepositoryChange { name: new_name, connection, path, password };
    let record = app.workspace().await?.update_repository(name, None, change).await?;
    let name = format::one_line(&record.content.name);
    app.output.summary_line(format_args!("repository {name} is as you want it"));
    app.output.document("repository", &describe(&record)?);
    Ok(Exit::Success)
}

pub(in crate::commands) async fn test(app: &App<'_>, name: &str) -> Result<Exit> {
    let probe = app.workspace().await?.test_repository(name).await?;
    Ok(probe::print(app, &probe))
}

pub(in crate::commands) async fn rm(app: &App<'_>, name: &str) -> Result<Exit> {
    let shown = format::one_line(name);
    let text = format!("forgot repository {shown} and its password; what lies in it stays");
    remove(app, RecordKind::Repository, name, text).await
}

fn describe(record: &Record) -> Result<KnownRecord> {
    let (name, id) = (record.content.name.clone(), record.itself.id.to_string());
    Ok(KnownRecord { name, id, body: record.decode()? })
}
