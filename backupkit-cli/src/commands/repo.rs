//! `repo`.

pub(super) mod extend;
pub(super) mod key;
pub(super) mod set_up;

use std::ffi::OsStr;

use backupkit_core::Result;
use backupkit_core::destination::ObjectKey;
use backupkit_core::repo::{InitOptions, LockInfo, Repository, is_checkpoint};
use futures::TryStreamExt as _;
use serde::Serialize;

use super::snapshots::damaged_snapshots;
use crate::app::App;
use crate::cli::{ReadOption, RepositoryOption};
use crate::exit::Exit;
use crate::output::{Form, format};
use crate::password::Purpose;

#[derive(Serialize)]
struct RepositoryRecord {
    id: String,
    version: u32,
    location: String,
}

#[derive(Serialize)]
struct InfoRecord {
    #[serde(flatten)]
    repository: RepositoryRecord,
    snapshots: u64,
    checkpoints: u64,
    latest: Option<String>,
    keys: u64,
    packs: u64,
    stored_bytes: u64,
    locks: Vec<LockRecord>,
}

#[derive(Serialize)]
struct LockRecord {
    id: String,
    holder: String,
    time: String,
    exclusive: bool,
    stale: bool,
}

#[derive(Serialize)]
struct UnlockRecord {
    removed: Vec<LockRecord>,
    remaining: Vec<LockRecord>,
}

pub(super) async fn init(
    app: &App<'_>,
    option: &RepositoryOption,
    polynomial_of: Option<&OsStr>,
) -> Result<Exit> {
    let destination = app.destination(&option.repository)?;
    let other = polynomial_of.map(|address| app.destination(address)).transpose()?;
    if Repository::exists(&*destination).await? {
        return Err(already_there(&destination.location()));
    }
    let password = app.password(Purpose::Create)?;
    let polynomial_of = match other {
        Some(other) => Some(Repository::open(other, &password, &app.env).await?),
        None => None,
    };
    let options = InitOptions { polynomial_of, owner: app.key_owner() };
    let repository = Repository::init(destination, &password, options, &app.env).await?;
    let location = format::one_line(&repository.location());
    app.output.summary_line(format!("made repository {} at {location}", short(repository.id())));
    app.output.summary_line("Keep the password: nobody can open the repository without it.");
    app.output.document("repository", &record(&repository));
    Ok(Exit::Success)
}

pub(super) async fn info(app: &App<'_>, option: &ReadOption) -> Result<Exit> {
    let repository = app.open_to_read(option).await?;
    let engine = app.engine(|builder| builder)?;
    let (snapshots, damage) = repository.readable_snapshots().await?;
    let exit = damaged_snapshots(app, &damage);
    let checkpoints = snapshots.iter().filter(|(_, snapshot)| is_checkpoint(snapshot)).count();
    let latest = snapshots.iter().rev().find(|(_, snapshot)| !is_checkpoint(snapshot));
    let (packs, stored_bytes) = repository
        .destination()
        .list(&ObjectKey::new("data")?)
        .try_fold((0, 0), |(packs, bytes), object| async move {
            Ok((packs + 1, bytes + object.size_bytes))
        })
        .await?;
    let record = InfoRecord {
        repository: record(&repository),
        snapshots: (snapshots.len() - checkpoints) as u64,
        checkpoints: checkpoints as u64,
        latest: latest.map(|(id, _)| id.to_string()),
        keys: repository.keys().await?.len() as u64,
        packs,
        stored_bytes,
        locks: repository.locks(engine.instance()).await?.iter().map(lock_record).collect(),
    };
    app.output.document("repository", &record);
    app.output.line(format!("Repository  {}", record.repository.id));
    app.output.line(format!("Location    {}", format::one_line(&record.repository.location)));
    app.output.line(format!("Format      restic version {}", record.repository.version));
    app.output.line(format!(
        "Stored      {} in {}",
        format::bytes(stored_bytes),
        format::counted(packs, "pack", "packs")
    ));
    let newest = latest.map_or(String::new(), |(id, snapshot)| {
        format!(", latest {} of {}", id.short(), format::time(&snapshot.time, app.env.time_zone()))
    });
    app.output.line(format!("Snapshots   {}{newest}", format::count(record.snapshots)));
    if checkpoints > 0 {
        app.output.line(format!(
            "Paused      {}",
            format::counted(record.checkpoints, "backup", "backups")
        ));
    }
    app.output.line(format!("Passwords   {}", format::count(record.keys)));
    app.output.line(format!("Locks       {}", format::count(record.locks.len() as u64)));
    for lock in &record.locks {
        app.output.line(format!("  {}", lock_line(lock)));
    }
    Ok(exit)
}

pub(super) async fn unlock(app: &App<'_>, option: &RepositoryOption, all: bool) -> Result<Exit> {
    let repository = app.open(option).await?;
    let engine = app.engine(|builder| builder)?;
    let removed = repository.unlock(engine.instance(), all).await?;
    let remaining = repository.locks(engine.instance()).await?;
    let record = UnlockRecord {
        removed: removed.iter().map(lock_record).collect(),
        remaining: remaining.iter().map(lock_record).collect(),
    };
    app.output.document("unlock", &record);
    let removed = record.removed.len() as u64;
    app.output.summary_line(format!("removed {}", format::counted(removed, "lock", "locks")));
    if app.output.form() == Form::Text && !record.remaining.is_empty() {
        app.output.summary_line("still held:");
        for lock in &record.remaining {
            app.output.summary_line(format!("  {}", lock_line(lock)));
        }
        app.output.note("--all removes these too; only if no program works on the repository");
    }
    Ok(Exit::Success)
}

fn already_there(location: &str) -> backupkit_core::Error {
    backupkit_core::Error::new(
        backupkit_core::ErrorKind::AlreadyExists,
        format!("there is a repository at {location} already"),
    )
}

fn record(repository: &Repository) -> RepositoryRecord {
    RepositoryRecord {
        id: repository.id().to_owned(),
        version: repository.version(),
        location: repository.location(),
    }
}

fn lock_record(lock: &LockInfo) -> LockRecord {
    LockRecord {
        id: lock.id.to_string(),
        holder: lock.holder.clone(),
        time: lock.time.to_string(),
        exclusive: lock.exclusive,
        stale: lock.stale,
    }
}

fn lock_line(lock: &LockRecord) -> String {
    let exclusive = if lock.exclusive { "exclusive, " } else { "" };
    let stale = if lock.stale { ", stale" } else { "" };
    format!("{exclusive}held by {} since {}{stale}", format::one_line(&lock.holder), lock.time)
}

/// The first digits of a repository's id.
fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}
