//! What came of a run, as it stands in its record.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::engine::{
    BackupReport, OutputReport, RestoreCounts, RestoreReport, Summary, VerifyCounts,
};
use crate::error::{Error, ErrorKind, Result};
use crate::model::SnapshotId;

/// A record keeps no more notes of a target; the log has all.
const MAX_NOTES: usize = 100;

/// The [report](crate::state::Run::report) of a backup that has finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// One for each repository, in the order of the request.
    pub outputs: Vec<OutputRecord>,
    /// What was counted.
    pub summary: Summary,
    /// How many warnings and errors there were.
    pub problem_count: u64,
}

/// What a backup made of its source in one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRecord {
    /// Where the repository is.
    pub repository: String,
    /// The id of the repository.
    pub repository_id: String,
    /// The id of the snapshot.
    pub snapshot: Option<String>,
    /// Why there is no snapshot: one line.
    pub error: Option<String>,
    /// Bytes of new blobs, before compression.
    pub added_bytes: u64,
    /// Bytes of new blobs as stored.
    pub stored_bytes: u64,
}

impl BackupRecord {
    pub(super) fn of(report: &BackupReport) -> Self {
        let output = |output: &OutputReport| OutputRecord {
            repository: output.repository.clone(),
            repository_id: output.repository_id.clone(),
            snapshot: output.snapshot.map(|id| id.to_string()),
            error: output.error.as_ref().map(Error::report),
            added_bytes: output.added_bytes,
            stored_bytes: output.stored_bytes,
        };
        Self {
            outputs: report.outputs.iter().map(output).collect(),
            summary: report.summary,
            problem_count: report.problem_count,
        }
    }
}

/// The [report](crate::state::Run::report) of a restore that has finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRecord {
    /// The id of the snapshot.
    pub snapshot: String,
    /// Where it was restored into.
    pub target: String,
    /// What became of the entries.
    pub counts: RestoreCounts,
    /// What the comparison found; nothing if there was none.
    pub verified: Option<VerifyCounts>,
    /// What the target has to tell.
    pub notes: Vec<String>,
    /// How many warnings and errors there were.
    pub problem_count: u64,
}

impl RestoreRecord {
    pub(super) fn of(report: &RestoreReport, snapshot: SnapshotId, target: String) -> Self {
        Self {
            snapshot: snapshot.to_string(),
            target,
            counts: report.counts,
            verified: report.verified,
            notes: report.notes.iter().take(MAX_NOTES).cloned().collect(),
            problem_count: report.problem_count,
        }
    }
}

/// What came of a run, as its record keeps it.
pub(super) fn to_json(record: &impl Serialize) -> Result<Arc<RawValue>> {
    let json = serde_json::value::to_raw_value(record).map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot write what came of the run").with_source(error)
    })?;
    Ok(json.into())
}
