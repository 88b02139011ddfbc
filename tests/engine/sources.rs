//! Runs of several sources: each is read, stored and published by itself.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backupkit::model::{Origin, RunKind, RunState, Wanted};
use backupkit::repo::Repository;
use backupkit::source::{OpenContext, Source, SourceCapabilities, SourceView};
use backupkit::state::{
    Actor, CheckpointInterval, Claim, InMemoryStore, NewRun, Run, RunId, Scope, StateStore,
    WorkerId,
};
use backupkit::testing::{FaultSource, MemorySource, PausePoint, SourceFaults, logged};
use backupkit::{
    BackupRecord, BackupRequest, CancelToken, Engine, ErrorKind, HeldRunOptions, Probe, Result,
};
use serde_json::value::RawValue;

use crate::scene::{Scene, checkpoints, path, random};

const MIB: u64 = 1 << 20;
const LEASE: Duration = Duration::from_mins(10);

/// A source with a name of its own.
#[derive(Debug)]
struct Named {
    name: &'static str,
    source: Arc<dyn Source>,
}

#[async_trait]
impl Source for Named {
    fn capabilities(&self) -> SourceCapabilities {
        self.source.capabilities()
    }

    fn origin(&self) -> Origin {
        Origin { paths: vec![format!("/{}", self.name)], ..self.source.origin() }
    }

    async fn check(&self) -> Result<Probe> {
        self.source.check().await
    }

    async fn open(&self, cx: OpenContext) -> Result<Arc<dyn SourceView>> {
        self.source.open(cx).await
    }
}

/// Three sources, the second of which stops half way, and two repositories.
struct Desk {
    scene: Scene,
    store: Arc<dyn StateStore>,
    run: RunId,
    sources: Vec<MemorySource>,
    faults: SourceFaults,
    point: PausePoint,
    repositories: Vec<Repository>,
}

impl Desk {
    async fn new() -> Self {
        let scene = Scene::new().await;
        let store: Arc<dyn StateStore> = Arc::new(InMemoryStore::new(&scene.env));
        let run = RunId::random(&scene.env).unwrap();
        let settings = RawValue::from_string("{}".to_owned()).unwrap();
        let order = NewRun::new(run, RunKind::Backup, "all", settings.into());
        store.create_run(&Scope::default(), &person(), order).await.unwrap();
        let source =
            |seed| MemorySource::new().with_file(&path("data/big"), random(seed, 40 << 20));
        let sources: Vec<_> = [1, 2, 3].map(source).into();
        let point = PausePoint::new();
        sources[1].pause_at(&path("data/big"), 20 * MIB, &point);
        let repositories = vec![scene.repository().await, scene.repository().await];
        let faults = SourceFaults::new();
        Self { scene, store, run, sources, faults, point, repositories }
    }

    /// Claims the run as another process does, and executes it.
    async fn execute(&self, engine: &Engine, worker: &str) -> Result<Run> {
        let claim = Claim::new(WorkerId::new(worker).unwrap(), LEASE);
        let checkpoints = CheckpointInterval { time: Duration::from_millis(50), bytes: 4 * MIB };
        let options = HeldRunOptions { checkpoints, lease: LEASE };
        let held = engine.claim(&self.store, &claim, options).await?.expect("a run to claim");
        if held.run().state == RunState::Cancelling {
            return held.cancel_backup(self.repositories.clone()).await;
        }
        let named = |(name, source): (&'static str, &MemorySource)| {
            let inner = Arc::new(source.clone());
            let source: Arc<dyn Source> = match name {
                "two" => Arc::new(FaultSource::new(inner, &self.faults)),
                _ => inner,
            };
            BackupRequest::new(Arc::new(Named { name, source }), &self.repositories[..])
        };
        let sources = ["one", "two", "three"].into_iter().zip(&self.sources);
        let requests = sources.map(named).collect();
        held.back_up_each(requests, &CancelToken::new()).await
    }

    async fn ask(&self, wanted: Wanted) {
        self.store.ask(&Scope::default(), &person(), self.run, wanted).await.unwrap();
    }

    /// What was backed up into each repository.
    async fn stored(&self) -> Vec<Vec<String>> {
        let mut stored: Vec<Vec<String>> = Vec::new();
        for repository in &self.repositories {
            let snapshots = repository.snapshots().await.unwrap();
            let paths = snapshots.into_iter().flat_map(|(_, found)| found.paths);
            stored.push(paths.filter(|path| !path.starts_with("/backupkit-checkpoint")).collect());
        }
        for paths in &mut stored {
            paths.sort();
        }
        stored
    }
}

fn person() -> Actor {
    Actor::new("test").unwrap()
}

fn record(run: &Run) -> BackupRecord {
    serde_json::from_str(run.report.as_ref().unwrap().get()).unwrap()
}

fn all() -> Vec<Vec<String>> {
    vec![["/one", "/three", "/two"].map(str::to_owned).to_vec(); 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_source_has_a_snapshot_in_each_repository() {
    let desk = Desk::new().await;
    desk.point.release();
    let ended = desk.execute(&desk.scene.engine, "one").await.unwrap();
    assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
    assert_eq!(desk.stored().await, all());
    let record = record(&ended);
    let sources: Vec<&str> = record.outputs.iter().map(|output| &output.source[..]).collect();
    assert_eq!(sources, ["/one", "/one", "/two", "/two", "/three", "/three"]);
    assert!(record.outputs.iter().all(|output| output.snapshot.is_some()));
    assert_eq!((record.summary.files_new, record.summary.read_bytes), (3, 120 * MIB));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_for_good_does_not_hold_up_the_others() {
    let desk = Desk::new().await;
    desk.point.release();
    desk.faults.end_listing_at(1, ErrorKind::PermissionDenied);
    let ended = desk.execute(&desk.scene.engine, "one").await.unwrap();
    assert_eq!(ended.state, RunState::Partial, "{ended:#?}");
    assert!(ended.cause.is_some());
    let record = record(&ended);
    let failed: Vec<_> = record.outputs.iter().filter(|output| output.error.is_some()).collect();
    assert_eq!(failed.iter().map(|output| &output.source[..]).collect::<Vec<_>>(), ["/two"; 2]);
    assert_eq!(desk.stored().await, vec![["/one", "/three"].map(str::to_owned).to_vec(); 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_is_not_read_again_after_a_kill() {
    let desk = Desk::new().await;
    let first = desk.scene.process();
    tokio::select! {
        ended = desk.execute(&first, "one") => panic!("it went on: {ended:?}"),
        () = desk.point.reached() => {}
    }
    drop(first);
    desk.point.release();
    let before = desk.sources[0].bytes_read();
    assert_eq!(desk.store.sweep(&[WorkerId::new("one").unwrap()], 10).await.unwrap(), 1);
    desk.ask(Wanted::Run).await;
    let ended = desk.execute(&desk.scene.process(), "two").await.unwrap();
    assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
    assert_eq!(desk.stored().await, all());
    assert_eq!(desk.sources[0].bytes_read(), before);
    assert_eq!(record(&ended).outputs.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_in_the_second_source_keeps_the_first() {
    let desk = Desk::new().await;
    let pause = async {
        desk.point.reached().await;
        desk.ask(Wanted::Pause).await;
        logged(&*desk.store, desk.run, "pausing").await.unwrap();
        desk.point.release();
    };
    let (paused, ()) = tokio::join!(desk.execute(&desk.scene.engine, "one"), pause);
    let paused = paused.unwrap();
    assert_eq!(paused.state, RunState::Paused, "{paused:#?}");
    // What is done stands there already.
    assert_eq!(record(&paused).outputs.len(), 2);
    assert_eq!(desk.stored().await, vec![vec!["/one".to_owned()]; 2]);
    desk.ask(Wanted::Run).await;
    let before: u64 = desk.sources.iter().map(MemorySource::bytes_read).sum();
    let ended = desk.execute(&desk.scene.engine, "one").await.unwrap();
    assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
    assert_eq!(desk.stored().await, all());
    let read = desk.sources.iter().map(MemorySource::bytes_read).sum::<u64>() - before;
    assert!(read < 80 * MIB, "the second source was read again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_keeps_the_sources_that_are_done_and_nothing_else() {
    let desk = Desk::new().await;
    let cancel = async {
        desk.point.reached().await;
        desk.ask(Wanted::Cancel).await;
    };
    let (ended, ()) = tokio::join!(desk.execute(&desk.scene.engine, "one"), cancel);
    desk.point.release();
    let ended = ended.unwrap();
    assert_eq!(ended.state, RunState::Cancelled, "{ended:#?}");
    assert_eq!(record(&ended).outputs.len(), 2);
    assert_eq!(desk.stored().await, vec![vec!["/one".to_owned()]; 2]);
    for repository in &desk.repositories {
        assert_eq!(checkpoints(repository).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_which_nothing_came_has_failed() {
    let desk = Desk::new().await;
    let claim = Claim::new(WorkerId::new("one").unwrap(), LEASE);
    let held = desk.scene.engine.claim(&desk.store, &claim, HeldRunOptions::default()).await;
    let request = |name| {
        let (inner, faults) = (Arc::new(desk.sources[0].clone()), SourceFaults::new());
        faults.end_listing_at(1, ErrorKind::PermissionDenied);
        let source: Arc<dyn Source> = Arc::new(FaultSource::new(inner, &faults));
        BackupRequest::new(Arc::new(Named { name, source }), &desk.repositories[..])
    };
    let requests = vec![request("one"), request("two")];
    let ended = held.unwrap().unwrap().back_up_each(requests, &CancelToken::new()).await.unwrap();
    assert_eq!(ended.state, RunState::Failed, "{ended:#?}");
    assert_eq!(ended.cause.unwrap().kind, ErrorKind::PermissionDenied);
    assert_eq!(desk.stored().await, vec![Vec::<String>::new(); 2]);
}
