//! A check of a repository from request to report.

use super::RunContext;
use crate::error::Result;
use crate::repo::check::CheckReport;
use crate::repo::repository::Repository;

/// What to check.
#[derive(Debug)]
pub struct CheckRequest {
    pub(crate) repository: Repository,
    pub(crate) read_data: bool,
}

impl CheckRequest {
    /// Returns a request to check the structure: every index, snapshot and tree, and the presence and
    /// size of every pack.
    pub fn new(repository: Repository) -> Self {
        Self {
            repository,
            read_data: false,
        }
    }

    /// Reads and verifies every byte as well.
    #[must_use]
    pub fn with_read_data(mut self) -> Self {
        self.read_data = true;
        self
    }
}

pub(super) async fn run(_run: RunContext, _request: CheckRequest) -> Result<CheckReport> {
    unimplemented!()
}
