//! Kinds of systems by name, and how a connection of each becomes a source, a destination or a target.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::destination::Destination;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::fields::FieldErrors;
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

    /// Where a connection leads to, for people. No secret.
    ///
    /// # Errors
    /// `InvalidInput` for settings that are wrong.
    fn location(&self, settings: &RawValue) -> Result<String>;

    /// Returns what is read through a connection.
    ///
    /// # Errors
    /// `InvalidInput` for settings that are wrong.
    fn source(&self, settings: &RawValue, context: &SourceContext<'_>) -> Result<Arc<dyn Source>>;

    /// Returns where repositories lie, at `path` below what a connection leads to. An empty path is
    /// the place itself.
    ///
    /// # Errors
    /// `InvalidInput` for settings or a path that are wrong.
    fn destination(
        &self,
        settings: &RawValue,
        path: &str,
        env: &Env,
    ) -> Result<Arc<dyn Destination>>;

    /// Returns what snapshots are restored into through a connection.
    ///
    /// # Errors
    /// `InvalidInput` for settings that are wrong.
    fn target(&self, settings: &RawValue, env: &Env) -> Result<Arc<dyn RestoreTarget>>;
}

/// What a source is told besides its settings.
#[derive(Debug)]
pub struct SourceContext<'a> {
    /// Clock, randomness and time zone.
    pub env: &'a Env,
    /// The host that snapshots name.
    pub host: &'a str,
    /// The repositories of the run: a source leaves out those that lie in it.
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
        #[cfg(feature = "fs")]
        let registry = Self::default().with(crate::adapters::fs::FolderKind);
        #[cfg(not(feature = "fs"))]
        let registry = Self::default();
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
