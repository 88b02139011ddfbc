//! Maintenance: what it goes by, when it is due, and how its runs are ordered and executed.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Workspace;
use super::bodies::encode;
use super::execute::decode;
use crate::engine::{HeldRun, MaintainedRepository, MaintenanceRequest};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{MaintenanceSettings, RunKind, RunState};
use crate::state::{NewRun, Record, RecordKind, Run, RunFilter, RunId, refusal};
use crate::token::CancelToken;

/// Under this name the store keeps the settings.
const SETTING: &str = "maintenance";
/// Of all maintenance of a scope, at most one has not ended.
const EXCLUSIVE: &str = "maintenance";
/// Workers order it so long after the last one.
const INTERVAL: Duration = Duration::from_hours(24);
/// So many records are read at once.
const PAGE: usize = 100;
/// Somebody else may change the settings at the same time, but not again and again.
const TRIES: usize = 8;

/// What a run of maintenance goes by to its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MaintenanceOrder {
    dry_run: bool,
    settings: MaintenanceSettings,
}

impl Workspace {
    /// The ages that maintenance goes by. They hold for all scopes.
    ///
    /// # Errors
    /// `Corrupt` if what the store keeps is something else; those of the store.
    pub async fn maintenance_settings(&self) -> Result<MaintenanceSettings> {
        decode_settings(self.store.setting(SETTING).await?.as_deref())
    }

    /// Changes the ages that maintenance goes by, from the next order on, and returns them.
    ///
    /// # Errors
    /// `InvalidInput` for an age that is not from 1 to 36,500 days: then nothing is changed; those of
    /// [`maintenance_settings`](Self::maintenance_settings).
    pub async fn change_maintenance_settings(
        &self,
        change: impl Fn(&mut MaintenanceSettings) + Send,
    ) -> Result<MaintenanceSettings> {
        for _ in 0..TRIES {
            let kept = self.store.setting(SETTING).await?;
            let mut settings = decode_settings(kept.as_deref())?;
            change(&mut settings);
            settings.check()?;
            let text = encode(&settings)?;
            if self.store.swap_setting(SETTING, kept.as_deref(), Some(text.get())).await? {
                return Ok(settings);
            }
        }
        let message = "cannot change the settings of maintenance: others keep changing them";
        Err(Error::new(ErrorKind::Conflict, message))
    }

    /// Orders maintenance: it removes what crashed, cancelled and old runs left, in the state store, on the
    /// machine of the worker, and in all repositories of this scope. A dry run removes nothing, and
    /// tells what would go. If the same has been ordered and has not ended, that run is returned as it
    /// stands.
    ///
    /// # Errors
    /// `Conflict` with code `run-active` if there is a dry run and this is none, or the other way
    /// round; those of the store.
    pub async fn order_maintenance(&self, dry_run: bool) -> Result<Run> {
        let filter = RunFilter { kind: Some(RunKind::Maintenance), ..RunFilter::not_ended() };
        let active = self.store.runs(&self.scope, &filter, None, 1).await?.into_iter().next();
        match active.filter(|run| is_dry(run) == dry_run) {
            Some(active) => Ok(active),
            None => self.create_maintenance(dry_run, None).await,
        }
    }

    /// Orders maintenance if it is [automatic](MaintenanceSettings::automatic) and due: a day after the
    /// last one, or where there was none, after the first run. For workers, to be asked now and then;
    /// several that ask at the same time order one.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn order_due_maintenance(&self) -> Result<Option<Run>> {
        let settings = self.maintenance_settings().await?;
        let last = self.last_maintenance().await?;
        let since = match &last {
            Some(last) => Some(last.created_at),
            None => self.first_run().await?,
        };
        let is_active = last.as_ref().is_some_and(|last| !last.state.is_terminal());
        if !settings.automatic || is_active || !since.is_some_and(|since| self.is_due(since)) {
            return Ok(None);
        }
        // Whoever comes later, but looked before, gets the same run.
        let key = format!("maintenance after {}", last.map_or(0, |last| last.number));
        match self.create_maintenance(false, Some(key)).await {
            // A dry run: its time comes after that.
            Err(error) if error.code() == refusal::RUN_ACTIVE => Ok(None),
            ordered => ordered.map(Some),
        }
    }

    pub(super) async fn execute_maintenance(
        &self,
        held: HeldRun,
        stop: &CancelToken,
    ) -> Result<Run> {
        if held.run().state == RunState::Cancelling {
            return held.cancel().await;
        }
        let request = match decode(held.run()) {
            Ok(order) => self.maintenance_request(order).await,
            Err(error) => Err(error),
        };
        match request {
            Ok(request) => held.maintain(request, stop).await,
            Err(error) => held.fail(&error).await,
        }
    }

    async fn maintenance_request(&self, order: MaintenanceOrder) -> Result<MaintenanceRequest> {
        let MaintenanceOrder { dry_run, settings } = order;
        settings.check()?;
        let records = self.list_all(RecordKind::Repository).await?.into_iter();
        let maintained = |record: Record| {
            let (name, workspace) = (record.content.name.clone(), self.clone());
            let opening = Box::pin(async move {
                let ordered = workspace.ordered(record).await?;
                workspace.open_ordered(&ordered).await
            });
            MaintainedRepository { name, opening }
        };
        let repositories = records.map(maintained).collect();
        Ok(MaintenanceRequest { settings, dry_run, repositories })
    }

    async fn create_maintenance(&self, dry_run: bool, key: Option<String>) -> Result<Run> {
        let settings = self.maintenance_settings().await?;
        let settings = encode(&MaintenanceOrder { dry_run, settings })?;
        let title = if dry_run { "maintenance, dry run" } else { "maintenance" };
        let id = RunId::random(&self.env)?;
        let run = NewRun {
            key,
            exclusive: Some(EXCLUSIVE.to_owned()),
            ..NewRun::new(id, RunKind::Maintenance, title, settings)
        };
        self.store.create_run(&self.scope, &self.actor, run).await
    }

    /// The newest maintenance that was no dry run.
    async fn last_maintenance(&self) -> Result<Option<Run>> {
        let filter = RunFilter { kind: Some(RunKind::Maintenance), ..RunFilter::default() };
        let mut before = None;
        loop {
            let page = self.store.runs(&self.scope, &filter, before, PAGE).await?;
            let is_last = page.len() < PAGE;
            before = page.last().map(|run| run.number);
            let found = page.into_iter().find(|run| !is_dry(run));
            if found.is_some() || is_last {
                return Ok(found);
            }
        }
    }

    /// When the first run was created that is still on record; nothing if there is none.
    async fn first_run(&self) -> Result<Option<Timestamp>> {
        let filter = RunFilter::default();
        let mut first = self.store.runs(&self.scope, &filter, Some(2), 1).await?;
        if first.is_empty() {
            // It was removed, or there is none.
            first = self.store.runs(&self.scope, &filter, None, 1).await?;
        }
        Ok(first.first().map(|run| run.created_at))
    }

    /// Whether the last one is so far away: in the past, or in the future, where a clock was wrong.
    fn is_due(&self, since: Timestamp) -> bool {
        self.env.now().duration_since(since).unsigned_abs() >= INTERVAL
    }
}

fn is_dry(run: &Run) -> bool {
    decode::<MaintenanceOrder>(run).is_ok_and(|order| order.dry_run)
}

fn decode_settings(text: Option<&str>) -> Result<MaintenanceSettings> {
    let Some(text) = text else { return Ok(MaintenanceSettings::default()) };
    let damaged = |error| Error::corrupt("the settings of maintenance", error);
    serde_json::from_str(text).map_err(damaged)
}
