//! `config`.

use std::io::{BufRead as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use async_trait::async_trait;
use backupkit_core::manage::{
    ConfigAction, ConfigChange, ConfigErrors, Configuration, MAX_CONFIG_BYTES, References,
};
use backupkit_core::registry::Registry;
use backupkit_core::state::RecordKind;
use backupkit_core::{Error, ErrorKind, Result};
use secrecy::SecretString;
use serde::Serialize;

use crate::app::App;
use crate::exit::{Exit, usage};
use crate::output::{Form, format};
use crate::secret_source::REFERENCE;

/// How `config import` is to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct ImportOptions {
    pub(super) dry_run: bool,
    pub(super) prune: bool,
    pub(super) yes: bool,
}

#[derive(Serialize)]
struct ExportRecord<'a> {
    toml: &'a str,
}

#[derive(Serialize)]
struct ValidateRecord {
    valid: bool,
}

#[derive(Serialize)]
struct ChangeRecord<'a> {
    kind: &'static str,
    name: &'a str,
    action: &'static str,
    /// Only what would be done was asked.
    dry_run: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    dropped_secrets: &'a [String],
}

/// What the program looks up for a configuration.
#[derive(Debug)]
struct Surroundings;

#[async_trait]
impl References for Surroundings {
    /// Which variables there are is said by the file, so that they cannot be read before.
    fn variable(&self, name: &str) -> Result<Option<SecretString>> {
        let Some(value) = std::env::var_os(name) else { return Ok(None) };
        let text = value.into_string().map_err(|_| usage(format!("{name} is not UTF-8")))?;
        Ok(Some(SecretString::from(text)))
    }

    async fn file(&self, path: &Path) -> Result<SecretString> {
        REFERENCE.read_file(path)
    }

    async fn command(&self, command: &str) -> Result<SecretString> {
        REFERENCE.run_command(command.as_ref())
    }
}

pub(super) async fn export(app: &App<'_>, file: Option<&Path>) -> Result<Exit> {
    let toml = app.workspace().await?.export_config().await?;
    let Some(file) = file else {
        if app.output.form() == Form::Text {
            app.output.bytes(toml.as_bytes());
        }
        app.output.document("config", &ExportRecord { toml: &toml });
        return Ok(Exit::Success);
    };
    let failed = |error| Error::io(format!("make {}", file.display()), error);
    let mut options = std::fs::OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(file);
    made.and_then(|mut made| made.write_all(toml.as_bytes())).map_err(failed)?;
    let shown = format::one_line(&file.display().to_string());
    app.output.summary_line(format_args!("wrote {shown}; no secret stands in it"));
    app.output.document("config", &ExportRecord { toml: &toml });
    Ok(Exit::Success)
}

pub(super) fn validate(app: &App<'_>, file: &Path) -> Result<Exit> {
    if let Err(error) = parse(file) {
        return tell(app, file, error);
    }
    let shown = format::one_line(&file.display().to_string());
    app.output.summary_line(format_args!("{shown} is valid"));
    app.output.document("config", &ValidateRecord { valid: true });
    Ok(Exit::Success)
}

pub(super) async fn import(app: &App<'_>, file: &Path, options: ImportOptions) -> Result<Exit> {
    let ImportOptions { dry_run, prune, yes } = options;
    let configuration = match parse(file) {
        Ok(configuration) => configuration,
        Err(error) => return tell(app, file, error),
    };
    let workspace = app.workspace().await?;
    let preview = match workspace.preview_import(&configuration, &Surroundings, prune).await {
        Ok(preview) => preview,
        Err(error) => return tell(app, file, error),
    };
    if dry_run {
        for change in preview.changes() {
            print(app, change, dry_run);
        }
        app.output.end_items();
        return Ok(Exit::Success);
    }
    if preview.removes() && !yes {
        let removed = preview.changes().filter(|change| change.action == ConfigAction::Remove);
        confirm(app, removed)?;
    }
    let mut done = Vec::new();
    let owner = app.key_owner();
    let mut note = |change: &ConfigChange| done.push(change.clone());
    let result = workspace.import(&configuration, preview, &owner, &mut note).await;
    // Also what was done before something failed.
    for change in &done {
        print(app, change, dry_run);
    }
    app.output.end_items();
    result.map(|()| Exit::Success)
}

fn parse(file: &Path) -> Result<Configuration> {
    let shown = file.display();
    let failed = |error| Error::io(format!("read {shown}"), error);
    let mut text = String::new();
    let most = MAX_CONFIG_BYTES as u64 + 1;
    let opened = std::fs::File::open(file).map_err(failed)?;
    opened.take(most).read_to_string(&mut text).map_err(failed)?;
    Configuration::parse(&text, &Registry::built_in(), &Surroundings)
}

/// Says all that is wrong with a file, each in a line, and at the end how much it is.
fn tell(app: &App<'_>, file: &Path, error: Error) -> Result<Exit> {
    let Some(errors) = ConfigErrors::of(&error) else { return Err(error) };
    let file = format::one_line(&file.display().to_string());
    for wrong in errors {
        let line = wrong.line.map_or(String::new(), |line| format!(":{line}"));
        let place = if wrong.place.is_empty() { "" } else { ": " };
        let text = format!("{file}{line}{place}{}: {}", wrong.place, wrong.message);
        app.output.failure(&Error::new(wrong.kind, text).with_code(wrong.code));
    }
    let number = format::counted(errors.iter().count() as u64, "thing", "things");
    let are = if errors.iter().count() == 1 { "is" } else { "are" };
    let message = match app.output.form() {
        // All of it in the one error.
        Form::Json => format!("{number} {are} wrong in {file}: {errors}"),
        Form::Text | Form::JsonLines => format!("{number} {are} wrong in {file}"),
    };
    let exit = Exit::of_configuration(errors);
    app.output.error(&Error::new(error.kind(), message).with_code(error.code()), exit);
    Ok(exit)
}

/// Nothing is removed that nobody agreed to.
fn confirm<'a>(app: &App<'_>, removed: impl Iterator<Item = &'a ConfigChange>) -> Result<()> {
    let mut names = Vec::new();
    let mut forgets_passwords = false;
    for ConfigChange { kind, name, .. } in removed {
        names.push(format!("{kind} {}", format::one_line(name)));
        forgets_passwords |= *kind == RecordKind::Repository;
    }
    let names = names.join(", ");
    let refused = |kind| {
        Error::new(kind, format!("--prune would remove {names}"))
            .with_code("not-confirmed")
            .with_hint("say --yes to have them removed")
    };
    if !app.may_prompt() {
        return Err(refused(ErrorKind::InvalidInput));
    }
    app.output.note(format_args!("to be removed: {names}"));
    if forgets_passwords {
        app.output.note("What lies in repositories stays, but their passwords are forgotten.");
    }
    app.output.note("Remove them? [y/N]");
    let mut answer = String::new();
    let read = std::io::stdin().lock().take(100).read_line(&mut answer);
    read.map_err(|error| Error::io("read the answer", error))?;
    if ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    Err(refused(ErrorKind::Conflict))
}

fn print(app: &App<'_>, change: &ConfigChange, dry_run: bool) {
    let ConfigChange { kind, name, action, dropped_secrets } = change;
    let (kind, action) = (kind.as_str(), action.as_str());
    let would_be = if dry_run { "would be " } else { "" };
    let text = format!("{kind} {}: {would_be}{action}", format::one_line(name));
    let record = ChangeRecord { kind, name, action, dry_run, dropped_secrets };
    app.output.item("change", text, &record);
    if !dropped_secrets.is_empty() {
        let (name, dropped) = (format::one_line(name), dropped_secrets.join(", "));
        let leads = if dry_run { "would lead elsewhere" } else { "leads elsewhere now" };
        app.output.warning(format_args!("{kind} {name} {leads}, so give these again: {dropped}"));
    }
}
