//! Where a run can get from where.

use std::collections::BTreeSet;

use super::super::{
    AttemptPolicy, LeaseChange, PauseReason, Refusal, RunFacts, RunInput, RunState, Transition,
    Wanted,
};
use super::INPUTS;

/// Whatever can be on record, sensible or not.
fn all_facts() -> Vec<RunFacts> {
    let reasons = || PauseReason::ALL.iter().copied().map(Some).chain([None]);
    let mut all = Vec::new();
    for &wanted in Wanted::ALL {
        for pause_reason in reasons() {
            for bits in 0..8 {
                all.push(RunFacts {
                    wanted,
                    pause_reason,
                    leased: bits & 1 > 0,
                    attempts: if bits & 2 > 0 { u32::MAX } else { 0 },
                    progressed: bits & 4 > 0,
                    jitter: 0,
                });
            }
        }
    }
    all
}

/// Every move from one state to another that some record allows.
fn moves() -> BTreeSet<(RunState, RunState)> {
    let mut moves = BTreeSet::new();
    for facts in all_facts() {
        for &state in RunState::ALL {
            for input in INPUTS {
                match state.after(input, &facts, &AttemptPolicy::default()) {
                    Ok(next) => {
                        check(&next);
                        if next.state != state {
                            moves.insert((state, next.state));
                        }
                    }
                    Err(refusal) => assert!(!refusal.to_string().is_empty()),
                }
            }
        }
    }
    moves
}

/// What holds after every transition.
fn check(next: &Transition) {
    if next.changed {
        let rests = matches!(next.state, RunState::Pausing | RunState::Paused);
        assert!(
            rests || next.pause_reason.is_none() || next.lease == LeaseChange::Keep,
            "{next:?}"
        );
    }
    if next.state.is_terminal() || next.state == RunState::Paused && next.changed {
        assert_ne!(next.lease, LeaseChange::Take, "{next:?}");
    }
    assert!(!next.exhausted || next.state == RunState::Failed, "{next:?}");
    assert!(next.delay.is_none() || next.lease == LeaseChange::Release, "{next:?}");
}

fn reachable_from(start: RunState, moves: &BTreeSet<(RunState, RunState)>) -> BTreeSet<RunState> {
    let mut found = BTreeSet::from([start]);
    let mut ahead = vec![start];
    while let Some(state) = ahead.pop() {
        for (_, to) in moves.iter().filter(|(from, _)| *from == state) {
            if found.insert(*to) {
                ahead.push(*to);
            }
        }
    }
    found
}

#[test]
fn the_moves_are_those_of_the_design_and_no_others() {
    use RunState as S;
    let expected = [
        (S::Queued, vec![S::Running, S::Paused, S::Cancelling, S::Cancelled]),
        (
            S::Running,
            vec![S::Queued, S::Pausing, S::Paused, S::Committing, S::Cancelling, S::Failed],
        ),
        (S::Pausing, vec![S::Queued, S::Running, S::Paused, S::Cancelling, S::Failed]),
        (S::Paused, vec![S::Queued, S::Cancelling, S::Cancelled]),
        (S::Committing, vec![S::Queued, S::Succeeded, S::Warnings, S::Partial, S::Failed]),
        (S::Cancelling, vec![S::Cancelled]),
    ];
    let expected: BTreeSet<_> = expected
        .into_iter()
        .flat_map(|(from, all)| all.into_iter().map(move |to| (from, to)))
        .collect();
    assert_eq!(moves(), expected);
}

#[test]
fn every_run_can_end_and_no_run_moves_after_its_end() {
    let moves = moves();
    for &state in RunState::ALL {
        let reachable = reachable_from(state, &moves);
        assert!(reachable.iter().any(|state| state.is_terminal()), "{state} never ends");
        assert!(!state.is_terminal() || reachable.len() == 1, "{state} goes on");
    }
}

#[test]
fn a_cancelled_run_is_never_anything_else() {
    let reachable = reachable_from(RunState::Cancelling, &moves());
    assert_eq!(reachable, BTreeSet::from([RunState::Cancelling, RunState::Cancelled]));
}

/// A record as a store keeps it.
struct Record {
    state: RunState,
    facts: RunFacts,
}

impl Record {
    fn apply(&mut self, next: &Transition) {
        if !next.changed {
            return;
        }
        self.state = next.state;
        self.facts.wanted = next.wanted;
        self.facts.pause_reason = next.pause_reason;
        self.facts.attempts = next.attempts;
        match next.lease {
            LeaseChange::Take => (self.facts.leased, self.facts.progressed) = (true, false),
            LeaseChange::Release => self.facts.leased = false,
            LeaseChange::Keep => {}
        }
    }

    /// What holds of a record that only transitions have changed.
    fn check(&self, seed: u64) {
        let Self { state, facts } = self;
        let rests = matches!(state, RunState::Pausing | RunState::Paused);
        assert_eq!(facts.pause_reason.is_some(), rests, "seed {seed}: {state} {facts:?}");
        match state {
            RunState::Running | RunState::Pausing => {
                assert!(facts.leased, "seed {seed}: {state} {facts:?}");
            }
            RunState::Committing | RunState::Cancelling => {}
            _ => assert!(!facts.leased, "seed {seed}: {state} {facts:?}"),
        }
        match state {
            RunState::Running | RunState::Committing => {
                assert_eq!(facts.wanted, Wanted::Run, "seed {seed}");
            }
            RunState::Cancelling | RunState::Cancelled => {
                assert_eq!(facts.wanted, Wanted::Cancel, "seed {seed}");
            }
            _ => {}
        }
    }
}

/// The splitmix64 sequence.
fn next_random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[test]
fn a_record_stays_sound_on_ten_thousand_random_steps() {
    let mut ended = BTreeSet::new();
    for start in 1..=8u64 {
        let mut seed = start;
        let fresh = || Record { state: RunState::Queued, facts: RunFacts::default() };
        let mut record = fresh();
        for _ in 0..10_000 {
            let random = next_random(&mut seed);
            let input = INPUTS[usize::try_from(random % 23).unwrap()];
            record.facts.progressed |= record.facts.leased && (random >> 32).is_multiple_of(3);
            record.facts.jitter = u16::try_from((random >> 40) & 0xffff).unwrap();
            let result = record.state.after(input, &record.facts, &AttemptPolicy::default());
            if record.state.is_terminal() {
                assert_eq!(result, Err(Refusal::Ended(record.state)));
                ended.insert(record.state);
                record = fresh();
            } else if let Ok(next) = result {
                assert!(input != RunInput::Yielded || !next.attempt_counted);
                record.apply(&next);
            }
            record.check(start);
        }
    }
    // Few walks get as far as a commit, so all of them together count.
    assert_eq!(ended.len(), 5, "not every end was reached: {ended:?}");
}
