//! Claims, and what holders of leases can do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::helpers::{assert_refused, race};
use super::{
    ANY_WAIT, Desk, LEASE, RunsFixture, UNREACHABLE, assert_invalid, assert_same, json, new_run,
    worker,
};
use crate::error::{Error, ErrorKind};
use crate::model::{AttemptPolicy, PackId, RunInput, RunOutcome, RunState, Wanted};
use crate::state::{
    Cause, Lease, LeaseRef, MAX_CAUSE_BYTES, MAX_RUN_BODY_BYTES, NewRun, Report, RunId, Slot,
};

/// Line 6 of `Leases`, over all scopes.
pub async fn claims_follow_priority_then_creation(fixture: RunsFixture) {
    let desk = fixture.desk();
    let scopes = [desk.clone(), desk.in_scope("tenant-2"), desk.in_scope("a")];
    for (number, (priority, desk)) in
        [0, 5, -1, 5, 0, i32::MAX].into_iter().zip(scopes.iter().cycle()).enumerate()
    {
        desk.create(NewRun { priority, ..new_run(&format!("run {number}")) }).await;
    }
    let mut titles = Vec::new();
    while let Some(lease) = desk.claim().await {
        assert_eq!(lease.run.state, RunState::Running);
        assert_eq!(lease.run.worker, Some(worker("worker")));
        assert_eq!(lease.lease.run(), lease.run.new.id);
        titles.push(lease.run.new.title);
    }
    assert_eq!(titles, ["run 5", "run 1", "run 3", "run 0", "run 4", "run 2"]);
}

/// Only this run, whatever comes before it.
pub async fn a_claim_may_name_its_run(fixture: RunsFixture) {
    let desk = fixture.desk();
    let first = desk.create(NewRun { priority: 9, ..new_run("first") }).await.new.id;
    let second = desk.create(new_run("second")).await.new.id;
    let lease = desk.claim_run(second).await.expect("it is claimed");
    assert_eq!(lease.run.new.id, second);
    assert!(desk.claim_run(second).await.is_none(), "somebody has it");
    let gone = RunId::random(&crate::env::Env::system()).expect("an id");
    assert!(desk.claim_run(gone).await.is_none());
    assert_eq!(desk.claim().await.expect("it is claimed").run.new.id, first);
    assert!(desk.claim().await.is_none());
}

/// Line 6 of `Leases`.
pub async fn a_run_whose_time_has_not_come_holds_up_no_other(fixture: RunsFixture) {
    let desk = fixture.desk();
    let attempts = AttemptPolicy {
        first_delay: Duration::from_secs(30),
        max_delay: Duration::from_secs(30),
        ..AttemptPolicy::default()
    };
    let early = desk.leased_of(NewRun { priority: 9, attempts, ..new_run("early") }).await;
    let run = desk.report(&early.lease, UNREACHABLE).await.expect("it fails");
    let not_before = run.not_before.expect("it waits");
    let least = desk.clock_now() + Duration::from_secs(15);
    assert!((least..=desk.clock_now() + Duration::from_secs(30)).contains(&not_before));
    let other = desk.create(new_run("other")).await.new.id;
    assert!(desk.claim_run(early.run.new.id).await.is_none());
    assert_eq!(desk.claim().await.expect("it is claimed").run.new.id, other);
    desk.clock.advance(Duration::from_secs(14));
    assert!(desk.claim().await.is_none());
    desk.clock.advance(Duration::from_secs(16));
    let again = desk.claim().await.expect("it is claimed");
    assert_eq!((again.run.new.id, again.run.not_before), (early.run.new.id, None));
    // Asking ends the wait.
    desk.report(&again.lease, UNREACHABLE).await.expect("it fails");
    assert!(desk.claim().await.is_none());
    desk.ask(early.run.new.id, Wanted::Run).await.expect("it is asked");
    assert!(desk.claim().await.is_some());
}

/// A worker that died before its run came to rest leaves that to the next claim.
pub async fn what_is_to_rest_rests_when_it_is_claimed(fixture: RunsFixture) {
    let desk = fixture.desk();
    let mut resting = Vec::new();
    for _ in 0..3 {
        let (id, lease) = desk.in_state(RunState::Pausing).await;
        desk.report(&lease.expect("it is held"), RunInput::Yielded).await.expect("it is given");
        resting.push(id);
    }
    let last = desk.create(new_run("last")).await.new.id;
    assert_eq!(desk.run(resting[0]).await.state, RunState::Queued);
    assert!(desk.claim_run(resting[0]).await.is_none());
    assert_eq!(desk.run(resting[0]).await.state, RunState::Paused);
    assert_eq!(desk.claim().await.expect("it is claimed").run.new.id, last);
    for id in resting {
        assert_eq!(desk.run(id).await.state, RunState::Paused);
    }
    // It waits neither for its time nor for its resources.
    let attempts =
        AttemptPolicy { first_delay: LEASE, max_delay: LEASE, ..AttemptPolicy::default() };
    let slots = vec![Slot { resource: "nas".to_owned(), most: 1 }];
    let order = || NewRun { attempts, slots: slots.clone(), ..new_run("run") };
    let dead = desk.leased_of(order()).await.lease;
    desk.ask(dead.run(), Wanted::Pause).await.expect("it is asked");
    assert_eq!(desk.store.sweep(&[worker("worker")], 9).await.expect("an answer"), 2);
    assert!(desk.run(dead.run()).await.not_before.is_some());
    desk.leased_of(order()).await;
    assert!(desk.claim_run(dead.run()).await.is_none());
    assert_eq!(desk.run(dead.run()).await.state, RunState::Paused);
}

/// Line 1 of `Leases`.
pub async fn each_claim_has_a_higher_fence(fixture: RunsFixture) {
    let desk = fixture.desk();
    let id = desk.create(new_run("run")).await.new.id;
    let mut last = 0;
    for _ in 0..5 {
        let lease = desk.claim().await.expect("it is claimed").lease;
        assert!(desk.claim().await.is_none(), "somebody has it");
        assert!(lease.fence() > last);
        last = lease.fence();
        assert_eq!(LeaseRef::new(id, last), lease);
        desk.report(&lease, RunInput::Yielded).await.expect("it is given back");
    }
}

/// What every call says of this lease.
async fn answers(desk: &Desk, lease: &LeaseRef) -> Vec<(&'static str, Option<Error>)> {
    let store = &desk.store;
    let (outputs, packs) = ([super::checkpoints::output(1)], [PackId::of(b"pack")]);
    let checkpoint = Bytes::from_static(b"stale");
    vec![
        ("renewal", store.renewal(lease).await.err()),
        ("renew", store.renew(lease, ANY_WAIT, Some(json("\"stale\""))).await.err()),
        ("save", store.save_checkpoint(lease, 0, checkpoint, 99).await.err()),
        ("load", store.load_checkpoint(lease, 0).await.err()),
        ("record packs", store.record_packs(lease, 0, "r", &packs).await.err()),
        ("packs", store.recorded_packs(lease, 0, "r").await.err()),
        ("record outputs", store.record_outputs(lease, 0, &outputs).await.err()),
        ("outputs", store.recorded_outputs(lease, 0).await.err()),
        ("set value", store.set_adapter_value(lease, 0, "k", Some(Bytes::new())).await.err()),
        ("values", store.adapter_values(lease, 0, "", None, 1).await.err()),
        ("log", store.append_logs(lease, &[super::logs::line("stale")]).await.err()),
        ("log nothing", store.append_logs(lease, &[]).await.err()),
        ("report", desk.report(lease, RunInput::CommitRecorded).await.err()),
    ]
}

/// Line 2 of `Leases`: lost, given back, replaced, ended, and never there.
pub async fn a_lease_that_is_gone_does_nothing(fixture: RunsFixture) {
    let desk = fixture.desk();
    let assert_gone = async |lease: &LeaseRef| {
        let before = desk.find(lease.run()).await;
        for (call, error) in answers(&desk, lease).await {
            let error = error.unwrap_or_else(|| panic!("{call} is not refused"));
            assert_eq!(error.code(), "lease-lost", "{call}: {}", error.report());
            assert_eq!(error.kind(), ErrorKind::Conflict);
        }
        assert_eq!(format!("{:?}", desk.find(lease.run()).await), format!("{before:?}"));
    };
    let first = desk.leased().await.lease;
    desk.clock.advance(LEASE);
    assert_eq!(desk.sweep().await, 1);
    assert_gone(&first).await;
    let second = desk.claim_run(first.run()).await.expect("it is claimed").lease;
    assert_gone(&first).await;
    assert_gone(&LeaseRef::new(first.run(), second.fence() + 1)).await;
    assert_gone(&LeaseRef::new(first.run(), 0)).await;
    assert!(desk.store.load_checkpoint(&second, 0).await.expect("an answer").is_none());
    assert!(desk.store.recorded_packs(&second, 0, "r").await.expect("an answer").is_empty());
    assert!(desk.store.recorded_outputs(&second, 0).await.expect("an answer").is_empty());
    desk.report(&second, RunInput::Yielded).await.expect("it is given back");
    assert_gone(&second).await;
    let third = desk.claim_run(first.run()).await.expect("it is claimed").lease;
    for (call, error) in answers(&desk, &third).await {
        assert!(error.is_none(), "{call}: {error:?}");
    }
    let finished = RunInput::Finished(RunOutcome::Succeeded);
    desk.report(&third, finished).await.expect("it ends");
    assert_gone(&third).await;
    let gone = RunId::random(&crate::env::Env::system()).expect("an id");
    assert_gone(&LeaseRef::new(gone, 1)).await;
}

/// A worker that shuts down in order costs the run nothing.
pub async fn a_yield_spends_no_attempt(fixture: RunsFixture) {
    let desk = fixture.desk();
    let attempts = AttemptPolicy { max_attempts: 1, ..AttemptPolicy::default() };
    let id = desk.create(NewRun { attempts, ..new_run("run") }).await.new.id;
    for _ in 0..10 {
        let lease = desk.claim().await.expect("it is claimed").lease;
        let run = desk.report(&lease, RunInput::Yielded).await.expect("it is given back");
        assert_eq!((run.state, run.attempts, run.not_before), (RunState::Queued, 0, None));
    }
    assert_eq!(desk.run(id).await.cause, None);
}

/// The last error stays on record.
pub async fn attempts_that_are_used_up_end_it_with_the_last_cause(fixture: RunsFixture) {
    let desk = fixture.desk();
    let id = desk.create(new_run("run")).await.new.id;
    let cause = |number: u32| Cause {
        kind: ErrorKind::Unavailable,
        code: Some("no-route".to_owned()),
        message: format!("cannot reach the server, attempt {number}"),
    };
    for number in 1..=5 {
        let lease = desk.claim().await.expect("it is claimed").lease;
        let report = Report { cause: Some(cause(number)), body: None };
        let run = desk.store.report(&lease, UNREACHABLE, report).await.expect("it fails");
        assert_eq!((run.attempts, &run.cause), (number, &Some(cause(number))));
        assert_eq!(run.state.is_terminal(), number == 5);
    }
    assert!(desk.claim().await.is_none());
    let run = desk.run(id).await;
    assert_eq!((run.state, run.cause), (RunState::Failed, Some(cause(5))));
}

/// Texts and bodies as they were, NUL and all.
pub async fn reports_and_progress_come_back(fixture: RunsFixture) {
    let desk = fixture.desk();
    let Lease { lease, run } = desk.leased().await;
    let id = run.new.id;
    desk.store.renew(&lease, LEASE, Some(json("{\"é\": 1.0e1}"))).await.expect("it is renewed");
    desk.store.renew(&lease, LEASE, None).await.expect("it is renewed");
    let odd = Cause { kind: ErrorKind::Internal, code: None, message: "a\0é\n名前".to_owned() };
    let body = json("{\"outputs\": [ ]}");
    let report = Report { body: Some(Arc::clone(&body)), cause: Some(odd.clone()) };
    desk.store.report(&lease, RunInput::CommitRecorded, report.clone()).await.expect("it moves");
    let kept = desk.run(id).await;
    assert_eq!(kept.progress.expect("it is kept").get(), "{\"é\": 1.0e1}");
    assert_eq!(kept.report.expect("it is kept").get(), body.get());
    assert_eq!(kept.cause, Some(odd.clone()));
    // Refused: nothing of it is kept.
    let other = Report { body: Some(json("2")), ..Report::default() };
    let refused = desk.store.report(&lease, RunInput::CancelFinished, other).await;
    assert_refused(refused, ErrorKind::Conflict, "run-refused");
    let large = json(&format!("\"{}\"", "x".repeat(MAX_RUN_BODY_BYTES - 1)));
    assert_invalid(desk.store.renew(&lease, LEASE, Some(Arc::clone(&large))).await);
    let finished = RunInput::Finished(RunOutcome::Warnings);
    let too_large = Report { body: Some(large), cause: None };
    assert_invalid(desk.store.report(&lease, finished, too_large).await);
    let long = Cause { message: "x".repeat(MAX_CAUSE_BYTES + 1), ..odd };
    let too_long = Report { body: None, cause: Some(long) };
    assert_invalid(desk.store.report(&lease, finished, too_long).await);
    let kept = desk.run(id).await;
    assert_eq!(
        (kept.state, kept.report.expect("it is kept").get()),
        (RunState::Committing, body.get())
    );
    // It ended well, so no error is left.
    let ended = desk.report(&lease, finished).await.expect("it ends");
    assert_eq!(
        (ended.cause.as_ref(), ended.report.as_ref().map(|body| body.get())),
        (None, Some(body.get()))
    );
    assert_same(&desk.run(id).await, &ended);
}

/// What a person asks for is heard at once.
pub async fn workers_hear_what_is_wanted(fixture: RunsFixture) {
    let desk = fixture.desk();
    let Lease { lease, run } = desk.leased().await;
    for (wanted, state) in [
        (Wanted::Run, RunState::Running),
        (Wanted::Pause, RunState::Pausing),
        (Wanted::Run, RunState::Running),
        (Wanted::Cancel, RunState::Cancelling),
    ] {
        desk.ask(run.new.id, wanted).await.expect("it is asked");
        for heard in [
            desk.store.renewal(&lease).await.expect("it is heard"),
            desk.store.renew(&lease, LEASE, None).await.expect("it is renewed"),
        ] {
            assert_eq!((heard.wanted, heard.state), (wanted, state));
        }
    }
}

/// Each once.
pub async fn workers_that_hold_leases_are_listed(fixture: RunsFixture) {
    let desk = fixture.desk();
    let holders = async || desk.store.holders().await.expect("an answer");
    assert!(holders().await.is_empty());
    let mut leases = Vec::new();
    for name in ["b", "é a", "b"] {
        desk.create(new_run("run")).await;
        leases.push(desk.claim_as(name).await.expect("it is claimed").lease);
    }
    assert_eq!(holders().await, [worker("b"), worker("é a")]);
    for (lease, left) in leases.iter().zip([2, 1, 0]) {
        desk.report(lease, RunInput::Yielded).await.expect("it is given back");
        assert_eq!(holders().await.len(), left);
    }
}

/// Line 1 of `Leases`, with 16 at the same time.
pub async fn of_racing_claimers_each_run_goes_to_one(fixture: RunsFixture) {
    let desk = fixture.desk();
    for number in 0..40 {
        desk.create(NewRun { priority: number % 3, ..new_run("run") }).await;
    }
    let claimed = race(16, |number| {
        let desk = desk.clone();
        Box::pin(async move {
            let mut claimed = Vec::new();
            while let Some(lease) = desk.claim_as(&format!("worker {number}")).await {
                claimed.push(lease.lease);
            }
            claimed
        })
    })
    .await;
    let claimed: Vec<LeaseRef> = claimed.into_iter().flatten().collect();
    let runs: BTreeSet<RunId> = claimed.iter().map(LeaseRef::run).collect();
    assert_eq!((claimed.len(), runs.len()), (40, 40));
    for lease in claimed {
        desk.store.renewal(&lease).await.expect("it is alive");
    }
}
