//! A backup as a run: of one source, or of several, one after the other.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::HeldPart;
use super::super::journal::StoreJournal;
use super::super::record::{BackupRecord, to_json};
use super::super::values::RunValues;
use super::HeldRun;
use crate::engine::{BackupReport, BackupRequest, RunStatus};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::model::{Level, PauseReason, Refusal, RunInput, RunOutcome};
use crate::repo::repository::Repository;
use crate::state::{Cause, Report, Run, RunJournal as _};
use crate::token::CancelToken;

/// A part that is over has come further than any other.
const OVER_REACH: u64 = i64::MAX.unsigned_abs();

/// What came of one source. Of several, it stands in the place of the checkpoint once the part is over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartRecord {
    outcome: RunOutcome,
    record: BackupRecord,
    /// Why nothing came of it.
    cause: Option<PartCause>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartCause {
    kind: String,
    code: Option<String>,
    message: String,
}

impl HeldRun {
    /// Executes the run as a backup, from its last checkpoint on, and returns it as it stands then. What
    /// a person asks of the run is heard within a second. Once `stop` is cancelled it saves a
    /// checkpoint and is given back to other workers. What a cancelled run left in the repositories to
    /// go on from is removed.
    ///
    /// # Errors
    /// `Conflict` with code `lease-lost` if another worker took it over: then nothing of this one
    /// appears any more. Those of the store. What goes wrong in the backup is no error: it stands in
    /// the run.
    pub async fn back_up(self, request: BackupRequest, stop: &CancelToken) -> Result<Run> {
        self.back_up_each(vec![request], stop).await
    }

    /// Executes the run as a backup of several sources, one after the other, each as
    /// [`back_up`](Self::back_up) does. The snapshots of a source appear when it is done, and stay,
    /// whatever becomes of the others. If one fails for good, the others go on, and the run ends as
    /// partial.
    ///
    /// # Errors
    /// As for [`back_up`](Self::back_up); `InvalidInput` for more sources than a run has
    /// [parts](crate::state::MAX_PARTS).
    pub async fn back_up_each(
        self,
        requests: Vec<BackupRequest>,
        stop: &CancelToken,
    ) -> Result<Run> {
        let repositories = repositories_of(&requests);
        let (input, report) = self.back_up_parts(requests, stop).await?;
        if input == RunInput::CancelFinished {
            self.remove_checkpoints(repositories).await?;
        }
        self.report(input, report).await
    }

    async fn back_up_parts(
        &self,
        requests: Vec<BackupRequest>,
        stop: &CancelToken,
    ) -> Result<(RunInput, Report)> {
        let count = requests.len();
        let mut over: Vec<PartRecord> = Vec::new();
        for (number, request) in requests.into_iter().enumerate() {
            let part = self.part(u32::try_from(number).unwrap_or(u32::MAX));
            if count > 1 {
                if let Some(record) = load(&part).await? {
                    over.push(record);
                    continue;
                }
                let source = request.source.origin().paths.join(", ");
                let text = format!("source {} of {count}: {source}", number + 1);
                self.note(Level::Info, text).await?;
            }
            let blank = BackupRecord::blank(&request);
            let journal = StoreJournal { is_last: number + 1 == count, ..self.journal(&part) };
            let request = request
                .with_tags([self.tag()])
                .with_journal(Arc::new(journal))
                .with_adapter_store(Arc::new(RunValues(part.clone())))
                .with_liveness(self.keeper.liveness());
            let ended = self.attend(self.engine.backup(request), Some(stop)).await?;
            let record = match ended {
                Ok(report) if report.status != RunStatus::Paused => PartRecord::of(blank, &report),
                Err(error) if count > 1 && is_final(&error) => PartRecord::failed(blank, &error),
                ended => return self.conclude_parts(ended.map(|_| ()), over, stop).await,
            };
            if count > 1 {
                save(&part, &record).await?;
            }
            over.push(record);
        }
        if count > 1 {
            // Where the last part failed, nobody has said so yet.
            let journal = self.journal(&self.part(0));
            if let Err(error) = journal.begin_commit(&[]).await {
                return self.conclude_parts(Err(error), over, stop).await;
            }
        }
        finished(over)
    }

    /// What is said of the run that does not end now, or fails. What is over stands in its report.
    async fn conclude_parts(
        &self,
        ended: Result<()>,
        over: Vec<PartRecord>,
        stop: &CancelToken,
    ) -> Result<(RunInput, Report)> {
        let paused = |()| Ok((RunStatus::Paused, to_json(&())?));
        let (input, mut report) = self.conclude(ended, paused, stop).await?;
        if !over.is_empty() {
            report.body = Some(to_json(&merged(over))?);
        }
        Ok((input, report))
    }
}

impl PartRecord {
    fn of(blank: BackupRecord, report: &BackupReport) -> Self {
        let outcome = match report.status {
            RunStatus::Succeeded => RunOutcome::Succeeded,
            RunStatus::Warnings => RunOutcome::Warnings,
            // A paused one is not over.
            RunStatus::Partial | RunStatus::Paused => RunOutcome::Partial,
        };
        Self { outcome, record: blank.filled(report), cause: None }
    }

    fn failed(blank: BackupRecord, error: &Error) -> Self {
        let Cause { kind, code, message } = Cause::of(error);
        let cause = Some(PartCause { kind: kind.as_str().to_owned(), code, message });
        Self { outcome: RunOutcome::Failed, record: blank.failed(error), cause }
    }
}

/// Whether trying it again, or what a person mends, would change nothing.
fn is_final(error: &Error) -> bool {
    error.retry() == Retry::Never
        && PauseReason::for_error(error.kind()).is_none()
        && !error.is(ErrorKind::Cancelled)
        && error.code() != Refusal::CODE
}

/// The record of a part that is over; nothing if it is not.
async fn load(part: &HeldPart) -> Result<Option<PartRecord>> {
    let HeldPart { store, lease, part: number, .. } = part;
    let kept = part.insist(|| store.load_checkpoint(lease, *number)).await?;
    // A checkpoint of one that is not over is compressed.
    Ok(kept.and_then(|kept| serde_json::from_slice(&kept).ok()))
}

async fn save(part: &HeldPart, record: &PartRecord) -> Result<()> {
    let HeldPart { store, lease, part: number, .. } = part;
    let row = Bytes::from(to_json(record)?.get().to_owned());
    part.insist(|| store.save_checkpoint(lease, *number, row.clone(), OVER_REACH)).await
}

/// What is said of a run all of whose parts are over.
fn finished(over: Vec<PartRecord>) -> Result<(RunInput, Report)> {
    let outcomes = || over.iter().map(|part| part.outcome);
    let outcome = if outcomes().all(|outcome| outcome == RunOutcome::Failed) {
        RunOutcome::Failed
    } else if outcomes().any(|it| matches!(it, RunOutcome::Failed | RunOutcome::Partial)) {
        RunOutcome::Partial
    } else if outcomes().any(|outcome| outcome == RunOutcome::Warnings) {
        RunOutcome::Warnings
    } else {
        RunOutcome::Succeeded
    };
    let cause = over.iter().find_map(|part| part.cause.as_ref()).map(|cause| {
        let PartCause { kind, code, message } = cause;
        let kind = kind.parse().unwrap_or(ErrorKind::Internal);
        Cause { kind, code: code.clone(), message: message.clone() }
    });
    let body = Some(to_json(&merged(over))?);
    Ok((RunInput::Finished(outcome), Report { body, cause }))
}

/// One record of all parts, in their order.
fn merged(over: Vec<PartRecord>) -> BackupRecord {
    over.into_iter().map(|part| part.record).fold(BackupRecord::default(), BackupRecord::and)
}

/// The repositories of all parts, each once.
fn repositories_of(requests: &[BackupRequest]) -> Vec<Repository> {
    let mut repositories: Vec<Repository> = Vec::new();
    for repository in requests.iter().flat_map(BackupRequest::repositories) {
        if repositories.iter().all(|known| known.id() != repository.id()) {
            repositories.push(repository.clone());
        }
    }
    repositories
}
