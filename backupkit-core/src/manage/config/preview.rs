//! Finds out what an import would do. Changes nothing.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{
    ConfigAction, ConfigChange, ConfigErrors, Configuration, DeclaredConnection, DeclaredPlan,
    DeclaredRepository, References,
};
use crate::error::{Error, ErrorKind, Result};
use crate::manage::{ConnectionBody, PlanBody, RepositoryBody, Workspace};
use crate::registry::ConnectionSecrets;
use crate::repo::Repository;
use crate::state::{Record, RecordKind};

/// What an import would do. Whatever could be tried without changing anything was.
#[derive(Debug)]
pub struct ConfigPreview {
    pub(super) steps: Vec<Step>,
    /// Of the repositories whose password is to be kept anew.
    pub(super) passwords: BTreeMap<String, SecretString>,
    /// Of the connections that have secrets to be kept anew.
    pub(super) secrets: BTreeMap<String, ConnectionSecrets>,
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) change: ConfigChange,
    /// The record as it was seen, where there was one.
    pub(super) seen: Option<Record>,
}

/// What is on record, by name.
struct Known {
    records: BTreeMap<(RecordKind, String), Record>,
    names: BTreeMap<String, String>,
}

impl ConfigPreview {
    /// Each record, in the order in which it is looked after.
    pub fn changes(&self) -> impl Iterator<Item = &ConfigChange> {
        self.steps.iter().map(|step| &step.change)
    }

    /// Whether something would be removed.
    pub fn removes(&self) -> bool {
        self.changes().any(|change| change.action == ConfigAction::Remove)
    }

    fn add(&mut self, kind: RecordKind, name: &str, action: ConfigAction, seen: Option<&Record>) {
        let (name, dropped_secrets) = (name.to_owned(), Vec::new());
        let change = ConfigChange { kind, name, action, dropped_secrets };
        self.steps.push(Step { change, seen: seen.cloned() });
    }

    /// Says what the record loses that was added last.
    fn drop_secrets(&mut self, dropped: Vec<String>) {
        if let Some(step) = self.steps.last_mut() {
            step.change.dropped_secrets = dropped;
        }
    }
}

impl Known {
    fn get(&self, kind: RecordKind, name: &str) -> Option<&Record> {
        self.records.get(&(kind, name.to_owned()))
    }

    /// What a record is called, by its id.
    fn name(&self, id: &str) -> &str {
        self.names.get(id).map_or("", String::as_str)
    }
}

impl Workspace {
    /// Finds out what an import of a configuration would do. Secrets are resolved, and repositories that are
    /// new, or lie elsewhere, or have another password, are opened. With `prune`, what the configuration does
    /// not name would be removed.
    ///
    /// # Errors
    /// All that would not work, as [`ConfigErrors::of`] finds it: of the kind and code that all of it has in
    /// common, such as `WrongPassword`, else `InvalidInput`; those of the store.
    pub async fn preview_import(
        &self,
        configuration: &Configuration,
        references: &dyn References,
        prune: bool,
    ) -> Result<ConfigPreview> {
        let known = self.known().await?;
        let mut errors = ConfigErrors::default();
        let mut preview = ConfigPreview {
            steps: Vec::new(),
            passwords: BTreeMap::new(),
            secrets: BTreeMap::new(),
        };
        for (name, declared) in &configuration.connections {
            let record = known.get(RecordKind::Connection, name);
            let given = match self.given_secrets(declared, record, references).await {
                Ok(given) => given,
                Err((secret, error)) => {
                    let place = format!("connections.{name}.{secret}");
                    errors.add_error(Some(declared.line), place, &error);
                    continue;
                }
            };
            let action = match record {
                None => ConfigAction::Create,
                Some(record) => {
                    let body: ConnectionBody = record.decode()?;
                    if body.kind != declared.body.kind {
                        let message = format!("is a {}, and cannot become another", body.kind);
                        let place = format!("connections.{name}.kind");
                        errors.add(Some(declared.line), place, message);
                    }
                    keep_if(is_same_connection(&body, &declared.body) && given.is_empty())
                }
            };
            let dropped = record.map(|record| self.dropped_secrets(record, declared, &given));
            if !given.is_empty() {
                preview.secrets.insert(name.clone(), given);
            }
            preview.add(RecordKind::Connection, name, action, record);
            preview.drop_secrets(dropped.transpose()?.unwrap_or_default());
        }
        for (name, declared) in &configuration.repositories {
            let record = known.get(RecordKind::Repository, name);
            let given = preview.secrets.get(&declared.connection);
            let looked = self.look_at(configuration, (name, declared), &known, references, given);
            let looked = looked.await;
            match looked {
                Ok((action, password)) => {
                    preview.add(RecordKind::Repository, name, action, record);
                    preview.passwords.extend(password.map(|password| (name.clone(), password)));
                }
                Err((field, error)) => {
                    let place = match field {
                        "" => format!("repositories.{name}"),
                        field => format!("repositories.{name}.{field}"),
                    };
                    errors.add_error(Some(declared.line), place, &error);
                }
            }
        }
        for (name, declared) in &configuration.plans {
            let record = known.get(RecordKind::Plan, name);
            let action = match record {
                None => ConfigAction::Create,
                Some(record) => keep_if(is_same_plan(&record.decode()?, declared, &known)),
            };
            preview.add(RecordKind::Plan, name, action, record);
        }
        if prune {
            for kind in [RecordKind::Plan, RecordKind::Repository, RecordKind::Connection] {
                let of_kind = known.records.iter().filter(|((found, _), _)| *found == kind);
                for ((_, name), record) in of_kind {
                    if configuration.names(kind, name) {
                        continue;
                    }
                    match self.require_no_runs(record).await {
                        Err(error) if error.code() == "in-use" => {
                            errors.add_error(None, "", &error);
                        }
                        checked => checked?,
                    }
                    preview.add(kind, name, ConfigAction::Remove, Some(record));
                }
            }
        }
        errors.into_result().map(|()| preview)
    }

    async fn known(&self) -> Result<Known> {
        let mut known = Known { records: BTreeMap::new(), names: BTreeMap::new() };
        for kind in RecordKind::ALL {
            for record in self.list_all(*kind).await? {
                let name = record.content.name.clone();
                known.names.insert(record.itself.id.to_string(), name.clone());
                known.records.insert((*kind, name), record);
            }
        }
        Ok(known)
    }

    /// What is to be done with a repository, and the password that is to be kept; or the field that will
    /// not do, and why.
    async fn look_at(
        &self,
        configuration: &Configuration,
        (name, declared): (&str, &DeclaredRepository),
        known: &Known,
        references: &dyn References,
        secrets_given: Option<&ConnectionSecrets>,
    ) -> Result<(ConfigAction, Option<SecretString>), (&'static str, Error)> {
        let of = |field: &'static str| move |error: Error| (field, error);
        let given = match &declared.password {
            Some(reference) => Some(reference.resolve(references).await.map_err(of("password"))?),
            None => None,
        };
        let connection = configuration.connections.get(&declared.connection).ok_or_else(|| {
            ("connection", Error::new(ErrorKind::NotFound, "there is no such connection"))
        })?;
        let connection = &connection.body;
        let Some(record) = known.get(RecordKind::Repository, name) else {
            let password = given.ok_or_else(|| {
                let message = "is missing, and the repository is not known yet";
                ("password", Error::new(ErrorKind::InvalidInput, message))
            })?;
            let known = known.get(RecordKind::Connection, &declared.connection);
            let secrets = self.kept_secrets(known, connection, secrets_given).await;
            let secrets = secrets.map_err(of("connection"))?;
            self.look_at_new(declared, connection, &secrets, &password).await?;
            return Ok((ConfigAction::Create, Some(password)));
        };
        let body: RepositoryBody = record.decode().map_err(of(""))?;
        let kept = self.password(record).await.map_err(of("password"))?;
        let given = given.filter(|given| given.expose_secret() != kept.expose_secret());
        let is_renamed =
            known.name(&body.connection) != declared.connection || body.path != declared.path;
        let former = self.connection(&body.connection).await.map_err(of("connection"))?;
        let leads_elsewhere = former.kind != connection.kind
            || !self
                .registry
                .get(&connection.kind)
                .map_err(of("connection"))?
                .is_same_endpoint(&former.settings, &connection.settings);
        if is_renamed || leads_elsewhere || given.is_some() || secrets_given.is_some() {
            let password = given.as_ref().unwrap_or(&kept);
            let path = &declared.path;
            let opened = if secrets_given.is_none() {
                self.open_with(&body, connection, path, password).await
            } else {
                let known = known.get(RecordKind::Connection, &declared.connection);
                let secrets = self.kept_secrets(known, connection, secrets_given).await;
                let secrets = secrets.map_err(of("connection"))?;
                self.open_at(&body, (connection, &secrets), path, password).await
            };
            drop(opened.map_err(of(""))?);
        }
        Ok((keep_if(!is_renamed && given.is_none()), given))
    }

    /// The secrets that are referred to and are not kept already; or the one that cannot be found.
    async fn given_secrets(
        &self,
        declared: &DeclaredConnection,
        known: Option<&Record>,
        references: &dyn References,
    ) -> Result<ConnectionSecrets, (String, Error)> {
        let mut given = ConnectionSecrets::default();
        if declared.secrets.is_empty() {
            return Ok(given);
        }
        let kept = self.kept_secrets(known, &declared.body, None).await;
        let kept = kept.map_err(|error| (String::from("kind"), error))?;
        for (name, reference) in &declared.secrets {
            let secret = reference.resolve(references).await;
            given = given.with(name, secret.map_err(|error| (name.clone(), error))?);
        }
        let is_kept = |name: &str| {
            let pair = given.get(name).zip(kept.get(name));
            pair.is_some_and(|(one, other)| one.expose_secret() == other.expose_secret())
        };
        // All or none: some come with others, and go without them.
        if given.names().all(is_kept) { Ok(ConnectionSecrets::default()) } else { Ok(given) }
    }

    /// The secrets that a connection loses as it comes to lead elsewhere.
    fn dropped_secrets(
        &self,
        record: &Record,
        declared: &DeclaredConnection,
        given: &ConnectionSecrets,
    ) -> Result<Vec<String>> {
        let body: ConnectionBody = record.decode()?;
        // Another kind is refused.
        if body.kind != declared.body.kind
            || self
                .registry
                .get(&body.kind)?
                .is_same_endpoint(&body.settings, &declared.body.settings)
        {
            return Ok(Vec::new());
        }
        let kept = record.content.secrets.keys();
        Ok(kept.filter(|name| given.get(name).is_none()).cloned().collect())
    }

    /// The secrets that a connection has already, unless it comes to lead elsewhere, and those that it is
    /// given.
    async fn kept_secrets(
        &self,
        known: Option<&Record>,
        connection: &ConnectionBody,
        given: Option<&ConnectionSecrets>,
    ) -> Result<ConnectionSecrets> {
        let mut secrets = match known {
            None => ConnectionSecrets::default(),
            Some(record) => {
                let id = record.itself.id.to_string();
                match self.secrets_for(&id, connection).await {
                    Err(error) if error.is(ErrorKind::Conflict) => ConnectionSecrets::default(),
                    secrets => secrets?,
                }
            }
        };
        for (name, secret) in given.cloned().unwrap_or_default() {
            secrets = secrets.with(name, secret);
        }
        Ok(secrets)
    }

    async fn look_at_new(
        &self,
        declared: &DeclaredRepository,
        connection: &ConnectionBody,
        secrets: &ConnectionSecrets,
        password: &SecretString,
    ) -> Result<(), (&'static str, Error)> {
        let of = |field: &'static str| move |error: Error| (field, error);
        let destination =
            self.destination(connection, secrets, &declared.path).map_err(of("path"))?;
        if Repository::exists(&*destination).await.map_err(of(""))? {
            let opened =
                Repository::open(destination, password, &self.env).await.map_err(of(""))?;
            return self.require_unknown(&opened).await.map_err(of(""));
        }
        if declared.create {
            return Ok(());
        }
        let message = format!("there is no repository at {}", destination.location());
        let error = Error::new(ErrorKind::NotFound, message).with_code("repository-not-found");
        Err(("", error.with_hint("write create = true to have it made")))
    }
}

impl Configuration {
    fn names(&self, kind: RecordKind, name: &str) -> bool {
        match kind {
            RecordKind::Connection => self.connections.contains_key(name),
            RecordKind::Repository => self.repositories.contains_key(name),
            RecordKind::Plan => self.plans.contains_key(name),
        }
    }
}

fn is_same_plan(body: &PlanBody, declared: &DeclaredPlan, known: &Known) -> bool {
    body.sources.iter().map(|id| known.name(id)).eq(declared.from.iter())
        && body.repositories.iter().map(|id| known.name(id)).eq(declared.to.iter())
        && body.tags == declared.tags
}

fn is_same_connection(one: &ConnectionBody, other: &ConnectionBody) -> bool {
    one.max_runs == other.max_runs && is_same_json(&one.settings, &other.settings)
}

fn is_same_json(one: &RawValue, other: &RawValue) -> bool {
    let parse = |json: &RawValue| serde_json::from_str::<Value>(json.get()).ok();
    parse(one).is_some_and(|one| Some(one) == parse(other))
}

fn keep_if(is_same: bool) -> ConfigAction {
    if is_same { ConfigAction::Keep } else { ConfigAction::Update }
}
