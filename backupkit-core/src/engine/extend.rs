//! Retaining a repository for longer, from request to report.

use std::sync::Arc;

use super::RunContext;
use super::reading::under_shared_lock;
use crate::error::Result;
use crate::repo::extend::{ExtensionReport, ExtensionRun, extend};
use crate::repo::repository::Repository;

/// What to retain for longer.
#[derive(Debug)]
pub struct ExtensionRequest {
    repository: Repository,
    dry_run: bool,
}

impl ExtensionRequest {
    /// Returns a request to retain all that a restore from this repository needs for as long as the
    /// settings of its destination say, from now on. Nothing comes to be retained for less.
    pub fn new(repository: Repository) -> Self {
        Self { repository, dry_run: false }
    }

    /// Only looks, and says what would be done.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }
}

pub(super) async fn run(run: RunContext, request: ExtensionRequest) -> Result<ExtensionReport> {
    let work = ExtensionRun::new(&run, &request.repository, request.dry_run);
    under_shared_lock(&run, &request.repository, extend(&work)).await
}

impl ExtensionRun {
    /// What a run extends a repository with.
    pub(super) fn new(run: &RunContext, repository: &Repository, dry_run: bool) -> Self {
        Self {
            repository: repository.clone(),
            pool: run.engine.parts().pool.clone(),
            events: run.events.clone(),
            counters: Arc::clone(&run.counters),
            cancel: run.control.cancel_token().clone(),
            dry_run,
        }
    }
}
