//! Makes runs of plans and restores, and executes them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::slice::from_ref;
use std::sync::Arc;

use futures::future::join_all;
use serde::de::DeserializeOwned;

use super::Workspace;
use super::bodies::{
    BackupSettings, ConnectionBody, OrderedPart, OrderedRepository, PlanBody, RepositoryBody,
    RestoreSettings, encode, reference,
};
use crate::engine::{AbsentRepository, BackupRequest, HeldRun, RestoreRequest};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlobId, Level, RunKind, RunState};
use crate::registry::{ConnectionSecrets, RepositoryPlace, SourceContext, TargetContext};
use crate::repo::Repository;
use crate::source::Source;
use crate::state::{NewRun, Record, RecordKind, Run, RunFilter, RunId, Slot, refusal};
use crate::target::{RestoreOptions, VerifyLevel};
use crate::token::CancelToken;

/// Among so many restores that have not ended the same one is looked for.
const MAX_ACTIVE_RESTORES: usize = 1000;

/// A restore that is to be.
#[derive(Debug, Clone)]
pub struct NewRestore<'a> {
    /// The name of the repository.
    pub repository: &'a str,
    /// A snapshot of it: the start of its id, or `latest`.
    pub snapshot: &'a str,
    /// Where to restore into.
    pub target: RestorePlace,
    /// What to restore, and what to do with what the target already has.
    pub options: RestoreOptions,
    /// How closely to compare afterwards; nothing: not at all.
    pub verify: Option<VerifyLevel>,
}

/// A place to restore into.
#[derive(Debug, Clone)]
pub enum RestorePlace {
    /// What the connection of this name leads to.
    Connection(String),
    /// What a connection would lead to that nobody has added.
    Unnamed(ConnectionBody),
}

impl Workspace {
    /// Orders a run of a plan. It keeps the settings that the plan has now.
    ///
    /// # Errors
    /// `NotFound` if there is no such plan; `Conflict` with code `run-active` if a run of it has not
    /// ended.
    pub async fn order_backup(&self, plan: &str) -> Result<Run> {
        let record = self.find(RecordKind::Plan, plan).await?;
        let body: PlanBody = record.decode()?;
        let mut repositories = Vec::new();
        for id in body.repositories {
            let itself = reference(RecordKind::Repository, &id)?;
            let repository = self.store.get(&self.scope, itself).await?;
            let repository = repository.ok_or_else(|| refusal::missing(itself))?;
            repositories.push(self.ordered(repository).await?);
        }
        let mut slots = repository_slots(&repositories);
        let mut parts = Vec::new();
        for id in &body.sources {
            let source = self.connection(id).await?;
            slots.push(source_slot(id, &source));
            let (repositories, finished) = (repositories.clone(), Vec::new());
            parts.push(OrderedPart { source, source_id: id.clone(), repositories, finished });
        }
        let plan = record.content.name.clone();
        let settings = encode(&BackupSettings { plan, parts, tags: body.tags })?;
        let itself = record.itself.id;
        let id = RunId::random(&self.env)?;
        let run = NewRun {
            plan: Some(itself),
            exclusive: Some(format!("plan {itself}")),
            slots,
            ..NewRun::new(id, RunKind::Backup, record.content.name, settings)
        };
        self.store.create_run(&self.scope, &self.actor, run).await
    }

    /// The run of a plan that has not ended; nothing if there is none.
    ///
    /// # Errors
    /// `NotFound` if there is no such plan; those of the store.
    pub async fn active_run(&self, plan: &str) -> Result<Option<Run>> {
        let plan = self.find(RecordKind::Plan, plan).await?.itself.id;
        let filter = RunFilter { plan: Some(plan), ..RunFilter::default() };
        let newest = self.store.runs(&self.scope, &filter, None, 1).await?;
        Ok(newest.into_iter().find(|run| !run.state.is_terminal()))
    }

    /// Orders a restore. It restores the snapshot that the name means now. If just that has been ordered
    /// and has not ended, that run is returned as it stands.
    ///
    /// # Errors
    /// `NotFound` if there is no such repository or snapshot; `InvalidInput` for a target that is wrong;
    /// `Conflict` with code `run-active` if a restore into the same target has not ended; those of
    /// opening the repository.
    pub async fn order_restore(&self, new: NewRestore<'_>) -> Result<Run> {
        let (target, target_id) = match new.target {
            RestorePlace::Connection(name) => {
                let record = self.find(RecordKind::Connection, &name).await?;
                (record.decode::<ConnectionBody>()?, record.itself.id.to_string())
            }
            RestorePlace::Unnamed(connection) => (connection, String::new()),
        };
        self.check_settings(&target.kind, &target.settings)?;
        let location = self.location(&target)?;
        let record = self.find(RecordKind::Repository, new.repository).await?;
        let ordered = self.ordered(record).await?;
        let repository = self.open_ordered(&ordered).await?;
        let (snapshot, _) = repository.find_snapshot(new.snapshot).await?;
        let RestoreOptions { path, conflict, durability } = new.options;
        let title = format!("{} of {}", snapshot.short(), ordered.name);
        // A place is one for all its names that are spelled alike.
        let place = BlobId::of(format!("{} {location}", target.kind).as_bytes());
        let slots = repository_slots(from_ref(&ordered));
        let settings = encode(&RestoreSettings {
            repository: ordered,
            snapshot,
            path,
            target,
            target_id,
            conflict,
            durability,
            verify: new.verify,
        })?;
        let active = self.active_restores().await?;
        if let Some(same) = active.into_iter().find(|run| run.new.settings.get() == settings.get())
        {
            return Ok(same);
        }
        let id = RunId::random(&self.env)?;
        let run = NewRun {
            exclusive: Some(format!("restore into {place}")),
            slots,
            ..NewRun::new(id, RunKind::Restore, title, settings)
        };
        self.store.create_run(&self.scope, &self.actor, run).await
    }

    async fn active_restores(&self) -> Result<Vec<Run>> {
        let filter = RunFilter { kind: Some(RunKind::Restore), ..RunFilter::not_ended() };
        self.store.runs(&self.scope, &filter, None, MAX_ACTIVE_RESTORES).await
    }

    /// Executes a run that was claimed, and returns it as it stands then.
    ///
    /// # Errors
    /// As for [`HeldRun::back_up`], [`HeldRun::restore`] and [`HeldRun::cancel`]. What keeps the run from
    /// beginning stands in the run.
    pub async fn execute(&self, held: HeldRun, host: &str, stop: &CancelToken) -> Result<Run> {
        let workspace = self.scope(held.run().scope.clone());
        match held.run().new.kind {
            RunKind::Backup => workspace.execute_backup(held, host, stop).await,
            RunKind::Restore => workspace.execute_restore(held, stop).await,
            RunKind::Maintenance => workspace.execute_maintenance(held, stop).await,
            kind => {
                let message = format!("this program executes no run of the kind {kind}");
                held.fail(&Error::new(ErrorKind::Unsupported, message)).await
            }
        }
    }

    async fn execute_backup(&self, held: HeldRun, host: &str, stop: &CancelToken) -> Result<Run> {
        let settings = match decode::<BackupSettings>(held.run()) {
            Ok(settings) => settings,
            Err(error) => return held.fail(&error).await,
        };
        if held.run().state == RunState::Cancelling {
            let mut repositories = Vec::new();
            for opened in self.open_each(&settings).await.into_values() {
                match opened {
                    Ok(repository) => repositories.push(repository),
                    Err(error) => {
                        let error = error.while_doing("remove what the run left to go on from");
                        held.note(Level::Warning, error.report()).await?;
                    }
                }
            }
            return held.cancel_backup(repositories).await;
        }
        match self.backup_requests(&held, settings, host).await {
            Ok(requests) => held.back_up_each(requests, stop).await,
            Err(error) if error.code() == refusal::LEASE_LOST => Err(error),
            Err(error) => held.fail(&error).await,
        }
    }

    async fn execute_restore(&self, held: HeldRun, stop: &CancelToken) -> Result<Run> {
        let is_cancelled = held.run().state == RunState::Cancelling;
        let request = match decode::<RestoreSettings>(held.run()) {
            Ok(settings) => self.restore_request(settings).await,
            Err(error) => Err(error),
        };
        match request {
            Ok(request) if is_cancelled => held.cancel_restore(request).await,
            Ok(request) => held.restore(request, stop).await,
            Err(error) if is_cancelled => {
                let error = error.while_doing("remove what the restore left incomplete");
                held.note(Level::Warning, error.report()).await?;
                held.cancel().await
            }
            Err(error) => held.fail(&error).await,
        }
    }

    async fn backup_requests(
        &self,
        held: &HeldRun,
        settings: BackupSettings,
        host: &str,
    ) -> Result<Vec<BackupRequest>> {
        let opened = self.open_each(&settings).await;
        let plan = format!("plan={}", settings.plan);
        let mut requests = Vec::new();
        for part in settings.parts {
            let tags = settings.tags.iter().cloned().chain([plan.clone()]);
            let source = self.source_of(&part, host).await?;
            let mut request = BackupRequest::new(source, []).with_tags(tags);
            for ordered in &part.repositories {
                request = match opened.get(&ordered.id) {
                    Some(Ok(repository)) => request.with_repository(repository.clone()),
                    Some(Err(error)) => request.with_absent(self.absent(ordered, error)),
                    None => continue,
                };
            }
            requests.push(match self.finished_snapshot(held, &part.finished).await? {
                Some(finished) => finished.copied_by(request),
                None => request,
            });
        }
        Ok(requests)
    }

    async fn source_of(&self, part: &OrderedPart, host: &str) -> Result<Arc<dyn Source>> {
        let places: Vec<RepositoryPlace<'_>> = part
            .repositories
            .iter()
            .map(|OrderedRepository { connection, path, .. }| place(connection, path))
            .collect();
        let (connection, secrets) = if part.source_id.is_empty() {
            (part.source.clone(), ConnectionSecrets::default())
        } else {
            self.as_of_now(&part.source_id, &part.source).await?
        };
        let (secrets, env, repositories) = (&secrets, &self.env, &places[..]);
        let context = SourceContext { secrets, env, host, repositories };
        self.registry.get(&connection.kind)?.source(&connection.settings, &context)
    }

    async fn restore_request(&self, settings: RestoreSettings) -> Result<RestoreRequest> {
        let RestoreSettings { path, conflict, durability, target, target_id, .. } = settings;
        let (target, secrets) = if target_id.is_empty() {
            (target, ConnectionSecrets::default())
        } else {
            self.as_of_now(&target_id, &target).await?
        };
        let known = self.repository_places().await?;
        let OrderedRepository { connection, path: at, .. } = &settings.repository;
        let mut places: Vec<RepositoryPlace<'_>> =
            known.iter().map(|(connection, path)| place(connection, path)).collect();
        places.push(place(connection, at));
        let context = TargetContext { secrets: &secrets, env: &self.env, repositories: &places };
        let target = self.registry.get(&target.kind)?.target(&target.settings, &context)?;
        let repository = self.open_ordered(&settings.repository).await?;
        let request = RestoreRequest::new(repository, settings.snapshot, target);
        let options = RestoreOptions { path, conflict, durability };
        Ok(request.with_options(options).with_verify(settings.verify))
    }

    /// Where all repositories lie that were added.
    async fn repository_places(&self) -> Result<Vec<(ConnectionBody, String)>> {
        let mut places = Vec::new();
        for record in self.list_all(RecordKind::Repository).await? {
            let RepositoryBody { connection, path, .. } = record.decode()?;
            places.push((self.connection(&connection).await?, path));
        }
        Ok(places)
    }

    /// The repositories of all parts by the ids of their records, each opened once, or why it cannot be.
    async fn open_each(&self, settings: &BackupSettings) -> BTreeMap<String, Result<Repository>> {
        let ordered = settings.parts.iter().flat_map(|part| &part.repositories);
        let ordered: BTreeMap<&str, _> = ordered.map(|one| (one.id.as_str(), one)).collect();
        // Side by side: one that does not answer holds up none of the others longer than itself.
        let opening = ordered
            .into_values()
            .map(async |ordered| (ordered.id.clone(), self.open_ordered(ordered).await));
        join_all(opening).await.into_iter().collect()
    }

    fn absent(&self, ordered: &OrderedRepository, error: &Error) -> AbsentRepository {
        let OrderedRepository { name, connection, path, .. } = ordered;
        let location = self.location_at(connection, path).unwrap_or_else(|_| name.clone());
        AbsentRepository::new(location, ordered.repository_id.clone(), error.duplicate())
    }

    pub(super) async fn open_ordered(&self, ordered: &OrderedRepository) -> Result<Repository> {
        let itself = reference(RecordKind::Repository, &ordered.id)?;
        let opened = self.open_repository(itself, &ordered.connection, &ordered.path).await;
        opened.map_err(|error| error.while_doing(format!("open repository `{}`", ordered.name)))
    }

    /// A repository as a run keeps it.
    pub(super) async fn ordered(&self, record: Record) -> Result<OrderedRepository> {
        let RepositoryBody { connection: connection_id, path, repository_id } = record.decode()?;
        let connection = self.connection(&connection_id).await?;
        let (id, name) = (record.itself.id.to_string(), record.content.name);
        Ok(OrderedRepository { id, repository_id, name, connection_id, connection, path })
    }
}

fn place<'a>(connection: &'a ConnectionBody, path: &'a str) -> RepositoryPlace<'a> {
    RepositoryPlace { kind: &connection.kind, settings: &connection.settings, path }
}

/// What a run uses up of the connection that it reads.
fn source_slot(id: &str, connection: &ConnectionBody) -> Slot {
    let most = connection.max_runs.map_or(1, NonZeroU32::get);
    Slot { resource: format!("source {id}"), most }
}

/// What a run uses up of the connections of its repositories, each once.
fn repository_slots(repositories: &[OrderedRepository]) -> Vec<Slot> {
    let limited = repositories.iter().filter_map(|repository| {
        let most = repository.connection.max_runs?.get();
        Some((format!("destination {}", repository.connection_id), most))
    });
    let limited: BTreeMap<String, u32> = limited.collect();
    limited.into_iter().map(|(resource, most)| Slot { resource, most }).collect()
}

pub(super) fn decode<T: DeserializeOwned>(run: &Run) -> Result<T> {
    serde_json::from_str(run.new.settings.get())
        .map_err(|error| Error::corrupt(format!("run {}", run.number), error))
}
