//! What goes wrong around a run that is held by lease: a full disk under the state store, a store that is
//! busy, one that hangs.

use std::slice::from_ref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use backupkit::destination::MemoryDestination;
use backupkit::model::{RunKind, RunState, Wanted};
use backupkit::repo::Repository;
use backupkit::state::{
    Actor, CheckpointInterval, Claim, InMemoryStore, LogFilter, NewRun, Run, RunId, Runs as _,
    Scope, StateStore, WorkerId,
};
use backupkit::testing::{
    Fault, FaultDestination, FaultPlan, HookedStore, MemorySource, Operation, PausePoint, StoreHook,
};
use backupkit::{BackupRequest, CancelToken, Engine, Error, ErrorKind, HeldRunOptions, Result};
use serde_json::value::RawValue;

use crate::scene::{Scene, latest_tree, path, random};

const MIB: u64 = 1 << 20;
/// More than fits into memory on its way.
const PAUSE_AT: u64 = 100 * MIB;

/// A store of which tests decide when it is well.
#[derive(Debug, Default)]
struct Trouble {
    /// Calls that change something find no space.
    is_full: AtomicBool,
    /// So many calls of each kind find the store busy, before one gets through.
    busy_calls: AtomicU64,
    busy: Mutex<std::collections::BTreeMap<&'static str, u64>>,
    /// Renewals never come back, and reports not after the first one.
    hangs: AtomicBool,
    hung_reports: AtomicU64,
    saved_checkpoints: AtomicU64,
}

/// What never comes back from a store that hangs.
const HUNG: [&str; 4] = ["renew", "version", "renewal", "append_logs"];
/// What changes nothing.
const LOOKS: [&str; 8] = [
    "run",
    "runs",
    "version",
    "renewal",
    "holders",
    "load_checkpoint",
    "recorded_packs",
    "recorded_outputs",
];

#[async_trait]
impl StoreHook for Trouble {
    async fn before(&self, call: &'static str) -> Result<()> {
        if self.hangs.load(Ordering::SeqCst) && HUNG.contains(&call) {
            std::future::pending::<()>().await;
        }
        if self.hangs.load(Ordering::SeqCst)
            && call == "report"
            && self.hung_reports.fetch_add(1, Ordering::SeqCst) > 0
        {
            std::future::pending::<()>().await;
        }
        if self.is_full.load(Ordering::SeqCst) && !LOOKS.contains(&call) {
            return Err(Error::new(ErrorKind::StorageFull, "no space for the state"));
        }
        let most = self.busy_calls.load(Ordering::SeqCst);
        let mut busy = self.busy.lock().unwrap();
        let count = busy.entry(call).or_default();
        if *count < most {
            *count += 1;
            return Err(Error::new(ErrorKind::Unavailable, "the state is busy"));
        }
        *count = 0;
        Ok(())
    }

    async fn after(&self, call: &'static str) -> Result<()> {
        if call == "save_checkpoint" {
            self.saved_checkpoints.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

struct Desk {
    store: Arc<dyn StateStore>,
    trouble: Arc<Trouble>,
    run: RunId,
    repository: Repository,
    source: MemorySource,
    point: PausePoint,
}

impl Desk {
    async fn new(scene: &Scene) -> Self {
        let trouble = Arc::new(Trouble::default());
        let kept = Arc::new(InMemoryStore::new(&scene.env));
        let store: Arc<dyn StateStore> =
            Arc::new(HookedStore::new(kept, Arc::<Trouble>::clone(&trouble)));
        let run = RunId::random(&scene.env).unwrap();
        let settings = RawValue::from_string("{}".to_owned()).unwrap();
        let order = NewRun::new(run, RunKind::Backup, "documents", settings.into());
        store.create_run(&Scope::default(), &person(), order).await.unwrap();
        let (source, point) = (source(), PausePoint::new());
        source.pause_at(&path("data/big"), PAUSE_AT, &point);
        let repository = scene.repository().await;
        Self { store, trouble, run, repository, source, point }
    }

    async fn back_up(&self, engine: &Engine, worker: &str, lease: Duration) -> Result<Run> {
        let claim = Claim::new(WorkerId::new(worker).unwrap(), lease);
        let checkpoints = CheckpointInterval { time: Duration::from_millis(50), bytes: 4 * MIB };
        let options = HeldRunOptions { checkpoints, lease };
        let held = engine.claim(&self.store, &claim, options).await?.expect("a run to claim");
        let request = BackupRequest::new(Arc::new(self.source.clone()), from_ref(&self.repository));
        held.back_up(request, &CancelToken::new()).await
    }

    async fn assert_log_has_no_gaps(&self) {
        let (scope, filter) = (Scope::default(), LogFilter::default());
        let lines = self.store.logs(&scope, self.run, &filter, 0, 10_000).await.unwrap();
        let numbers: Vec<u64> = lines.iter().map(|line| line.number).collect();
        assert_eq!(numbers, (1..=lines.len() as u64).collect::<Vec<_>>());
    }

    async fn ask(&self, wanted: Wanted) {
        self.store.ask(&Scope::default(), &person(), self.run, wanted).await.unwrap();
    }
}

fn person() -> Actor {
    Actor::new("test").unwrap()
}

fn source() -> MemorySource {
    let mut source = MemorySource::new().with_file(&path("data/big"), random(1, 120 << 20));
    for number in 0..50_u64 {
        source = source.with_file(&path(&format!("data/small/{number}")), random(number, 2000));
    }
    source
}

const LONG: Duration = Duration::from_mins(10);
const SHORT: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_state_ends_the_attempt_and_nothing_is_lost() {
    let scene = Scene::new().await;
    let desk = Desk::new(&scene).await;
    let fill = async {
        desk.point.reached().await;
        // Of what was read more than fits into memory is stored, and the second one from now on knows.
        let saved = || desk.trouble.saved_checkpoints.load(Ordering::SeqCst);
        let wanted = saved() + 2;
        while saved() < wanted {
            tokio::task::yield_now().await;
        }
        desk.trouble.is_full.store(true, Ordering::SeqCst);
        desk.point.release();
    };
    let (ended, ()) = tokio::join!(desk.back_up(&scene.engine, "one", LONG), fill);
    let error = ended.unwrap_err();
    assert!(error.is(ErrorKind::StorageFull), "{}", error.report());
    assert!(desk.repository.snapshots().await.unwrap().is_empty());
    // There is space again, and another process takes over.
    desk.trouble.is_full.store(false, Ordering::SeqCst);
    assert_eq!(desk.store.sweep(&[WorkerId::new("one").unwrap()], 10).await.unwrap(), 1);
    desk.ask(Wanted::Run).await;
    let before = desk.source.bytes_read();
    let ended = desk.back_up(&scene.process(), "two", LONG).await.unwrap();
    assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
    let undisturbed = scene.undisturbed(&source()).await;
    assert_eq!(latest_tree(&desk.repository).await, undisturbed);
    assert!(desk.source.bytes_read() - before < 90 * MIB, "it started over");
    desk.assert_log_has_no_gaps().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_busy_now_and_then_is_asked_again() {
    let scene = Scene::new().await;
    let desk = Desk::new(&scene).await;
    desk.point.release();
    desk.trouble.busy_calls.store(1, Ordering::SeqCst);
    let ended = loop {
        // The claim itself belongs to whoever looks for work: it asks again.
        match desk.back_up(&scene.engine, "one", LONG).await {
            Err(error) if error.is(ErrorKind::Unavailable) => {}
            ended => break ended.unwrap(),
        }
    };
    assert_eq!((ended.state, ended.attempts), (RunState::Succeeded, 0), "{ended:#?}");
    assert_eq!(desk.repository.snapshots().await.unwrap().len(), 1);
    desk.trouble.busy_calls.store(0, Ordering::SeqCst);
    desk.assert_log_has_no_gaps().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_ends_the_lease_and_nothing_is_published() {
    let scene = Scene::new().await;
    let desk = Desk::new(&scene).await;
    let hang = async {
        desk.point.reached().await;
        desk.trouble.hangs.store(true, Ordering::SeqCst);
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        // A machine that is busy enough loses the lease by itself.
        ended = desk.back_up(&scene.engine, "one", SHORT) => ended,
        () = hang => unreachable!("it never ends"),
    };
    assert_eq!(ended.unwrap_err().code(), "lease-lost");
    assert!(desk.repository.snapshots().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_at_the_end_leaves_the_run_to_the_next_worker() {
    let scene = Scene::new().await;
    let desk = Desk::new(&scene).await;
    let hang = async {
        desk.point.reached().await;
        desk.trouble.hangs.store(true, Ordering::SeqCst);
        desk.point.release();
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = desk.back_up(&scene.engine, "one", SHORT) => ended,
        () = hang => unreachable!("it never ends"),
    };
    assert_eq!(ended.unwrap_err().code(), "lease-lost");
    desk.trouble.hangs.store(false, Ordering::SeqCst);
    desk.point.release();
    // It may have been claimable by then.
    desk.store.sweep(&[WorkerId::new("one").unwrap()], 10).await.unwrap();
    desk.ask(Wanted::Run).await;
    let ended = desk.back_up(&scene.process(), "two", LONG).await.unwrap();
    assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
    assert_eq!(desk.repository.snapshots().await.unwrap().len(), 1);
}

/// A person who lets the run rest right before it commits, and changes his mind at once.
#[derive(Debug)]
struct Waverer {
    store: Arc<InMemoryStore>,
    run: RunId,
    has_asked: AtomicBool,
}

#[async_trait]
impl StoreHook for Waverer {
    async fn before(&self, call: &'static str) -> Result<()> {
        let wanted = match call {
            "record_outputs" if !self.has_asked.swap(true, Ordering::SeqCst) => Wanted::Pause,
            // It could not commit, and saves how far it is.
            "save_checkpoint" if self.has_asked.load(Ordering::SeqCst) => Wanted::Run,
            _ => return Ok(()),
        };
        self.store.ask(&Scope::default(), &person(), self.run, wanted).await.map(drop)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_changes_his_mind_when_the_run_is_about_to_commit_does_not_end_it() {
    let scene = Scene::new().await;
    let mut desk = Desk::new(&scene).await;
    desk.point.release();
    let store = Arc::new(InMemoryStore::new(&scene.env));
    let settings = RawValue::from_string("{}".to_owned()).unwrap();
    let order = NewRun::new(desk.run, RunKind::Backup, "documents", settings.into());
    store.create_run(&Scope::default(), &person(), order).await.unwrap();
    let (run, has_asked) = (desk.run, AtomicBool::new(false));
    let waverer = Arc::new(Waverer { store: Arc::clone(&store), run, has_asked });
    desk.store = Arc::new(HookedStore::new(store, waverer));
    let given_back = desk.back_up(&scene.engine, "one", LONG).await.unwrap();
    assert_eq!((given_back.state, given_back.attempts), (RunState::Queued, 0), "{given_back:#?}");
    let before = desk.source.bytes_read();
    let ended = desk.back_up(&scene.engine, "one", LONG).await.unwrap();
    assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
    assert_eq!(desk.source.bytes_read(), before, "what was read already was read again");
    assert_eq!(latest_tree(&desk.repository).await, scene.undisturbed(&source()).await);
    assert_eq!(desk.repository.snapshots().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_locked_lets_the_run_rest_and_keeps_what_it_has() {
    let scene = Scene::new().await;
    let desk = Desk::new(&scene).await;
    desk.point.release();
    let faults = FaultPlan::new();
    let memory = Arc::new(MemoryDestination::new());
    let repository = scene.repository_in(Arc::new(FaultDestination::new(memory, &faults))).await;
    let desk = Desk { repository, ..desk };
    faults.add(Fault::fail(ErrorKind::Locked).on(Operation::List).with_prefix("locks").forever());
    let rests = desk.back_up(&scene.engine, "one", LONG).await.unwrap();
    assert_eq!(rests.state, RunState::Paused, "{rests:#?}");
    // It goes on by itself when its time has come.
    assert!(rests.not_before.is_some() && rests.wanted == Wanted::Run);
    faults.clear();
    desk.ask(Wanted::Run).await;
    let ended = desk.back_up(&scene.engine, "one", LONG).await.unwrap();
    assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
}
