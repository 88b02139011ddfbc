//! Whose it is, and who changes it.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// The longest scope or actor.
const MAX_BYTES: usize = 200;

/// Whose records and runs: opaque to the engine, such as a tenant of the embedding application.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Arc<str>);

/// Who changes something, as it stands in the record of changes, such as `cli:alice`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor(Arc<str>);

impl Scope {
    /// Returns the scope of this name.
    ///
    /// # Errors
    /// `InvalidInput` if it is empty, longer than 200 bytes, or holds control characters.
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self> {
        checked(name.into(), "a scope").map(Self)
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Scope {
    /// The only one where nobody else shares the store: `default`.
    fn default() -> Self {
        Self("default".into())
    }
}

impl Actor {
    /// Returns the actor of this name.
    ///
    /// # Errors
    /// As for [`Scope::new`].
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self> {
        checked(name.into(), "an actor").map(Self)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) fn checked(text: Arc<str>, what: &str) -> Result<Arc<str>> {
    check_label(&text, what)?;
    Ok(text)
}

/// Whether programs may call something so.
pub(super) fn check_label(text: &str, what: &str) -> Result<()> {
    if text.is_empty() || text.len() > MAX_BYTES || text.chars().any(char::is_control) {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("{what} needs 1 to {MAX_BYTES} bytes without control characters"),
        ));
    }
    Ok(())
}
