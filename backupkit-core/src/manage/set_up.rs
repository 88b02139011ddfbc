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
use super::secrets::require_known;
use super::write::{Content, Secret};
use crate::destination::Destination;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{ConnectionSecrets, SystemKind};
use crate::repo::{InitOptions, KeyOwner, Repository};
use crate::state::{Record, RecordId, RecordKind, RecordRef, check_name, refusal};

/// The field of a repository that holds its password.
pub(super) const PASSWORD: &str = "password";
/// A plan reads no more connections, so that its runs use no more resources than they may.
const MAX_SOURCES: usize = 32;
/// Labels that begin so are the engine's.
const RESERVED_TAGS: [&str; 5] = ["run=", "plan=", "kind=", "origin=", "saved="];
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

/// A repository that was added.
#[derive(Debug)]
pub struct AddedRepository {
    /// As it is known now.
    pub record: Record,
    /// Where it lies, for people.
    pub location: String,
    /// What opens it.
    pub password: RepositoryPassword,
}

/// The password of a repository that was added.
#[derive(Debug)]
pub enum RepositoryPassword {
    /// The one that was given.
    Given,
    /// A random one, to be shown once: without it, and without the state store and its key, nothing in
    /// the repository can be read. Whoever could not show it [removes](Workspace::remove) the repository
    /// again.
    Generated(SecretString),
}

impl Workspace {
    /// Adds a connection without secrets.
    ///
    /// # Errors
    /// `InvalidInput` for a kind, name or settings that are wrong, for these with each
    /// [field](crate::FieldErrors::of); `Conflict` if the name is taken.
    pub async fn add_connection(&self, name: &str, connection: &ConnectionBody) -> Result<Record> {
        self.add_connection_with(name, connection, ConnectionSecrets::default()).await
    }

    /// Adds a connection with its secrets, which are kept sealed.
    ///
    /// # Errors
    /// As for [`add_connection`](Self::add_connection); `InvalidInput` with code `unknown-secret` for a
    /// secret that the kind does not know.
    pub async fn add_connection_with(
        &self,
        name: &str,
        connection: &ConnectionBody,
        secrets: ConnectionSecrets,
    ) -> Result<Record> {
        let found = self.check_settings(&connection.kind, &connection.settings)?;
        require_known(&**found, secrets.names())?;
        let body = encode(connection)?;
        let secrets = secrets.into_iter().map(|(name, secret)| (name, Secret::New(secret)));
        let (name, needs, secrets) = (name.to_owned(), Vec::new(), secrets.collect());
        self.add(RecordKind::Connection, &Content { name, body, needs, secrets }).await
    }

    /// Where a connection leads to, for people.
    ///
    /// # Errors
    /// `InvalidInput` if its kind is not built in, or does not know such settings.
    pub fn location(&self, connection: &ConnectionBody) -> Result<String> {
        self.registry.get(&connection.kind)?.location(&connection.settings)
    }

    /// Where a repository lies, for people.
    ///
    /// # Errors
    /// As for [`location`](Self::location); those of the store.
    pub async fn repository_location(&self, repository: &Record) -> Result<String> {
        let RepositoryBody { connection, path, .. } = repository.decode()?;
        let connection = self.connection(&connection).await?;
        self.location_at(&connection, &path)
    }

    /// Where a repository at this path lies, for people.
    pub(super) fn location_at(&self, connection: &ConnectionBody, path: &str) -> Result<String> {
        let place = self.location(connection)?;
        Ok(match path {
            "" => place,
            path => format!("{}/{path}", place.trim_end_matches('/')),
        })
    }

    /// Adds a repository: the one that is there, or a new one. Its password is kept sealed.
    ///
    /// # Errors
    /// `NotFound` if there is no such connection; `Conflict` if the name is taken, or with code
    /// `repository-known` if it was added under another name; `WrongPassword` if the one that is there has another password, `InvalidInput` if none was given for it, or for a name
    /// or path that is wrong. If a new one was made that cannot be kept on record, the hint says where it is.
    pub async fn add_repository(&self, new: NewRepository<'_>) -> Result<AddedRepository> {
        let connection = self.find(RecordKind::Connection, new.connection).await?;
        let secrets = self.secrets_of(&connection).await?;
        let destination = self.destination(&connection.decode()?, &secrets, new.path)?;
        // Before anything is made that would be left behind.
        check_name(new.name)?;
        if self.store.find(&self.scope, RecordKind::Repository, new.name).await?.is_some() {
            return Err(refusal::name_taken(RecordKind::Repository, new.name));
        }
        let (is_there, location) =
            (Repository::exists(&*destination).await?, destination.location());
        let (secret, password) = match new.password {
            Some(password) => (password, RepositoryPassword::Given),
            None if is_there => {
                let message = format!("there is a repository at {location}");
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
            let repository = Repository::open(destination, &secret, &self.env).await?;
            self.require_unknown(&repository).await?;
            repository
        } else {
            let options = InitOptions { owner: new.owner, ..InitOptions::default() };
            Repository::init(destination, &secret, options, &self.env).await?
        };
        let body = encode(&RepositoryBody {
            connection: connection.itself.id.to_string(),
            path: new.path.to_owned(),
            repository_id: repository.id().to_owned(),
        })?;
        let secrets = BTreeMap::from([(PASSWORD.to_owned(), Secret::New(secret))]);
        let (name, needs) = (new.name.to_owned(), vec![connection.itself]);
        let content = Content { name, body, needs, secrets };
        let added = self.add(RecordKind::Repository, &content).await;
        let named = |error| if is_there { error } else { unknown_at(&location, error) };
        let record = added.map_err(named)?;
        Ok(AddedRepository { record, location, password })
    }

    /// Adds a plan that copies what connections lead to into repositories, all given by name.
    ///
    /// # Errors
    /// `NotFound` for what is not there, `InvalidInput` without a source or repository or with one twice,
    /// also under two names, and for tags that restic or this engine would take for others, `Conflict` if
    /// the name is taken.
    pub async fn add_plan(
        &self,
        name: &str,
        sources: &[String],
        repositories: &[String],
        tags: Vec<String>,
    ) -> Result<Record> {
        let sources = self.all_named(RecordKind::Connection, sources).await?;
        let repositories = self.all_named(RecordKind::Repository, repositories).await?;
        let content = plan(name.to_owned(), &sources, &repositories, tags)?;
        self.require_different(name, &repositories).await?;
        self.add(RecordKind::Plan, &content).await
    }

    /// Opens a repository that was added, as a run does that keeps settings of its connection.
    pub(super) async fn open_repository(
        &self,
        itself: RecordRef,
        connection: &ConnectionBody,
        path: &str,
    ) -> Result<Repository> {
        let record = self.store.get(&self.scope, itself).await?;
        let record = record.ok_or_else(|| refusal::missing(itself))?;
        let password = self.password(&record).await?;
        let body: RepositoryBody = record.decode()?;
        let (connection, secrets) = self.as_of_now(&body.connection, connection).await?;
        let destination = self.destination(&connection, &secrets, path)?;
        self.open_only(&body, destination, &password).await
    }

    /// Opens the repository that a record is about, and no other.
    pub(super) async fn open_with(
        &self,
        body: &RepositoryBody,
        connection: &ConnectionBody,
        path: &str,
        password: &SecretString,
    ) -> Result<Repository> {
        let secrets = self.secrets_for(&body.connection, connection).await?;
        self.open_at(body, (connection, &secrets), path, password).await
    }

    /// Opens a repository through a connection with these secrets.
    pub(super) async fn open_at(
        &self,
        body: &RepositoryBody,
        (connection, secrets): (&ConnectionBody, &ConnectionSecrets),
        path: &str,
        password: &SecretString,
    ) -> Result<Repository> {
        let destination = self.destination(connection, secrets, path)?;
        self.open_only(body, destination, password).await
    }

    async fn open_only(
        &self,
        body: &RepositoryBody,
        destination: Arc<dyn Destination>,
        password: &SecretString,
    ) -> Result<Repository> {
        let repository = Repository::open(destination, password, &self.env).await?;
        body.require(&repository)?;
        Ok(repository)
    }

    /// The password of a repository.
    pub(super) async fn password(&self, record: &Record) -> Result<SecretString> {
        self.unseal(record, PASSWORD).await?.ok_or_else(|| {
            Error::corrupt(format!("repository `{}`", record.content.name), "it has no password")
        })
    }

    pub(super) fn destination(
        &self,
        connection: &ConnectionBody,
        secrets: &ConnectionSecrets,
        path: &str,
    ) -> Result<Arc<dyn Destination>> {
        let kind = self.registry.get(&connection.kind)?;
        kind.destination(&connection.settings, secrets, path, &self.env)
    }

    /// The connection with this id.
    pub(super) async fn connection(&self, id: &str) -> Result<ConnectionBody> {
        let itself = reference(RecordKind::Connection, id)?;
        let record = self.store.get(&self.scope, itself).await?;
        record.ok_or_else(|| refusal::missing(itself))?.decode()
    }

    /// The kind of this name, if it takes these settings.
    pub(super) fn check_settings(
        &self,
        kind: &str,
        settings: &RawValue,
    ) -> Result<&Arc<dyn SystemKind>> {
        let found = self.registry.get(kind)?;
        found.check_settings(settings).into_result(format!("the settings of a {kind}"))?;
        Ok(found)
    }

    /// Whether no record is about a repository yet.
    pub(super) async fn require_unknown(&self, repository: &Repository) -> Result<()> {
        for record in self.list_all(RecordKind::Repository).await? {
            let body: RepositoryBody = record.decode()?;
            if body.repository_id == repository.id() {
                let (location, known) = (repository.location(), &record.content.name);
                let message =
                    format!("the repository at {location} is known already, as `{known}`");
                return Err(Error::new(ErrorKind::Conflict, message)
                    .with_code("repository-known")
                    .with_hint(format!("use `{known}`, or change its name, place or password")));
            }
        }
        Ok(())
    }

    /// Whether records are about different repositories: a plan writes into each once.
    pub(super) async fn require_different(&self, plan: &str, all: &[RecordRef]) -> Result<()> {
        let mut seen = BTreeMap::new();
        for itself in all {
            let record = self.store.get(&self.scope, *itself).await?;
            let record = record.ok_or_else(|| refusal::missing(*itself))?;
            let RepositoryBody { repository_id, .. } = record.decode()?;
            let name = record.content.name;
            if let Some(other) = seen.insert(repository_id, name.clone()) {
                let why = format!("`{other}` and `{name}` of plan `{plan}` are one repository");
                return Err(
                    Error::new(ErrorKind::InvalidInput, why).with_hint("name only one of them")
                );
            }
        }
        Ok(())
    }

    async fn add(&self, kind: RecordKind, content: &Content) -> Result<Record> {
        let id = RecordId::random(&self.env)?;
        self.put(RecordRef { kind, id }, None, content).await
    }

    fn random_password(&self) -> Result<SecretString> {
        let bytes = Zeroizing::new(self.env.random::<PASSWORD_BYTES>()?);
        Ok(SecretString::from(URL_SAFE_NO_PAD.encode(*bytes)))
    }
}

/// Says where a repository is that was made, and that nobody knows.
fn unknown_at(location: &str, error: Error) -> Error {
    let delete = format!("delete the new, empty repository at {location}, and add it again");
    let hint = match error.hint() {
        Some(hint) => format!("{hint}; {delete}"),
        None => delete,
    };
    error.with_hint(hint)
}

/// Why a label of snapshots will not do; nothing if it will.
pub(super) fn fault_of_tag(tag: &str) -> Option<&'static str> {
    if tag.trim() != tag || tag.is_empty() {
        Some("is empty, or begins or ends with a space")
    } else if tag.chars().any(char::is_control) {
        Some("holds a line break or another control character")
    } else if tag.contains(',') {
        Some("holds a comma: restic takes it for two")
    } else if RESERVED_TAGS.iter().any(|reserved| tag.starts_with(reserved)) {
        Some("begins as one that says what a snapshot is of: run=, plan=, kind=, origin= or saved=")
    } else {
        None
    }
}

/// What a plan holds.
pub(super) fn plan(
    name: String,
    sources: &[RecordRef],
    repositories: &[RecordRef],
    tags: Vec<String>,
) -> Result<Content> {
    let refused = |why: String| Err(Error::new(ErrorKind::InvalidInput, why));
    let mut needs = Vec::new();
    for needed in sources.iter().chain(repositories) {
        if needs.contains(needed) {
            return refused(format!("plan `{name}` names a {} twice", needed.kind));
        }
        needs.push(*needed);
    }
    for (named, kind) in [(sources, "connection to read"), (repositories, "repository")] {
        if named.is_empty() {
            return refused(format!("plan `{name}` needs a {kind}"));
        }
    }
    if let Some((tag, fault)) = tags.iter().find_map(|tag| Some((tag, fault_of_tag(tag)?))) {
        return refused(format!("tag {tag:?} of plan `{name}` {fault}"));
    }
    if sources.len() > MAX_SOURCES {
        return refused(format!("plan `{name}` reads more than {MAX_SOURCES} connections"));
    }
    let ids = |named: &[RecordRef]| named.iter().map(|needed| needed.id.to_string()).collect();
    let body = encode(&PlanBody { sources: ids(sources), repositories: ids(repositories), tags })?;
    Ok(Content { name, body, needs, secrets: BTreeMap::new() })
}
