//! Runs as they are ordered, listed and removed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::helpers::{assert_refused, race};
use super::{CORRUPT, RunsFixture, assert_invalid, assert_same, json, new_run};
use crate::env::Env;
use crate::error::ErrorKind;
use crate::model::{AttemptPolicy, RunKind, RunState, Wanted};
use crate::state::{
    LogFilter, MAX_NAME_BYTES, MAX_RUN_BODY_BYTES, MAX_SLOTS, NewRun, RecordId, Run, RunFilter,
    RunId, Slot,
};

/// Line 7 of `Runs`: all that was ordered, odd texts too.
pub async fn a_run_comes_back_as_it_was_ordered(fixture: RunsFixture) {
    let desk = fixture.desk();
    let env = Env::system();
    let plain = desk.create(new_run("plain")).await;
    let order = NewRun {
        plan: Some(RecordId::random(&env).expect("an id")),
        kind: RunKind::Maintenance,
        settings: json("{ \"é\\u0000\":1.0e2 ,\"a\":[ ]}"),
        retry_of: Some(plain.new.id),
        key: Some("it's; -- \"x\" %_\\ 名前".to_owned()),
        exclusive: Some("plan é".to_owned()),
        priority: i32::MIN,
        slots: vec![
            Slot { resource: "z, \"é\" [1]".to_owned(), most: u32::MAX },
            Slot { resource: "a".to_owned(), most: 1 },
        ],
        attempts: AttemptPolicy {
            max_attempts: u32::MAX,
            first_delay: Duration::from_nanos(1),
            max_delay: Duration::from_hours(24),
        },
        ..new_run("Ünïcode 名前 e\u{301}")
    };
    let made = desk.as_actor("cli:é").create(order.clone()).await;
    assert_eq!(format!("{:?}", made.new), format!("{order:?}"));
    assert_eq!((made.number, made.actor.as_str()), (2, "cli:é"));
    assert_eq!((made.state, made.wanted), (RunState::Queued, Wanted::Run));
    assert_eq!((&made.scope, &made.wanted_by), (&desk.scope, &made.actor));
    assert_eq!((made.created_at, made.ended_at), (made.state_since, None));
    assert_eq!(made.new.settings.get(), order.settings.get());
    assert_same(&desk.run(made.new.id).await, &made);
    assert_same(&desk.run(plain.new.id).await, &plain);
    let large = format!("\"{}\"", "x".repeat(MAX_RUN_BODY_BYTES - 2));
    let made = desk.create(NewRun { settings: json(&large), ..new_run("large") }).await;
    assert_eq!(desk.run(made.new.id).await.new.settings.get(), large);
}

/// Lines 1 and 8 of `Runs`.
pub async fn a_number_is_given_once(fixture: RunsFixture) {
    let (desk, other) = (fixture.desk(), fixture.desk().in_scope("tenant-2"));
    for number in 1..=3 {
        assert_eq!(desk.create(new_run("run")).await.number, number);
    }
    assert_eq!(other.create(new_run("run")).await.number, 1);
    assert_invalid(desk.try_create(new_run("")).await);
    desk.in_state(RunState::Failed).await;
    desk.clock.advance(Duration::from_secs(1));
    let removed = desk.store.remove_ended(&desk.scope, desk.clock_now(), 9).await;
    assert_eq!(removed.expect("an answer").len(), 1);
    assert_eq!(desk.create(new_run("run")).await.number, 5);
    assert_eq!(desk.numbers().await, [5, 3, 2, 1]);
    assert_eq!(other.numbers().await, [1]);
}

/// Line 2 of `Runs`.
pub async fn a_key_makes_one_run(fixture: RunsFixture) {
    let desk = fixture.desk();
    let keyed = |title| NewRun { key: Some("nightly 2026".to_owned()), ..new_run(title) };
    let made = desk.create(keyed("first")).await;
    let again = desk.as_actor("somebody else").create(keyed("second")).await;
    assert_same(&again, &made);
    // Also with the id of the first, and while it is excluded by itself.
    assert_same(&desk.create(made.new.clone()).await, &made);
    let other = NewRun { key: Some("NIGHTLY 2026".to_owned()), ..new_run("other") };
    assert_eq!(desk.create(other).await.number, 2);
    let elsewhere = desk.in_scope("tenant-2").create(keyed("elsewhere")).await;
    assert_eq!((elsewhere.number, &elsewhere.new.title[..]), (1, "elsewhere"));
    let lease = desk.claim_run(made.new.id).await.expect("it is claimed").lease;
    let ended = desk.report(&lease, CORRUPT).await.expect("it ends");
    assert_same(&desk.create(keyed("third")).await, &ended);
    assert_eq!(desk.numbers().await, [2, 1]);
    desk.clock.advance(Duration::from_secs(1));
    desk.store.remove_ended(&desk.scope, desk.clock_now(), 9).await.expect("an answer");
    assert_eq!(desk.create(keyed("fourth")).await.number, 3);
}

/// An id is used once, also across scopes.
pub async fn an_id_is_used_once(fixture: RunsFixture) {
    let desk = fixture.desk();
    let made = desk.create(new_run("run")).await;
    let again = NewRun { id: made.new.id, key: Some("k".to_owned()), ..new_run("other") };
    for desk in [desk.clone(), desk.in_scope("tenant-2")] {
        let refused = desk.try_create(again.clone()).await;
        assert_refused(refused, ErrorKind::Conflict, "id-taken");
        let refused = desk.try_create(made.new.clone()).await;
        assert_refused(refused, ErrorKind::Conflict, "id-taken");
    }
    assert_same(&desk.run(made.new.id).await, &made);
    assert_eq!(desk.numbers().await, [1]);
}

/// Line 3 of `Runs`.
pub async fn runs_that_exclude_each_other_follow_each_other(fixture: RunsFixture) {
    let desk = fixture.desk();
    let order = || NewRun { exclusive: Some("plan 1".to_owned()), ..new_run("nightly") };
    let first = desk.create(order()).await;
    let told = assert_refused(desk.try_create(order()).await, ErrorKind::Conflict, "run-active");
    assert!(told.contains("run 1 of `nightly`"), "{told}");
    desk.in_scope("tenant-2").create(order()).await;
    desk.create(NewRun { exclusive: Some("plan 2".to_owned()), ..new_run("other") }).await;
    let lease = desk.claim_run(first.new.id).await.expect("it is claimed").lease;
    assert_refused(desk.try_create(order()).await, ErrorKind::Conflict, "run-active");
    desk.ask(first.new.id, Wanted::Cancel).await.expect("it is asked");
    assert_refused(desk.try_create(order()).await, ErrorKind::Conflict, "run-active");
    desk.report(&lease, super::RunInput::CancelFinished).await.expect("it ends");
    desk.create(order()).await;
    assert_refused(desk.try_create(order()).await, ErrorKind::Conflict, "run-active");
    assert_eq!(desk.numbers().await, [3, 2, 1]);
}

/// What an order may not hold is refused.
pub async fn orders_out_of_bounds_are_refused(fixture: RunsFixture) {
    let desk = fixture.desk();
    let slot = |resource: &str, most| Slot { resource: resource.to_owned(), most };
    let with = |slots: Vec<Slot>| NewRun { slots, ..new_run("run") };
    let keyed = |key: &str| NewRun { key: Some(key.to_owned()), ..new_run("run") };
    let exclusive = |word: &str| NewRun { exclusive: Some(word.to_owned()), ..new_run("run") };
    let large = format!("\"{}\"", "x".repeat(MAX_RUN_BODY_BYTES - 1));
    let many = (0..=MAX_SLOTS).map(|number| slot(&number.to_string(), 1)).collect();
    for bad in [
        new_run(""),
        new_run(" a"),
        new_run("a\0b"),
        new_run(&"n".repeat(MAX_NAME_BYTES + 1)),
        NewRun { settings: json(&large), ..new_run("run") },
        keyed(""),
        keyed("a\0b"),
        keyed(&"k".repeat(201)),
        exclusive(""),
        exclusive("a\nb"),
        with(vec![slot("a", 0)]),
        with(vec![slot("", 1)]),
        with(vec![slot("a\0", 1)]),
        with(vec![slot("a", 1), slot("b", 1), slot("a", 2)]),
        with(many),
    ] {
        assert_invalid(desk.try_create(bad).await);
    }
    assert!(desk.numbers().await.is_empty());
    assert!(desk.claim().await.is_none());
}

/// Line 5 of `Runs`.
pub async fn runs_of_other_scopes_are_not_there(fixture: RunsFixture) {
    let (mine, theirs) = (fixture.desk(), fixture.desk().in_scope("tenant-2"));
    let lease = mine.leased().await;
    let id = lease.run.new.id;
    assert!(theirs.find(id).await.is_none());
    assert!(theirs.numbers().await.is_empty());
    for wanted in Wanted::ALL {
        assert_refused(theirs.ask(id, *wanted).await, ErrorKind::NotFound, "no-such-run");
    }
    let mended = theirs.store.mend(&theirs.scope, id).await;
    assert_refused(mended, ErrorKind::NotFound, "no-such-run");
    let gone = RunId::random(&Env::system()).expect("an id");
    assert!(mine.find(gone).await.is_none());
    assert_refused(mine.ask(gone, Wanted::Run).await, ErrorKind::NotFound, "no-such-run");
    let line = super::logs::line("text");
    mine.store.append_logs(&lease.lease, &[line]).await.expect("it is appended");
    let lines = theirs.store.logs(&theirs.scope, id, &LogFilter::default(), 0, 9).await;
    assert!(lines.expect("an answer").is_empty());
    mine.ask(id, Wanted::Cancel).await.expect("it is asked");
    mine.report(&lease.lease, super::RunInput::CancelFinished).await.expect("it ends");
    mine.clock.advance(Duration::from_secs(1));
    let now = mine.clock_now();
    assert!(theirs.store.remove_ended(&theirs.scope, now, 9).await.expect("it ends").is_empty());
    assert_eq!(theirs.store.remove_logs(&theirs.scope, now).await.expect("it ends"), 0);
    assert_eq!(mine.run(id).await.last_log, 1);
}

/// Pages follow each other, and each part of a filter restricts.
pub async fn lists_are_newest_first_and_filtered(fixture: RunsFixture) {
    let desk = fixture.desk();
    let plan = Some(RecordId::random(&Env::system()).expect("an id"));
    for number in 1..=12 {
        let plan = plan.filter(|_| number % 3 == 0);
        let kind = if number % 2 == 0 { RunKind::Prune } else { RunKind::Backup };
        desk.create(NewRun { kind, plan, ..new_run("run") }).await;
    }
    desk.in_scope("tenant-2").create(new_run("run")).await;
    for _ in 0..4 {
        // The first four run.
        desk.claim().await.expect("it is claimed");
    }
    let all = desk.numbers().await;
    assert_eq!(all, (1..=12).rev().collect::<Vec<_>>());
    let list = async |filter: &RunFilter, before, most| {
        let runs = desk.store.runs(&desk.scope, filter, before, most).await;
        runs.expect("an answer").iter().map(|run: &Run| run.number).collect::<Vec<_>>()
    };
    let any = RunFilter::default();
    assert_eq!(list(&any, None, 5).await, [12, 11, 10, 9, 8]);
    assert_eq!(list(&any, Some(8), 5).await, [7, 6, 5, 4, 3]);
    assert_eq!(list(&any, Some(1), 5).await, [0; 0]);
    assert_eq!(list(&any, Some(u64::MAX), 1).await, [12]);
    assert_eq!(list(&any, None, 0).await, [0; 0]);
    let of_plan = RunFilter { plan, ..any.clone() };
    assert_eq!(list(&of_plan, None, 9).await, [12, 9, 6, 3]);
    assert_eq!(list(&of_plan, Some(9), 1).await, [6]);
    let of_kind = RunFilter { kind: Some(RunKind::Prune), ..any.clone() };
    assert_eq!(list(&of_kind, None, 3).await, [12, 10, 8]);
    let running = RunFilter { states: vec![RunState::Running], ..any.clone() };
    assert_eq!(list(&running, None, 9).await, [4, 3, 2, 1]);
    // A state that is named twice shows nothing twice.
    let states = vec![RunState::Queued, RunState::Running, RunState::Running, RunState::Failed];
    let either = RunFilter { states, ..any.clone() };
    assert_eq!(list(&either, None, usize::MAX).await, all);
    assert_eq!(list(&either, Some(6), 3).await, [5, 4, 3]);
    let both = RunFilter { plan, kind: Some(RunKind::Backup), states: vec![RunState::Running] };
    assert_eq!(list(&both, None, 9).await, [3]);
}

/// Runs that have not ended, or ended at that time or later, stay.
pub async fn ended_runs_are_removed_oldest_first(fixture: RunsFixture) {
    let desk = fixture.desk();
    let mut ended = Vec::new();
    for state in [RunState::Failed, RunState::Succeeded, RunState::Cancelled] {
        ended.push(desk.in_state(state).await.0);
        desk.clock.advance(Duration::from_secs(10));
    }
    let last_ended = desk.run(ended[2]).await.ended_at.expect("it ended");
    let (active, _) = desk.in_state(RunState::Paused).await;
    let remove = async |before, most| {
        desk.store.remove_ended(&desk.scope, before, most).await.expect("an answer")
    };
    assert_eq!(remove(last_ended, 1).await, ended[..1]);
    assert_eq!(remove(last_ended, 9).await, ended[1..2]);
    assert!(remove(last_ended, 9).await.is_empty());
    desk.clock.advance(Duration::from_hours(24 * 365));
    assert!(remove(desk.clock_now(), 0).await.is_empty());
    assert_eq!(remove(desk.clock_now(), 9).await, ended[2..]);
    for id in ended {
        assert!(desk.find(id).await.is_none());
        assert_refused(desk.ask(id, Wanted::Run).await, ErrorKind::NotFound, "no-such-run");
    }
    assert_eq!(desk.run(active).await.state, RunState::Paused);
    assert_eq!(desk.numbers().await, [4]);
}

/// Each change is told, and nothing else.
pub async fn the_version_tells_of_each_change(fixture: RunsFixture) {
    let desk = fixture.desk();
    let version = async || desk.store.version().await.expect("an answer");
    let mut seen = version().await;
    let mut assert_told = async |what: &str| {
        let now = version().await;
        assert_ne!(now, seen, "{what}");
        assert_eq!(now, version().await, "{what}");
        seen = now;
    };
    let id = desk.create(new_run("run")).await.new.id;
    assert_told("create").await;
    let lease = desk.claim().await.expect("it is claimed").lease;
    assert_told("claim").await;
    desk.store.renew(&lease, super::LEASE, Some(json("1"))).await.expect("it is renewed");
    assert_told("renew").await;
    desk.store.append_logs(&lease, &[super::logs::line("x")]).await.expect("it is appended");
    assert_told("log").await;
    desk.ask(id, Wanted::Pause).await.expect("it is asked");
    assert_told("ask").await;
    desk.report(&lease, super::RunInput::Rested).await.expect("it rests");
    assert_told("report").await;
    desk.store.swap_setting("a", None, Some("1")).await.expect("it is swapped");
    assert_told("setting").await;
    let before = version().await;
    desk.run(id).await;
    assert!(desk.claim().await.is_none());
    assert_eq!(desk.sweep().await, 0);
    desk.numbers().await;
    assert_eq!(version().await, before, "nothing was changed");
}

/// Line 1 of `Runs`, with 16 at the same time.
pub async fn racing_orders_are_numbered_without_gaps(fixture: RunsFixture) {
    let desk = fixture.desk();
    race(16, |_| {
        let desk = desk.clone();
        Box::pin(async move {
            for _ in 0..4 {
                desk.create(new_run("run")).await;
            }
        })
    })
    .await;
    assert_eq!(desk.numbers().await, (1..=64).rev().collect::<Vec<_>>());
}

/// Line 2 of `Runs`, with 16 at the same time.
pub async fn of_racing_orders_with_one_key_one_makes_the_run(fixture: RunsFixture) {
    let desk = fixture.desk();
    let runs = race(16, |_| {
        let desk = desk.clone();
        let order = NewRun {
            key: Some("key".to_owned()),
            exclusive: Some("word".to_owned()),
            ..new_run("run")
        };
        Box::pin(async move { desk.create(order).await.new.id })
    })
    .await;
    let ids: BTreeSet<RunId> = runs.into_iter().collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(desk.numbers().await, [1]);
}

/// Line 3 of `Runs`, with 16 at the same time.
pub async fn of_racing_orders_that_exclude_each_other_one_is_active(fixture: RunsFixture) {
    let desk = fixture.desk();
    let results = race(16, |_| {
        let desk = desk.clone();
        let order = NewRun { exclusive: Some("word".to_owned()), ..new_run("run") };
        Box::pin(async move { desk.try_create(order).await })
    })
    .await;
    let (made, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (1, 15));
    for result in refused {
        assert_refused(result, ErrorKind::Conflict, "run-active");
    }
    assert_eq!(desk.numbers().await, [1]);
}
