//! What came of a run, as it stands in its record.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::engine::backup::Participant;
use crate::engine::{
    BackupReport, BackupRequest, RestoreCounts, RestoreReport, Summary, VerifyCounts,
};
use crate::error::{Error, ErrorKind, Result};
use crate::model::SnapshotId;

/// A record keeps no more notes of a target; the log has all.
const MAX_NOTES: usize = 100;

/// The [report](crate::state::Run::report) of a backup that has finished.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// For each source one for each repository, in the order of the requests. Sources of which nothing has
    /// come yet have none.
    pub outputs: Vec<OutputRecord>,
    /// What was counted.
    pub summary: Summary,
    /// How many warnings and errors there were.
    pub problem_count: u64,
}

/// What a backup made of its source in one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRecord {
    /// What was read.
    pub source: String,
    /// Where the repository is.
    pub repository: String,
    /// The id of the repository.
    pub repository_id: String,
    /// The id of the snapshot.
    pub snapshot: Option<String>,
    /// Why there is no snapshot: one line.
    pub error: Option<String>,
    /// How many entries of the source the snapshot lacks, since they could not be read.
    pub failed_entries: u64,
    /// Bytes of new blobs, before compression.
    pub added_bytes: u64,
    /// Bytes of new blobs as stored.
    pub stored_bytes: u64,
}

impl BackupRecord {
    /// The record of a backup of which nothing has come yet.
    pub(super) fn blank(request: &BackupRequest) -> Self {
        let source = request.source.origin().paths.join(", ");
        let output = |participant: &Participant| OutputRecord {
            source: source.clone(),
            repository: participant.location(),
            repository_id: participant.id().to_owned(),
            snapshot: None,
            error: None,
            failed_entries: 0,
            added_bytes: 0,
            stored_bytes: 0,
        };
        let outputs = request.participants.iter().map(output).collect();
        Self { outputs, ..Self::default() }
    }

    /// The same with what came of it.
    pub(super) fn filled(mut self, report: &BackupReport) -> Self {
        for (record, output) in self.outputs.iter_mut().zip(&report.outputs) {
            record.snapshot = output.snapshot.map(|id| id.to_string());
            record.error = output.error.as_ref().map(Error::report);
            record.failed_entries = report.summary.files_failed;
            record.added_bytes = output.added_bytes;
            record.stored_bytes = output.stored_bytes;
        }
        Self { summary: report.summary, problem_count: report.problem_count, ..self }
    }

    /// The same, if nothing came of it.
    pub(super) fn failed(mut self, error: &Error) -> Self {
        for record in &mut self.outputs {
            record.error = Some(error.report());
        }
        self
    }

    /// Both in one.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.outputs.extend(other.outputs);
        let problem_count = self.problem_count.saturating_add(other.problem_count);
        Self { summary: self.summary.and(other.summary), problem_count, ..self }
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
