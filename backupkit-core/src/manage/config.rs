//! Connections, repositories and plans as text, in TOML.
//!
//! ```toml
//! [connections.disk]
//! kind = "folder"
//! path = "/mnt/disk"
//! max_runs = 2                   # at the same time; may be left out
//!
//! [connections.cloud]
//! kind = "s3"
//! bucket = "box"
//! access_key_id = "AKIA..."
//! secret_access_key = "${CLOUD_SECRET_ACCESS_KEY}"
//!
//! [repositories.nas]
//! connection = "disk"
//! path = "repo"
//! password = "${NAS_PASSWORD}"    # or "file:/run/secrets/nas", or "cmd:pass show nas"
//! create = true                   # if there is none yet
//!
//! [plans.daily]
//! from = "docs"                   # or several: ["docs", "photos"]
//! to = ["nas"]
//! tags = ["t"]
//! ```
//!
//! Whatever is named stands in the same text. No secret does, neither the password of a repository nor one
//! that a [kind](crate::registry::SystemKind::secret_names) of connections has: it is referred to. One that is
//! left out stays as it is kept. Elsewhere, `${NAME}`
//! stands for a variable and `$${` for `${`.

mod apply;
mod error;
mod export;
mod preview;
mod read;
mod reference;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use secrecy::SecretString;

use self::reference::SecretReference;
use super::ConnectionBody;
use crate::error::Result;
use crate::state::RecordKind;

pub use error::{ConfigError, ConfigErrors};
pub use preview::ConfigPreview;

/// The longest text, in bytes.
pub const MAX_CONFIG_BYTES: usize = 4 << 20;

/// What a text says: read, and without a fault in itself.
#[derive(Debug)]
pub struct Configuration {
    connections: BTreeMap<String, DeclaredConnection>,
    repositories: BTreeMap<String, DeclaredRepository>,
    plans: BTreeMap<String, DeclaredPlan>,
}

#[derive(Debug)]
struct DeclaredConnection {
    line: u64,
    body: ConnectionBody,
    /// By name.
    secrets: BTreeMap<String, SecretReference>,
}

#[derive(Debug)]
struct DeclaredRepository {
    line: u64,
    connection: String,
    path: String,
    password: Option<SecretReference>,
    create: bool,
}

#[derive(Debug)]
struct DeclaredPlan {
    line: u64,
    from: Vec<String>,
    to: Vec<String>,
    tags: Vec<String>,
}

/// Looks up what a configuration refers to. The engine itself reads no environment and starts no program.
#[async_trait]
pub trait References: std::fmt::Debug + Send + Sync {
    /// The value of a variable; nothing if it is not set.
    ///
    /// # Errors
    /// `InvalidInput` if it is not UTF-8.
    fn variable(&self, name: &str) -> Result<Option<SecretString>>;

    /// What a file holds, without line ends behind it.
    async fn file(&self, path: &Path) -> Result<SecretString>;

    /// What a command prints, without line ends behind it.
    async fn command(&self, command: &str) -> Result<SecretString>;
}

/// What an import does to one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// What it is.
    pub kind: RecordKind,
    /// What it is called.
    pub name: String,
    /// What is done to it.
    pub action: ConfigAction,
    /// The secrets that it loses, since it comes to lead elsewhere and is not given them anew: they are not
    /// sent to a place that they were not meant for.
    pub dropped_secrets: Vec<String>,
}

/// What is done to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigAction {
    /// It is not there yet.
    Create,
    /// It says something else.
    Update,
    /// It is as it should be.
    Keep,
    /// The configuration does not name it.
    Remove,
}

impl ConfigAction {
    /// What was done, in a word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "created",
            Self::Update => "updated",
            Self::Keep => "unchanged",
            Self::Remove => "removed",
        }
    }
}
