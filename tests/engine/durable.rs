//! Runs that a program starts with sources and targets of its own, and that survive it.

use std::slice::from_ref;
use std::sync::Arc;

use backupkit::model::{RunState, Wanted};
use backupkit::repo::Repository;
use backupkit::state::{Actor, InMemoryStore, LogLine, Run, Scope, StateStore};
use backupkit::testing::{MemorySource, MemoryTarget, PausePoint, logged};
use backupkit::{BackupRecord, BackupRequest, Engine, ErrorKind, RestoreRecord, RestoreRequest};
use futures::TryStreamExt as _;

use crate::scene::{Scene, checkpoints, latest_tree, path, random};

const MIB: u64 = 1 << 20;

/// A program with a store, a source that stops half way, and a repository.
struct Program {
    scene: Scene,
    store: Arc<dyn StateStore>,
    source: MemorySource,
    point: PausePoint,
    repository: Repository,
}

impl Program {
    async fn new() -> Self {
        let scene = Scene::new().await;
        let store: Arc<dyn StateStore> = Arc::new(InMemoryStore::new(&scene.env));
        let (source, point) = (source(), PausePoint::new());
        source.pause_at(&path("data/big"), 20 * MIB, &point);
        let repository = scene.repository().await;
        Self { scene, store, source, point, repository }
    }

    /// The engine of a process of its own.
    fn process(&self) -> Engine {
        self.scene.engine_with(|builder| builder.store(Arc::clone(&self.store)))
    }

    fn request(&self) -> BackupRequest {
        BackupRequest::new(Arc::new(self.source.clone()), from_ref(&self.repository))
    }

    async fn assert_backed_up(&self, ended: &Run) {
        assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
        assert_eq!(self.repository.snapshots().await.unwrap().len(), 1);
        let undisturbed = self.scene.undisturbed(&source()).await;
        assert_eq!(latest_tree(&self.repository).await, undisturbed);
    }
}

fn source() -> MemorySource {
    let source = MemorySource::new().with_file(&path("data/big"), random(1, 40 << 20));
    (0..50_u64).fold(source, |source, number| {
        source.with_file(&path(&format!("data/small/{number}")), random(number, 2000))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_on_record_and_its_events_are_numbered_without_gaps() {
    let program = Program::new().await;
    program.point.release();
    let engine = program.process();
    let mut run = engine.start_backup("documents", program.request()).await.unwrap();
    let events = run.events(0);
    let ended = run.wait().await.unwrap();
    program.assert_backed_up(&ended).await;
    let record: BackupRecord = serde_json::from_str(ended.report.unwrap().get()).unwrap();
    assert!(record.outputs[0].snapshot.is_some());
    let lines: Vec<LogLine> = events.try_collect().await.unwrap();
    let numbers: Vec<u64> = lines.iter().map(|line| line.number).collect();
    assert_eq!(numbers, (1..=ended.last_log).collect::<Vec<_>>());
    let last: Vec<LogLine> = run.events(ended.last_log - 1).try_collect().await.unwrap();
    assert_eq!(last.len(), 1);
    // What has ended is not gone on with.
    let again = engine.start_backup("documents", program.request()).await.unwrap();
    assert_ne!(again.id(), run.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_backup_rests_until_it_is_resumed() {
    let program = Program::new().await;
    let engine = program.process();
    let mut run = engine.start_backup("documents", program.request()).await.unwrap();
    program.point.reached().await;
    run.pause().await.unwrap();
    logged(&*program.store, run.id(), "pausing").await.unwrap();
    program.point.release();
    assert_eq!(run.wait().await.unwrap().state, RunState::Paused);
    assert!(program.repository.locks(engine.instance()).await.unwrap().is_empty());
    run.resume().await.unwrap();
    let ended = run.wait().await.unwrap();
    program.assert_backed_up(&ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_backup_leaves_nothing_whether_it_was_running_or_paused() {
    for is_paused in [false, true] {
        let program = Program::new().await;
        let engine = program.process();
        let mut run = engine.start_backup("documents", program.request()).await.unwrap();
        program.point.reached().await;
        if is_paused {
            run.pause().await.unwrap();
            logged(&*program.store, run.id(), "pausing").await.unwrap();
            program.point.release();
            assert_eq!(run.wait().await.unwrap().state, RunState::Paused);
            assert_eq!(checkpoints(&program.repository).await, 1);
        }
        run.cancel().await.unwrap();
        let ended = run.wait().await.unwrap();
        program.point.release();
        assert_eq!(ended.state, RunState::Cancelled, "paused: {is_paused}");
        assert!(program.repository.snapshots().await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_was_killed_goes_on_with_the_same_run() {
    let program = Program::new().await;
    let engine = program.process();
    let run = engine.start_backup("documents", program.request()).await.unwrap();
    let id = run.id();
    program.point.reached().await;
    drop((run, engine));
    program.point.release();
    let engine = program.process();
    let mut run = engine.start_backup("documents", program.request()).await.unwrap();
    assert_eq!(run.id(), id);
    let ended = run.wait().await.unwrap();
    program.assert_backed_up(&ended).await;
    assert!(program.repository.locks(engine.instance()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_was_killed_while_it_cancelled_makes_room_for_the_next_run() {
    let program = Program::new().await;
    let engine = program.process();
    let run = engine.start_backup("documents", program.request()).await.unwrap();
    let (id, scope) = (run.id(), Scope::default());
    program.point.reached().await;
    drop((run, engine));
    program.point.release();
    let person = Actor::new("person").unwrap();
    program.store.ask(&scope, &person, id, Wanted::Cancel).await.unwrap();
    let engine = program.process();
    let mut run = engine.start_backup("documents", program.request()).await.unwrap();
    assert_ne!(run.id(), id);
    let cancelled = program.store.run(&scope, id).await.unwrap().unwrap();
    assert_eq!(cancelled.state, RunState::Cancelled);
    let ended = run.wait().await.unwrap();
    program.assert_backed_up(&ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_a_run_too() {
    let program = Program::new().await;
    program.point.release();
    let engine = program.process();
    engine.start_backup("documents", program.request()).await.unwrap().wait().await.unwrap();
    let (snapshot, _) = program.repository.find_snapshot("latest").await.unwrap();
    let target = MemoryTarget::new();
    let request = || {
        let repository = program.repository.clone();
        RestoreRequest::new(repository, snapshot, Arc::new(target.clone()))
    };
    let dry = engine.start_restore("back", request().dry_run()).await.unwrap_err();
    assert!(dry.is(ErrorKind::InvalidInput), "{}", dry.report());
    let mut run = engine.start_restore("back", request()).await.unwrap();
    let ended = run.wait().await.unwrap();
    assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
    let record: RestoreRecord = serde_json::from_str(ended.report.unwrap().get()).unwrap();
    assert_eq!(record.counts.created, target.nodes().len() as u64);
    assert_eq!(record.counts.written_bytes, (40 << 20) + 50 * 2000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_without_a_store_starts_no_such_run() {
    let program = Program::new().await;
    let error =
        program.scene.engine.start_backup("documents", program.request()).await.unwrap_err();
    assert!(error.is(ErrorKind::InvalidConfig), "{}", error.report());
}
