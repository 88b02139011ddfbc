//! Runs that make again what another one could not.

use std::sync::Arc;

use super::Workspace;
use super::bodies::{BackupSettings, FinishedOutput, encode};
use super::execute::decode;

use crate::engine::{BackupRecord, BackupRequest, HeldRun, SnapshotSource};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Level, RunKind, RunState};
use crate::state::{NewRun, Run, RunId};

impl Workspace {
    /// Orders a run that makes again what another one could not: of a backup the snapshots that are
    /// missing, of a restore all that is not restored yet. Where a snapshot is missing it is made from
    /// one that the run has finished; only if there is none is the source read again.
    ///
    /// # Errors
    /// `NotFound` if there is no such run; `Conflict` with code `nothing-to-retry` if it has not ended, or
    /// lacks nothing, and with code `run-active` if another run is in its way.
    pub async fn order_retry(&self, run: RunId) -> Result<Run> {
        let failed = self.run(run).await?;
        let settings = match failed.new.kind {
            RunKind::Backup => what_failed(&failed)?,
            _ if is_lacking(failed.state) => Arc::clone(&failed.new.settings),
            _ => return Err(nothing_to_retry(&failed)),
        };
        let id = RunId::random(&self.env)?;
        let new = NewRun { id, retry_of: Some(run), key: None, settings, ..failed.new };
        self.store.create_run(&self.scope, &self.actor, new).await
    }

    /// What a retry reads instead of the source: a snapshot that an earlier run has finished. Nothing if
    /// none of these is there any more.
    ///
    /// # Errors
    /// Those of the repositories: one that cannot be reached for now is no reason to read the source
    /// again.
    pub(super) async fn finished_snapshot(
        &self,
        held: &HeldRun,
        finished: &[FinishedOutput],
    ) -> Result<Option<Finished>> {
        let mut unreachable = None;
        for output in finished {
            let found = async {
                let repository = self.open_ordered(&output.repository).await?;
                SnapshotSource::load(&repository, output.snapshot).await
            };
            match found.await {
                Ok(source) => {
                    let failed_entries = output.failed_entries;
                    return Ok(Some(Finished { source, failed_entries }));
                }
                Err(error) if error.is(ErrorKind::NotFound) => {
                    let (id, name) = (output.snapshot.short(), &output.repository.name);
                    let text = format!("snapshot {id} is no longer in `{name}`");
                    held.note(Level::Info, text).await?;
                }
                Err(error) => unreachable = Some(error),
            }
        }
        unreachable.map_or(Ok(None), Err)
    }
}

/// A snapshot that an earlier run has finished.
pub(super) struct Finished {
    source: SnapshotSource,
    failed_entries: u64,
}

impl Finished {
    /// Stores it elsewhere, as the one that it is.
    pub(super) fn copied_by(self, request: BackupRequest) -> BackupRequest {
        let Self { source, failed_entries } = self;
        let (time, excludes) = (source.time(), source.snapshot().excludes.clone());
        let source = Arc::new(source.with_missing_entries(failed_entries));
        request.with_source(source).with_time(time).with_excludes(excludes)
    }
}

/// The settings of a backup of what another one has not stored.
fn what_failed(run: &Run) -> Result<Arc<serde_json::value::RawValue>> {
    let mut settings: BackupSettings = decode(run)?;
    let report = run.report.as_ref().map(|report| serde_json::from_str(report.get())).transpose();
    let report: Option<BackupRecord> =
        report.map_err(|error| Error::corrupt(format!("run {}", run.number), error))?;
    let outputs = report.map(|report| report.outputs).unwrap_or_default();
    if !is_lacking(run.state) {
        return Err(nothing_to_retry(run));
    }
    // They stand in the order of the request. Where there is no report, nothing was finished.
    let mut outputs = outputs.into_iter();
    for part in &mut settings.parts {
        let mut failed = Vec::new();
        for repository in std::mem::take(&mut part.repositories) {
            let output = outputs.next();
            let failed_entries = output.as_ref().map_or(0, |output| output.failed_entries);
            let snapshot = output.and_then(|output| output.snapshot);
            match snapshot.map(|snapshot| snapshot.parse()).transpose() {
                Ok(Some(snapshot)) => {
                    part.finished.push(FinishedOutput { repository, snapshot, failed_entries });
                }
                Ok(None) => failed.push(repository),
                Err(error) => return Err(Error::corrupt(format!("run {}", run.number), error)),
            }
        }
        part.repositories = failed;
    }
    settings.parts.retain(|part| !part.repositories.is_empty());
    if settings.parts.is_empty() {
        return Err(nothing_to_retry(run));
    }
    encode(&settings)
}

/// Whether a run has ended without all that it was to do.
fn is_lacking(state: RunState) -> bool {
    matches!(state, RunState::Partial | RunState::Failed | RunState::Cancelled)
}

fn nothing_to_retry(run: &Run) -> Error {
    let message = format!("run {} is {}: there is nothing to retry", run.number, run.state);
    Error::new(ErrorKind::Conflict, message).with_code("nothing-to-retry")
}
