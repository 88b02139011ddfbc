//! The result of testing a connection, step by step.

use std::time::Duration;

use serde::Serialize;

/// What a `check` tried, in order. It is healthy if no step failed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Probe {
    /// The steps in the order tried.
    pub steps: Vec<ProbeStep>,
}

/// One thing tried.
#[derive(Debug, Clone, Serialize)]
pub struct ProbeStep {
    /// What was tried, such as "open the folder".
    pub name: String,
    /// How it went.
    pub outcome: ProbeOutcome,
    /// How long it took.
    pub took: Duration,
    /// What to do if it failed.
    pub hint: Option<String>,
}

/// How a step of a probe went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeOutcome {
    /// It works.
    Ok,
    /// It does not, for this reason.
    Failed(String),
    /// It was not tried, for this reason.
    Skipped(String),
}

impl Probe {
    /// Whether no step failed.
    pub fn is_healthy(&self) -> bool {
        !self.steps.iter().any(|step| matches!(step.outcome, ProbeOutcome::Failed(_)))
    }
}
