//! Several repositories in one run: each is whole by itself, whatever happens to the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backupkit::model::{BlobId, EventKind};
use backupkit::testing::{Fault, ManualClock, MemorySource, Operation, PausePoint};
use backupkit::{BackupReport, Env, ErrorKind, RunStatus};

use crate::scene::{
    Rig, Scene, assert_whole, back_up, checkpoints, latest_tree, path, random, watched,
};

const MIB: u64 = 1 << 20;

fn source() -> MemorySource {
    let mut source = MemorySource::new()
        .with_file(&path("data/big"), random(1, 9 << 20))
        .with_stream(&path("data/stream"), random(2, 3 << 20), 60_000)
        .with_late_file(&path("late"), random(3, 40_000));
    for number in 0..60 {
        let file = path(&format!("data/small/{}/{number}", number % 5));
        source = source.with_file(&file, random(500 + number, 5000));
    }
    source
}

/// Changes a little, so that each backup has something new.
fn change(source: &MemorySource, round: u64) {
    source.set(&path("data/small/1/1"), random(9000 + round, 5000));
    source.set(&path(&format!("data/round/{round}")), random(7000 + round, 700_000));
}

/// A second repository with the cuts of the scene, or with its own.
async fn second(scene: &Scene, same_cuts: bool) -> Rig {
    if same_cuts {
        scene.rig().await
    } else {
        scene.foreign_rig().await
    }
}

/// The tree that a backup of its own makes, with the cuts of that repository.
async fn assert_tree_as_alone(scene: &Scene, source: &MemorySource, rig: &Rig, context: &str) {
    let tree = latest_tree(&rig.repository).await;
    let objects = rig.memory.objects();
    rig.reset();
    scene.back_up(source, std::slice::from_ref(&rig.repository)).await;
    assert_eq!(latest_tree(&rig.repository).await, tree, "{context}");
    rig.memory.replace_objects(objects);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_joins_later_gets_all() {
    for same_cuts in [true, false] {
        let (scene, source) = (Scene::new().await, source());
        let (first, second) = (scene.rig().await, second(&scene, same_cuts).await);
        for round in 0..3 {
            change(&source, round);
            scene.back_up(&source, std::slice::from_ref(&first.repository)).await;
        }
        change(&source, 3);
        let both = [first.repository.clone(), second.repository.clone()];
        for round in 4..6 {
            scene.back_up(&source, &both).await;
            change(&source, round);
        }
        let report = scene.back_up(&source, &both).await;
        assert!(report.summary.files_unmodified > 50, "{report:#?}");
        for rig in [&first, &second] {
            let context = format!("same cuts: {same_cuts}");
            rig.assert_tidy(&context).await;
            assert_tree_as_alone(&scene, &source, rig, &context).await;
        }
        if same_cuts {
            let trees = [&first, &second].map(|rig| latest_tree(&rig.repository));
            let [first, second] = trees;
            assert_eq!(first.await, second.await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_was_forgotten_and_pruned_in_one_repository_is_read_again_for_it() {
    for same_cuts in [true, false] {
        for pruned in [0, 1] {
            let (scene, source) = (Scene::new().await, source());
            let rigs = [scene.rig().await, second(&scene, same_cuts).await];
            let both = [rigs[0].repository.clone(), rigs[1].repository.clone()];
            let rig: &Rig = &rigs[pruned];
            // All of it is gone, or all but what an older snapshot needs.
            let mut remains = vec![rig.memory.objects()];
            scene.back_up(&source, &both).await;
            remains.push(rig.memory.objects());
            change(&source, 1);
            source.set(&path("data/big"), random(40, 9 << 20));
            scene.back_up(&source, &both).await;
            let grown: Vec<_> = rigs.iter().map(|rig| rig.memory.objects()).collect();
            for (kept, remains) in remains.into_iter().enumerate() {
                for (rig, objects) in rigs.iter().zip(&grown) {
                    rig.memory.replace_objects(objects.clone());
                }
                rig.memory.replace_objects(remains);
                scene.back_up(&source, &both).await;
                for rig in &rigs {
                    let context = format!("cuts {same_cuts}, pruned {pruned}, kept {kept}");
                    rig.assert_tidy(&context).await;
                    assert_tree_as_alone(&scene, &source, rig, &context).await;
                }
            }
        }
    }
}

/// Two repositories, and the trees that backups of their own make in them.
struct Pair {
    scene: Scene,
    rigs: [Rig; 2],
    expected: [BlobId; 2],
    same_cuts: bool,
    big_bytes: usize,
}

impl Pair {
    async fn new(same_cuts: bool, big_bytes: usize) -> Self {
        let mut scene = Scene::new().await;
        // A hang is noticed soon. Longer than any call in memory takes.
        scene.engine = scene.engine_with(|engine| engine.stall_after(Duration::from_millis(700)));
        let rigs = [scene.rig().await, second(&scene, same_cuts).await];
        let after = source();
        Self::move_on(&after, big_bytes);
        let mut expected = Vec::new();
        for rig in &rigs {
            scene.back_up(&after, std::slice::from_ref(&rig.repository)).await;
            expected.push(latest_tree(&rig.repository).await);
        }
        Self {
            scene,
            rigs,
            expected: expected.try_into().unwrap(),
            same_cuts,
            big_bytes,
        }
    }

    fn move_on(source: &MemorySource, big_bytes: usize) {
        change(source, 1);
        source.set(&path("data/big"), random(41, big_bytes));
    }

    /// One of two fails or hangs: the other has all, the run is partial, and what the failed one has
    /// is whole. Afterwards both go on.
    async fn assert_partial(&self, fault: Fault, failing: usize, code: Option<&str>) {
        let context = format!("{fault:?} in {failing}, same cuts: {}", self.same_cuts);
        let (scene, rigs) = (&self.scene, &self.rigs);
        let both = [rigs[0].repository.clone(), rigs[1].repository.clone()];
        rigs.iter().for_each(Rig::reset);
        let source = source();
        scene.back_up(&source, &both).await;
        Self::move_on(&source, self.big_bytes);
        rigs[failing].plan.add(fault);
        let report = scene.start(&source, &both).wait().await;
        let report = report.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        assert_eq!(report.status, RunStatus::Partial, "{context}: {report:#?}");
        assert_failed_alone(&report, failing, code, &context);
        rigs[failing].plan.clear();
        assert_whole(&rigs[failing].repository, &context).await;
        let healthy = 1 - failing;
        rigs[healthy].assert_tidy(&context).await;
        let tree = latest_tree(&rigs[healthy].repository).await;
        assert_eq!(tree, self.expected[healthy], "{context}");
        scene.back_up(&source, &both).await;
        for (rig, expected) in rigs.iter().zip(self.expected) {
            assert_whole(&rig.repository, &context).await;
            assert_eq!(rig.count("locks"), 0, "{context}");
            assert_eq!(latest_tree(&rig.repository).await, expected, "{context}");
        }
    }
}

fn assert_failed_alone(report: &BackupReport, failing: usize, code: Option<&str>, context: &str) {
    let failed = &report.outputs[failing];
    assert!(failed.snapshot.is_none(), "{context}");
    let error = failed.error.as_ref().unwrap_or_else(|| panic!("{context}: no error"));
    if let Some(code) = code {
        assert_eq!(error.code(), code, "{context}: {error:?}");
    }
    let other = &report.outputs[1 - failing];
    assert!(other.snapshot.is_some() && other.error.is_none(), "{context}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_repository_that_fails_half_way_leaves_the_other_whole() {
    let fail = || Fault::fail(ErrorKind::StorageFull).forever();
    let create = |folder: &str| fail().on(Operation::Create).with_prefix(folder);
    for (failing, same_cuts) in [(0, true), (1, false)] {
        let pair = Pair::new(same_cuts, 6 << 20).await;
        for fault in [
            create("data/"),
            create("data/").at_call(2),
            create("index/"),
            create("snapshots/"),
            // Its parent cannot be read.
            fail().on(Operation::Get).with_prefix("data/"),
            create("locks/"),
            fail().on(Operation::List).with_prefix("index"),
        ] {
            pair.assert_partial(fault, failing, None).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_repository_that_hangs_is_set_aside() {
    let hang = |operation, folder: &str| {
        let fault = Fault::hang().on(operation).with_prefix(folder);
        fault.forever()
    };
    let stalled = Some("repository-stalled");
    // More than fits into the packs of a lane: whoever stores has to wait.
    let pair = Pair::new(true, 22 << 20).await;
    for number in [0, 1] {
        let upload = hang(Operation::Create, "data/");
        pair.assert_partial(upload, number, stalled).await;
    }
    // At the very end.
    for folder in ["index/", "snapshots/"] {
        let publish = hang(Operation::Create, folder);
        pair.assert_partial(publish, 0, stalled).await;
    }
    let pair = Pair::new(false, 6 << 20).await;
    for (operation, number) in [(Operation::Create, 0), (Operation::Get, 1)] {
        pair.assert_partial(hang(operation, "data/"), number, stalled).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_any_repository_left_is_an_error() {
    let (scene, source) = (Scene::new().await, source());
    for (first, second) in [("data/", "data/"), ("index/", "snapshots/"), ("locks/", "data/")] {
        let rigs = [scene.rig().await, scene.rig().await];
        for (rig, folder) in rigs.iter().zip([first, second]) {
            let fault = Fault::fail(ErrorKind::StorageFull).on(Operation::Create);
            rig.plan.add(fault.with_prefix(folder).forever());
        }
        let both = [rigs[0].repository.clone(), rigs[1].repository.clone()];
        let error = scene.start(&source, &both).wait().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{first} {second}: {error:?}");
        for rig in &rigs {
            assert_eq!(rig.count("locks") + rig.count("snapshots"), 0, "{first} {second}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_had_nothing_to_do_for_long_is_not_set_aside() {
    let clock = ManualClock::default();
    let env = Env::system().with_clock(Arc::new(clock.clone()));
    let mut scene = Scene::with_env(env).await;
    scene.engine = scene.engine_with(|engine| engine.stall_after(Duration::from_secs(60)));
    let rigs = [scene.rig().await, scene.rig().await];
    let both = [rigs[0].repository.clone(), rigs[1].repository.clone()];
    let (source, reading, storing) = (source(), PausePoint::new(), PausePoint::new());
    source.pause_at(&path("data/big"), 0, &reading);
    let upload = Fault::pause(&storing).on(Operation::Create);
    rigs[1].plan.add(upload.with_prefix("data/"));
    let run = scene.start(&source, &both);
    // Each lock is looked at a second time.
    for sleepers in [1, 2] {
        clock.sleeping(sleepers).await;
        clock.advance(Duration::from_millis(200));
    }
    reading.reached().await;
    clock.advance(Duration::from_secs(200));
    reading.release();
    storing.reached().await;
    // Time for a look at the lanes: this one has been at it for a moment only.
    for _ in 0..5 {
        clock.advance(Duration::from_secs(5));
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    storing.release();
    let report = run.wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded, "{report:#?}");
}

/// Pauses a backup into these repositories at a place in the source.
async fn pause(scene: &Scene, source: &MemorySource, rigs: &[&Rig], at: (&str, u64)) {
    let point = PausePoint::new();
    source.pause_at(&path(at.0), at.1, &point);
    let repositories: Vec<_> = rigs.iter().map(|rig| rig.repository.clone()).collect();
    let run = scene.start(source, &repositories);
    point.reached().await;
    run.pause();
    point.release();
    let report = run.wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Paused, "{report:#?}");
    for rig in rigs {
        assert_eq!(checkpoints(&rig.repository).await, 1);
        assert_whole(&rig.repository, "paused").await;
    }
}

fn places() -> [(&'static str, u64); 4] {
    [
        ("data/big", 8 * MIB),
        ("data/stream", 2 * MIB),
        ("data/small/3/3", 0),
        ("late", 0),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_two_repositories_goes_on_in_both() {
    for same_cuts in [true, false] {
        for place in places() {
            let (scene, source) = (Scene::new().await, source());
            let rigs = [scene.rig().await, second(&scene, same_cuts).await];
            pause(&scene, &source, &[&rigs[0], &rigs[1]], place).await;
            let both = [rigs[0].repository.clone(), rigs[1].repository.clone()];
            let (report, events) = watched(scene.start(&source, &both)).await;
            let context = format!("{place:?}, same cuts: {same_cuts}");
            assert_eq!(report.unwrap().status, RunStatus::Succeeded, "{context}");
            assert!(has_resumed(&events), "{context}: {events:#?}");
            for rig in &rigs {
                assert_eq!(checkpoints(&rig.repository).await, 0, "{context}");
                let inventory = assert_whole(&rig.repository, &context).await;
                assert_eq!(inventory.repeated(), [], "{context}");
                assert_tree_as_alone(&scene, &source, rig, &context).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_other_repositories_is_dropped_and_said_so() {
    let (scene, source) = (Scene::new().await, source());
    let rigs = [scene.rig().await, scene.foreign_rig().await, scene.rig().await];
    let kept: Vec<BTreeMap<_, _>> = {
        pause(&scene, &source, &[&rigs[0], &rigs[1]], places()[0]).await;
        rigs.iter().map(|rig| rig.memory.objects()).collect()
    };
    // One is missing, another comes instead or besides, or one came back without what it had.
    for (chosen, emptied) in [
        (vec![0], None),
        (vec![1], None),
        (vec![0, 2], None),
        (vec![2, 0], None),
        (vec![2, 1], None),
        (vec![0, 1, 2], None),
        (vec![0, 1], Some(0)),
        (vec![0, 1], Some(1)),
    ] {
        for (rig, objects) in rigs.iter().zip(&kept) {
            rig.memory.replace_objects(objects.clone());
        }
        if let Some(number) = emptied {
            rigs[number].reset();
        }
        let context = format!("{chosen:?}, without the content of {emptied:?}");
        let repositories: Vec<_> = chosen.iter().map(|n| rigs[*n].repository.clone()).collect();
        let (report, events) = watched(scene.start(&source, &repositories)).await;
        assert_eq!(report.unwrap().status, RunStatus::Succeeded, "{context}");
        let dropped = |event: &EventKind| matches!(event, EventKind::CheckpointDropped { .. });
        assert!(events.iter().any(dropped), "{context}: {events:#?}");
        for number in &chosen {
            let rig = &rigs[*number];
            assert_eq!(checkpoints(&rig.repository).await, 0, "{context}");
            assert_whole(&rig.repository, &context).await;
            assert_tree_as_alone(&scene, &source, rig, &context).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_one_repository_cannot_keep_goes_on_in_the_other_or_starts_over() {
    let (scene, source) = (Scene::new().await, source());
    let rigs = [scene.rig().await, scene.foreign_rig().await];
    let both = [rigs[0].repository.clone(), rigs[1].repository.clone()];
    let point = PausePoint::new();
    source.pause_at(&path("data/big"), 8 * MIB, &point);
    let full = Fault::fail(ErrorKind::StorageFull).on(Operation::Create);
    rigs[0].plan.add(full.with_prefix("data/").forever());
    let run = scene.start(&source, &both);
    point.reached().await;
    run.pause();
    point.release();
    let report = run.wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Paused, "{report:#?}");
    assert!(report.outputs[0].error.is_some() && report.outputs[1].snapshot.is_some());
    rigs[0].plan.clear();
    back_up(&scene.process(), &source, &both).await;
    for rig in &rigs {
        assert_eq!(checkpoints(&rig.repository).await, 0);
        assert_whole(&rig.repository, "after a pause of one").await;
        assert_tree_as_alone(&scene, &source, rig, "after a pause of one").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_no_repository_can_keep_is_an_error() {
    let (scene, source) = (Scene::new().await, source());
    let rig = scene.rig().await;
    let point = PausePoint::new();
    source.pause_at(&path("data/big"), 8 * MIB, &point);
    let full = Fault::fail(ErrorKind::StorageFull).on(Operation::Create);
    rig.plan.add(full.with_prefix("snapshots/").forever());
    let run = scene.start(&source, std::slice::from_ref(&rig.repository));
    point.reached().await;
    run.pause();
    point.release();
    let error = run.wait().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(rig.count("locks") + rig.count("snapshots"), 0);
}

fn has_resumed(events: &[EventKind]) -> bool {
    let resumed = |event: &EventKind| matches!(event, EventKind::Resumed { .. });
    events.iter().any(resumed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_renewed_while_it_is_looked_at_is_not_lost() {
    let clock = ManualClock::default();
    let env = Env::system().with_clock(Arc::new(clock.clone()));
    let scene = Scene::with_env(env).await;
    let rig = scene.rig().await;
    let (source, reading, looking) = (source(), PausePoint::new(), PausePoint::new());
    source.pause_at(&path("late"), 0, &reading);
    let run = scene.start(&source, std::slice::from_ref(&rig.repository));
    clock.sleeping(1).await;
    clock.advance(Duration::from_millis(200));
    reading.reached().await;
    // The look before the index is written waits, and meanwhile the lock is renewed.
    let look = Fault::pause(&looking).on(Operation::Stat).with_prefix("locks/");
    rig.plan.add(look);
    reading.release();
    looking.reached().await;
    let (before, deletes) = (rig.memory.objects(), rig.plan.calls_of(Operation::Delete));
    clock.advance(Duration::from_secs(5 * 60));
    while rig.plan.calls_of(Operation::Delete) == deletes {
        tokio::task::yield_now().await;
    }
    while before.keys().any(|key| {
        key.as_str().starts_with("locks/") && rig.memory.objects().contains_key(key)
    }) {
        tokio::task::yield_now().await;
    }
    looking.release();
    let report = run.wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded, "{report:#?}");
    rig.assert_tidy("renewed").await;
}
