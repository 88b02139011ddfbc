//! Maintenance as a run.

use std::sync::Arc;

use super::super::record::to_json;
use super::HeldRun;
use crate::engine::RunStatus;
use crate::engine::maintain::{Holder, MaintenanceRequest};
use crate::error::Result;
use crate::model::MaintenanceRecord;
use crate::state::{Run, RunJournal as _};
use crate::token::CancelToken;

impl HeldRun {
    /// Executes the run as maintenance. It cannot rest: what was asked to starts over when it goes on,
    /// and finds less.
    ///
    /// # Errors
    /// As for [`back_up`](Self::back_up).
    pub(crate) async fn maintain(
        self,
        request: MaintenanceRequest,
        stop: &CancelToken,
    ) -> Result<Run> {
        let holder = Holder {
            store: Arc::clone(&self.store),
            scope: self.run().scope.clone(),
            liveness: self.keeper.liveness(),
        };
        let handle = self.engine.maintain(request, holder);
        let mut ended = self.attend(handle, Some(stop)).await?;
        if ended.is_ok() {
            // From now on it can only end.
            let begun = self.journal(&self.part(0)).begin_commit(&[]).await;
            ended = begun.and(ended);
        }
        let came = |record: MaintenanceRecord| {
            let is_clean = record.problem_count == 0;
            let status = if is_clean { RunStatus::Succeeded } else { RunStatus::Warnings };
            Ok((status, to_json(&record)?))
        };
        let (input, report) = self.conclude(ended, came, stop).await?;
        self.report(input, report).await
    }
}
