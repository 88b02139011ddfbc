//! Kinds of systems by name, and how a connection of each becomes a source, a destination or a target.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use secrecy::SecretString;
use serde_json::value::RawValue;

use crate::destination::Destination;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::fields::FieldErrors;
use crate::probe::Probe;
use crate::source::Source;
use crate::target::RestoreTarget;

/// One kind of system that connections lead to.
pub trait SystemKind: fmt::Debug + Send + Sync + 'static {
    /// Its stable name, as databases hold it.
    fn name(&self) -> &'static str;

    /// Says what is wrong with settings, field by field: also that a field is missing or not known.
    fn check_settings(&self, settings: &RawValue) -> FieldErrors;

    /// Whether two settings, both without a fault, lead to the same place. Secrets are sent to a place:
    /// those of a connection are dropped when its settings come to lead elsewhere.
    ///
    /// By default only equal settings do.
    fn is_same_endpoint(&self, settings: &RawValue, other: &RawValue) -> bool {
        let parse =
            |settings: &RawValue| serde_json::from_str::<serde_json::Value>(settings.get()).ok();
        parse(settings).is_some_and(|settings| Some(settings) == parse(other))
    }

    /// The names of the secrets that a connection may have. None is a name of a setting.
    fn secret_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// Those of [`secret_names`](Self::secret_names) that settings without a fault make use of. A
    /// connection keeps no others.
    ///
    /// By default all.
    fn used_secrets(&self, settings: &RawValue) -> &'static [&'static str] {
        _ = settings;
        self.secret_names()
    }

    /// The secrets that come with another one, and mean nothing without it: they go when it is given anew
    /// without them.
    ///
    /// By default there are none.
    fn secrets_with(&self, name: &str) -> &'static [&'static str] {
        _ = name;
        &[]
    }

    /// Settings, but for who asks: that is as `other` says. Both are without a fault, and lead to the same
    /// place. A run keeps the settings that it was ordered with, and gets the secrets of now; whatever
    /// names their owner has to come with them.
    ///
    /// By default settings name nobody, and stay.
    ///
    /// # Errors
    /// `InvalidInput` for settings that are wrong after all.
    fn with_identity_of(&self, settings: &RawValue, other: &RawValue) -> Result<Box<RawValue>> {
        _ = other;
        Ok(settings.to_owned())
    }

    /// Where a connection leads to, for people. No secret.
    ///
    /// # Errors
    /// `InvalidInput` for settings that are wrong.
    fn location(&self, settings: &RawValue) -> Result<String>;

    /// The least that the credentials of a connection must allow for this purpose, in the language of the
    /// system, for people to hand to it.
    ///
    /// # Errors
    /// `Unsupported` where nobody grants rights in such a form; `InvalidInput` for settings that are wrong.
    fn policy(&self, settings: &RawValue, purpose: Purpose) -> Result<String> {
        let _ = (settings, purpose);
        let message = format!("connections of the kind {} need no policy", self.name());
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    /// Returns what is read through a connection.
    ///
    /// # Errors
    /// `InvalidInput` for settings that are wrong; `Unsupported` if it cannot be read.
    fn source(&self, settings: &RawValue, context: &SourceContext<'_>) -> Result<Arc<dyn Source>>;

    /// Returns where repositories lie, at `path` below what a connection leads to. An empty path is
    /// the place itself.
    ///
    /// # Errors
    /// `InvalidInput` for settings or a path that are wrong; `Unauthenticated` if a secret is missing.
    fn destination(
        &self,
        settings: &RawValue,
        secrets: &ConnectionSecrets,
        path: &str,
        env: &Env,
    ) -> Result<Arc<dyn Destination>>;

    /// Returns what snapshots are restored into through a connection.
    ///
    /// # Errors
    /// `InvalidInput` for settings that are wrong; `Unsupported` if nothing can be restored there.
    fn target(
        &self,
        settings: &RawValue,
        context: &TargetContext<'_>,
    ) -> Result<Arc<dyn RestoreTarget>>;

    /// Tries step by step whether a connection is good for this purpose. What goes wrong at the other side
    /// stands in the probe. Cancel safe; what was written to try may then stay.
    ///
    /// By default that is what the source, the destination or the target of the connection tries.
    ///
    /// # Errors
    /// Those of making the source, the destination or the target.
    fn probe<'a>(
        &'a self,
        settings: &'a RawValue,
        purpose: Purpose,
        secrets: &'a ConnectionSecrets,
        env: &'a Env,
    ) -> BoxFuture<'a, Result<Probe>> {
        Box::pin(async move {
            match purpose {
                Purpose::Source => {
                    let context = SourceContext { secrets, env, host: "", repositories: &[] };
                    self.source(settings, &context)?.check().await
                }
                Purpose::Repository | Purpose::Maintenance => {
                    self.destination(settings, secrets, "", env)?.check().await
                }
                Purpose::Target => {
                    let context = TargetContext { secrets, env, repositories: &[] };
                    self.target(settings, &context)?.check().await
                }
            }
        })
    }
}

/// The secrets of a connection by their names, opened.
#[derive(Debug, Clone, Default)]
pub struct ConnectionSecrets(BTreeMap<String, SecretString>);

impl ConnectionSecrets {
    /// Adds a secret. It replaces one of the same name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, secret: SecretString) -> Self {
        self.0.insert(name.into(), secret);
        self
    }

    /// A secret.
    pub fn get(&self, name: &str) -> Option<&SecretString> {
        self.0.get(name)
    }

    /// The names of all.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for ConnectionSecrets {
    type Item = (String, SecretString);
    type IntoIter = std::collections::btree_map::IntoIter<String, SecretString>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<(String, SecretString)> for ConnectionSecrets {
    fn from_iter<I: IntoIterator<Item = (String, SecretString)>>(secrets: I) -> Self {
        Self(secrets.into_iter().collect())
    }
}

/// What a connection is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be read by backups.
    Source,
    /// To keep repositories, to which backups only add.
    Repository,
    /// To keep repositories, and to remove from them what is not needed any more.
    Maintenance,
    /// To be restored into.
    Target,
}

impl Purpose {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Source, Self::Repository, Self::Maintenance, Self::Target];
}

/// What a source is told besides its settings.
#[derive(Debug)]
pub struct SourceContext<'a> {
    /// The secrets of its connection.
    pub secrets: &'a ConnectionSecrets,
    /// Clock, randomness and time zone.
    pub env: &'a Env,
    /// The host that snapshots name.
    pub host: &'a str,
    /// The repositories of the run: a source leaves out those that lie in it.
    pub repositories: &'a [RepositoryPlace<'a>],
}

/// What a target is told besides its settings.
#[derive(Debug)]
pub struct TargetContext<'a> {
    /// The secrets of its connection.
    pub secrets: &'a ConnectionSecrets,
    /// Clock, randomness and time zone.
    pub env: &'a Env,
    /// The repositories that are known: a target never writes over their files.
    pub repositories: &'a [RepositoryPlace<'a>],
}

/// Where a repository lies.
#[derive(Debug, Clone, Copy)]
pub struct RepositoryPlace<'a> {
    /// The kind of its connection.
    pub kind: &'a str,
    /// The settings of its connection.
    pub settings: &'a RawValue,
    /// Where below what the connection leads to.
    pub path: &'a str,
}

/// The kinds that are built in, and those of the host.
#[derive(Debug, Clone, Default)]
pub struct Registry(BTreeMap<&'static str, Arc<dyn SystemKind>>);

impl Registry {
    /// Returns a registry with the kinds that this crate was built with.
    pub fn built_in() -> Self {
        let registry = Self::default();
        #[cfg(feature = "fs")]
        let registry = registry.with(crate::adapters::fs::FolderKind);
        #[cfg(feature = "s3")]
        let registry = registry.with(crate::adapters::s3::S3Kind::new());
        registry
    }

    /// Adds a kind. It replaces one of the same name.
    #[must_use]
    pub fn with(mut self, kind: impl SystemKind) -> Self {
        self.0.insert(kind.name(), Arc::new(kind));
        self
    }

    /// The names of all kinds.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// A kind by its name.
    ///
    /// # Errors
    /// `InvalidInput` with code `unknown-kind`.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn SystemKind>> {
        self.0.get(name).ok_or_else(|| {
            let known = self.names().collect::<Vec<_>>().join(", ");
            let message = format!("there is no kind of connection called {name:?}");
            Error::new(ErrorKind::InvalidInput, message)
                .with_code("unknown-kind")
                .with_hint(format!("kinds are: {known}"))
        })
    }
}
