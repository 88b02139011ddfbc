//! What counts as an attempt, and how long the next one waits.

use std::time::Duration;

use super::super::{AttemptPolicy, RunFacts, RunInput, RunState};
use super::{CORRUPT, UNREACHABLE, usual_facts};
use crate::error::{ErrorKind, Retry};

const POLICY: AttemptPolicy = AttemptPolicy {
    max_attempts: 4,
    first_delay: Duration::from_secs(10),
    max_delay: Duration::from_secs(25),
};

#[test]
fn a_run_that_keeps_crashing_its_worker_fails_after_the_last_attempt() {
    for state in [RunState::Running, RunState::Pausing, RunState::Committing] {
        let mut facts = RunFacts { jitter: u16::MAX, ..usual_facts(state) };
        let mut delays = Vec::new();
        let last = loop {
            let next = state.after(RunInput::LeaseLost, &facts, &POLICY).unwrap();
            assert!(next.attempt_counted);
            assert_eq!(next.attempts, facts.attempts + 1);
            facts.attempts = next.attempts;
            match next.delay {
                Some(delay) => delays.push(delay.as_secs_f64().round()),
                None => break next,
            }
        };
        assert_eq!((last.state, last.exhausted, last.attempts), (RunState::Failed, true, 4));
        assert_eq!(delays, [10.0, 20.0, 25.0]);
    }
}

#[test]
fn progress_ends_the_count_of_attempts() {
    let facts = RunFacts { attempts: 3, progressed: true, ..usual_facts(RunState::Running) };
    for input in [RunInput::LeaseLost, UNREACHABLE] {
        let next = RunState::Running.after(input, &facts, &POLICY).unwrap();
        assert_eq!((next.state, next.attempts), (RunState::Queued, 1));
    }
    let next = RunState::Running.after(RunInput::Yielded, &facts, &POLICY).unwrap();
    assert_eq!((next.attempts, next.attempt_counted), (0, false));
}

#[test]
fn blobs_that_are_lost_again_and_again_fail_the_run_whatever_it_stored_in_between() {
    let facts = RunFacts { attempts: 3, progressed: true, ..usual_facts(RunState::Committing) };
    let next = RunState::Committing.after(RunInput::BlobLost, &facts, &POLICY).unwrap();
    assert_eq!((next.state, next.exhausted), (RunState::Failed, true));
}

#[test]
fn a_yield_counts_no_attempt_and_waits_for_nothing() {
    for &state in RunState::ALL {
        let facts = RunFacts { attempts: 3, ..usual_facts(state) };
        if let Ok(next) = state.after(RunInput::Yielded, &facts, &POLICY) {
            assert_eq!((next.attempts, next.attempt_counted, next.delay), (3, false, None));
        }
    }
}

#[test]
fn a_person_who_resumes_gives_all_attempts_again() {
    let facts = RunFacts { attempts: 3, ..usual_facts(RunState::Paused) };
    let next = RunState::Paused.after(RunInput::RunAsked, &facts, &POLICY).unwrap();
    assert_eq!(next.attempts, 0);
}

#[test]
fn an_error_that_will_not_mend_fails_at_once() {
    let facts = usual_facts(RunState::Running);
    let next = RunState::Running.after(CORRUPT, &facts, &POLICY).unwrap();
    assert_eq!((next.state, next.exhausted), (RunState::Failed, false));
}

#[test]
fn cancelling_counts_no_attempts() {
    let facts = RunFacts { attempts: 3, ..usual_facts(RunState::Cancelling) };
    for input in [RunInput::LeaseLost, UNREACHABLE] {
        let next = RunState::Cancelling.after(input, &facts, &POLICY).unwrap();
        assert_eq!((next.state, next.attempts), (RunState::Cancelling, 3));
        assert_eq!(next.delay, Some(Duration::from_secs(5)));
    }
}

#[test]
fn a_commit_waits_longest_for_what_a_person_mends() {
    let full = RunInput::Failed { kind: ErrorKind::StorageFull, retry: Retry::Never };
    let facts = RunFacts { jitter: u16::MAX, ..usual_facts(RunState::Committing) };
    let next = RunState::Committing.after(full, &facts, &POLICY).unwrap();
    assert_eq!((next.state, next.attempts), (RunState::Committing, 1));
    assert_eq!(next.delay.unwrap().as_secs_f64().round().to_bits(), 25f64.to_bits());
}

#[test]
fn chance_gives_between_half_and_all_of_a_wait() {
    let delay = |jitter| POLICY.delay(1, Retry::Soon, jitter).as_secs_f64();
    assert!((delay(0) - 5.0).abs() < 0.01);
    assert!((delay(u16::MAX / 2) - 7.5).abs() < 0.01);
    assert!((delay(u16::MAX) - 10.0).abs() < 0.01);
}

#[test]
fn a_wait_is_never_shorter_than_named_and_never_boundless() {
    let delay = |named| POLICY.delay(1, Retry::After(named), 0);
    let hour = Duration::from_hours(1);
    assert!(delay(hour) > hour && delay(hour) < hour + Duration::from_secs(2));
    assert!(delay(Duration::MAX) < Duration::from_hours(25));
    let boundless =
        AttemptPolicy { max_attempts: 0, first_delay: Duration::MAX, max_delay: Duration::MAX };
    assert!(boundless.delay(u32::MAX, Retry::Soon, u16::MAX) > Duration::from_hours(24));
    assert!(boundless.is_exhausted(1));
    assert!(!boundless.is_exhausted(0));
}
