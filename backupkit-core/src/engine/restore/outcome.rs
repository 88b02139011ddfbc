//! What became of each step, in two bytes a step.

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

#[derive(Debug, Clone, Copy)]
struct StepState {
    outcome: Outcome,
    /// Not so for a further step of an entry that has one already, such as one that gives a directory
    /// its metadata at the end.
    is_counted: bool,
}

/// The outcomes of all steps, by their number in the plan, and what they add up to.
#[derive(Debug, Default)]
pub(super) struct Outcomes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    steps: Vec<StepState>,
    counts: [u64; 7],
    bytes: u64,
}

impl Outcomes {
    /// Adds the next step, and returns its number. Success of a step that is not counted changes no
    /// count.
    pub(super) fn add(&self, is_counted: bool) -> usize {
        let mut state = self.state();
        state.steps.push(StepState { outcome: Outcome::Open, is_counted });
        state.steps.len() - 1
    }

    /// Says what became of a step, with `bytes` written.
    pub(super) fn set(&self, number: usize, outcome: Outcome, bytes: u64) {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(step) = state.steps.get_mut(number) else {
            return;
        };
        step.outcome = outcome;
        state.bytes = state.bytes.saturating_add(bytes);
        if step.is_counted || outcome == Outcome::Failed {
            state.counts[outcome as usize] += 1;
        }
    }

    /// Counts a failure that is of no step: a directory that cannot be read.
    pub(super) fn add_failure(&self) {
        self.state().counts[Outcome::Failed as usize] += 1;
    }

    /// What became of a step; nothing if the plan did not have it.
    pub(super) fn get(&self, number: usize) -> Option<Outcome> {
        self.state().steps.get(number).map(|step| step.outcome)
    }

    /// Whether a step is the one that counts for its entry.
    pub(super) fn is_counted(&self, number: usize) -> bool {
        self.state().steps.get(number).is_some_and(|step| step.is_counted)
    }

    /// Whether it is known what became of a step.
    pub(super) fn is_settled(&self, number: usize) -> bool {
        self.get(number).is_some_and(|outcome| outcome != Outcome::Open)
    }

    /// How many steps neither ended nor failed: none, unless the engine lost them.
    pub(super) fn open_steps(&self) -> usize {
        let state = self.state();
        state.steps.iter().filter(|step| step.outcome == Outcome::Open).count()
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
