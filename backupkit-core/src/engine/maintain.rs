//! Maintenance: removes what dead, ended and old runs left behind, wherever that is.

mod checkpoints;
mod files;
mod records;
mod removal;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;

use super::RunContext;
use super::reading::{alone, under_guard, under_shared_lock};
use crate::blocking::blocking;
use crate::destination::{Leftovers, NO_RETENTION};
use crate::env::within;
use crate::error::{Error, Result};
use crate::model::{
    EventKind, Level, MaintenanceRecord, MaintenanceSettings, MaintenanceStep, MaintenanceWork,
    days,
};
use crate::pipeline::guard::{Guard, Liveness};
use crate::repo::extend::{ExtensionRun, extend};
use crate::repo::index_cache::IndexCache;
use crate::repo::layout::{FileKind, config_key, packs_prefix};
use crate::repo::repository::Repository;
use crate::scratch::Scratch;
use crate::state::refusal::LEASE_LOST;
use crate::state::{Scope, StateStore};
use files::{OldFiles, remove_old_files};

/// So long one repository may take. One that hangs must not keep a worker from its other runs.
const REPOSITORY_TIME: Duration = Duration::from_hours(1);
/// Each object is asked about, and most are written to: some take that for hours.
const RETENTION_TIME: Duration = Duration::from_hours(6);
/// A record keeps no more steps; the log has all.
const MAX_STEPS: usize = 1000;

/// What to do.
pub(crate) struct MaintenanceRequest {
    pub(crate) settings: MaintenanceSettings,
    /// Removes nothing, and tells what it would.
    pub(crate) dry_run: bool,
    pub(crate) repositories: Vec<MaintainedRepository>,
}

/// A repository, opened when its turn comes: it may be out of reach.
pub(crate) struct MaintainedRepository {
    /// What people call it.
    pub(crate) name: String,
    pub(crate) opening: BoxFuture<'static, Result<Repository>>,
}

/// What maintenance works with besides its request.
pub(crate) struct Holder {
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) scope: Scope,
    pub(crate) liveness: Arc<dyn Liveness>,
}

/// Does all steps, one after the other. What cannot be reached is a warning.
pub(super) async fn run(
    run: RunContext,
    request: MaintenanceRequest,
    holder: Holder,
) -> Result<MaintenanceRecord> {
    let MaintenanceRequest { settings, dry_run, repositories } = request;
    let mut work = Maintenance { run: &run, settings, dry_run, holder, steps: Vec::new() };
    let cancel = run.control.cancel_token();
    cancel.unless_cancelled(work.tidy_records()).await?;
    cancel.unless_cancelled(work.tidy_machine()).await?;
    for MaintainedRepository { name, opening } in repositories {
        let clock = run.events.env().clock();
        let opening = cancel.unless_cancelled(opening);
        let repository = match within(clock, REPOSITORY_TIME, opening).await {
            Ok(repository) => repository,
            Err(error) => {
                cancel.check()?;
                work.warn(format!("tidy up repository `{name}`"), error)?;
                continue;
            }
        };
        // First: what is not retained any more may be gone tomorrow.
        let retaining = Box::pin(work.retain_repository(&name, &repository));
        if let Err(error) = within(clock, RETENTION_TIME, retaining).await {
            cancel.check()?;
            work.warn(format!("extend the retention of repository `{name}`"), error)?;
        }
        let tidying = Box::pin(work.tidy_repository(&name, &repository));
        if let Err(error) = within(clock, REPOSITORY_TIME, tidying).await {
            cancel.check()?;
            work.warn(format!("tidy up repository `{name}`"), error)?;
        }
    }
    let problem_count = run.events.problem_count();
    Ok(MaintenanceRecord { dry_run, steps: work.steps, problem_count })
}

struct Maintenance<'a> {
    run: &'a RunContext,
    settings: MaintenanceSettings,
    dry_run: bool,
    holder: Holder,
    steps: Vec<MaintenanceStep>,
}

impl Maintenance<'_> {
    /// Logs and runs.
    async fn tidy_records(&mut self) -> Result<()> {
        let Holder { store, scope, .. } = &self.holder;
        let before = self.before(self.settings.logs_days);
        let lines = if self.dry_run {
            records::count_lines(&**store, scope, before).await?
        } else {
            store.remove_logs(scope, before).await?
        };
        let before = self.before(self.settings.runs_days);
        let runs = if self.dry_run {
            records::count_runs(&**store, scope, before).await?
        } else {
            records::remove_runs(&**store, scope, before).await?
        };
        self.done(MaintenanceWork::Logs, None, lines, None);
        self.done(MaintenanceWork::Runs, None, runs, None);
        Ok(())
    }

    /// The folders of this machine.
    async fn tidy_machine(&mut self) -> Result<()> {
        let parts = self.run.engine.parts();
        let scratch = parts.scratch.as_ref().map(|scratch| scratch.folder().to_owned());
        let cache = parts.settings.cache_folder.clone();
        let temporary = days(self.settings.temporary_files_days);
        let unused = days(self.settings.caches_days);
        let files = MaintenanceWork::TemporaryFiles;
        let is_leftover: fn(&str) -> bool = Scratch::is_leftover;
        let mut folders = Vec::new();
        folders.extend(scratch.map(|folder| (files, folder, temporary, is_leftover)));
        let is_unfinished: fn(&str) -> bool = IndexCache::is_unfinished;
        folders.extend(cache.clone().map(|folder| (files, folder, temporary, is_unfinished)));
        let is_copy: fn(&str) -> bool = IndexCache::is_copy;
        folders.extend(cache.map(|folder| (MaintenanceWork::Caches, folder, unused, is_copy)));
        for (work, folder, age, is_one) in folders {
            let (place, dry_run) = (folder.display().to_string(), self.dry_run);
            let old = OldFiles { now: self.run.events.env().now(), age, is_one };
            match blocking(move || remove_old_files(&folder, &old, dry_run)).await {
                Ok(Leftovers { count, bytes }) => self.done(work, Some(&place), count, Some(bytes)),
                Err(error) => self.warn(format!("tidy up {place}"), error)?,
            }
        }
        Ok(())
    }

    /// What writers and backups that are no more left in a repository.
    async fn tidy_repository(&mut self, name: &str, repository: &Repository) -> Result<()> {
        let run = self.run;
        let cancel = run.control.cancel_token();
        let place = format!("repository `{name}`");
        let abandoned = cancel.unless_cancelled(self.abandoned_objects(repository)).await?;
        let Leftovers { count, bytes } = abandoned;
        self.done(MaintenanceWork::TemporaryFiles, Some(&place), count, Some(bytes));
        let (checkpoints, locks) = if self.dry_run {
            let looking = cancel.unless_cancelled(self.abandoned_runs(repository, None));
            under_shared_lock(run, repository, looking).await?
        } else {
            let removing = async |guard: &Guard| {
                cancel.unless_cancelled(self.abandoned_runs(repository, Some(guard))).await
            };
            let tidying = async |guard: &Guard| alone(run, repository, guard, removing).await;
            let liveness = Arc::clone(&self.holder.liveness);
            under_guard(run, repository, liveness, tidying).await?
        };
        self.done(MaintenanceWork::Checkpoints, Some(&place), checkpoints, None);
        self.done(MaintenanceWork::Locks, Some(&place), locks, None);
        Ok(())
    }

    /// Retains a repository for longer, where it is retained.
    async fn retain_repository(&mut self, name: &str, repository: &Repository) -> Result<()> {
        if let Some(count) = self.extend_retention(repository).await? {
            let place = format!("repository `{name}`");
            self.done(MaintenanceWork::Retention, Some(&place), count, None);
        }
        Ok(())
    }

    /// How many objects of a repository are retained for longer now; nothing where nothing is retained.
    async fn extend_retention(&self, repository: &Repository) -> Result<Option<u64>> {
        let (run, config) = (self.run, config_key()?);
        let looking = repository.destination().extend_retention(&config, true);
        match run.control.cancel_token().unless_cancelled(looking).await {
            Err(error) if error.code() == NO_RETENTION => return Ok(None),
            // It is told in the report, if it is of this object alone.
            _ => {}
        }
        let work = ExtensionRun::new(run, repository, self.dry_run);
        let report = under_shared_lock(run, repository, extend(&work)).await?;
        if !report.is_complete() {
            // Each is named before, but for those beyond a thousand.
            let (failed, at) = (report.failed, repository.location());
            let message =
                format!("objects that are NOT retained for long enough at {at}: {failed}");
            run.events.note(Level::Error, message);
        }
        Ok(Some(report.extended))
    }

    async fn abandoned_objects(&self, repository: &Repository) -> Result<Leftovers> {
        let kinds = [FileKind::Key, FileKind::Index, FileKind::Snapshot, FileKind::Lock];
        let mut prefixes = vec![config_key()?, packs_prefix()?];
        for kind in kinds {
            prefixes.push(kind.prefix()?);
        }
        let (destination, mut found) = (repository.destination(), Leftovers::default());
        let age = days(self.settings.temporary_files_days);
        for prefix in prefixes {
            self.check_alive().await?;
            found.join(destination.remove_abandoned(&prefix, age, self.dry_run).await?);
        }
        Ok(found)
    }

    /// Removes checkpoints and locks if it has a guard, and counts them.
    async fn abandoned_runs(
        &self,
        repository: &Repository,
        guard: Option<&Guard>,
    ) -> Result<(u64, u64)> {
        let checkpoints = self.remove_checkpoints(repository, guard).await?;
        // They lead the next backup to packs that are in no index, so they have the age of what
        // backups go on from.
        let before = self.before(self.settings.checkpoints_days);
        let locks = repository.dead_locks(self.run.engine.instance(), before).await?;
        let mut ids: Vec<[u8; 32]> = locks.iter().map(|id| *id.as_bytes()).collect();
        if let Some(guard) = guard {
            let removed = self.remove_files(repository, FileKind::Lock, &ids, guard).await?;
            ids.retain(|id| removed.contains(id));
        }
        Ok((checkpoints, ids.len() as u64))
    }

    /// The time so many days ago.
    fn before(&self, age: u32) -> Timestamp {
        let now = self.run.events.env().now();
        now.saturating_sub(days(age)).unwrap_or(Timestamp::MIN)
    }

    /// Right before something is removed.
    async fn check_alive(&self) -> Result<()> {
        crate::pipeline::guard::check_alive(&*self.holder.liveness).await
    }

    /// Puts a step on record.
    fn done(&mut self, work: MaintenanceWork, place: Option<&str>, count: u64, bytes: Option<u64>) {
        let step = MaintenanceStep { work, place: place.map(str::to_owned), count, bytes };
        let kind = EventKind::Tidied { step: step.clone(), dry_run: self.dry_run };
        self.run.events.tell(Level::Info, kind);
        if count > 0 && self.steps.len() < MAX_STEPS {
            self.steps.push(step);
        }
    }

    /// Tells that something could not be done, unless that ends all of it.
    fn warn(&self, doing: String, error: Error) -> Result<()> {
        if error.code() == LEASE_LOST {
            return Err(error);
        }
        self.run.events.note(Level::Warning, error.while_doing(doing).report());
        Ok(())
    }
}

impl fmt::Debug for MaintenanceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaintenanceRequest").field("dry_run", &self.dry_run).finish_non_exhaustive()
    }
}
