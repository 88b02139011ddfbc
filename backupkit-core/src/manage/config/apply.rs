//! Does what a preview says.

use std::num::NonZeroU32;

use super::preview::Step;
use super::{ConfigAction, ConfigChange, ConfigPreview, Configuration};
use crate::error::{Error, ErrorKind, Result};
use crate::manage::{
    ConnectionBody, ConnectionChange, NewRepository, PlanChange, RepositoryChange, Workspace,
};
use crate::repo::KeyOwner;
use crate::state::RecordKind;

impl Workspace {
    /// Does what a [preview](Self::preview_import) of the same configuration says, record after record, and
    /// tells `done` of each. New repositories are made by `owner`.
    ///
    /// Each change takes effect by itself: after an error, or when the call is dropped, what was told is
    /// done, and the same import goes on from there.
    ///
    /// # Errors
    /// As for adding, changing and removing each of them; `Conflict` with code `stale` if one was changed
    /// since the preview.
    pub async fn import(
        &self,
        configuration: &Configuration,
        mut preview: ConfigPreview,
        owner: &KeyOwner,
        done: &mut (dyn FnMut(&ConfigChange) + Send),
    ) -> Result<()> {
        for step in std::mem::take(&mut preview.steps) {
            let ConfigChange { kind, name, .. } = &step.change;
            let taken = match kind {
                RecordKind::Connection => {
                    self.import_connection(configuration, &step, &mut preview).await
                }
                RecordKind::Repository => {
                    self.import_repository(configuration, &step, &mut preview, owner).await
                }
                RecordKind::Plan => self.import_plan(configuration, &step).await,
            };
            taken.map_err(|error| error.while_doing(format!("{kind} `{name}`")))?;
            done(&step.change);
        }
        Ok(())
    }

    async fn import_connection(
        &self,
        configuration: &Configuration,
        step: &Step,
        preview: &mut ConfigPreview,
    ) -> Result<()> {
        let name = &step.change.name;
        if self.keep_or_remove(step).await? {
            return Ok(());
        }
        let declared = configuration.connections.get(name).ok_or_else(other_configuration)?;
        let secrets = preview.secrets.remove(name).unwrap_or_default();
        if let Some(seen) = &step.seen {
            let ConnectionBody { settings, max_runs, .. } = declared.body.clone();
            let max_runs = Some(max_runs.map_or(0, NonZeroU32::get));
            let settings = Some(settings);
            let change = ConnectionChange { name: None, settings, secrets, max_runs };
            self.update_connection(name, Some(seen.revision), change).await?;
        } else {
            self.add_connection_with(name, &declared.body, secrets).await?;
        }
        Ok(())
    }

    async fn import_repository(
        &self,
        configuration: &Configuration,
        step: &Step,
        preview: &mut ConfigPreview,
        owner: &KeyOwner,
    ) -> Result<()> {
        let name = &step.change.name;
        if self.keep_or_remove(step).await? {
            return Ok(());
        }
        let declared = configuration.repositories.get(name).ok_or_else(other_configuration)?;
        let password = preview.passwords.remove(name);
        let (connection, path) = (&declared.connection, &declared.path);
        if let Some(seen) = &step.seen {
            let (connection, path) = (Some(connection.clone()), Some(path.clone()));
            let change = RepositoryChange { name: None, connection, path, password };
            self.update_repository(name, Some(seen.revision), change).await?;
        } else {
            let owner = owner.clone();
            self.add_repository(NewRepository { name, connection, path, password, owner }).await?;
        }
        Ok(())
    }

    async fn import_plan(&self, configuration: &Configuration, step: &Step) -> Result<()> {
        let name = &step.change.name;
        if self.keep_or_remove(step).await? {
            return Ok(());
        }
        let declared = configuration.plans.get(name).ok_or_else(other_configuration)?;
        let tags = declared.tags.clone();
        if let Some(seen) = &step.seen {
            let change = PlanChange {
                name: None,
                sources: Some(declared.from.clone()),
                repositories: Some(declared.to.clone()),
                tags: Some(tags),
            };
            self.update_plan(name, Some(seen.revision), change).await?;
        } else {
            self.add_plan(name, &declared.from, &declared.to, tags).await?;
        }
        Ok(())
    }

    /// Returns whether that was all.
    async fn keep_or_remove(&self, step: &Step) -> Result<bool> {
        match (step.change.action, &step.seen) {
            (ConfigAction::Keep, _) => Ok(true),
            (ConfigAction::Remove, Some(seen)) => self.delete(seen).await.map(|()| true),
            _ => Ok(false),
        }
    }
}

fn other_configuration() -> Error {
    Error::new(ErrorKind::InvalidInput, "the preview is of another configuration")
}
