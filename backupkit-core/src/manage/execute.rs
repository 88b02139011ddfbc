//! Makes runs of plans, and executes them.

use std::sync::Arc;

use super::Workspace;
use super::bodies::{
    BackupSettings, OrderedRepository, PlanBody, RepositoryBody, encode, reference,
};
use crate::engine::{BackupRequest, HeldRun};
use crate::error::{Error, Result};
use crate::model::{RunKind, RunState};
use crate::registry::{RepositoryPlace, SourceContext};
use crate::state::{NewRun, RecordKind, Run, RunFilter, RunId, Slot, refusal};
use crate::token::CancelToken;

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
            let RepositoryBody { connection, path, .. } = repository.decode()?;
            let connection = self.connection(&connection).await?;
            let name = repository.content.name;
            repositories.push(OrderedRepository { id, name, connection, path });
        }
        let source = self.connection(&body.source).await?;
        let plan = record.content.name.clone();
        let tags = body.tags;
        let settings = encode(&BackupSettings { plan, source, repositories, tags })?;
        let itself = record.itself.id;
        let id = RunId::random(&self.env)?;
        let run = NewRun {
            plan: Some(itself),
            exclusive: Some(format!("plan {itself}")),
            slots: vec![Slot { resource: format!("source {}", body.source), most: 1 }],
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

    /// Executes a run that was claimed, and returns it as it stands then.
    ///
    /// # Errors
    /// As for [`HeldRun::back_up`] and [`HeldRun::cancel`]. What keeps the run from beginning stands in the run.
    pub async fn execute(&self, held: HeldRun, host: &str, stop: &CancelToken) -> Result<Run> {
        if held.run().state == RunState::Cancelling {
            // It needs nothing that may be out of reach.
            return held.cancel().await;
        }
        let workspace = self.scope(held.run().scope.clone());
        match workspace.request(held.run(), host).await {
            Ok(request) => held.back_up(request, stop).await,
            Err(error) => held.fail(&error).await,
        }
    }

    async fn request(&self, run: &Run, host: &str) -> Result<BackupRequest> {
        let settings: BackupSettings = serde_json::from_str(run.new.settings.get())
            .map_err(|error| Error::corrupt(format!("run {}", run.number), error))?;
        let places: Vec<RepositoryPlace<'_>> = settings
            .repositories
            .iter()
            .map(|OrderedRepository { connection, path, .. }| RepositoryPlace {
                kind: &connection.kind,
                settings: &connection.settings,
                path,
            })
            .collect();
        let context = SourceContext { env: &self.env, host, repositories: &places };
        let kind = Arc::clone(self.registry.get(&settings.source.kind)?);
        let source = kind.source(&settings.source.settings, &context)?;
        let mut repositories = Vec::new();
        for ordered in &settings.repositories {
            let itself = reference(RecordKind::Repository, &ordered.id)?;
            let opened = self.open_repository(itself, &ordered.connection, &ordered.path).await;
            let doing = || format!("open repository `{}`", ordered.name);
            repositories.push(opened.map_err(|error| error.while_doing(doing()))?);
        }
        let tags = settings.tags.into_iter().chain([format!("plan={}", settings.plan)]);
        Ok(BackupRequest::new(source, repositories).with_tags(tags))
    }
}
