//! What people set up - connections, repositories, plans - and how plans become runs.

mod bodies;
mod execute;
mod maintenance;
mod runs;
mod set_up;

use std::fmt;
use std::sync::Arc;

pub use bodies::{ConnectionBody, PlanBody, RepositoryBody};
pub use execute::{NewRestore, RestorePlace};
pub use set_up::{NewRepository, RepositoryPassword};

use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::Registry;
use crate::secret::Vault;
use crate::state::{Actor, Record, RecordKind, Scope, StateStore};

/// Under this name the store keeps what tells whether a master key is the right one.
const PROOF: &str = "master_key_proof";

/// The state store as one person sees it, in one scope. Clones share it.
#[derive(Clone)]
pub struct Workspace {
    store: Arc<dyn StateStore>,
    vault: Arc<Vault>,
    registry: Registry,
    env: Env,
    scope: Scope,
    actor: Actor,
}

impl Workspace {
    /// Opens a store with the keys of its secrets. An empty store takes the primary key of the vault
    /// for its own.
    ///
    /// # Errors
    /// `InvalidConfig` with code `master-key-unknown` if the vault has not the key that the secrets in
    /// the store are sealed with; those of the store.
    pub async fn open(
        store: Arc<dyn StateStore>,
        vault: Arc<Vault>,
        registry: Registry,
        env: &Env,
        actor: Actor,
    ) -> Result<Self> {
        let kept = store.setting(PROOF).await?;
        let proof = if let Some(kept) = kept {
            kept
        } else {
            let proof = vault.proof();
            store.swap_setting(PROOF, None, Some(&proof)).await?;
            // Another process may have been faster.
            store.setting(PROOF).await?.unwrap_or(proof)
        };
        vault.verify_proof(&proof)?;
        let (env, scope) = (env.clone(), Scope::default());
        Ok(Self { store, vault, registry, env, scope, actor })
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

    /// Removes a record. What lies in repositories stays.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` with code `in-use` if others need it, which the message names.
    pub async fn remove(&self, kind: RecordKind, name: &str) -> Result<()> {
        let record = self.find(kind, name).await?;
        self.store.delete(&self.scope, &self.actor, record.itself, record.revision).await
    }
}

impl fmt::Debug for Workspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workspace").field("scope", &self.scope).finish_non_exhaustive()
    }
}
