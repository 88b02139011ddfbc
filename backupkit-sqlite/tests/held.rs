//! Backups under lease, with the store on disk and several processes at it, each with a handle of its own.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::path::Path;
use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use backupkit_core::destination::MemoryDestination;
use backupkit_core::model::{EntryPath, RunKind, RunState, Wanted};
use backupkit_core::repo::{InitOptions, Repository};
use backupkit_core::state::{Actor, Claim, NewRun, Run, RunId, Scope, StateStore, WorkerId};
use backupkit_core::testing::{MemorySource, PausePoint, logged};
use backupkit_core::{BackupRequest, CancelToken, Clock, Engine, Env, HeldRun, HeldRunOptions};
use backupkit_sqlite::SqliteStore;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use serde_json::value::RawValue;

const LEASE: Duration = Duration::from_mins(1);

/// The clock of a machine that can be put to sleep, so that time since boot passes at once, and whose wall
/// clock can be set.
#[derive(Debug)]
struct SleepyClock {
    clock: Arc<dyn Clock>,
    slept_seconds: AtomicU64,
    set_by_seconds: AtomicI64,
}

impl Clock for SleepyClock {
    fn now(&self) -> Timestamp {
        let set_by = SignedDuration::from_secs(self.set_by_seconds.load(Ordering::SeqCst));
        self.clock.now().saturating_add(set_by).unwrap()
    }

    fn elapsed_since_boot(&self) -> Duration {
        let slept = Duration::from_secs(self.slept_seconds.load(Ordering::SeqCst));
        self.clock.elapsed_since_boot() + slept
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.clock.sleep(duration)
    }
}

/// A machine with a state store, a repository and one run.
struct Machine {
    folder: tempfile::TempDir,
    clock: Arc<SleepyClock>,
    env: Env,
    repository: Repository,
    run: RunId,
}

/// A process on the machine.
struct Process {
    store: Arc<dyn StateStore>,
    engine: Engine,
    worker: WorkerId,
    run: RunId,
}

impl Machine {
    async fn new() -> Self {
        let system = Env::system();
        let clock = Arc::clone(system.clock());
        let clock = Arc::new(SleepyClock {
            clock,
            slept_seconds: AtomicU64::new(0),
            set_by_seconds: AtomicI64::new(0),
        });
        let env = system.with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let (destination, options) = (Arc::new(MemoryDestination::new()), InitOptions::default());
        let repository = Repository::init(destination, &"geheim".into(), options, &env).await;
        let folder = tempfile::tempdir().unwrap();
        let run = RunId::random(&env).unwrap();
        let machine = Self { folder, clock, env, repository: repository.unwrap(), run };
        let settings = RawValue::from_string("{}".to_owned()).unwrap();
        let order = NewRun::new(run, RunKind::Backup, "documents", settings.into());
        let store = machine.store(machine.folder.path()).await;
        store.create_run(&Scope::default(), &person(), order).await.unwrap();
        machine
    }

    async fn store(&self, folder: &Path) -> Arc<dyn StateStore> {
        Arc::new(SqliteStore::open(folder.join("state.db"), &self.env).await.unwrap())
    }

    async fn process(&self, worker: &str) -> Process {
        Process {
            store: self.store(self.folder.path()).await,
            engine: Engine::builder().env(self.env.clone()).build().unwrap(),
            worker: WorkerId::new(worker).unwrap(),
            run: self.run,
        }
    }

    fn request(&self, source: &MemorySource) -> BackupRequest {
        BackupRequest::new(Arc::new(source.clone()), from_ref(&self.repository))
    }
}

impl Process {
    async fn claim(&self) -> HeldRun {
        let claim = Claim::new(self.worker.clone(), LEASE);
        let held = self.engine.claim(&self.store, &claim, HeldRunOptions::default());
        held.await.unwrap().expect("a run to claim")
    }

    async fn ask(&self, wanted: Wanted) -> Run {
        self.store.ask(&Scope::default(), &person(), self.run, wanted).await.unwrap()
    }
}

fn person() -> Actor {
    Actor::new("test").unwrap()
}

fn big() -> EntryPath {
    EntryPath::root().join(b"big")
}

/// A source whose reading stops at a point.
fn source() -> (MemorySource, PausePoint) {
    let (source, point) = (undisturbed(), PausePoint::new());
    source.pause_at(&big(), 8 << 20, &point);
    (source, point)
}

fn undisturbed() -> MemorySource {
    let words = (0..6_u64 << 20).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32);
    let bytes: Vec<u8> = words.flat_map(|word| word.to_le_bytes().into_iter().take(4)).collect();
    MemorySource::new().with_file(&big(), bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_heard_from_another_process_and_a_third_goes_on() {
    let machine = Machine::new().await;
    let (one, two, three) =
        (machine.process("one").await, machine.process("two").await, machine.process("3").await);
    let ((source, point), stop) = (source(), CancelToken::new());
    let held = one.claim().await;
    let ask = async {
        point.reached().await;
        assert_eq!(two.ask(Wanted::Pause).await.state, RunState::Pausing);
        logged(&*two.store, two.run, "pausing").await.unwrap();
        point.release();
    };
    let (rested, ()) = tokio::join!(held.back_up(machine.request(&source), &stop), ask);
    assert_eq!(rested.unwrap().state, RunState::Paused);
    assert_eq!(two.ask(Wanted::Run).await.state, RunState::Queued);
    let ended = three.claim().await.back_up(machine.request(&source), &stop).await.unwrap();
    assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
    assert_eq!(machine.repository.snapshots().await.unwrap().len(), 1);
    // The range in flight and the open chunk.
    assert!(source.bytes_read() <= (24 + 8 + 8) << 20, "{} bytes read", source.bytes_read());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_appears_of_a_machine_that_slept_past_its_lease() {
    let machine = Machine::new().await;
    let (one, two) = (machine.process("one").await, machine.process("two").await);
    let ((source, point), stop) = (source(), CancelToken::new());
    let held = one.claim().await;
    let sleep = async {
        point.reached().await;
        machine.clock.slept_seconds.store(3600, Ordering::SeqCst);
        assert_eq!(two.store.sweep(&[], 10).await.unwrap(), 1);
        two.ask(Wanted::Run).await;
        let ended =
            two.claim().await.back_up(machine.request(&undisturbed()), &stop).await.unwrap();
        assert_eq!((ended.state, ended.attempts), (RunState::Succeeded, 1), "{ended:#?}");
        point.release();
    };
    let (lost, ()) = tokio::join!(held.back_up(machine.request(&source), &stop), sleep);
    assert_eq!(lost.unwrap_err().code(), "lease-lost");
    assert_eq!(machine.repository.snapshots().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_is_set_under_a_run_changes_nothing() {
    for set_by_hours in [-1, 72] {
        let machine = Machine::new().await;
        let (one, two) = (machine.process("one").await, machine.process("two").await);
        let ((source, point), stop) = (source(), CancelToken::new());
        let held = one.claim().await;
        let set = async {
            point.reached().await;
            machine.clock.set_by_seconds.store(set_by_hours * 3600, Ordering::SeqCst);
            assert_eq!(two.store.sweep(&[], 10).await.unwrap(), 0, "by {set_by_hours} hours");
            point.release();
        };
        let (ended, ()) = tokio::join!(held.back_up(machine.request(&source), &stop), set);
        let ended = ended.unwrap();
        assert_eq!((ended.state, ended.attempts), (RunState::Succeeded, 0), "{ended:#?}");
        assert_eq!(machine.repository.snapshots().await.unwrap().len(), 1);
    }
}
