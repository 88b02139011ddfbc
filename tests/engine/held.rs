//! Runs that are held by lease: what becomes of them stands in the state store.

use std::slice::from_ref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use backupkit::destination::{Destination, MemoryDestination};
use backupkit::model::{PackId, RunKind, RunState, Wanted};
use backupkit::repo::Repository;
use backupkit::state::{
    Actor, CheckpointInterval, Claim, InMemoryJournal, InMemoryStore, LogFilter, NewRun, Run,
    RunId, RunJournal, Scope, SealedOutput, StateStore, WorkerId, refusal,
};
use backupkit::testing::{
    Fault, FaultDestination, FaultPlan, MemorySource, Operation, PausePoint, logged,
};
use backupkit::{
    BackupRecord, BackupRequest, CancelToken, Engine, ErrorKind, HeldRun, HeldRunOptions, Result,
    RunStatus,
};
use serde_json::value::RawValue;

use crate::scene::{PASSWORD, Scene, checkpoints, latest_tree, path, random};

const MIB: u64 = 1 << 20;
/// Long enough never to run out in a test.
const LEASE: Duration = Duration::from_mins(10);

fn source() -> MemorySource {
    let mut source = MemorySource::new().with_file(&path("data/big"), random(1, 24 << 20));
    for number in 0..200_usize {
        let file = path(&format!("data/small/{number}"));
        source = source.with_file(&file, random(1000 + number as u64, 1 + number * 37));
    }
    source
}

/// A store with one run in it.
struct Desk {
    store: Arc<dyn StateStore>,
    run: RunId,
}

impl Desk {
    async fn new(scene: &Scene) -> Self {
        let store: Arc<dyn StateStore> = Arc::new(InMemoryStore::new(&scene.env));
        let run = RunId::random(&scene.env).unwrap();
        let settings = RawValue::from_string("{}".to_owned()).unwrap();
        let order = NewRun::new(run, RunKind::Backup, "documents", settings.into());
        store.create_run(&Scope::default(), &person(), order).await.unwrap();
        Self { store, run }
    }

    async fn claim(&self, engine: &Engine, worker: &str) -> HeldRun {
        let claim = Claim::new(WorkerId::new(worker).unwrap(), LEASE);
        let interval = CheckpointInterval { time: Duration::from_millis(200), bytes: 4 * MIB };
        let options = HeldRunOptions { checkpoints: interval, ..HeldRunOptions::default() };
        engine.claim(&self.store, &claim, options).await.unwrap().expect("a run to claim")
    }

    async fn ask(&self, wanted: Wanted) {
        self.store.ask(&Scope::default(), &person(), self.run, wanted).await.unwrap();
    }

    async fn run(&self) -> Run {
        self.store.run(&Scope::default(), self.run).await.unwrap().unwrap()
    }
}

fn person() -> Actor {
    Actor::new("test").unwrap()
}

fn request(source: &MemorySource, repository: &Repository) -> BackupRequest {
    BackupRequest::new(Arc::new(source.clone()), from_ref(repository))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_backup_is_on_record_with_its_outputs_and_its_log() {
    let scene = Scene::new().await;
    let (desk, repository) = (Desk::new(&scene).await, scene.repository().await);
    let held = desk.claim(&scene.engine, "one").await;
    assert_eq!(held.run().state, RunState::Running);
    let ended = held.back_up(request(&source(), &repository), &CancelToken::new()).await.unwrap();
    assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
    assert!(desk.run().await.worker.is_none());
    let report: serde_json::Value = serde_json::from_str(ended.report.unwrap().get()).unwrap();
    assert_eq!(report["outputs"][0]["repository_id"], repository.id());
    assert_eq!(report["outputs"][0]["snapshot"].as_str().map(str::len), Some(64));
    let filter = LogFilter::default();
    let lines = desk.store.logs(&Scope::default(), desk.run, &filter, 0, 100).await.unwrap();
    let numbers: Vec<u64> = lines.iter().map(|line| line.number).collect();
    assert_eq!(numbers, (1..=lines.len() as u64).collect::<Vec<_>>());
    assert!(lines.iter().any(|line| line.line.code == "snapshot-created"), "{lines:#?}");
    assert_eq!(repository.snapshots().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_backup_rests_when_a_person_asks_the_store_and_goes_on_in_another_process() {
    let scene = Scene::new().await;
    let undisturbed = scene.repository().await;
    scene.back_up(&source(), from_ref(&undisturbed)).await;
    let (desk, repository) = (Desk::new(&scene).await, scene.repository().await);
    let (source, point) = (source(), PausePoint::new());
    source.pause_at(&path("data/big"), 8 * MIB, &point);
    let held = desk.claim(&scene.engine, "one").await;
    let stop = CancelToken::new();
    let ask = async {
        point.reached().await;
        desk.ask(Wanted::Pause).await;
        logged(&*desk.store, desk.run, "pausing").await.unwrap();
        point.release();
    };
    let (rested, ()) = tokio::join!(held.back_up(request(&source, &repository), &stop), ask);
    let rested = rested.unwrap();
    assert_eq!(rested.state, RunState::Paused, "{rested:#?}");
    assert!(rested.worker.is_none());
    assert_eq!(checkpoints(&repository).await, 1);
    desk.ask(Wanted::Run).await;
    let held = desk.claim(&scene.process(), "two").await;
    let ended = held.back_up(request(&source, &repository), &stop).await.unwrap();
    assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
    assert_eq!(latest_tree(&repository).await, latest_tree(&undisturbed).await);
    assert_eq!(checkpoints(&repository).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_shuts_down_gives_its_run_back_and_spends_no_attempt() {
    let scene = Scene::new().await;
    let (desk, repository) = (Desk::new(&scene).await, scene.repository().await);
    let (source, point) = (source(), PausePoint::new());
    source.pause_at(&path("data/big"), 0, &point);
    let held = desk.claim(&scene.engine, "one").await;
    let stop = CancelToken::new();
    let shut_down = async {
        point.reached().await;
        stop.cancel();
        logged(&*desk.store, desk.run, "pausing").await.unwrap();
        point.release();
    };
    let (given, ()) = tokio::join!(held.back_up(request(&source, &repository), &stop), shut_down);
    let given = given.unwrap();
    assert_eq!((given.state, given.attempts), (RunState::Queued, 0), "{given:#?}");
    let held = desk.claim(&scene.process(), "two").await;
    let ended = held.back_up(request(&source, &repository), &CancelToken::new()).await.unwrap();
    assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_run_was_taken_over_publishes_nothing() {
    let scene = Scene::new().await;
    let (desk, repository) = (Desk::new(&scene).await, scene.repository().await);
    let (source, point) = (source(), PausePoint::new());
    source.pause_at(&path("data/big"), 8 * MIB, &point);
    let held = desk.claim(&scene.engine, "one").await;
    let stop = CancelToken::new();
    let take_over = async {
        point.reached().await;
        let dead = WorkerId::new("one").unwrap();
        assert_eq!(desk.store.sweep(&[dead], 10).await.unwrap(), 1);
        // A person does not want to wait for the next attempt.
        desk.ask(Wanted::Run).await;
        let held = desk.claim(&scene.process(), "two").await;
        let ended = held.back_up(request(&self::source(), &repository), &stop).await.unwrap();
        assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
        point.release();
    };
    let (lost, ()) = tokio::join!(held.back_up(request(&source, &repository), &stop), take_over);
    assert_eq!(lost.unwrap_err().code(), "lease-lost");
    assert_eq!(repository.snapshots().await.unwrap().len(), 1);
    assert_eq!(desk.run().await.state, RunState::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_backup_that_is_cancelled_leaves_no_snapshot() {
    let scene = Scene::new().await;
    let (desk, repository) = (Desk::new(&scene).await, scene.repository().await);
    let (source, point) = (source(), PausePoint::new());
    source.pause_at(&path("data/big"), 0, &point);
    let held = desk.claim(&scene.engine, "one").await;
    let stop = CancelToken::new();
    let cancel = async {
        point.reached().await;
        // It does not go on before it has heard of it.
        desk.ask(Wanted::Cancel).await;
    };
    let (ended, ()) = tokio::join!(held.back_up(request(&source, &repository), &stop), cancel);
    assert_eq!(ended.unwrap().state, RunState::Cancelled);
    assert!(repository.snapshots().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_stands_in_the_run_and_it_is_tried_again() {
    let scene = Scene::new().await;
    let desk = Desk::new(&scene).await;
    let held = desk.claim(&scene.engine, "one").await;
    let error = backupkit::Error::new(backupkit::ErrorKind::Unavailable, "cannot reach the disk");
    let run = held.fail(&error).await.unwrap();
    assert_eq!((run.state, run.attempts), (RunState::Queued, 1));
    assert_eq!(run.cause.unwrap().message, "cannot reach the disk");
    assert!(run.not_before.is_some());
}

/// A journal with a little less room than the first checkpoint needs.
#[derive(Debug)]
struct TightJournal {
    journal: InMemoryJournal,
    most_bytes: OnceLock<usize>,
}

#[async_trait]
impl RunJournal for TightJournal {
    fn checkpoint_interval(&self) -> Option<CheckpointInterval> {
        None
    }

    async fn save_checkpoint(&self, checkpoint: Bytes, reach: u64) -> Result<()> {
        if checkpoint.len() > *self.most_bytes.get_or_init(|| checkpoint.len() - 1) {
            return Err(refusal::checkpoint_too_long(checkpoint.len()));
        }
        self.journal.save_checkpoint(checkpoint, reach).await
    }

    async fn load_checkpoint(&self) -> Result<Option<Bytes>> {
        self.journal.load_checkpoint().await
    }

    async fn record_packs(&self, repository_id: &str, packs: &[PackId]) -> Result<()> {
        self.journal.record_packs(repository_id, packs).await
    }

    async fn recorded_packs(&self, repository_id: &str) -> Result<Vec<PackId>> {
        self.journal.recorded_packs(repository_id).await
    }

    async fn begin_commit(&self, outputs: &[SealedOutput]) -> Result<()> {
        self.journal.begin_commit(outputs).await
    }

    async fn commit(&self) -> Result<Vec<SealedOutput>> {
        self.journal.commit().await
    }

    async fn take_back_commit(&self) -> Result<()> {
        self.journal.take_back_commit().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_a_checkpoint_has_no_room_for_starts_over() {
    let scene = Scene::new().await;
    let (undisturbed, repository) = (scene.repository().await, scene.repository().await);
    let plain = MemorySource::new().with_file(&path("data/big"), random(1, 120 << 20));
    scene.back_up(&plain, from_ref(&undisturbed)).await;
    let (source, point) = (plain.clone(), PausePoint::new());
    source.pause_at(&path("data/big"), 40 * MIB, &point);
    let journal = InMemoryJournal::default();
    let journal = Arc::new(TightJournal { journal, most_bytes: OnceLock::new() });
    let order = || request(&source, &repository).with_journal(Arc::clone(&journal) as _);
    let run = scene.engine.backup(order());
    point.reached().await;
    run.pause();
    point.release();
    assert_eq!(run.wait().await.unwrap().status, RunStatus::Paused);
    let kept = journal.load_checkpoint().await.unwrap().expect("a checkpoint");
    assert!(Some(&kept.len()) <= journal.most_bytes.get());
    let report = scene.engine.backup(order()).wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded, "{report:#?}");
    assert_eq!(latest_tree(&repository).await, latest_tree(&undisturbed).await);
}

/// Two repositories, and a run of which the first has its snapshot when the worker dies.
async fn died_between_snapshots(
    scene: &Scene,
    desk: &Desk,
    source: &MemorySource,
    published: usize,
) -> ([Repository; 2], [MemoryDestination; 2]) {
    let places = [MemoryDestination::new(), MemoryDestination::new()];
    let (faults, point) = (FaultPlan::new(), PausePoint::new());
    let hung = FaultDestination::new(Arc::new(places[1 - published].clone()), &faults);
    let mut repositories = Vec::new();
    for (number, place) in places.iter().enumerate() {
        let place: Arc<dyn Destination> =
            if number == published { Arc::new(place.clone()) } else { Arc::new(hung.clone()) };
        repositories.push(scene.repository_in(place).await);
    }
    let create = Fault::pause(&point).on(Operation::Create).with_prefix("snapshots/");
    faults.add(create);
    let held = desk.claim(&scene.engine, "one").await;
    let request = BackupRequest::new(Arc::new(source.clone()), repositories.clone());
    let stop = CancelToken::new();
    tokio::select! {
        ended = held.back_up(request, &stop) => panic!("it ended: {ended:?}"),
        () = point.reached() => {}
    }
    // The call that hangs goes on never again: its process is dead.
    faults.clear();
    let dead = WorkerId::new("one").unwrap();
    assert_eq!(desk.store.sweep(&[dead], 10).await.unwrap(), 1);
    let run = desk.run().await;
    assert_eq!(run.state, RunState::Committing);
    // A person does not want to wait for the next attempt.
    assert!(run.not_before.is_some());
    desk.ask(Wanted::Run).await;
    (repositories.try_into().unwrap(), places)
}

/// As a prune does with what no snapshot names.
fn lose_all_data(place: &MemoryDestination) {
    for key in place.objects().into_keys() {
        if key.as_str().starts_with("data/") || key.as_str().starts_with("index/") {
            place.remove_raw(&key);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_was_lost_while_another_has_its_snapshot_makes_the_run_partial() {
    let scene = Scene::new().await;
    let (desk, source) = (Desk::new(&scene).await, source());
    // The first repository gets its snapshot first.
    let (repositories, places) = died_between_snapshots(&scene, &desk, &source, 0).await;
    lose_all_data(&places[1]);
    let held = desk.claim(&scene.process(), "two").await;
    let request = BackupRequest::new(Arc::new(source.clone()), repositories.clone());
    let ended = held.back_up(request, &CancelToken::new()).await.unwrap();
    assert_eq!(ended.state, RunState::Partial, "{ended:#?}");
    let record: BackupRecord = serde_json::from_str(ended.report.unwrap().get()).unwrap();
    assert!(record.outputs[0].snapshot.is_some() && record.outputs[1].snapshot.is_none());
    assert!(record.outputs[1].error.as_ref().unwrap().contains("was removed"), "{record:#?}");
    assert_eq!(record.summary.read_bytes, 0);
    assert_eq!(repositories[0].snapshots().await.unwrap().len(), 1);
    assert!(repositories[1].snapshots().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_was_lost_before_any_snapshot_is_there_is_made_again() {
    let scene = Scene::new().await;
    let (desk, source) = (Desk::new(&scene).await, source());
    // The first repository hangs, so that none has its snapshot yet.
    let (repositories, places) = died_between_snapshots(&scene, &desk, &source, 1).await;
    places.iter().for_each(lose_all_data);
    let request = || BackupRequest::new(Arc::new(source.clone()), repositories.clone());
    let held = desk.claim(&scene.process(), "two").await;
    let taken_back = held.back_up(request(), &CancelToken::new()).await.unwrap_err();
    assert_eq!(taken_back.code(), "lease-lost");
    assert_eq!(desk.run().await.state, RunState::Queued);
    desk.ask(Wanted::Run).await;
    let held = desk.claim(&scene.process(), "three").await;
    let ended = held.back_up(request(), &CancelToken::new()).await.unwrap();
    assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
    for repository in &repositories {
        assert_eq!(repository.snapshots().await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_not_taken_back_as_long_as_a_repository_cannot_be_looked_at() {
    let scene = Scene::new().await;
    let (desk, source) = (Desk::new(&scene).await, source());
    // The first repository has its snapshot, what the second one needs is gone.
    let (repositories, places) = died_between_snapshots(&scene, &desk, &source, 0).await;
    lose_all_data(&places[1]);
    let faults = FaultPlan::new();
    faults.add(Fault::fail(ErrorKind::Unavailable).on(Operation::List).with_prefix("snapshots"));
    faults.add(Fault::fail(ErrorKind::Unavailable).on(Operation::Stat).with_prefix("snapshots"));
    let away = Arc::new(FaultDestination::new(Arc::new(places[0].clone()), &faults));
    let away = Repository::open(away, &PASSWORD.into(), &scene.env).await.unwrap();
    let request = BackupRequest::new(Arc::new(source), [away, repositories[1].clone()]);
    let held = desk.claim(&scene.process(), "two").await;
    let waits = held.back_up(request.clone(), &CancelToken::new()).await.unwrap();
    assert_eq!(waits.state, RunState::Committing, "{waits:#?}");
    faults.clear();
    desk.ask(Wanted::Run).await;
    let held = desk.claim(&scene.process(), "three").await;
    let ended = held.back_up(request, &CancelToken::new()).await.unwrap();
    assert_eq!(ended.state, RunState::Partial, "{ended:#?}");
    assert_eq!(repositories[0].snapshots().await.unwrap().len(), 1);
}
