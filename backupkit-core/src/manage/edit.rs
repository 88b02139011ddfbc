//! Changes connections, repositories and plans.

use std::num::NonZeroU32;
use std::sync::Arc;

use secrecy::SecretString;
use serde_json::value::RawValue;

use super::Workspace;
use super::bodies::{ConnectionBody, PlanBody, RepositoryBody, encode, reference};
use super::secrets::require_known;
use super::set_up::{PASSWORD, plan};
use super::write::{Content, Secret, Tries};
use crate::error::Result;
use crate::registry::ConnectionSecrets;
use crate::state::{Record, RecordKind, RecordRef, refusal};

/// What is to change about a connection; what is not named stays. Its kind never changes.
#[derive(Debug, Clone, Default)]
pub struct ConnectionChange {
    /// What people call it.
    pub name: Option<String>,
    /// What its kind wants to know, all of it.
    pub settings: Option<Arc<RawValue>>,
    /// Secrets to keep from now on. Others stay, unless it comes to lead elsewhere, has no use for them
    /// any more, or they came with one that is given anew.
    pub secrets: ConnectionSecrets,
    /// How many runs may use it at the same time; 0: as if nothing had been said about it.
    pub max_runs: Option<u32>,
}

/// What is to change about a repository; what is not named stays. It stays the same repository: one that
/// was moved, or got another password.
#[derive(Debug, Clone, Default)]
pub struct RepositoryChange {
    /// What people call it.
    pub name: Option<String>,
    /// The name of the connection through which it is reached.
    pub connection: Option<String>,
    /// Where below what the connection leads to.
    pub path: Option<String>,
    /// A password that opens it.
    pub password: Option<SecretString>,
}

/// What is to change about a plan; what is not named stays. Runs keep the settings that they started with.
#[derive(Debug, Clone, Default)]
pub struct PlanChange {
    /// What people call it.
    pub name: Option<String>,
    /// The names of all connections that are read.
    pub sources: Option<Vec<String>>,
    /// The names of all repositories.
    pub repositories: Option<Vec<String>>,
    /// All labels.
    pub tags: Option<Vec<String>>,
}

/// A connection that was changed.
#[derive(Debug)]
pub struct ChangedConnection {
    /// As it is now.
    pub record: Record,
    /// The secrets that it no longer has: they were meant for the place that it led to.
    pub dropped_secrets: Vec<String>,
}

impl Workspace {
    /// Changes a connection. If it comes to lead to another place, its secrets are dropped: whoever may
    /// change the place must not learn them there.
    ///
    /// `revision` is the one that the caller saw; without one, the last change wins.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for settings that are wrong, with each
    /// [field](crate::FieldErrors::of); `Conflict` if the name is taken, or with code `stale` if it was
    /// changed meanwhile.
    pub async fn update_connection(
        &self,
        name: &str,
        revision: Option<u64>,
        change: ConnectionChange,
    ) -> Result<ChangedConnection> {
        let mut tries = Tries::new(revision);
        loop {
            let changed = self.try_to_update_connection(name, revision, change.clone()).await;
            if !tries.again(&changed) {
                return changed;
            }
        }
    }

    /// Changes a repository. Whatever is said about its place or password is tried before it is kept.
    ///
    /// `revision` is the one that the caller saw; without one, the last change wins.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the name is taken, with code `stale` if it was changed meanwhile, with
    /// code `other-repository` if another one is there; those of opening it, such as `WrongPassword`.
    pub async fn update_repository(
        &self,
        name: &str,
        revision: Option<u64>,
        change: RepositoryChange,
    ) -> Result<Record> {
        let mut tries = Tries::new(revision);
        loop {
            let changed = self.try_to_update_repository(name, revision, change.clone()).await;
            if !tries.again(&changed) {
                return changed;
            }
        }
    }

    /// Changes a plan.
    ///
    /// `revision` is the one that the caller saw; without one, the last change wins.
    ///
    /// # Errors
    /// `NotFound` for what is not there, `InvalidInput` without a repository or with one twice, also
    /// under two names, `Conflict` if the name is taken, or with code `stale` if it was changed meanwhile.
    pub async fn update_plan(
        &self,
        name: &str,
        revision: Option<u64>,
        change: PlanChange,
    ) -> Result<Record> {
        let mut tries = Tries::new(revision);
        loop {
            let changed = self.try_to_update_plan(name, revision, change.clone()).await;
            if !tries.again(&changed) {
                return changed;
            }
        }
    }

    async fn try_to_update_connection(
        &self,
        name: &str,
        revision: Option<u64>,
        change: ConnectionChange,
    ) -> Result<ChangedConnection> {
        let record = self.find(RecordKind::Connection, name).await?;
        let mut body: ConnectionBody = record.decode()?;
        let mut content = Content::of(&record);
        let mut dropped_secrets: Vec<String> = Vec::new();
        if let Some(settings) = change.settings {
            let kind = self.check_settings(&body.kind, &settings)?;
            if !kind.is_same_endpoint(&body.settings, &settings) {
                dropped_secrets = std::mem::take(&mut content.secrets).into_keys().collect();
            }
            let used = kind.used_secrets(&settings);
            content.secrets.retain(|name, _| used.contains(&name.as_str()));
            body.settings = settings;
        }
        let kind = self.registry.get(&body.kind)?;
        require_known(&**kind, change.secrets.names())?;
        for name in change.secrets.names().flat_map(|name| kind.secrets_with(name)) {
            content.secrets.remove(*name);
        }
        for (name, secret) in change.secrets {
            dropped_secrets.retain(|dropped| *dropped != name);
            content.secrets.insert(name, Secret::New(secret));
        }
        if let Some(most) = change.max_runs {
            body.max_runs = NonZeroU32::new(most);
        }
        content.body = encode(&body)?;
        content.name = change.name.unwrap_or(content.name);
        let record = self.replace(record, revision, &content).await?;
        Ok(ChangedConnection { record, dropped_secrets })
    }

    async fn try_to_update_repository(
        &self,
        name: &str,
        revision: Option<u64>,
        change: RepositoryChange,
    ) -> Result<Record> {
        let record = self.find(RecordKind::Repository, name).await?;
        let mut body: RepositoryBody = record.decode()?;
        let mut content = Content::of(&record);
        let is_to_be_tried =
            change.connection.is_some() || change.path.is_some() || change.password.is_some();
        if let Some(connection) = change.connection {
            let connection = self.find(RecordKind::Connection, &connection).await?.itself;
            content.needs = vec![connection];
            body.connection = connection.id.to_string();
        }
        body.path = change.path.unwrap_or(body.path);
        if is_to_be_tried {
            let password = match change.password {
                Some(password) => {
                    let secret = Secret::New(password.clone());
                    content.secrets.insert(PASSWORD.to_owned(), secret);
                    password
                }
                None => self.password(&record).await?,
            };
            let connection = self.connection(&body.connection).await?;
            self.open_with(&body, &connection, &body.path, &password).await?;
            content.body = encode(&body)?;
        }
        content.name = change.name.unwrap_or(content.name);
        self.replace(record, revision, &content).await
    }

    async fn try_to_update_plan(
        &self,
        name: &str,
        revision: Option<u64>,
        change: PlanChange,
    ) -> Result<Record> {
        let record = self.find(RecordKind::Plan, name).await?;
        let body: PlanBody = record.decode()?;
        let name = change.name.unwrap_or_else(|| record.content.name.clone());
        let sources = self.named_or(RecordKind::Connection, change.sources, &body.sources).await?;
        let repositories =
            self.named_or(RecordKind::Repository, change.repositories, &body.repositories).await?;
        let tags = change.tags.unwrap_or(body.tags);
        let content = plan(name, &sources, &repositories, tags)?;
        self.require_different(&content.name, &repositories).await?;
        self.replace(record, revision, &content).await
    }

    /// The records of these names, or if nothing is said about them, of these ids.
    async fn named_or(
        &self,
        kind: RecordKind,
        names: Option<Vec<String>>,
        ids: &[String],
    ) -> Result<Vec<RecordRef>> {
        match names {
            Some(names) => self.all_named(kind, &names).await,
            None => ids.iter().map(|id| reference(kind, id)).collect(),
        }
    }

    /// The records of these names.
    pub(super) async fn all_named(
        &self,
        kind: RecordKind,
        names: &[String],
    ) -> Result<Vec<RecordRef>> {
        let mut found = Vec::new();
        for name in names {
            found.push(self.find(kind, name).await?.itself);
        }
        Ok(found)
    }

    /// Replaces what a record holds, unless that is the same.
    async fn replace(
        &self,
        record: Record,
        revision: Option<u64>,
        content: &Content,
    ) -> Result<Record> {
        if revision.is_some_and(|revision| revision != record.revision) {
            return Err(refusal::stale(record.itself.kind, &record.content.name));
        }
        if content.is_of(&record) {
            return Ok(record);
        }
        self.put(record.itself, Some(record.revision), content).await
    }
}
