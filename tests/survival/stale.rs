//! A worker that sleeps past its lease.

use std::time::Duration;

use crate::judge::judge_repository;
use crate::orders::Moment;
use crate::world::{Data, PATIENCE, PLAN, World};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_appears_of_a_worker_that_was_stopped_past_its_lease() {
    let data = Data::small();
    let Some(mut world) = World::new(&data).await else { return };
    world.lease = Duration::from_secs(2);
    world.desk().await.workspace.order_backup(PLAN).await.unwrap();
    // A pack is stored, and no index names it yet.
    let moment = Moment::Call { name: "create-data".to_owned(), number: 2, is_over: true };
    let (mut stale, standstill) = world.start_to_stop(&moment);
    assert!(world.suspend(&mut stale, &standstill), "it did not come by {moment}");
    world.restic.run(["unlock", "--remove-all"]).expect_success();
    world.restic.prune();
    world.start_never().finish(PATIENCE).expect_success();
    judge_repository(&world, "before the stale worker wakes up");
    let listed = |kind: &str| world.restic.list(kind);
    let before = [listed("index"), listed("snapshots")];
    standstill.end();
    stale.resume();
    let woken = stale.finish(PATIENCE).expect_success();
    assert!(woken.stdout.contains("lost "), "{woken}");
    assert_eq!([listed("index"), listed("snapshots")], before);
    judge_repository(&world, "after the stale worker woke up");
}
