//! Adds connections, repositories and plans.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::Workspace;
use super::bodies::{ConnectionBody, PlanBody, RepositoryBody, encode, reference};
use crate::destination::Destination;
use crate::error::{Error, ErrorKind, Result};
use crate::probe::Probe;
use crate::registry::SourceContext;
use crate::repo::{InitOptions, KeyOwner, Repository};
use crate::secret::SecretPlace;
use crate::state::{Draft, Record, RecordId, RecordKind, RecordRef};

/// The field of a repository that holds its password.
const PASSWORD: &str = "password";
/// So many random bytes make a password.
const PASSWORD_BYTES: usize = 24;

/// A repository that is to be known.
#[derive(Debug)]
pub struct NewRepository<'a> {
    /// What people call it.
    pub name: &'a str,
    /// The name of the connection.
    pub connection: &'a str,
    /// Where below what the connection leads to; empty for the place itself.
    pub path: &'a str,
    /// The password of a repository that is there, or for one that is to be made. Without one, a new
    /// repository gets a random one.
    pub password: Option<SecretString>,
    /// Who makes it.
    pub owner: KeyOwner,
}

/// The password of a repository that was added.
#[derive(Debug)]
pub enum RepositoryPassword {
    /// The one that was given.
    Given,
    /// A random one, to be shown once: without it, and without the state store and its key, nothing in
    /// the repository can be read.
    Generated(SecretString),
}

impl Workspace {
    /// Adds a connection.
    ///
    /// # Errors
    /// `InvalidInput` for a kind, name or settings that are wrong; `Conflict` if the name is taken.
    pub async fn add_connection(
        &self,
        name: &str,
        kind: &str,
        settings: Arc<RawValue>,
    ) -> Result<Record> {
        self.registry.get(kind)?.check_settings(&settings)?;
        let body = encode(&ConnectionBody { kind: kind.to_owned(), settings })?;
        self.add(RecordKind::Connection, name, body, [], BTreeMap::new()).await
    }

    /// Where a connection leads to, for people.
    ///
    /// # Errors
    /// `InvalidInput` if its kind is not built in, or does not know such settings.
    pub fn location(&self, connection: &ConnectionBody) -> Result<String> {
        self.registry.get(&connection.kind)?.location(&connection.settings)
    }

    /// Tries whether what a connection leads to can be read, step by step.
    ///
    /// # Errors
    /// `NotFound`; those of the store. What goes wrong at the other side stands in the probe.
    pub async fn test_connection(&self, name: &str) -> Result<Probe> {
        let record = self.find(RecordKind::Connection, name).await?;
        let body: ConnectionBody = record.decode()?;
        let context = SourceContext { env: &self.env, host: "", repositories: &[] };
        self.registry.get(&body.kind)?.source(&body.settings, &context)?.check().await
    }

    /// Adds a repository: the one that is there, or a new one. Its password is kept sealed.
    ///
    /// # Errors
    /// `NotFound` if there is no such connection; `Conflict` if the name is taken; `WrongPassword` if
    /// the one that is there has another password, `InvalidInput` if none was given for it.
    pub async fn add_repository(
        &self,
        new: NewRepository<'_>,
    ) -> Result<(Record, RepositoryPassword)> {
        let connection = self.find(RecordKind::Connection, new.connection).await?;
        let destination = self.destination(&connection.decode()?, new.path)?;
        // Before anything is made that would be left behind.
        if self.store.find(&self.scope, RecordKind::Repository, new.name).await?.is_some() {
            return Err(crate::state::refusal::name_taken(RecordKind::Repository, new.name));
        }
        let is_there = Repository::exists(&*destination).await?;
        let (password, told) = match new.password {
            Some(password) => (password, RepositoryPassword::Given),
            None if is_there => {
                let message = format!("there is a repository at {}", destination.location());
                return Err(Error::new(ErrorKind::InvalidInput, message)
                    .with_code("password-needed")
                    .with_hint("give its password"));
            }
            None => {
                let password = self.random_password()?;
                (password.clone(), RepositoryPassword::Generated(password))
            }
        };
        let repository = if is_there {
            Repository::open(destination, &password, &self.env).await?
        } else {
            let options = InitOptions { owner: new.owner, ..InitOptions::default() };
            Repository::init(destination, &password, options, &self.env).await?
        };
        let body = encode(&RepositoryBody {
            connection: connection.itself.id.to_string(),
            path: new.path.to_owned(),
            repository_id: repository.id().to_owned(),
        })?;
        let secrets = BTreeMap::from([(PASSWORD, password)]);
        let needs = [connection.itself];
        let record = self.add(RecordKind::Repository, new.name, body, needs, secrets).await?;
        Ok((record, told))
    }

    /// Adds a plan that copies what a connection leads to into repositories, all given by name.
    ///
    /// # Errors
    /// `NotFound` for what is not there, `InvalidInput` without a repository or with one twice,
    /// `Conflict` if the name is taken.
    pub async fn add_plan(
        &self,
        name: &str,
        source: &str,
        repositories: &[String],
        tags: Vec<String>,
    ) -> Result<Record> {
        let source = self.find(RecordKind::Connection, source).await?.itself;
        let mut needs = vec![source];
        for repository in repositories {
            let repository = self.find(RecordKind::Repository, repository).await?.itself;
            if needs.contains(&repository) {
                let message = format!("plan `{name}` names a repository twice");
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
            needs.push(repository);
        }
        let Some((_, repositories)) = needs.split_first().filter(|(_, rest)| !rest.is_empty())
        else {
            let message = format!("plan `{name}` needs a repository");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        };
        let repositories = repositories.iter().map(|needed| needed.id.to_string()).collect();
        let body = encode(&PlanBody { source: source.id.to_string(), repositories, tags })?;
        self.add(RecordKind::Plan, name, body, needs, BTreeMap::new()).await
    }

    /// Opens a repository that was added.
    pub(super) async fn open_repository(
        &self,
        itself: RecordRef,
        connection: &ConnectionBody,
        path: &str,
    ) -> Result<Repository> {
        let record = self.store.get(&self.scope, itself).await?;
        let record = record.ok_or_else(|| crate::state::refusal::missing(itself))?;
        let sealed = record.content.secrets.get(PASSWORD).ok_or_else(|| {
            Error::corrupt(format!("repository `{}`", record.content.name), "it has no password")
        })?;
        let id = itself.id.to_string();
        let password = self.vault.open(&self.place(itself.kind, &id, PASSWORD), sealed)?;
        let destination = self.destination(connection, path)?;
        let repository = Repository::open(destination, &password, &self.env).await?;
        let body: RepositoryBody = record.decode()?;
        if repository.id() == body.repository_id {
            return Ok(repository);
        }
        let message = format!("{} holds another repository", repository.location());
        Err(Error::new(ErrorKind::Conflict, message)
            .with_code("other-repository")
            .with_hint("put the former one back, or add this one under a new name"))
    }

    pub(super) fn destination(
        &self,
        connection: &ConnectionBody,
        path: &str,
    ) -> Result<Arc<dyn Destination>> {
        self.registry.get(&connection.kind)?.destination(&connection.settings, path, &self.env)
    }

    /// The connection with this id.
    pub(super) async fn connection(&self, id: &str) -> Result<ConnectionBody> {
        let itself = reference(RecordKind::Connection, id)?;
        let record = self.store.get(&self.scope, itself).await?;
        record.ok_or_else(|| crate::state::refusal::missing(itself))?.decode()
    }

    async fn add(
        &self,
        kind: RecordKind,
        name: &str,
        body: Arc<RawValue>,
        needs: impl Into<Vec<RecordRef>>,
        secrets: BTreeMap<&str, SecretString>,
    ) -> Result<Record> {
        let itself = RecordRef { kind, id: RecordId::random(&self.env)? };
        let id = itself.id.to_string();
        let seal = |(field, secret): (&str, SecretString)| {
            Ok((field.to_owned(), self.vault.seal(&self.place(kind, &id, field), &secret)?))
        };
        let secrets = secrets.into_iter().map(seal).collect::<Result<_>>()?;
        let draft = Draft { name: name.to_owned(), body, secrets, needs: needs.into() };
        self.store.create(&self.scope, &self.actor, itself, draft).await
    }

    fn place<'a>(&'a self, kind: RecordKind, id: &'a str, field: &'a str) -> SecretPlace<'a> {
        SecretPlace { scope: self.scope.as_str(), owner_kind: kind.as_str(), owner_id: id, field }
    }

    fn random_password(&self) -> Result<SecretString> {
        let bytes = Zeroizing::new(self.env.random::<PASSWORD_BYTES>()?);
        Ok(SecretString::from(URL_SAFE_NO_PAD.encode(*bytes)))
    }
}
