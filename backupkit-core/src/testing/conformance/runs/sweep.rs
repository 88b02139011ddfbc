//! What time brings.

use std::time::Duration;

use super::super::helpers::assert_refused;
use super::{ANY_WAIT, LEASE, RunsFixture, THROTTLED, new_run, worker};
use crate::error::ErrorKind;
use crate::model::{
    AttemptPolicy, CANCEL_GRACE, PAUSE_GRACE, PauseReason, RunInput, RunState, Wanted,
};
use crate::state::{Cause, NewRun, Report};

const SECOND: Duration = Duration::from_secs(1);

/// Line 3 of `Leases`.
pub async fn a_lease_lives_until_it_is_swept(fixture: RunsFixture) {
    let desk = fixture.desk();
    let lease = desk.leased().await;
    desk.clock.advance(LEASE.saturating_sub(SECOND));
    assert_eq!(desk.sweep().await, 0);
    desk.store.renew(&lease.lease, LEASE, None).await.expect("it is renewed");
    desk.clock.advance(LEASE.saturating_sub(SECOND));
    assert_eq!(desk.sweep().await, 0);
    // Over, but not swept.
    desk.clock.advance(ANY_WAIT);
    assert!(desk.claim().await.is_none());
    desk.store.renew(&lease.lease, LEASE, None).await.expect("it is renewed");
    assert_eq!(desk.sweep().await, 0);
    desk.clock.advance(LEASE);
    assert_eq!(desk.sweep().await, 1);
    assert_eq!(desk.sweep().await, 0);
    let renewed = desk.store.renew(&lease.lease, LEASE, None).await;
    assert_refused(renewed, ErrorKind::Conflict, "lease-lost");
    let run = desk.run(lease.run.new.id).await;
    assert_eq!((run.state, run.attempts, &run.worker), (RunState::Queued, 1, &None));
    assert_eq!(run.cause.expect("there is one").code.as_deref(), Some("worker-lost"));
    let again = desk.claim().await.expect("it is claimed");
    assert!(again.lease.fence() > lease.lease.fence());
}

/// Whoever can tell that a worker is dead need not wait.
pub async fn the_lease_of_a_dead_worker_is_lost(fixture: RunsFixture) {
    let desk = fixture.desk();
    let attempts = AttemptPolicy { max_attempts: 2, ..new_run("run").attempts };
    let id = desk.create(NewRun { attempts, ..new_run("run") }).await.new.id;
    let cause =
        Cause { kind: ErrorKind::Timeout, code: None, message: "no answer for 30 s".to_owned() };
    let lease = desk.claim_as("a").await.expect("it is claimed").lease;
    desk.create(new_run("other")).await;
    let other = desk.claim_as("b").await.expect("it is claimed").lease;
    let sweep = async |dead: &[_]| desk.store.sweep(dead, 9).await.expect("an answer");
    assert_eq!(sweep(&[worker("A"), worker("c")]).await, 0);
    assert_eq!(sweep(&[worker("c"), worker("a")]).await, 1);
    assert!(desk.store.renewal(&lease).await.is_err());
    desk.store.renewal(&other).await.expect("it is alive");
    assert_eq!(desk.run(id).await.attempts, 1);
    // The last attempt: a cause on record is not replaced.
    let lease = desk.claim_run(id).await.expect("it is claimed").lease;
    let report = Report { cause: Some(cause.clone()), body: None };
    desk.store.report(&lease, RunInput::WindowClosed, report).await.expect("it is heard");
    assert_eq!(sweep(&[worker("worker")]).await, 1);
    let run = desk.run(id).await;
    assert_eq!((run.state, run.cause), (RunState::Failed, Some(cause)));
    // A commit stays one.
    desk.report(&other, RunInput::CommitRecorded).await.expect("it moves");
    assert_eq!(sweep(&[worker("b")]).await, 1);
    assert_eq!(desk.claim().await.expect("it is claimed").run.state, RunState::Committing);
}

/// Line 4 of `Leases`: neither leases nor graces look at the wall clock.
pub async fn steps_of_the_wall_clock_leave_leases_alone(fixture: RunsFixture) {
    let desk = fixture.desk();
    let lease = desk.leased().await.lease;
    let (pausing, pausing_lease) = desk.in_state(RunState::Pausing).await;
    let (cancelling, _) = desk.in_state(RunState::Cancelling).await;
    let now = desk.clock_now();
    for stepped in [now - Duration::from_hours(1), now + Duration::from_hours(72)] {
        desk.clock.set_now(stepped);
        assert_eq!(desk.sweep().await, 0);
        desk.store.renewal(&lease).await.expect("it is alive");
    }
    desk.clock.set_now(now - Duration::from_hours(1));
    desk.clock.advance(PAUSE_GRACE);
    assert_eq!(desk.sweep().await, 1);
    assert_eq!(desk.run(pausing).await.state, RunState::Paused);
    assert!(desk.store.renewal(&pausing_lease.expect("it was held")).await.is_err());
    desk.clock.advance(LEASE.saturating_sub(PAUSE_GRACE));
    assert_eq!(desk.sweep().await, 2);
    assert!(desk.store.renewal(&lease).await.is_err());
    assert_eq!(desk.run(cancelling).await.state, RunState::Cancelling);
    desk.clock.advance(CANCEL_GRACE);
    assert_eq!(desk.sweep().await, 1);
    assert_eq!(desk.run(cancelling).await.state, RunState::Cancelled);
}

/// Line 4 of `Leases`.
pub async fn a_reboot_ends_all_leases(fixture: RunsFixture) {
    let desk = fixture.desk();
    let lease = desk.leased().await.lease;
    let cancelled = desk.create(new_run("cancelled")).await.new.id;
    desk.ask(cancelled, Wanted::Cancel).await.expect("it is asked");
    assert_eq!(desk.sweep().await, 0);
    desk.clock.reboot();
    assert_eq!(desk.sweep().await, 1);
    assert!(desk.store.renewal(&lease).await.is_err());
    // What began before is measured by the wall clock: not over at once, and not never.
    assert_eq!(desk.run(cancelled).await.state, RunState::Queued);
    let again = desk.claim_run(lease.run()).await.expect("it is claimed").lease;
    desk.clock.advance(LEASE.saturating_sub(SECOND));
    assert_eq!(desk.sweep().await, 0);
    desk.clock.advance(CANCEL_GRACE);
    assert_eq!(desk.sweep().await, 2);
    assert!(desk.store.renewal(&again).await.is_err());
    assert_eq!(desk.run(cancelled).await.state, RunState::Cancelled);
}

/// Its last checkpoint counts then, however often its worker renews.
pub async fn a_run_that_does_not_come_to_rest_is_overdue(fixture: RunsFixture) {
    let desk = fixture.desk();
    let lease = desk.leased().await;
    let id = lease.run.new.id;
    desk.clock.advance(PAUSE_GRACE);
    desk.ask(id, Wanted::Pause).await.expect("it is asked");
    desk.clock.advance(PAUSE_GRACE.saturating_sub(SECOND));
    assert_eq!(desk.sweep().await, 0);
    // Resumed in time, and paused again: it has its time again.
    desk.ask(id, Wanted::Run).await.expect("it is asked");
    desk.ask(id, Wanted::Pause).await.expect("it is asked");
    desk.clock.advance(SECOND);
    desk.store.renew(&lease.lease, ANY_WAIT, None).await.expect("it is renewed");
    assert_eq!(desk.sweep().await, 0);
    desk.clock.advance(PAUSE_GRACE.saturating_sub(SECOND));
    assert_eq!(desk.sweep().await, 1);
    let run = desk.run(id).await;
    assert_eq!((run.state, run.pause_reason), (RunState::Paused, Some(PauseReason::User)));
    assert_eq!((run.attempts, run.worker), (0, None));
    assert!(desk.store.renewal(&lease.lease).await.is_err());
}

/// Whether a worker has it, or none ever came.
pub async fn a_run_that_nobody_cancels_is_overdue(fixture: RunsFixture) {
    let desk = fixture.desk();
    let mut asked = Vec::new();
    for state in [RunState::Queued, RunState::Running, RunState::Pausing, RunState::Paused] {
        let (id, lease) = desk.in_state(state).await;
        desk.ask(id, Wanted::Cancel).await.expect("it is asked");
        if let Some(lease) = lease {
            desk.store.renew(&lease, ANY_WAIT, None).await.expect("it is renewed");
        }
        asked.push(id);
    }
    let other = desk.create(new_run("other")).await.new.id;
    desk.clock.advance(CANCEL_GRACE.saturating_sub(SECOND));
    for id in &asked {
        // Asking again does not give it more time.
        desk.ask(*id, Wanted::Cancel).await.expect("it is asked");
    }
    assert_eq!(desk.sweep().await, 0);
    desk.clock.advance(SECOND);
    assert_eq!(desk.sweep().await, 4);
    for id in asked {
        let run = desk.run(id).await;
        assert_eq!((run.state, run.worker), (RunState::Cancelled, None));
        assert_eq!(run.ended_at, Some(desk.clock_now()));
    }
    assert_eq!(desk.run(other).await.state, RunState::Queued);
}

/// What waits for a throttling service goes on, unless a person wants it to rest.
pub async fn what_time_mends_goes_on(fixture: RunsFixture) {
    let desk = fixture.desk();
    let attempts = AttemptPolicy { max_delay: Duration::from_mins(1), ..new_run("run").attempts };
    let mut throttled = Vec::new();
    for _ in 0..2 {
        let lease = desk.leased_of(NewRun { attempts, ..new_run("run") }).await.lease;
        let run = desk.report(&lease, THROTTLED).await.expect("it rests");
        assert_eq!((run.state, run.pause_reason), (RunState::Paused, Some(PauseReason::Throttled)));
        assert!(run.not_before.is_some());
        throttled.push(run.new.id);
    }
    desk.ask(throttled[1], Wanted::Pause).await.expect("it is asked");
    desk.clock.advance(Duration::from_secs(29));
    assert_eq!(desk.sweep().await, 0);
    desk.clock.advance(Duration::from_secs(31));
    assert_eq!(desk.sweep().await, 1);
    assert_eq!(desk.run(throttled[0]).await.state, RunState::Queued);
    assert_eq!(desk.run(throttled[1]).await.state, RunState::Paused);
    assert_eq!(desk.claim().await.expect("it is claimed").run.attempts, 0);
}

/// The rest waits for the next sweep.
pub async fn a_sweep_moves_so_many_at_most(fixture: RunsFixture) {
    let desk = fixture.desk();
    for _ in 0..5 {
        desk.leased().await;
    }
    desk.clock.advance(LEASE);
    for expected in [0, 2, 2, 1, 0] {
        let most = if expected == 0 { 0 } else { 2 };
        assert_eq!(desk.store.sweep(&[], most).await.expect("an answer"), expected);
    }
    assert_eq!(desk.sweep().await, 0);
}
