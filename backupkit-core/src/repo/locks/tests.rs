use std::sync::Arc;

use super::*;
use crate::destination::{Destination as _, MemoryDestination, ObjectKey};
use crate::env::Env;
use crate::repo::InitOptions;
use crate::testing::{Fault, FaultDestination, FaultPlan, ManualClock, Operation, PausePoint};

struct Stage {
    clock: ManualClock,
    plan: FaultPlan,
    memory: MemoryDestination,
    repository: Repository,
    folder: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        let (clock, plan, memory) =
            (ManualClock::default(), FaultPlan::new(), MemoryDestination::new());
        let env = Env::system().with_clock(Arc::new(clock.clone()));
        let destination = FaultDestination::new(Arc::new(memory.clone()), &plan);
        let options = InitOptions::default();
        let repository = Repository::init(Arc::new(destination), &"x".into(), options, &env).await;
        let folder = tempfile::tempdir().unwrap();
        Self { clock, plan, memory, repository: repository.unwrap(), folder }
    }

    fn process(&self) -> Instance {
        Instance::register(self.folder.path(), self.repository.env()).unwrap()
    }

    async fn acquire(&self, process: &Instance, exclusive: bool) -> Result<RepositoryLock> {
        let (owner, cancel) = (LockOwner::default(), CancelToken::new());
        let lock =
            RepositoryLock::acquire(&self.repository, &owner, process, exclusive, &cancel).await;
        lock.map(|(lock, _)| lock)
    }

    fn locks(&self) -> Vec<ObjectKey> {
        let objects = self.memory.objects();
        objects.into_keys().filter(|key| key.as_str().starts_with("locks/")).collect()
    }
}

#[tokio::test]
async fn a_prune_that_did_not_see_the_lock_is_seen_by_its_owner_at_once() {
    let stage = Stage::new().await;
    let (ours, pruning) = (stage.process(), stage.process());
    // Both have looked and found nothing. The prune does not see ours when it looks again.
    let arriving = PausePoint::new();
    stage.plan.add(Fault::pause(&arriving).on(Operation::Create).with_prefix("locks/"));
    let taking = stage.acquire(&ours, false);
    let prune = async {
        arriving.reached().await;
        let prune = tokio::join!(stage.acquire(&pruning, true), async {
            stage.clock.sleeping(1).await;
            stage.clock.advance(RECHECK_DELAY);
        });
        arriving.release();
        prune.0.unwrap()
    };
    let (lock, prune) = tokio::join!(taking, prune);
    let lock = lock.unwrap();
    // Without waiting: it may be gone when we look again, and with it what the index names.
    let error = lock.confirm().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    prune.release().await.unwrap();
}

#[tokio::test]
async fn a_renewal_that_arrived_too_late_renews_nothing() {
    let stage = Stage::new().await;
    let lock = stage.acquire(&stage.process(), false).await.unwrap();
    let arriving = PausePoint::new();
    stage.plan.add(Fault::pause(&arriving).on(Operation::Create).with_prefix("locks/"));
    let late = async {
        arriving.reached().await;
        stage.clock.advance(FREEZE_AFTER);
        arriving.release();
    };
    let (renewed, ()) = tokio::join!(lock.refresh(), late);
    assert_eq!(renewed.unwrap_err().code(), "lock-lost");
    assert_eq!(lock.check_alive().await.unwrap_err().code(), "lock-lost");
    assert_eq!(stage.locks().len(), 1, "only the old one is left");
}

#[tokio::test]
async fn the_age_of_a_renewed_lock_is_that_of_the_time_within() {
    let stage = Stage::new().await;
    let lock = stage.acquire(&stage.process(), false).await.unwrap();
    let arriving = PausePoint::new();
    stage.plan.add(Fault::pause(&arriving).on(Operation::Create).with_prefix("locks/"));
    let slow = async {
        arriving.reached().await;
        stage.clock.advance(FREEZE_AFTER / 2);
        arriving.release();
    };
    let (renewed, ()) = tokio::join!(lock.refresh(), slow);
    renewed.unwrap();
    lock.check_alive().await.unwrap();
    stage.clock.advance(FREEZE_AFTER / 2);
    assert_eq!(lock.check_alive().await.unwrap_err().code(), "lock-lost");
}

#[tokio::test]
async fn a_lock_that_could_not_be_given_up_is_dead_once_its_process_is_gone() {
    let stage = Stage::new().await;
    let (process, other) = (stage.process(), stage.process());
    let lock = stage.acquire(&process, false).await.unwrap();
    stage.plan.add(Fault::fail(ErrorKind::Unavailable).on(Operation::Delete));
    lock.release().await.unwrap_err();
    let is_stale = async || stage.repository.locks(&other).await.unwrap()[0].stale;
    assert!(!is_stale().await);
    drop((lock, process));
    assert!(is_stale().await);
    // A clean end leaves no trace.
    let process = stage.process();
    let lock = stage.acquire(&process, false).await.unwrap();
    lock.release().await.unwrap();
    let files = || std::fs::read_dir(stage.folder.path()).unwrap().count();
    let before = files();
    drop((lock, process));
    assert_eq!(files(), before - 1);
}

#[tokio::test]
async fn a_renewal_under_way_does_not_outlive_the_release() {
    let stage = Stage::new().await;
    let lock = stage.acquire(&stage.process(), false).await.unwrap();
    let arriving = PausePoint::new();
    stage.plan.add(Fault::pause(&arriving).on(Operation::Create).with_prefix("locks/"));
    let release = async {
        arriving.reached().await;
        let (released, ()) = tokio::join!(lock.release(), async {
            tokio::task::yield_now().await;
            arriving.release();
        });
        released.unwrap();
    };
    let (renewed, ()) = tokio::join!(lock.refresh(), release);
    renewed.unwrap();
    assert_eq!(stage.locks(), []);
    lock.refresh().await.unwrap();
    assert_eq!(stage.locks(), []);
}

#[tokio::test]
async fn a_lock_in_use_is_listed_as_such() {
    let stage = Stage::new().await;
    let process = stage.process();
    let lock = stage.acquire(&process, false).await.unwrap();
    let found = stage.repository.locks(&stage.process()).await.unwrap();
    assert_eq!((found.len(), found[0].id, found[0].stale), (1, lock.id(), false));
    let size = stage.memory.stat(&stage.locks()[0]).await.unwrap().size_bytes;
    assert!(size > 0);
}
