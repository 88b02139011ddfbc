//! A repository that fails while packs are on their way: what arrives is found again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backupkit::destination::{
    Destination, DestinationCapabilities, ObjectKey, ObjectMeta, Payload,
};
use backupkit::testing::{Fault, FaultDestination, FaultPlan, Operation, PausePoint};
use backupkit::{Engine, Error, ErrorKind, Probe, Result};
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::watch;

use crate::crash::source;
use crate::scene::{Rig, Scene, assert_whole, back_up, small_packs, start};

/// How long a run that failed waits for packs that are on their way.
const UPLOADS_TIME: Duration = Duration::from_secs(10);

fn upload(fault: Fault) -> Fault {
    fault.on(Operation::Create).with_prefix("data/")
}

async fn fail(engine: &Engine, rig: &Rig) -> Error {
    start(engine, &source(), std::slice::from_ref(&rig.repository)).wait().await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_whose_reply_never_came_while_another_one_failed_is_not_stored_again() {
    let scene = Scene::without_waits_of(UPLOADS_TIME).await;
    let rig = scene.rig().await;
    rig.plan.add(upload(Fault::pause_reply(&PausePoint::new())));
    rig.plan.add(upload(Fault::fail(ErrorKind::StorageFull)).forever());
    assert_eq!(fail(&scene.engine, &rig).await.kind(), ErrorKind::StorageFull);
    rig.plan.clear();
    let left = assert_whole(&rig.repository, "full").await;
    assert_eq!((left.packs(), left.unindexed()), (1, vec![]));
    assert_eq!(rig.count("locks"), 0);
    scene.back_up(&source(), std::slice::from_ref(&rig.repository)).await;
    rig.assert_tidy("with room").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_arrives_after_another_one_failed_is_waited_for_and_indexed() {
    let scene = Scene::new().await;
    let rig = scene.rig().await;
    let (source, slow) = (source(), PausePoint::new());
    rig.plan.add(upload(Fault::pause(&slow)));
    rig.plan.add(upload(Fault::fail(ErrorKind::StorageFull)).forever());
    let repositories = [rig.repository.clone()];
    let run = scene.start(&source, &repositories);
    slow.reached().await;
    // The run is over but for the pack on its way.
    while source.outcomes().is_empty() {
        tokio::task::yield_now().await;
    }
    slow.release();
    assert_eq!(run.wait().await.unwrap_err().kind(), ErrorKind::StorageFull);
    rig.plan.clear();
    let left = assert_whole(&rig.repository, "full").await;
    assert!(left.packs() > 0);
    assert_eq!(left.unindexed(), []);
    scene.back_up(&source, &repositories).await;
    rig.assert_tidy("with room").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_whose_index_could_not_be_written_are_found_by_the_next_backup() {
    let scene = Scene::new().await;
    for same_process in [true, false] {
        let rig = scene.rig().await;
        let engine = scene.process();
        let index = Fault::fail(ErrorKind::StorageFull).on(Operation::Create);
        rig.plan.add(index.with_prefix("index/").forever());
        assert_eq!(fail(&engine, &rig).await.kind(), ErrorKind::StorageFull);
        rig.plan.clear();
        let left = assert_whole(&rig.repository, "full").await;
        assert_eq!(left.unindexed().len(), left.packs());
        assert!(left.packs() > 1);
        let next = if same_process {
            engine
        } else {
            drop(engine);
            let next = scene.process();
            // A process is dead once the last of its tasks is gone.
            while rig
                .repository
                .locks(next.instance())
                .await
                .unwrap()
                .iter()
                .any(|lock| !lock.stale)
            {
                tokio::task::yield_now().await;
            }
            next
        };
        back_up(&next, &source(), std::slice::from_ref(&rig.repository)).await;
        rig.assert_tidy(&format!("same process: {same_process}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_arrives_after_the_run_gave_up_is_found_by_the_next_backup() {
    let scene = Scene::without_waits_of(UPLOADS_TIME).await;
    let (memory, plan, late) = (small_packs(), FaultPlan::new(), PausePoint::new());
    let faulty = FaultDestination::new(Arc::new(memory.clone()), &plan);
    let detached = Detached { inner: Arc::new(faulty), under_way: watch::Sender::new(0) };
    let mut under_way = detached.under_way.subscribe();
    let rig = Rig::new(scene.repository_in(Arc::new(detached)).await, memory, plan);
    rig.plan.add(upload(Fault::pause(&late)));
    rig.plan.add(upload(Fault::fail(ErrorKind::StorageFull)).forever());
    assert_eq!(fail(&scene.engine, &rig).await.kind(), ErrorKind::StorageFull);
    assert_eq!(rig.count("data"), 0);
    rig.plan.clear();
    late.release();
    under_way.wait_for(|&calls| calls == 0).await.unwrap();
    assert_eq!(rig.count("data"), 1);
    scene.back_up(&source(), std::slice::from_ref(&rig.repository)).await;
    rig.assert_tidy("with room").await;
}

/// What is to be created is created, also when whoever waits for it goes away.
#[derive(Debug)]
struct Detached {
    inner: Arc<dyn Destination>,
    under_way: watch::Sender<usize>,
}

#[async_trait]
impl Destination for Detached {
    fn capabilities(&self) -> DestinationCapabilities {
        self.inner.capabilities()
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    async fn check(&self) -> Result<Probe> {
        self.inner.check().await
    }

    async fn create(&self, key: &ObjectKey, payload: Payload) -> Result<()> {
        let (inner, key, under_way) =
            (Arc::clone(&self.inner), key.clone(), self.under_way.clone());
        under_way.send_modify(|calls| *calls += 1);
        #[expect(clippy::disallowed_methods, reason = "it outlives the call on purpose")]
        let creating = tokio::spawn(async move {
            let created = inner.create(&key, payload).await;
            under_way.send_modify(|calls| *calls -= 1);
            created
        });
        creating.await.unwrap()
    }

    async fn get(&self, key: &ObjectKey, range: Option<std::ops::Range<u64>>) -> Result<Bytes> {
        self.inner.get(key, range).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.inner.stat(key).await
    }

    fn list(&self, prefix: &ObjectKey) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.inner.delete(key).await
    }
}
