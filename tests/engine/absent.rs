//! Runs on record one of whose repositories is out of reach for a while.

use std::sync::Arc;
use std::time::Duration;

use backupkit::model::{RunKind, RunState, Wanted};
use backupkit::state::{
    Actor, CheckpointInterval, Claim, InMemoryStore, NewRun, Run, RunId, Scope, StateStore,
    WorkerId,
};
use backupkit::testing::{MemorySource, PausePoint, logged};
use backupkit::{
    AbsentRepository, BackupRecord, BackupRequest, CancelToken, Error, ErrorKind, HeldRunOptions,
};
use serde_json::value::RawValue;

use crate::lanes::{assert_tree_as_alone, second, source};
use crate::scene::{Rig, Scene, assert_whole, checkpoints, path, random};

const MIB: u64 = 1 << 20;
const BIG_BYTES: usize = 40 << 20;
const LEASE: Duration = Duration::from_mins(10);

/// A run into two repositories, whose source stops in its large file.
struct Desk {
    scene: Scene,
    store: Arc<dyn StateStore>,
    run: RunId,
    source: MemorySource,
    point: PausePoint,
    rigs: [Rig; 2],
}

impl Desk {
    async fn new(same_cuts: bool) -> Self {
        let (scene, source, point) = (Scene::new().await, source(), PausePoint::new());
        let store: Arc<dyn StateStore> = Arc::new(InMemoryStore::new(&scene.env));
        let run = RunId::random(&scene.env).unwrap();
        let settings = RawValue::from_string("{}".to_owned()).unwrap();
        let order = NewRun::new(run, RunKind::Backup, "all", settings.into());
        store.create_run(&Scope::default(), &person(), order).await.unwrap();
        source.set(&path("data/big"), random(1, BIG_BYTES));
        source.pause_at(&path("data/big"), 32 * MIB, &point);
        let rigs = [scene.rig().await, second(&scene, same_cuts).await];
        Self { scene, store, run, source, point, rigs }
    }

    /// Executes the run while the repository with this number is out of reach.
    async fn execute(&self, absent: Option<usize>) -> Run {
        let claim = Claim::new(WorkerId::new("one").unwrap(), LEASE);
        let checkpoints = CheckpointInterval { time: Duration::from_millis(50), bytes: 4 * MIB };
        let options = HeldRunOptions { checkpoints, lease: LEASE };
        let held = self.scene.process().claim(&self.store, &claim, options).await.unwrap();
        let mut request = BackupRequest::new(Arc::new(self.source.clone()), []);
        for (number, rig) in self.rigs.iter().enumerate() {
            let repository = rig.repository.clone();
            request = if absent == Some(number) {
                let error = Error::new(ErrorKind::Unavailable, "nobody is there");
                let (place, id) = (repository.location(), repository.id());
                request.with_absent(AbsentRepository::new(place, id, error))
            } else {
                request.with_repository(repository)
            };
        }
        held.expect("a run to claim").back_up(request, &CancelToken::new()).await.unwrap()
    }

    /// Lets it come to the middle of the large file, rest there, and go on.
    async fn rest_half_way(&self, absent: Option<usize>) {
        let pause = async {
            self.point.reached().await;
            self.ask(Wanted::Pause).await;
            logged(&*self.store, self.run, "pausing").await.unwrap();
            self.point.release();
        };
        let (paused, ()) = tokio::join!(self.execute(absent), pause);
        assert_eq!(paused.state, RunState::Paused, "{paused:#?}");
        self.ask(Wanted::Run).await;
    }

    /// Asserts that it was not read again, but for ranges that were being read.
    fn assert_gone_on(&self) {
        let read = self.source.bytes_read_of(&path("data/big"));
        assert!(read < BIG_BYTES as u64 + 24 * MIB, "{read} bytes were read");
    }

    async fn ask(&self, wanted: Wanted) {
        self.store.ask(&Scope::default(), &person(), self.run, wanted).await.unwrap();
    }

    /// Asserts that only this repository has a snapshot, a whole one, and returns why the other has not.
    async fn assert_only(&self, ended: &Run, number: usize) -> String {
        assert_eq!(ended.state, RunState::Partial, "{ended:#?}");
        let report = ended.report.as_ref().unwrap().get();
        let BackupRecord { outputs, .. } = serde_json::from_str(report).unwrap();
        assert!(outputs[number].snapshot.is_some(), "{outputs:#?}");
        assert_eq!(outputs[number].repository_id, self.rigs[number].repository.id());
        let other = &outputs[1 - number];
        assert_eq!(other.snapshot, None, "{outputs:#?}");
        assert_eq!(other.repository_id, self.rigs[1 - number].repository.id());
        let rig = &self.rigs[number];
        assert_eq!(checkpoints(&rig.repository).await, 0);
        assert_whole(&rig.repository, "in one of two").await;
        assert_tree_as_alone(&self.scene, &self.source, rig, "in one of two").await;
        other.error.clone().expect("it says why")
    }
}

fn person() -> Actor {
    Actor::new("test").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_cannot_be_opened_does_not_hold_up_the_other() {
    for absent in [0, 1] {
        let desk = Desk::new(true).await;
        desk.point.release();
        let ended = desk.execute(Some(absent)).await;
        let reason = desk.assert_only(&ended, 1 - absent).await;
        assert!(reason.contains("nobody is there"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_none_of_whose_repositories_can_be_opened_is_tried_again() {
    let desk = Desk::new(true).await;
    let claim = Claim::new(WorkerId::new("one").unwrap(), LEASE);
    let held = desk.scene.engine.claim(&desk.store, &claim, HeldRunOptions::default()).await;
    let error = Error::new(ErrorKind::Unavailable, "nobody is there");
    let absent = AbsentRepository::new("far away", "0", error);
    let request = BackupRequest::new(Arc::new(desk.source.clone()), []).with_absent(absent);
    let run = held.unwrap().unwrap().back_up(request, &CancelToken::new()).await.unwrap();
    assert_eq!((run.state, run.attempts), (RunState::Queued, 1), "{run:#?}");
    assert_eq!(run.cause.unwrap().kind, ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_from_its_checkpoint_in_the_repository_that_is_left() {
    for (same_cuts, absent) in [(true, 0), (true, 1), (false, 0), (false, 1)] {
        let desk = Desk::new(same_cuts).await;
        desk.rest_half_way(None).await;
        let ended = desk.execute(Some(absent)).await;
        desk.assert_gone_on();
        desk.assert_only(&ended, 1 - absent).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_comes_back_after_a_checkpoint_without_it_does_not_make_all_be_read_again()
 {
    for (same_cuts, absent) in [(true, 0), (false, 1)] {
        let desk = Desk::new(same_cuts).await;
        desk.rest_half_way(Some(absent)).await;
        let ended = desk.execute(None).await;
        desk.assert_gone_on();
        let reason = desk.assert_only(&ended, 1 - absent).await;
        assert!(reason.contains("left out"), "{reason}");
    }
}
