//! What became of each step, in one byte a step.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::RestoreReport;
use crate::target::StepAction;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Outcome {
    /// Not done yet.
    Open,
    Created,
    Overwritten,
    Renamed,
    Skipped,
    Refused,
    Failed,
}

impl Outcome {
    /// What becomes of a step that succeeds.
    pub(super) fn of(action: &StepAction) -> Self {
        match action {
            StepAction::Create => Self::Created,
            StepAction::Overwrite => Self::Overwritten,
            StepAction::Skip => Self::Skipped,
            StepAction::Rename(_) => Self::Renamed,
            StepAction::Refuse(_) => Self::Refused,
        }
    }
}

/// The outcomes of all steps, by their number in the plan, and what they add up to.
#[derive(Debug, Default)]
pub(super) struct Outcomes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    steps: Vec<Outcome>,
    counts: [u64; 7],
    bytes: u64,
}

impl Outcomes {
    /// Adds the next step, and returns its number.
    pub(super) fn add(&self) -> usize {
        let mut state = self.state();
        state.steps.push(Outcome::Open);
        state.steps.len() - 1
    }

    /// Says what became of a step, with `bytes` written.
    pub(super) fn set(&self, number: usize, outcome: Outcome, bytes: u64) {
        let mut state = self.state();
        state.bytes = state.bytes.saturating_add(bytes);
        state.counts[outcome as usize] += 1;
        if let Some(step) = state.steps.get_mut(number) {
            *step = outcome;
        }
    }

    /// Counts a failure that is of no step: a directory that cannot be read.
    pub(super) fn add_failure(&self) {
        self.state().counts[Outcome::Failed as usize] += 1;
    }

    /// What became of a step; nothing if the plan did not have it.
    pub(super) fn get(&self, number: usize) -> Option<Outcome> {
        self.state().steps.get(number).copied()
    }

    /// Whether it is known what became of a step.
    pub(super) fn is_settled(&self, number: usize) -> bool {
        self.get(number).is_some_and(|outcome| outcome != Outcome::Open)
    }

    pub(super) fn fill(&self, report: &mut RestoreReport) {
        let state = self.state();
        let count = |outcome: Outcome| state.counts[outcome as usize];
        report.created = count(Outcome::Created);
        report.overwritten = count(Outcome::Overwritten);
        report.renamed = count(Outcome::Renamed);
        report.skipped = count(Outcome::Skipped);
        report.refused = count(Outcome::Refused);
        report.failed = count(Outcome::Failed);
        report.bytes = state.bytes;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
