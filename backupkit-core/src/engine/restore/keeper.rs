//! Keeps the checkpoint of a restore in its journal.

use std::sync::Arc;

use super::checkpoint::{Finished, Row};
use super::{RestoreRequest, Tools};
use crate::error::{Error, Result};
use crate::model::{BlobId, EventKind, Level};
use crate::pipeline::checkpoint::Pace;
use crate::state::{CheckpointInterval, RunJournal};
use crate::target::RestoreSession;

/// Saves what is done, once it is durable in the target.
pub(super) struct Keeper {
    journal: Option<Arc<dyn RunJournal>>,
    restore: BlobId,
    tools: Tools,
    pace: Pace,
}

impl Keeper {
    pub(super) fn new(request: &RestoreRequest, tools: &Tools) -> Self {
        Self {
            journal: request.journal.clone().filter(|_| !request.dry_run),
            restore: super::checkpoint::name_of(request),
            tools: tools.clone(),
            pace: Pace::default(),
        }
    }

    /// Whether the restore can go on after it ended.
    pub(super) fn is_kept(&self) -> bool {
        self.journal.is_some()
    }

    /// What an earlier run of this restore did. A row that does not fit is told, and nothing is done.
    pub(super) async fn load(&self) -> Row {
        let Some(journal) = &self.journal else {
            return Row::default();
        };
        let loaded = match journal.load_checkpoint().await {
            Ok(Some(json)) => Row::decode(&json, &self.restore),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        match loaded {
            Ok(Some(row)) => {
                let text = match row.warnings {
                    0 => "goes on where an earlier run of this restore stopped".to_owned(),
                    told => format!(
                        "goes on where an earlier run of this restore stopped, which told {told} warnings"
                    ),
                };
                self.tools.events.note(Level::Info, text);
                row
            }
            Ok(None) => Row::default(),
            Err(error) => {
                self.tell_dropped(&error);
                Row::default()
            }
        }
    }

    /// Tells that the restore starts from the beginning.
    pub(super) fn tell_dropped(&self, error: &Error) {
        // No warning: it takes longer, but nothing is missing.
        let reason = error.report();
        self.tools.events.tell(Level::Info, EventKind::CheckpointDropped { reason });
    }

    /// What the rows of this restore belong to.
    pub(super) fn restore(&self) -> BlobId {
        self.restore
    }

    /// Whether it is time to save a row, of which the caller then takes care. Rows are not saved while
    /// the restore goes if the journal does not want them.
    pub(super) fn is_due(&mut self) -> bool {
        let now = self.tools.events.env().clock().elapsed_since_boot();
        let read_bytes = self.tools.counters.read_bytes();
        self.interval().is_some_and(|interval| self.pace.is_due(interval, now, read_bytes))
    }

    /// Whether rows are saved while the restore goes.
    pub(super) fn is_periodic(&self) -> bool {
        self.interval().is_some()
    }

    fn interval(&self) -> Option<CheckpointInterval> {
        self.journal.as_ref()?.checkpoint_interval()
    }

    /// Saves a row that was just collected.
    pub(super) async fn save(&self, session: &Arc<dyn RestoreSession>, row: &Row) -> Result<()> {
        let Some(journal) = &self.journal else {
            return Ok(());
        };
        // After the row was collected, so that all that it names is durable.
        session.sync().await?;
        journal.save_checkpoint(row.encode()?, row.reach()).await
    }

    /// Says that all is written: from here on the restore can only be finished.
    pub(super) async fn begin_commit(&self) -> Result<()> {
        match &self.journal {
            Some(journal) => journal.begin_commit(&[]).await,
            None => Ok(()),
        }
    }

    /// Saves what came of the restore, before the target forgets what it decided: whoever finds this row
    /// has only to end it.
    pub(super) async fn save_finished(&self, finished: Finished) -> Result<()> {
        let row = Row::of_finished(self.restore, finished).encode()?;
        match &self.journal {
            Some(journal) => journal.save_checkpoint(row, u64::MAX).await,
            None => Ok(()),
        }
    }

    /// Saves that nothing is left to go on with, where the journal does not go with the run.
    pub(super) async fn forget_finished(&self) -> Result<()> {
        match &self.journal {
            Some(journal) if journal.outlives_process() => Ok(()),
            _ => self.forget().await,
        }
    }

    /// Saves that nothing is left to go on with.
    pub(super) async fn forget(&self) -> Result<()> {
        match &self.journal {
            Some(journal) => journal.save_checkpoint(Row::over().encode()?, u64::MAX).await,
            None => Ok(()),
        }
    }
}
