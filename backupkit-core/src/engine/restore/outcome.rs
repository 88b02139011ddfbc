//! What became of each step, in two bytes a step.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::RestoreCounts;
use super::done::DoneSteps;
use crate::target::{Phase, StepAction};

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
    /// The phases in their order, each with the number of its first step.
    phases: Vec<(Phase, usize)>,
    /// The last phase that was ended.
    ended: Option<Phase>,
    counts: [u64; 7],
    bytes: u64,
    /// Warnings about steps that are done, also of earlier runs.
    warnings: u64,
}

impl Outcomes {
    /// Adds the next step, and returns its number. Success of a step that is not counted changes no
    /// count.
    pub(super) fn add(&self, phase: Phase, is_counted: bool) -> usize {
        let mut state = self.state();
        if state.phases.last().is_none_or(|(last, _)| *last != phase) {
            let start = state.steps.len();
            state.phases.push((phase, start));
        }
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

    /// Says that a phase was ended.
    pub(super) fn set_ended(&self, phase: Phase) {
        self.state().ended = Some(phase);
    }

    /// Counts warnings about steps that are done.
    pub(super) fn add_warnings(&self, count: u64) {
        self.state().warnings += count;
    }

    pub(super) fn warnings(&self) -> u64 {
        self.state().warnings
    }

    /// The steps that need not be done again, and the last phase of which the end need not either.
    ///
    /// As long as a step of a phase is not done, nothing of a later phase is: what is done late, such as
    /// the time of a directory, must not be disturbed by what is done after it.
    pub(super) fn done(&self) -> (DoneSteps, Option<Phase>) {
        let state = self.state();
        let is_open = |step: &StepState| matches!(step.outcome, Outcome::Open | Outcome::Failed);
        let all = state.steps.len();
        let first_open = state.steps.iter().position(is_open).unwrap_or(all);
        let end_of = |number: usize| {
            let starts = state.phases.iter().map(|(_, start)| *start);
            starts.into_iter().find(|start| *start > number).unwrap_or(all)
        };
        let mut done = DoneSteps::default();
        for (number, step) in state.steps.iter().enumerate().take(end_of(first_open)) {
            if !is_open(step) && !done.add(number) {
                break;
            }
        }
        let is_ended = |(phase, start): &&(Phase, usize)| {
            state.ended >= Some(*phase) && (first_open == all || end_of(*start) <= first_open)
        };
        let ended = state.phases.iter().filter(is_ended).map(|(phase, _)| *phase).next_back();
        (done, ended)
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

    /// What became of the steps so far.
    pub(super) fn counts(&self) -> RestoreCounts {
        let state = self.state();
        let count = |outcome: Outcome| state.counts[outcome as usize];
        RestoreCounts {
            created: count(Outcome::Created),
            overwritten: count(Outcome::Overwritten),
            renamed: count(Outcome::Renamed),
            skipped: count(Outcome::Skipped),
            refused: count(Outcome::Refused),
            failed: count(Outcome::Failed),
            written_bytes: state.bytes,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
