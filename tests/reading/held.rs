//! Restores that are held by lease: they rest, go on and end as the state store says.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use backupkit::adapters::fs::FsTarget;
use backupkit::model::{RunKind, RunState, SnapshotId, Wanted};
use backupkit::state::{
    Actor, CheckpointInterval, Claim, InMemoryStore, NewRun, Run, RunId, Runs as _, Scope,
    StateStore, WorkerId,
};
use backupkit::target::{ConflictPolicy, RestoreOptions};
use backupkit::testing::{
    Fault, HookedStore, MemorySource, Operation, PausePoint, StoreHook, logged, random_bytes,
};
use backupkit::{CancelToken, HeldRun, HeldRunOptions, RestoreRecord, RestoreRequest};
use serde_json::value::RawValue;
use tempfile::TempDir;

use crate::scene::{Scene, path};
use crate::support::data::paths_below;

const MIB: usize = 1 << 20;
/// Long enough never to run out in a test.
const LEASE: Duration = Duration::from_mins(10);
const LARGE: usize = 60 * MIB;

/// A repository with a snapshot, a store with the order to restore it, and a folder for that.
struct Desk {
    scene: Scene,
    snapshot: SnapshotId,
    store: Arc<dyn StateStore>,
    run: RunId,
    folder: TempDir,
}

impl Desk {
    async fn new() -> Self {
        let scene = Scene::new().await;
        let mut source = MemorySource::new().with_file(&path("data/large"), random_bytes(1, LARGE));
        for number in 0..100 {
            let name = path(&format!("data/small/{number}"));
            source = source.with_file(&name, random_bytes(number, 3000));
        }
        let snapshot = scene.back_up(&source).await;
        let env = scene.engine.env().clone();
        let store: Arc<dyn StateStore> = Arc::new(InMemoryStore::new(&env));
        let run = RunId::random(&env).unwrap();
        let settings = RawValue::from_string("{}".to_owned()).unwrap();
        let order = NewRun::new(run, RunKind::Restore, "restore", settings.into());
        store.create_run(&Scope::default(), &person(), order).await.unwrap();
        Self { scene, snapshot, store, run, folder: tempfile::tempdir().unwrap() }
    }

    async fn claim(&self, worker: &str) -> HeldRun {
        let claim = Claim::new(WorkerId::new(worker).unwrap(), LEASE);
        let checkpoints =
            CheckpointInterval { time: Duration::from_millis(200), bytes: 4 * MIB as u64 };
        let options = HeldRunOptions { checkpoints, ..HeldRunOptions::default() };
        self.scene.engine.claim(&self.store, &claim, options).await.unwrap().expect("a run")
    }

    fn request(&self) -> RestoreRequest {
        let env = self.scene.engine.env().clone();
        let target = Arc::new(FsTarget::new(self.folder.path(), env));
        RestoreRequest::new(self.scene.repository.clone(), self.snapshot, target)
    }

    async fn restore(&self, worker: &str) -> backupkit::Result<Run> {
        self.claim(worker).await.restore(self.request(), &CancelToken::new()).await
    }

    async fn ask(&self, wanted: Wanted) {
        self.store.ask(&Scope::default(), &person(), self.run, wanted).await.unwrap();
    }

    /// A place in the middle of the large file, where the restore waits.
    fn half_way(&self) -> PausePoint {
        self.before_read(4)
    }

    /// The restore waits before this read of a pack.
    fn before_read(&self, number: u64) -> PausePoint {
        let point = PausePoint::new();
        let fault = Fault::pause(&point).on(Operation::Get).with_prefix("data/").at_call(number);
        self.scene.faults.add(fault);
        point
    }

    /// Lets the restore rest before this read.
    async fn rest_before_read(&self, number: u64) -> Run {
        let point = self.before_read(number);
        let ask = async {
            point.reached().await;
            self.ask(Wanted::Pause).await;
            logged(&*self.store, self.run, "pausing").await.unwrap();
            point.release();
        };
        let (rested, ()) = tokio::join!(self.restore("one"), ask);
        rested.unwrap()
    }

    fn assert_restored(&self) {
        let large = std::fs::read(self.folder.path().join("data/large")).unwrap();
        assert!(random_bytes(1, LARGE) == large, "the large file differs");
        for number in 0..100 {
            let small = self.folder.path().join(format!("data/small/{number}"));
            assert_eq!(std::fs::read(small).unwrap(), random_bytes(number, 3000));
        }
    }
}

fn person() -> Actor {
    Actor::new("test").unwrap()
}

fn record(run: &Run) -> RestoreRecord {
    serde_json::from_str(run.report.as_ref().expect("a report").get()).unwrap()
}

/// What lies below a folder and is no file of the snapshot.
fn strange_files(folder: &Path) -> Vec<PathBuf> {
    let paths = paths_below(folder).into_iter().filter(|path| path.is_file());
    let is_known = |path: &PathBuf| {
        path.parent() == Some(&folder.join("data/small")) || *path == folder.join("data/large")
    };
    paths.filter(|path| !is_known(path)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_restore_is_on_record_with_what_came_of_it() {
    let desk = Desk::new().await;
    let ended = desk.restore("one").await.unwrap();
    assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
    let record = record(&ended);
    assert_eq!(record.snapshot, desk.snapshot.to_string());
    assert_eq!((record.counts.failed, record.verified.map(|counts| counts.differs)), (0, Some(0)));
    assert_eq!(record.counts.written_bytes, (LARGE + 100 * 3000) as u64);
    desk.assert_restored();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_restore_rests_and_goes_on_with_another_worker() {
    let desk = Desk::new().await;
    let rested = desk.rest_before_read(4).await;
    assert_eq!((rested.state, rested.worker), (RunState::Paused, None));
    assert!(!desk.folder.path().join("data/large").exists(), "it is not whole");
    desk.ask(Wanted::Run).await;
    let ended = desk.restore("two").await.unwrap();
    assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
    desk.assert_restored();
    assert_eq!(strange_files(desk.folder.path()), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_taken_over_writes_nothing_more() {
    let desk = Desk::new().await;
    let point = desk.half_way();
    let take_over = async {
        point.reached().await;
        assert_eq!(desk.store.sweep(&[WorkerId::new("one").unwrap()], 10).await.unwrap(), 1);
        desk.ask(Wanted::Run).await;
        let ended = desk.restore("two").await.unwrap();
        assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
        desk.assert_restored();
        // What a person does with it is not undone by the worker that lost it.
        std::fs::write(desk.folder.path().join("data/large"), "mine").unwrap();
        std::fs::remove_dir_all(desk.folder.path().join("data/small")).unwrap();
        point.release();
    };
    let (lost, ()) = tokio::join!(desk.restore("one"), take_over);
    assert_eq!(lost.unwrap_err().code(), "lease-lost");
    assert_eq!(std::fs::read(desk.folder.path().join("data/large")).unwrap(), b"mine");
    assert!(!desk.folder.path().join("data/small").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_cancelled_while_it_rests_leaves_nothing_incomplete() {
    // Which read comes amid the large file depends on what is read ahead.
    for read in 2.. {
        let desk = Desk::new().await;
        assert_eq!(desk.rest_before_read(read).await.state, RunState::Paused, "read {read}");
        if strange_files(desk.folder.path()).is_empty() {
            continue;
        }
        desk.ask(Wanted::Cancel).await;
        let ended = desk.claim("two").await.cancel_restore(desk.request()).await.unwrap();
        assert_eq!(ended.state, RunState::Cancelled);
        assert_eq!(strange_files(desk.folder.path()), Vec::<PathBuf>::new());
        return;
    }
}

/// Stops the process when the second report of the run is on its way: that it has finished.
#[derive(Debug, Default)]
struct StopsAtTheEnd {
    reports: AtomicU64,
    point: PausePoint,
}

#[async_trait]
impl StoreHook for StopsAtTheEnd {
    async fn before(&self, call: &'static str) -> backupkit::Result<()> {
        if call == "report" && self.reports.fetch_add(1, Ordering::SeqCst) == 1 {
            self.point.pass().await;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_killed_at_its_very_end_is_not_done_twice() {
    let mut desk = Desk::new().await;
    let hook = Arc::new(StopsAtTheEnd::default());
    let env = desk.scene.engine.env().clone();
    let store = Arc::new(InMemoryStore::new(&env));
    let settings = RawValue::from_string("{}".to_owned()).unwrap();
    let order = NewRun::new(desk.run, RunKind::Restore, "restore", settings.into());
    store.create_run(&Scope::default(), &person(), order).await.unwrap();
    desk.store = Arc::new(HookedStore::new(store, Arc::<StopsAtTheEnd>::clone(&hook)));
    let there = desk.folder.path().join("data/small/0");
    std::fs::create_dir_all(there.parent().unwrap()).unwrap();
    std::fs::write(&there, "somebody's own").unwrap();
    let request = || {
        let conflict = ConflictPolicy::Rename;
        desk.request().with_options(RestoreOptions { conflict, ..RestoreOptions::default() })
    };
    let (held, stop) = (desk.claim("one").await, CancelToken::new());
    tokio::select! {
        ended = held.restore(request(), &stop) => panic!("it ended: {ended:?}"),
        () = hook.point.reached() => {}
    }
    let before = paths_below(desk.folder.path());
    assert_eq!(desk.store.sweep(&[WorkerId::new("one").unwrap()], 10).await.unwrap(), 1);
    desk.ask(Wanted::Run).await;
    let ended = desk.claim("two").await.restore(request(), &CancelToken::new()).await.unwrap();
    assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
    assert_eq!(paths_below(desk.folder.path()), before);
    assert_eq!(std::fs::read(&there).unwrap(), b"somebody's own");
    let record: RestoreRecord = serde_json::from_str(ended.report.unwrap().get()).unwrap();
    assert_eq!((record.counts.renamed, record.counts.failed), (1, 0));
    assert_eq!(record.counts.written_bytes, (LARGE + 100 * 3000) as u64);
    assert_eq!(record.verified.map(|counts| counts.differs), Some(0));
}
