//! `repo key`.

use backupkit_core::model::KeyId;
use backupkit_core::repo::{KeyInfo, Repository};
use backupkit_core::{Error, ErrorKind, Result};
use secrecy::SecretString;
use serde::Serialize;

use crate::app::App;
use crate::cli::{NewPasswordOptions, RepositoryOption};
use crate::exit::Exit;
use crate::output::table::{Align, Table};
use crate::output::{Form, format};
use crate::password::{PasswordFinder, Purpose};

#[derive(Serialize)]
struct KeyRecord {
    id: String,
    username: String,
    hostname: String,
    created: Option<String>,
    /// Whether it opened the repository this time.
    current: bool,
}

#[derive(Serialize)]
struct ChangedRecord {
    id: String,
}

pub(crate) async fn add(
    app: &App<'_>,
    option: &RepositoryOption,
    new_password: NewPasswordOptions,
) -> Result<Exit> {
    let repository = app.open(option).await?;
    let password = find_new_password(app, new_password)?;
    let id = repository.add_key(&password, &app.key_owner()).await?;
    Ok(say_changed(app, format!("added key {}", id.short()), id))
}

pub(crate) async fn list(app: &App<'_>, option: &RepositoryOption) -> Result<Exit> {
    let repository = app.open(option).await?;
    let keys = repository.keys().await?;
    if app.output.form() != Form::Text {
        for key in &keys {
            app.output.item("key", "", &record(key));
        }
        app.output.end_items();
        return Ok(Exit::Success);
    }
    let mut table = Table::new([
        (" ID", Align::Left),
        ("User", Align::Left),
        ("Host", Align::Left),
        ("Created", Align::Left),
    ]);
    for key in &keys {
        let mark = if key.current { '*' } else { ' ' };
        let created = key.created.as_ref();
        table.row([
            format!("{mark}{}", key.id.short()),
            format::one_line(&key.owner.username),
            format::one_line(&key.owner.hostname),
            created.map_or(String::new(), |time| format::time(time, app.env.time_zone())),
        ]);
    }
    app.output.line(table);
    app.output.note("* opened the repository this time");
    Ok(Exit::Success)
}

pub(crate) async fn rm(app: &App<'_>, key: &str, option: &RepositoryOption) -> Result<Exit> {
    let repository = app.open(option).await?;
    let info = find(&repository, key).await?;
    repository.remove_key(info.id).await?;
    Ok(say_changed(app, format!("removed key {}", info.id.short()), info.id))
}

pub(crate) async fn passwd(
    app: &App<'_>,
    option: &RepositoryOption,
    new_password: NewPasswordOptions,
) -> Result<Exit> {
    let repository = app.open(option).await?;
    let password = find_new_password(app, new_password)?;
    let id = repository.change_password(&password, &app.key_owner()).await?;
    Ok(say_changed(app, format!("changed the password; the new key is {}", id.short()), id))
}

fn say_changed(app: &App<'_>, text: String, id: KeyId) -> Exit {
    app.output.summary_line(text);
    app.output.document("key", &ChangedRecord { id: id.to_string() });
    Exit::Success
}

fn find_new_password(app: &App<'_>, options: NewPasswordOptions) -> Result<SecretString> {
    PasswordFinder {
        environment: app.environment,
        may_prompt: app.may_prompt(),
        file: options.new_password_file,
        command: options.new_password_command,
        purpose: Purpose::New,
    }
    .find()
}

async fn find(repository: &Repository, start: &str) -> Result<KeyInfo> {
    let start = start.to_ascii_lowercase();
    let keys = repository.keys().await?;
    let mut found =
        keys.into_iter().filter(|key| !start.is_empty() && key.id.to_string().starts_with(&start));
    let key = found.next().ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("there is no key {start:?}"))
            .with_hint("list them with `backupkit repo key list`")
    })?;
    if found.next().is_some() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("several keys begin with {start:?}"),
        )
        .with_hint("give more digits"));
    }
    Ok(key)
}

fn record(key: &KeyInfo) -> KeyRecord {
    KeyRecord {
        id: key.id.to_string(),
        username: key.owner.username.clone(),
        hostname: key.owner.hostname.clone(),
        created: key.created.map(|time| time.to_string()),
        current: key.current,
    }
}
