//! Lock files that are not whole, as a slow store or another program's unfinished write shows them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use backupkit::destination::ObjectKey;
use backupkit::testing::PausePoint;
use backupkit::{BackupReport, Clock, Env, Error, ErrorKind, RunStatus};
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::entries::source;
use crate::scene::{Rig, Scene, path, start};

/// A clock on which waits of a few seconds are over at once, and noted. After the `n`-th one something
/// happens.
#[derive(Debug, Clone)]
struct NotingClock {
    clock: Arc<dyn Clock>,
    waits: Arc<Mutex<Vec<Duration>>>,
    event: Arc<Mutex<Option<Event>>>,
}

struct Event {
    after_waits: usize,
    happens: Box<dyn FnOnce() + Send>,
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event").field("after_waits", &self.after_waits).finish_non_exhaustive()
    }
}

impl Clock for NotingClock {
    fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    fn elapsed_since_boot(&self) -> Duration {
        self.clock.elapsed_since_boot()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        if duration > Duration::from_secs(4) {
            return self.clock.sleep(duration);
        }
        if duration >= Duration::from_secs(1) {
            let mut waits = self.waits.lock().unwrap();
            waits.push(duration);
            let is_due = |event: &mut Event| event.after_waits == waits.len();
            if let Some(event) = self.event.lock().unwrap().take_if(is_due) {
                (event.happens)();
            }
        }
        Box::pin(tokio::task::yield_now())
    }
}

/// A repository, and a lock of a run elsewhere that is under way.
struct Stage {
    scene: Scene,
    clock: NotingClock,
    rig: Rig,
    key: ObjectKey,
    lock: Bytes,
}

impl Stage {
    async fn new() -> Self {
        let clock = NotingClock {
            clock: Arc::clone(Env::system().clock()),
            waits: Arc::default(),
            event: Arc::default(),
        };
        let scene = Scene::with_env(Env::system().with_clock(Arc::new(clock.clone()))).await;
        let rig = scene.rig().await;
        let (source, point) = (source(), PausePoint::new());
        source.pause_at(&path("data/big"), 0, &point);
        let run = scene.start(&source, std::slice::from_ref(&rig.repository));
        point.reached().await;
        let objects = rig.memory.objects();
        let mut locks = objects.into_iter().filter(|(key, _)| key.as_str().starts_with("locks/"));
        let (key, lock) = locks.next().unwrap();
        point.release();
        run.wait().await.unwrap();
        Self { scene, clock, rig, key, lock }
    }

    /// Backs up in another process while half of the lock is there. After so many waits something
    /// happens to it.
    async fn back_up(
        &self,
        after_waits: usize,
        happens: impl FnOnce() + Send + 'static,
    ) -> (Result<BackupReport, Error>, Vec<u64>) {
        self.rig.memory.put_raw(&self.key, self.lock.slice(..self.lock.len() / 2));
        *self.clock.event.lock().unwrap() = Some(Event { after_waits, happens: Box::new(happens) });
        self.clock.waits.lock().unwrap().clear();
        let process = self.scene.process();
        let end =
            start(&process, &source(), std::slice::from_ref(&self.rig.repository)).wait().await;
        let waits = self.clock.waits.lock().unwrap();
        (end, waits.iter().map(Duration::as_secs).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_being_written_is_waited_for() {
    let stage = Stage::new().await;
    let (memory, key, lock) = (stage.rig.memory.clone(), stage.key.clone(), stage.lock.clone());
    let (end, waits) = stage.back_up(2, move || drop(memory.put_raw(&key, lock))).await;
    // It turns out to be shared.
    assert_eq!(end.unwrap().status, RunStatus::Succeeded);
    assert_eq!(waits, [1, 2]);
    assert_eq!(stage.rig.count("locks"), 1, "it is not ours to remove");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_vanishes_meanwhile_is_none() {
    let stage = Stage::new().await;
    let (memory, key) = (stage.rig.memory.clone(), stage.key.clone());
    let (end, waits) = stage.back_up(1, move || drop(memory.remove_raw(&key))).await;
    assert_eq!(end.unwrap().status, RunStatus::Succeeded);
    assert_eq!(waits, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_stays_unfinished_counts_in_the_end() {
    let stage = Stage::new().await;
    let (end, waits) = stage.back_up(usize::MAX, || {}).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::Locked);
    assert_eq!(waits, [1, 2, 4]);
    assert_eq!(stage.rig.count("locks"), 1);
}
