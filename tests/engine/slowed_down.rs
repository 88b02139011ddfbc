//! Systems that ask for fewer requests.

use std::sync::Arc;
use std::time::Duration;

use backupkit::model::EventKind;
use backupkit::testing::{Fault, FaultSource, ManualClock, Operation, PausePoint, SourceFaults};
use backupkit::{Env, RunStatus};
use futures::StreamExt as _;
use tokio::sync::watch;

use crate::lanes::{CountingClock, source};
use crate::scene::{Scene, path};

/// How often lanes are looked after, and how long one may hang.
const STALL_AFTER: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn who_slows_a_run_down_is_told_and_not_set_aside() {
    let (clock, looks) = (ManualClock::default(), watch::Sender::new(0));
    let counting =
        CountingClock { clock: clock.clone(), counted: STALL_AFTER, count: looks.clone() };
    let mut scene = Scene::with_env(Env::system().with_clock(Arc::new(counting))).await;
    scene.engine = scene.engine_with(|engine| engine.stall_after(STALL_AFTER));
    let rigs = [scene.rig().await, scene.rig().await];
    let both = [rigs[0].repository.clone(), rigs[1].repository.clone()];
    let (source, faults) = (source(), SourceFaults::new());
    let [reading, storing, late] = std::array::from_fn(|_| PausePoint::new());
    source.pause_at(&path("data/big"), 0, &reading);
    source.pause_at(&path("late"), 0, &late);
    rigs[1].plan.add(Fault::pause(&storing).on(Operation::Create).with_prefix("data/"));
    let mut run = scene.start(&FaultSource::new(Arc::new(source), &faults), &both);
    let mut events = run.events();
    reading.reached().await;
    // Each lock waits for its second look, the run for a checkpoint, and the lanes for being looked
    // after.
    clock.sleeping(4).await;
    clock.advance(Duration::from_millis(200));
    let mut seen = looks.subscribe();
    let mut look = async || {
        let before = *seen.borrow_and_update();
        clock.advance(STALL_AFTER);
        seen.wait_for(|looks| *looks > before).await.unwrap();
    };
    assert!(!run.progress().is_slowed_down);
    reading.release();
    storing.reached().await;
    faults.set_slowed_down(true);
    rigs[1].plan.set_slowed_down(true);
    // It hangs for twice the time that one may.
    look().await;
    look().await;
    assert!(run.progress().is_slowed_down);
    storing.release();
    late.reached().await;
    faults.set_slowed_down(false);
    rigs[1].plan.set_slowed_down(false);
    look().await;
    assert!(!run.progress().is_slowed_down);
    late.release();
    let report = run.wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded, "{report:#?}");
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        match event.kind {
            EventKind::SlowedDown { place } => told.push((true, place)),
            EventKind::SpeedsUp { place } => told.push((false, place)),
            _ => {}
        }
    }
    let mut slow = [rigs[1].repository.location(), "/".to_owned()];
    slow.sort();
    let expected = [true, false].map(|slows| slow.iter().map(move |place| (slows, place.clone())));
    assert_eq!(told, expected.into_iter().flatten().collect::<Vec<_>>());
}
