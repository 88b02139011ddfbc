//! Checkpoints that time has passed by: a newer backup, a lane that failed, failures of before.

use std::slice::from_ref;
use std::sync::Arc;

use backupkit::model::EventKind;
use backupkit::source::Source;
use backupkit::state::InMemoryJournal;
use backupkit::testing::{Fault, FaultSource, MemorySource, Operation, PausePoint, SourceFaults};
use backupkit::{BackupReport, BackupRequest, ErrorKind, RunStatus};
use futures::StreamExt as _;

use crate::scene::{
    Scene, assert_whole, back_up, checkpoints, latest_tree, path, random, start, trees,
};

/// A file that is finished before the pause, one at which it waits, and a folder of its own.
fn source() -> MemorySource {
    let mut source = MemorySource::new().with_file(&path("z/last"), random(1, 3 << 20));
    for number in 0..40 {
        source = source.with_file(&path(&format!("a/deep/{number}")), random(50 + number, 20_000));
    }
    source
}

/// Pauses once `z/last` is being read, after `before_pause`.
async fn pause(
    scene: &Scene,
    source: &(impl Source + Clone),
    point: &PausePoint,
    repositories: &[backupkit::repo::Repository],
    before_pause: impl FnOnce(),
) -> BackupReport {
    let run = scene.start(source, repositories);
    point.reached().await;
    before_pause();
    run.pause();
    point.release();
    let report = run.wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Paused, "{report:#?}");
    report
}

fn waiting_at_last(source: &MemorySource) -> PausePoint {
    let point = PausePoint::new();
    source.pause_at(&path("z/last"), 0, &point);
    point
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_could_not_be_removed_is_not_gone_on_from_again() {
    let (scene, source) = (Scene::new().await, source());
    let rig = scene.rig().await;
    let repositories = from_ref(&rig.repository);
    pause(&scene, &source, &waiting_at_last(&source), repositories, || {}).await;
    // A repository that takes and does not give back.
    let refuse = Fault::fail(ErrorKind::PermissionDenied).on(Operation::Delete);
    rig.plan.add(refuse.with_prefix("snapshots/").forever());
    let report = start(&scene.engine, &source, repositories).wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Warnings, "{report:#?}");
    assert_eq!((trees(&rig.repository).await.len(), checkpoints(&rig.repository).await), (1, 1));
    source.set(&path("a/deep/1"), random(999, 20_000));
    source.set(&path("z/last"), random(998, 3 << 20));
    let expected = scene.undisturbed(&source).await;
    start(&scene.engine, &source, repositories).wait().await.unwrap();
    assert_eq!(latest_tree(&rig.repository).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_in_a_repository_that_was_away_is_not_gone_on_from_again() {
    let (scene, source) = (Scene::new().await, source());
    let (here, away) = (scene.rig().await, scene.rig().await);
    let both = [here.repository.clone(), away.repository.clone()];
    pause(&scene, &source, &waiting_at_last(&source), &both, || {}).await;
    scene.back_up(&source, from_ref(&here.repository)).await;
    source.set(&path("a/deep/1"), random(999, 20_000));
    let expected = scene.undisturbed(&source).await;
    scene.back_up(&source, &both).await;
    for rig in [&here, &away] {
        assert_eq!(latest_tree(&rig.repository).await, expected);
        assert_eq!(checkpoints(&rig.repository).await, 0);
        rig.assert_tidy("back again").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_failed_at_the_pause_gets_what_it_lacks_when_it_goes_on() {
    let (scene, source) = (Scene::new().await, source());
    let expected = scene.undisturbed(&source).await;
    for failing in [0, 1] {
        let rigs = [scene.rig().await, scene.rig().await];
        let both = [rigs[0].repository.clone(), rigs[1].repository.clone()];
        // The first pack to be closed is one of data; the trees that name it come after.
        let full = Fault::fail(ErrorKind::StorageFull).on(Operation::Create).with_prefix("data/");
        let point = waiting_at_last(&source);
        pause(&scene, &source, &point, &both, || rigs[failing].plan.add(full)).await;
        assert_eq!(checkpoints(&rigs[failing].repository).await, 0);
        scene.back_up(&source, &both).await;
        for rig in &rigs {
            assert_eq!(latest_tree(&rig.repository).await, expected, "failing: {failing}");
            assert_whole(&rig.repository, &format!("failing: {failing}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_in_a_snapshot_of_an_earlier_attempt_is_a_warning_of_the_next() {
    let (scene, faults) = (Scene::new().await, SourceFaults::new());
    let rigs = [scene.rig().await, scene.rig().await];
    let both = [rigs[0].repository.clone(), rigs[1].repository.clone()];
    faults.fail_body(path("a/deep/7"), ErrorKind::PermissionDenied, u64::MAX);
    let reading = FaultSource::new(Arc::new(source()), &faults);
    let journal = Arc::new(InMemoryJournal::default());
    let attempt = |source: Arc<dyn Source>| {
        let request = BackupRequest::new(source, &both);
        scene.engine.backup(request.with_journal(Arc::<InMemoryJournal>::clone(&journal))).wait()
    };
    let fault = Fault::fail(ErrorKind::Unavailable).on(Operation::Create);
    rigs[1].plan.add(fault.with_prefix("snapshots/").forever());
    assert_eq!(attempt(Arc::new(reading)).await.unwrap().status, RunStatus::Partial);
    // The other one gets what was sealed for it. By now the source could give all.
    rigs[1].plan.clear();
    let report = attempt(Arc::new(source())).await.unwrap();
    assert!(report.outputs.iter().all(|output| output.snapshot.is_some()), "{report:#?}");
    assert_eq!((report.status, report.problem_count), (RunStatus::Warnings, 1), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_read_before_a_pause_is_a_warning_of_the_whole() {
    let (scene, faults) = (Scene::new().await, SourceFaults::new());
    let rig = scene.rig().await;
    let source = source();
    faults.fail_body(path("a/deep/7"), ErrorKind::PermissionDenied, u64::MAX);
    let reading = FaultSource::new(Arc::new(source.clone()), &faults);
    let point = waiting_at_last(&source);
    let mut run = scene.start(&reading, from_ref(&rig.repository));
    let mut events = run.events();
    point.reached().await;
    while !matches!(events.next().await.unwrap().kind, EventKind::EntryFailed { .. }) {}
    run.pause();
    point.release();
    let report = run.wait().await.unwrap();
    assert_eq!((report.status, report.problem_count), (RunStatus::Paused, 1));
    // By another process, as after a Ctrl-C.
    let report = start(&scene.process(), &reading, from_ref(&rig.repository)).wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Warnings, "{report:#?}");
    assert_eq!((report.problem_count, report.summary.files_failed), (1, 1));
    // Read as a whole again, it is what it always was.
    let whole = back_up(&scene.process(), &source, from_ref(&rig.repository)).await;
    assert_eq!(whole.summary.files_failed, 0);
}
