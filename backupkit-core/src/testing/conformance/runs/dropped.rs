//! Calls that are dropped half-way.

use bytes::Bytes;

use super::super::helpers::{MOST_POLLS, poll_times};
use super::{Desk, LEASE, RunsFixture, json, new_run, worker};
use crate::error::Result;
use crate::model::{PackId, RunInput, RunOutcome, RunState, Wanted};
use crate::state::{Claim, Lease, LogFilter, NewRun, Report, RunId};

/// A scope with two runs that have ended.
type Ended = (Desk, [RunId; 2]);

/// Drops a call after each of its waits, until it comes to its end. Each time, `start` prepares it,
/// `call` makes it, and `look` says whether it took effect, and panics if that is half of it.
async fn drop_everywhere<T>(
    desk: &Desk,
    start: impl AsyncFn() -> T,
    call: impl AsyncFn(&T) -> Result<()>,
    look: impl AsyncFn(&T) -> bool,
) {
    for polls in 1..=MOST_POLLS {
        let prepared = start().await;
        let has_ended = poll_times(polls, call(&prepared)).await;
        // What is still under way ends before what comes after it.
        let barrier = desk.store.setting("barrier").await.expect("an answer");
        let next = polls.to_string();
        desk.store.swap_setting("barrier", barrier.as_deref(), Some(&next)).await.expect("it is");
        let has_effect = look(&prepared).await;
        if has_ended {
            assert!(has_effect, "it came to its end after {polls} polls");
            return;
        }
    }
    panic!("a call waits more than {MOST_POLLS} times");
}

/// Line 6 of `Runs`.
pub async fn dropped_calls_of_persons_take_effect_whole_or_not_at_all(fixture: RunsFixture) {
    let desk = fixture.desk();
    let order = async || NewRun { key: Some(random_word()), ..new_run("run") };
    let create = async |order: &NewRun| desk.try_create(order.clone()).await.map(drop);
    drop_everywhere(&desk, order, create, async |order: &NewRun| {
        let numbers = desk.numbers().await;
        assert_eq!(numbers, (1..=numbers.len() as u64).rev().collect::<Vec<_>>());
        desk.find(order.id).await.is_some()
    })
    .await;
    let running = async || desk.in_state(RunState::Running).await.0;
    let pause = async |id: &RunId| desk.ask(*id, Wanted::Pause).await.map(drop);
    drop_everywhere(&desk, running, pause, async |id: &RunId| {
        let run = desk.run(*id).await;
        let is_asked = run.wanted == Wanted::Pause;
        assert_eq!(is_asked, run.state == RunState::Pausing);
        is_asked
    })
    .await;
    let paused = async || {
        let (id, lease) = desk.in_state(RunState::Running).await;
        let lease = lease.expect("it is held");
        desk.report(&lease, RunInput::WindowClosed).await.expect("it pauses");
        desk.report(&lease, RunInput::Rested).await.expect("it rests");
        id
    };
    let mend = async |id: &RunId| desk.store.mend(&desk.scope, *id).await.map(drop);
    drop_everywhere(&desk, paused, mend, async |id: &RunId| {
        let run = desk.run(*id).await;
        assert_eq!(run.state == RunState::Queued, run.pause_reason.is_none());
        run.state == RunState::Queued
    })
    .await;
    let two_ended = async || {
        let scope = desk.in_scope(&random_word());
        let ids =
            [scope.in_state(RunState::Failed).await.0, scope.in_state(RunState::Partial).await.0];
        desk.clock.advance(std::time::Duration::from_secs(1));
        (scope, ids)
    };
    let remove = async |(desk, _): &Ended| {
        desk.store.remove_ended(&desk.scope, desk.clock_now(), 9).await.map(drop)
    };
    drop_everywhere(&desk, two_ended, remove, async |(desk, ids): &Ended| {
        let left = [desk.find(ids[0]).await.is_some(), desk.find(ids[1]).await.is_some()];
        assert_eq!(left[0], left[1]);
        !left[0]
    })
    .await;
    let word = async || format!("w{}", random_word());
    let swap =
        async |word: &String| desk.store.swap_setting(word, None, Some("value")).await.map(drop);
    drop_everywhere(&desk, word, swap, async |word: &String| {
        desk.store.setting(word).await.expect("an answer").is_some()
    })
    .await;
}

/// Line 2 of `Checkpoints` and of `Logs`.
pub async fn dropped_calls_of_workers_take_effect_whole_or_not_at_all(fixture: RunsFixture) {
    let desk = fixture.desk();
    let store = &desk.store;
    let leased = async || desk.leased().await;
    let renew =
        async |held: &Lease| store.renew(&held.lease, LEASE, Some(json("1"))).await.map(drop);
    drop_everywhere(&desk, leased, renew, async |held: &Lease| {
        desk.run(held.lease.run()).await.progress.is_some()
    })
    .await;
    let lines = [super::logs::line("a"), super::logs::line("b"), super::logs::line("c")];
    let append = async |held: &Lease| store.append_logs(&held.lease, &lines).await.map(drop);
    drop_everywhere(&desk, leased, append, async |held: &Lease| {
        let id = held.lease.run();
        let found = store.logs(&desk.scope, id, &LogFilter::default(), 0, 9).await;
        let found = found.expect("an answer").len() as u64;
        assert_eq!(found, desk.run(id).await.last_log);
        assert!(found == 0 || found == 3, "{found} lines");
        found == 3
    })
    .await;
    let save = async |held: &Lease| {
        store.save_checkpoint(&held.lease, 0, Bytes::from_static(b"new"), 5).await
    };
    drop_everywhere(&desk, leased, save, async |held: &Lease| {
        store.load_checkpoint(&held.lease, 0).await.expect("an answer").is_some()
    })
    .await;
    let packs = [PackId::of(b"1"), PackId::of(b"2"), PackId::of(b"3")];
    let note = async |held: &Lease| store.record_packs(&held.lease, 0, "r", &packs).await;
    drop_everywhere(&desk, leased, note, async |held: &Lease| {
        let found = store.recorded_packs(&held.lease, 0, "r").await.expect("an answer").len();
        assert!(found == 0 || found == 3, "{found} packs");
        found == 3
    })
    .await;
    let (one, two) = ([super::checkpoints::output(1)], [2, 3].map(super::checkpoints::output));
    let with_one = async || {
        let held = desk.leased().await;
        store.record_outputs(&held.lease, 0, &one).await.expect("it is recorded");
        held
    };
    let record = async |held: &Lease| store.record_outputs(&held.lease, 0, &two).await;
    drop_everywhere(&desk, with_one, record, async |held: &Lease| {
        let found = store.recorded_outputs(&held.lease, 0).await.expect("an answer");
        assert!(found == one || found == two, "{} outputs", found.len());
        found == two
    })
    .await;
}

/// Line 8 of `Leases`.
pub async fn dropped_moves_take_effect_whole_or_not_at_all(fixture: RunsFixture) {
    let desk = fixture.desk();
    let store = &desk.store;
    let name = worker("dead");
    let two_of_dead = async || {
        let mut ids = Vec::new();
        for _ in 0..2 {
            let id = desk.create(new_run("run")).await.new.id;
            let claim = Claim::new(name.clone(), LEASE).only(id);
            store.claim(&claim).await.expect("an answer").expect("it is claimed");
            ids.push(id);
        }
        ids
    };
    let sweep =
        async |_: &Vec<RunId>| store.sweep(std::slice::from_ref(&name), usize::MAX).await.map(drop);
    drop_everywhere(&desk, two_of_dead, sweep, async |ids: &Vec<RunId>| {
        let mut moved = 0;
        for id in ids {
            let run = desk.run(*id).await;
            let is_lost = run.state == RunState::Queued;
            assert_eq!(is_lost, run.worker.is_none());
            assert_eq!(is_lost, run.cause.is_some());
            moved += usize::from(is_lost);
        }
        assert!(moved == 0 || moved == ids.len(), "{moved} moved");
        // The next sweep is not to find these too.
        store.sweep(std::slice::from_ref(&name), usize::MAX).await.expect("an answer");
        moved > 0
    })
    .await;
    let queued = async || desk.create(new_run("run")).await.new.id;
    let claim = async |id: &RunId| {
        store.claim(&Claim::new(worker("worker"), LEASE).only(*id)).await.map(drop)
    };
    drop_everywhere(&desk, queued, claim, async |id: &RunId| {
        let run = desk.run(*id).await;
        assert_eq!(run.state == RunState::Running, run.worker.is_some());
        assert_eq!(run.started_at.is_some(), run.worker.is_some());
        run.worker.is_some()
    })
    .await;
    let committing = async || {
        let held = desk.leased().await;
        desk.report(&held.lease, RunInput::CommitRecorded).await.expect("it moves");
        held
    };
    let finish = async |held: &Lease| {
        let report = Report { body: Some(json("1")), cause: None };
        let finished = RunInput::Finished(RunOutcome::Succeeded);
        store.report(&held.lease, finished, report).await.map(drop)
    };
    drop_everywhere(&desk, committing, finish, async |held: &Lease| {
        let run = desk.run(held.lease.run()).await;
        let has_ended = run.state == RunState::Succeeded;
        assert_eq!(has_ended, run.report.is_some());
        assert_eq!(has_ended, run.ended_at.is_some());
        assert_eq!(has_ended, store.renewal(&held.lease).await.is_err());
        has_ended
    })
    .await;
}

/// A word that nobody else has.
fn random_word() -> String {
    RunId::random(&crate::env::Env::system()).expect("an id").to_string()
}
