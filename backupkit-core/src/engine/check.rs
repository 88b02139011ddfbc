//! A check of a repository from request to report.

use std::sync::Arc;

use super::RunContext;
use super::hold::hold;
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
        Self {
            repository,
            options: CheckOptions::default(),
        }
    }

    /// Reads and verifies packs as well.
    #[must_use]
    pub fn with_read_data(mut self, read_data: ReadData) -> Self {
        self.options.read_data = read_data;
        self
    }
}

pub(super) async fn run(run: RunContext, request: CheckRequest) -> Result<CheckReport> {
    let CheckRequest { repository, options } = request;
    let held = hold(&run, &repository).await?;
    let check_run = CheckRun {
        repository,
        pool: run.engine.parts().pool.clone(),
        events: run.events.clone(),
        counters: Arc::clone(&run.counters),
        cancel: run.control.cancel_token().clone(),
    };
    let report = check(&check_run, options).await;
    if let Some(held) = held {
        held.release(&run).await;
    }
    report
}
