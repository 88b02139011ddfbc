//! Several repositories in one run: each is whole by itself, whatever happens to the others.

use std::sync::Arc;
use std::time::Duration;

use backupkit::adapters::fs::FsDestination;
use backupkit::model::BlobId;
use backupkit::testing::{Fault, ManualClock, MemorySource, Operation, PausePoint};
use backupkit::{BackupReport, Clock, Env, ErrorKind, RunStatus};
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::hangs::BEFORE_READING;
use crate::scene::{PASSWORD, Rig, Scene, assert_whole, latest_tree, path, random, trees};
use crate::support::restic::Restic;

pub(crate) fn source() -> MemorySource {
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
pub(crate) async fn second(scene: &Scene, same_cuts: bool) -> Rig {
    if same_cuts { scene.rig().await } else { scene.foreign_rig().await }
}

/// The tree that a backup of its own makes, with the cuts of that repository.
pub(crate) async fn assert_tree_as_alone(
    scene: &Scene,
    source: &MemorySource,
    rig: &Rig,
    context: &str,
) {
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
    for (same_cuts, pruned) in [(true, 1), (false, 0)] {
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

#[tokio::test(flavor = "multi_thread")]
async fn what_restic_forgot_and_pruned_in_one_repository_is_stored_there_again() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("repository");
    let Some(restic) = Restic::find(&scratch.path().join("home"), &folder, PASSWORD) else {
        return;
    };
    let (scene, source) = (Scene::new().await, source());
    let on_disk = FsDestination::new(&folder, scene.env.clone());
    let on_disk = scene.repository_in(Arc::new(on_disk)).await;
    let rig = scene.rig().await;
    let both = [rig.repository.clone(), on_disk.clone()];
    for round in 0..3 {
        change(&source, round);
        source.set(&path("data/big"), random(50 + round, 5 << 20));
        scene.back_up(&source, &both).await;
    }
    // The parent goes, and with it all that it alone had.
    let (latest, _) = on_disk.find_snapshot("latest").await.unwrap();
    restic.forget(&[&latest.to_string()]);
    restic.prune();
    assert_eq!(trees(&on_disk).await.len(), 2);
    scene.back_up(&source, &both).await;
    assert_eq!(latest_tree(&on_disk).await, latest_tree(&rig.repository).await);
    assert_whole(&on_disk, "pruned").await;
    restic.check_read_data();
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
        scene.engine = scene.engine_with(|engine| engine.stall_after(Duration::from_secs(2)));
        let rigs = [scene.rig().await, second(&scene, same_cuts).await];
        let after = source();
        Self::move_on(&after, big_bytes);
        let mut expected = Vec::new();
        for rig in &rigs {
            scene.back_up(&after, std::slice::from_ref(&rig.repository)).await;
            expected.push(latest_tree(&rig.repository).await);
        }
        Self { scene, rigs, expected: expected.try_into().unwrap(), same_cuts, big_bytes }
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
async fn one_repository_that_hangs_before_anything_is_read_is_set_aside() {
    let pair = Pair::new(true, 1 << 20).await;
    for (number, (operation, folder)) in BEFORE_READING.into_iter().enumerate() {
        let hang = Fault::hang().on(operation).with_prefix(folder).forever();
        pair.assert_partial(hang, number % 2, Some("repository-stalled")).await;
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
        for (rig, folder) in rigs.iter().zip([first, second]) {
            assert_eq!(rig.count("snapshots"), 0, "{first} {second}");
            // The lock leads the next backup to packs without an index.
            assert_eq!(rig.count("locks"), usize::from(folder == "index/"), "{first} {second}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_had_nothing_to_do_for_long_is_not_set_aside() {
    // Lanes are looked after as often as the time after which one is stuck.
    let stall_after = Duration::from_secs(4);
    let (clock, looks) = (ManualClock::default(), watch::Sender::new(0));
    let counting =
        CountingClock { clock: clock.clone(), counted: stall_after, count: looks.clone() };
    let mut scene = Scene::with_env(Env::system().with_clock(Arc::new(counting))).await;
    scene.engine = scene.engine_with(|engine| engine.stall_after(stall_after));
    let rigs = [scene.rig().await, scene.rig().await];
    let both = [rigs[0].repository.clone(), rigs[1].repository.clone()];
    let (source, reading, storing) = (source(), PausePoint::new(), PausePoint::new());
    source.pause_at(&path("data/big"), 0, &reading);
    let upload = Fault::pause(&storing).on(Operation::Create);
    rigs[1].plan.add(upload.with_prefix("data/"));
    let run = scene.start(&source, &both);
    reading.reached().await;
    // Each lock waits for its second look, the run for a checkpoint, and the lanes for being looked
    // after.
    clock.sleeping(4).await;
    clock.advance(Duration::from_millis(200));
    let mut seen = looks.subscribe();
    let before = *seen.borrow();
    clock.advance(Duration::from_secs(200));
    seen.wait_for(|looks| *looks == before + 1).await.unwrap();
    clock.advance(Duration::from_secs(2));
    reading.release();
    storing.reached().await;
    // The next look finds a call that lasts for a moment only.
    clock.advance(Duration::from_secs(2));
    seen.wait_for(|looks| *looks == before + 2).await.unwrap();
    storing.release();
    let report = run.wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded, "{report:#?}");
}

/// Counts the sleeps of one duration.
#[derive(Debug)]
pub(crate) struct CountingClock {
    pub(crate) clock: ManualClock,
    pub(crate) counted: Duration,
    pub(crate) count: watch::Sender<usize>,
}

impl Clock for CountingClock {
    fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    fn elapsed_since_boot(&self) -> Duration {
        self.clock.elapsed_since_boot()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let sleep = self.clock.sleep(duration);
        if duration == self.counted {
            self.count.send_modify(|count| *count += 1);
        }
        sleep
    }
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
    clock.advance(Duration::from_mins(5));
    while rig.plan.calls_of(Operation::Delete) == deletes {
        tokio::task::yield_now().await;
    }
    while before
        .keys()
        .any(|key| key.as_str().starts_with("locks/") && rig.memory.objects().contains_key(key))
    {
        tokio::task::yield_now().await;
    }
    looking.release();
    let report = run.wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded, "{report:#?}");
    rig.assert_tidy("renewed").await;
}
