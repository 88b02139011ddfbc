//! What people set up - connections, repositories, plans - and how plans become runs.

mod bodies;
mod config;
mod edit;
mod execute;
mod keyring;
mod machine;
mod maintenance;
mod probe;
mod retry;
mod rotate;
mod runs;
mod secrets;
mod set_up;
#[cfg(test)]
mod tests;
mod work;
mod write;

use std::fmt;
use std::sync::Arc;

pub use bodies::{ConnectionBody, PlanBody, RepositoryBody};
pub use config::{
    ConfigAction, ConfigChange, ConfigError, ConfigErrors, ConfigPreview, Configuration,
    MAX_CONFIG_BYTES, References,
};
pub use edit::{ChangedConnection, ConnectionChange, PlanChange, RepositoryChange};
pub use execute::{NewRestore, RestorePlace};
pub use machine::{MachineId, admit_machine};
pub use rotate::KeyRotation;
pub use set_up::{AddedRepository, NewRepository, RepositoryPassword};
pub use work::{WorkerEvent, WorkerOptions};

use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::Registry;
use crate::secret::MasterKeys;
use crate::state::{Actor, NewRun, Record, RecordKind, Run, RunFilter, Scope, StateStore, refusal};

use self::keyring::Keyring;
use self::write::Tries;

/// So many records are read at once.
const PAGE: usize = 100;

/// The state store as one person sees it, in one scope. Clones share it.
#[derive(Clone)]
pub struct Workspace {
    store: Arc<dyn StateStore>,
    keyring: Arc<Keyring>,
    registry: Registry,
    env: Env,
    scope: Scope,
    actor: Actor,
}

impl Workspace {
    /// Opens a store with the keys of its secrets. An empty store takes the first one for its own.
    ///
    /// # Errors
    /// `InvalidConfig` with code `master-key-unknown` if a key that secrets in the store are sealed with is
    /// not among them; those of the store and of the keys.
    pub async fn open(
        store: Arc<dyn StateStore>,
        keys: Arc<dyn MasterKeys>,
        registry: Registry,
        env: &Env,
        actor: Actor,
    ) -> Result<Self> {
        let keyring = Arc::new(Keyring::open(&*store, keys, env).await?);
        let (env, scope) = (env.clone(), Scope::default());
        Ok(Self { store, keyring, registry, env, scope, actor })
    }

    /// The same in another scope.
    #[must_use]
    pub fn scope(&self, scope: Scope) -> Self {
        Self { scope, ..self.clone() }
    }

    /// A record by its name.
    ///
    /// # Errors
    /// `NotFound` with code `no-such-record`; those of the store.
    pub async fn find(&self, kind: RecordKind, name: &str) -> Result<Record> {
        self.store.find(&self.scope, kind, name).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no {kind} called `{name}`"))
                .with_code("no-such-record")
        })
    }

    /// At most `most` records of a kind in the order of their names, behind the name `after`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(
        &self,
        kind: RecordKind,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<Record>> {
        self.store.list(&self.scope, kind, after, most).await
    }

    /// All records of a kind, in the order of their names.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list_all(&self, kind: RecordKind) -> Result<Vec<Record>> {
        let mut all: Vec<Record> = Vec::new();
        loop {
            let after = all.last().map(|record| record.content.name.clone());
            let page = self.list(kind, after.as_deref(), PAGE).await?;
            let is_last = page.len() < PAGE;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Removes a record, and its secrets with it. What lies in repositories stays.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` with code `in-use` if other records or runs that have not ended need it, which
    /// the message names.
    pub async fn remove(&self, kind: RecordKind, name: &str) -> Result<()> {
        let mut tries = Tries::new(None);
        loop {
            let record = self.find(kind, name).await?;
            let deleted = self.delete(&record).await;
            if !tries.again(&deleted) {
                return deleted;
            }
        }
    }
}

impl Workspace {
    /// Removes a record in the revision that was seen.
    async fn delete(&self, record: &Record) -> Result<()> {
        self.require_no_runs(record).await?;
        self.store.delete(&self.scope, &self.actor, record.itself, record.revision).await
    }

    /// Whether no run needs a record to go on. A run keeps what it was ordered with, but for secrets: without
    /// these, and without a name to go on by, it could only fail.
    async fn require_no_runs(&self, record: &Record) -> Result<()> {
        let id = record.itself.id;
        // It is random, so where it stands the record is meant.
        let text = id.to_string();
        let needs = |run: &Run| {
            let NewRun { plan, settings, slots, .. } = &run.new;
            *plan == Some(id)
                || settings.get().contains(&text)
                || slots.iter().any(|slot| slot.resource.contains(&text))
        };
        let (filter, mut users, mut before) = (RunFilter::not_ended(), Vec::new(), None);
        loop {
            let page = self.store.runs(&self.scope, &filter, before, PAGE).await?;
            let is_last = page.len() < PAGE;
            before = page.last().map(|run| run.number);
            users.extend(page.into_iter().filter(needs).map(|run| run.number));
            if is_last {
                break;
            }
        }
        if users.is_empty() { Ok(()) } else { Err(refusal::in_use_by_runs(record, &users)) }
    }
}

impl fmt::Debug for Workspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workspace").field("scope", &self.scope).finish_non_exhaustive()
    }
}
