//! A check of a repository from request to report.

use std::sync::Arc;

use super::RunContext;
use super::reading::under_shared_lock;
use crate::error::Result;
use crate::repo::check::{CheckOptions, CheckReport, CheckRun, ReadData, check};
use crate::repo::repository::Repository;

/// What to check.
#[derive(Debug)]
pub struct CheckRequest {
    pub(crate) repository: Repository,
    pub(crate) options: CheckOptions,
}

impl CheckRequest {
    /// Returns a request to check the structure: every index, snapshot and tree, and the presence and
    /// size of every pack.
    pub fn new(repository: Repository) -> Self {
        Self { repository, options: CheckOptions::default() }
    }

    /// Reads and verifies every byte as well.
    #[must_use]
    pub fn with_read_data(self) -> Self {
        self.with_options(CheckOptions { read_data: ReadData::All })
    }

    /// Says what to check.
    #[must_use]
    pub fn with_options(mut self, options: CheckOptions) -> Self {
        self.options = options;
        self
    }
}

pub(super) async fn run(run: RunContext, request: CheckRequest) -> Result<CheckReport> {
    let work = CheckRun {
        repository: request.repository.clone(),
        pool: run.engine.parts().pool.clone(),
        events: run.events.clone(),
        counters: Arc::clone(&run.counters),
        cancel: run.control.cancel_token().clone(),
    };
    under_shared_lock(&run, &request.repository, check(&work, request.options)).await
}
