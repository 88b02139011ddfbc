//! What records hold, as JSON. Fields that are not known are refused.

use std::num::NonZeroU32;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{EntryPath, SnapshotId};
use crate::repo::Repository;
use crate::state::{RecordId, RecordKind, RecordRef};
use crate::target::{ConflictPolicy, Durability, VerifyLevel};

/// How to reach a system.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionBody {
    /// The name of its [kind](crate::registry::SystemKind).
    pub kind: String,
    /// What the kind wants to know. No secret.
    pub settings: Arc<RawValue>,
    /// At most so many runs read from it at the same time, and as many use the repositories in it.
    /// Without it, one reads from it, and any number uses its repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runs: Option<NonZeroU32>,
}

/// A repository.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryBody {
    /// The id of the connection through which it is reached.
    pub connection: String,
    /// Where below what the connection leads to; empty for the place itself.
    pub path: String,
    /// The id that it gave itself.
    pub repository_id: String,
}

/// What is copied where.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanBody {
    /// The ids of the connections that are read, one after the other.
    pub sources: Vec<String>,
    /// The ids of the repositories.
    pub repositories: Vec<String>,
    /// Labels of the snapshots.
    pub tags: Vec<String>,
}

/// What a run goes by to its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupSettings {
    pub(super) plan: String,
    pub(super) parts: Vec<OrderedPart>,
    pub(super) tags: Vec<String>,
}

/// What a run does with one source.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderedPart {
    pub(super) source: ConnectionBody,
    /// Of its record: secrets are looked up each time the run goes on. Runs of earlier versions have
    /// none, and need none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) source_id: String,
    pub(super) repositories: Vec<OrderedRepository>,
    /// What an earlier run has finished, for one that retries it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) finished: Vec<FinishedOutput>,
}

/// A snapshot that a run has made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FinishedOutput {
    pub(super) repository: OrderedRepository,
    pub(super) snapshot: SnapshotId,
    /// How many entries of the source it lacks.
    pub(super) failed_entries: u64,
}

/// What a restore goes by to its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoreSettings {
    pub(super) repository: OrderedRepository,
    /// The whole id.
    pub(super) snapshot: SnapshotId,
    /// What of it.
    pub(super) path: EntryPath,
    pub(super) target: ConnectionBody,
    /// Of its record: secrets are looked up each time the run goes on. One that nobody has added has none,
    /// nor have runs of earlier versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) target_id: String,
    pub(super) conflict: ConflictPolicy,
    pub(super) durability: Durability,
    /// Nothing: what was restored is not compared.
    pub(super) verify: Option<VerifyLevel>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderedRepository {
    /// Of its record: the password is looked up each time the run goes on.
    pub(super) id: String,
    /// The id that it gave itself.
    pub(super) repository_id: String,
    pub(super) name: String,
    pub(super) connection_id: String,
    pub(super) connection: ConnectionBody,
    pub(super) path: String,
}

impl ConnectionBody {
    /// Returns one without limits of its own.
    pub fn new(kind: impl Into<String>, settings: Arc<RawValue>) -> Self {
        Self { kind: kind.into(), settings, max_runs: None }
    }
}

impl RepositoryBody {
    /// Whether this is the repository that was added, and no other in its place.
    ///
    /// # Errors
    /// `Conflict` with code `other-repository`.
    pub(super) fn require(&self, repository: &Repository) -> Result<()> {
        if repository.id() == self.repository_id {
            return Ok(());
        }
        let message = format!("{} holds another repository", repository.location());
        Err(Error::new(ErrorKind::Conflict, message)
            .with_code("other-repository")
            .with_hint("put the former one back, or add this one under a new name"))
    }
}

pub(super) fn encode(body: &impl Serialize) -> Result<Arc<RawValue>> {
    let encoded = serde_json::value::to_raw_value(body).map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot write settings as JSON").with_source(error)
    })?;
    Ok(encoded.into())
}

pub(super) fn reference(kind: RecordKind, id: &str) -> Result<RecordRef> {
    Ok(RecordRef { kind, id: id.parse::<RecordId>()? })
}
