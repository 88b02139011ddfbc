//! What becomes of runs, as the rules have it.

use std::time::Duration;

use super::super::helpers::assert_refused;
use super::{CORRUPT, RunsFixture, THROTTLED, UNREACHABLE, assert_invalid, assert_same, new_run};
use crate::error::{Error, ErrorKind, Retry};
use crate::model::{PauseReason, Refusal, RunFacts, RunInput, RunOutcome, RunState, Wanted};
use crate::state::Run;

/// The rules, with chance left out: these runs wait for nothing between attempts.
fn after(before: &Run, input: RunInput) -> Result<crate::model::Transition, Refusal> {
    let facts = RunFacts {
        wanted: before.wanted,
        pause_reason: before.pause_reason,
        leased: before.worker.is_some(),
        attempts: before.attempts,
        progressed: false,
        jitter: 0,
    };
    before.state.after(input, &facts, &before.new.attempts)
}

/// Whether what came of an input is what the rules say, and is on record.
fn assert_follows(before: &Run, input: RunInput, result: Result<Run, Error>, kept: &Run) {
    let case = format!("{input:?} in {} of {}", before.state, before.new.title);
    match after(before, input) {
        Ok(next) => {
            let run = result.unwrap_or_else(|error| panic!("{case}: {}", error.report()));
            assert_same(kept, &run);
            let found = (run.state, run.wanted, run.pause_reason, run.attempts);
            assert_eq!(
                found,
                (next.state, next.wanted, next.pause_reason, next.attempts),
                "{case}"
            );
            assert_eq!(run.ended_at.is_some(), next.state.is_terminal(), "{case}");
            if next.changed {
                assert_eq!(run.not_before.is_some(), next.delay.is_some(), "{case}");
            } else {
                assert_same(&run, before);
            }
        }
        Err(refusal) => {
            let told = assert_refused(result, ErrorKind::Conflict, "run-refused");
            assert_eq!(told, refusal.to_string(), "{case}");
            assert_same(kept, before);
        }
    }
}

/// Line 4 of `Runs`: every wish in every state.
pub async fn what_persons_ask_follows_the_rules_from_every_state(fixture: RunsFixture) {
    let desk = fixture.desk();
    for state in RunState::ALL {
        for first in Wanted::ALL {
            // A second wish, after the first.
            for second in Wanted::ALL {
                let (id, _) = desk.in_state(*state).await;
                for wanted in [*first, *second] {
                    let input = match wanted {
                        Wanted::Run => RunInput::RunAsked,
                        Wanted::Pause => RunInput::PauseAsked,
                        Wanted::Cancel => RunInput::CancelAsked,
                    };
                    let before = desk.run(id).await;
                    let result = desk.ask(id, wanted).await;
                    assert_follows(&before, input, result, &desk.run(id).await);
                }
            }
        }
    }
}

/// Line 7 of `Leases`: every report in every state that is held, and none of what is not for workers.
pub async fn what_workers_report_follows_the_rules_from_every_state(fixture: RunsFixture) {
    let desk = fixture.desk();
    let mut inputs = vec![
        RunInput::WindowClosed,
        RunInput::PauseMended,
        RunInput::Rested,
        RunInput::Yielded,
        RunInput::CommitRecorded,
        RunInput::BlobLost,
        UNREACHABLE,
        THROTTLED,
        CORRUPT,
        RunInput::Failed { kind: ErrorKind::Unauthenticated, retry: Retry::Never },
        RunInput::CancelFinished,
    ];
    inputs.extend(RunOutcome::ALL.iter().map(|outcome| RunInput::Finished(*outcome)));
    for state in RunState::ALL {
        for input in &inputs {
            let (id, lease) = desk.in_state(*state).await;
            let Some(lease) = lease else { continue };
            let before = desk.run(id).await;
            let result = desk.report(&lease, *input).await;
            let kept = desk.run(id).await;
            assert_follows(&before, *input, result, &kept);
            if kept.worker.is_none() {
                let again = desk.report(&lease, *input).await;
                assert_refused(again, ErrorKind::Conflict, "lease-lost");
            }
        }
    }
    let lease = desk.leased().await;
    for input in [
        RunInput::Claimed,
        RunInput::RunAsked,
        RunInput::PauseAsked,
        RunInput::CancelAsked,
        RunInput::PauseOverdue,
        RunInput::LeaseLost,
        RunInput::CancelOverdue,
    ] {
        assert_invalid(desk.report(&lease.lease, input).await);
    }
    assert_same(&desk.run(lease.run.new.id).await, &lease.run);
}

/// Asking for what is wanted already is no error, and moves no time.
pub async fn asking_twice_changes_nothing(fixture: RunsFixture) {
    let desk = fixture.desk();
    for wanted in Wanted::ALL {
        let (id, _) = desk.in_state(RunState::Running).await;
        let asked = desk.as_actor("one").ask(id, *wanted).await.expect("it is asked");
        desk.clock.advance(Duration::from_secs(5));
        let again = desk.as_actor("other").ask(id, *wanted).await.expect("it is asked");
        assert_same(&again, &asked);
        assert_same(&desk.run(id).await, &asked);
        let by = if *wanted == Wanted::Run { "test" } else { "one" };
        assert_eq!(asked.wanted_by.as_str(), by);
    }
}

/// What rests for a reason goes on once that is mended, unless a person wants it to rest.
pub async fn only_a_person_undoes_what_a_person_wants(fixture: RunsFixture) {
    let desk = fixture.desk();
    let mend = async |id| desk.store.mend(&desk.scope, id).await;
    let closed = async || {
        let (id, lease) = desk.in_state(RunState::Running).await;
        let lease = lease.expect("it is held");
        desk.report(&lease, RunInput::WindowClosed).await.expect("it pauses");
        let run = desk.report(&lease, RunInput::Rested).await.expect("it rests");
        assert_eq!((run.state, run.wanted), (RunState::Paused, Wanted::Run));
        assert_eq!(run.pause_reason, Some(PauseReason::Window));
        id
    };
    let id = closed().await;
    assert!(desk.claim_run(id).await.is_none());
    assert_eq!(desk.sweep().await, 0, "it waits for its window");
    assert_eq!(mend(id).await.expect("it is mended").state, RunState::Queued);
    assert_refused(mend(id).await, ErrorKind::Conflict, "run-refused");
    assert_eq!(desk.claim_run(id).await.expect("it is claimed").run.pause_reason, None);
    let id = closed().await;
    let asked = desk.ask(id, Wanted::Pause).await.expect("it is asked");
    assert_eq!(asked.pause_reason, Some(PauseReason::User));
    assert_refused(mend(id).await, ErrorKind::Conflict, "run-refused");
    let asked = desk.ask(id, Wanted::Run).await.expect("it is asked");
    assert_eq!((asked.state, asked.pause_reason), (RunState::Queued, None));
}

/// What is since when, and by whom.
pub async fn times_of_a_run_are_noted(fixture: RunsFixture) {
    let desk = fixture.desk();
    let made = desk.create(new_run("run")).await;
    let id = made.new.id;
    assert_eq!((made.created_at, made.started_at), (desk.clock_now(), None));
    let tick = || {
        desk.clock.advance(Duration::from_millis(1_500));
        desk.clock_now()
    };
    let started = tick();
    let lease = desk.claim().await.expect("it is claimed");
    assert_eq!((lease.run.started_at, lease.run.state_since), (Some(started), started));
    assert_eq!(lease.run.wanted_since, made.created_at);
    let asked = tick();
    let run = desk.as_actor("other").ask(id, Wanted::Pause).await.expect("it is asked");
    assert_eq!((run.wanted_since, run.state_since), (asked, asked));
    assert_eq!(run.wanted_by.as_str(), "other");
    let rested = tick();
    let run = desk.report(&lease.lease, RunInput::Rested).await.expect("it rests");
    assert_eq!((run.wanted_since, run.state_since, run.worker), (asked, rested, None));
    desk.ask(id, Wanted::Run).await.expect("it is asked");
    let again = tick();
    let lease = desk.claim().await.expect("it is claimed");
    assert_eq!((lease.run.started_at, lease.run.state_since), (Some(started), again));
    let ended = tick();
    let run = desk.report(&lease.lease, CORRUPT).await.expect("it ends");
    assert_eq!((run.ended_at, run.created_at), (Some(ended), made.created_at));
    assert_same(&desk.run(id).await, &run);
}
