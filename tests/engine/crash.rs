//! Whatever moment a process dies at, nothing that was finished is lost, nothing half done is seen, and
//! the next backup uses what was stored.

use std::sync::Arc;
use std::time::Duration;

use backupkit::destination::{RetryDestination, RetryPolicy};
use backupkit::model::BlobId;
use backupkit::testing::{Fault, FaultDestination, FaultPlan, MemorySource, Operation, PausePoint};
use backupkit::{Engine, ErrorKind};
use futures::StreamExt;

use crate::scene::{
    Rig, Scene, assert_whole, back_up, latest_tree, path, random, small_packs, start, trees,
};
use crate::scripted::Scripted;

/// About two data packs and a pack of trees.
pub(crate) fn source() -> MemorySource {
    let mut source = MemorySource::new()
        .with_file(&path("data/big"), random(1, 4 << 20))
        .with_stream(&path("data/stream"), random(2, 700_000), 50_000)
        .with_link(&path("data/link"), "big")
        .with_late_file(&path("late"), random(3, 10_000));
    for number in 0..20 {
        let file = path(&format!("data/small/{}/{number}", number % 3));
        source = source.with_file(&file, random(100 + number, 9000));
    }
    source
}

/// The same some time later.
fn later() -> MemorySource {
    let source = source();
    source.set(&path("data/big"), random(11, 2 << 20));
    source.set(&path("data/small/1/new"), random(12, 9000));
    source.remove(&path("data/small/2/2"));
    source
}

/// How a death is planned.
type Death = fn(&FaultPlan, u64);

const DEATHS: [(&str, Death); 2] =
    [("after", FaultPlan::die_after), ("during", FaultPlan::die_during)];

/// Backs up and dies at the `k`-th call of the run. Returns whether it came to that.
async fn die(scene: &Scene, rig: &Rig, source: &MemorySource, death: Death, k: u64) -> bool {
    let process = scene.process();
    death(&rig.plan, rig.plan.calls() + k);
    let repositories = [rig.repository.clone()];
    let end = start(&process, source, &repositories).wait().await;
    let died = rig.plan.is_dead();
    assert!(died || end.is_ok(), "call {k}: {end:?}");
    crash(&process);
    rig.plan.clear();
    died
}

fn crash(process: &Engine) {
    process.instance().crash();
}

/// What must hold after a death, and after the backup that follows it.
async fn assert_recovers(
    scene: &Scene,
    rig: &Rig,
    source: &MemorySource,
    before: &[BlobId],
    expected: BlobId,
    context: &str,
) {
    let after = assert_whole(&rig.repository, context).await;
    let there = trees(&rig.repository).await;
    assert!(there.starts_with(before), "{context}: a snapshot is lost");
    let new = &there[before.len()..];
    assert!(new.is_empty() || new == [expected], "{context}: half a backup is seen");
    assert_eq!(after.repeated(), [], "{context}: stored twice");
    back_up(&scene.process(), source, std::slice::from_ref(&rig.repository)).await;
    assert_eq!(latest_tree(&rig.repository).await, expected, "{context}");
    rig.assert_tidy(context).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_call_of_a_first_backup_loses_nothing() {
    let (scene, source) = (Scene::new().await, source());
    let expected = scene.undisturbed(&source).await;
    let rig = scene.rig().await;
    for (name, death) in DEATHS {
        let mut k = 0;
        loop {
            rig.reset();
            if !die(&scene, &rig, &source, death, k).await {
                break;
            }
            let context = format!("died {name} call {k}");
            assert_recovers(&scene, &rig, &source, &[], expected, &context).await;
            k += 1;
        }
        assert!(k > 12, "a backup makes more than {k} calls");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_call_of_a_second_backup_loses_nothing() {
    let (scene, later) = (Scene::new().await, later());
    let rig = scene.rig().await;
    back_up(&scene.process(), &source(), std::slice::from_ref(&rig.repository)).await;
    let (before, objects) = (trees(&rig.repository).await, rig.memory.objects());
    let expected = scene.undisturbed(&later).await;
    for (name, death) in DEATHS {
        let mut k = 0;
        loop {
            rig.memory.replace_objects(objects.clone());
            if !die(&scene, &rig, &later, death, k).await {
                break;
            }
            let context = format!("died {name} call {k}");
            assert_recovers(&scene, &rig, &later, &before, expected, &context).await;
            k += 1;
        }
        assert!(k > 15, "a backup makes more than {k} calls");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_taking_over_from_a_crash_loses_nothing() {
    let (scene, source) = (Scene::new().await, source());
    let expected = scene.undisturbed(&source).await;
    let rig = scene.rig().await;
    // Packs are durable, and no index names them.
    let fault = Fault::fail(ErrorKind::Unavailable).with_prefix("index/");
    let process = scene.process();
    rig.plan.add(fault.on(Operation::Create).forever());
    rig.plan.add(Fault::fail(ErrorKind::Unavailable).on(Operation::Delete).forever());
    let repositories = [rig.repository.clone()];
    start(&process, &source, &repositories).wait().await.unwrap_err();
    crash(&process);
    rig.plan.clear();
    let left = assert_whole(&rig.repository, "first crash").await;
    assert_eq!(left.unindexed().len(), left.packs());
    assert!(left.packs() > 1);
    let objects = rig.memory.objects();
    for (name, death) in DEATHS {
        let mut k = 0;
        loop {
            rig.memory.replace_objects(objects.clone());
            if !die(&scene, &rig, &source, death, k).await {
                break;
            }
            let context = format!("died again {name} call {k}");
            assert_recovers(&scene, &rig, &source, &[], expected, &context).await;
            k += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_away_after_a_crash_does_not_hide_what_was_stored() {
    let (scene, source) = (Scene::new().await, source());
    let rig = scene.rig().await;
    let mut k = 12;
    // The first death behind a durable pack.
    while rig.count("data") == 0 {
        rig.reset();
        assert!(die(&scene, &rig, &source, FaultPlan::die_after, k).await);
        k += 1;
    }
    let away = Scripted::default().away();
    let repositories = [rig.repository.clone()];
    start(&scene.process(), &away, &repositories).wait().await.unwrap_err();
    let inventory = assert_whole(&rig.repository, "source away").await;
    assert_eq!(inventory.unindexed(), []);
    back_up(&scene.process(), &source, &repositories).await;
    rig.assert_tidy("source away").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_dropped_at_any_call_leaves_nothing_that_the_next_one_minds() {
    let (scene, source) = (Scene::new().await, source());
    let expected = scene.undisturbed(&source).await;
    let rig = scene.rig().await;
    let mut k = 1;
    loop {
        rig.reset();
        let point = PausePoint::new();
        rig.plan.add(Fault::pause_reply(&point).at_call(k));
        let mut run = scene.start(&source, std::slice::from_ref(&rig.repository));
        let events = run.events();
        let ended = {
            let mut waiting = Box::pin(run.wait());
            tokio::select! {
                biased;
                () = point.reached() => false,
                end = &mut waiting => end.is_ok(),
            }
        };
        if ended {
            break;
        }
        // They end once all of the run is gone.
        events.count().await;
        rig.plan.clear();
        // In the same process: the lock has our own name.
        scene.back_up(&source, std::slice::from_ref(&rig.repository)).await;
        let context = format!("dropped at call {k}");
        assert_eq!(latest_tree(&rig.repository).await, expected, "{context}");
        assert_whole(&rig.repository, &context).await;
        assert_eq!(rig.count("locks"), 0, "{context}");
        k += 1;
    }
    assert!(k > 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_of_any_call_changes_nothing() {
    let (scene, source) = (Scene::new().await, source());
    let expected = scene.undisturbed(&source).await;
    let (memory, plan) = (small_packs(), FaultPlan::new());
    let faulty = FaultDestination::new(Arc::new(memory.clone()), &plan);
    let policy = RetryPolicy::new()
        .with_delays(Duration::from_millis(1), Duration::from_millis(1))
        .with_max_attempts(3);
    let patient = RetryDestination::new(Arc::new(faulty), policy, scene.env.clone());
    let repository = scene.repository_in(Arc::new(patient)).await;
    let empty = memory.objects();
    let mut k = 1;
    loop {
        plan.clear();
        memory.replace_objects(empty.clone());
        let calls = plan.calls();
        plan.add(Fault::lose_reply(ErrorKind::Unavailable).at_call(k));
        back_up(&scene.engine, &source, std::slice::from_ref(&repository)).await;
        if calls + k > plan.calls() {
            break;
        }
        let context = format!("lost the reply of call {k}");
        assert_eq!(latest_tree(&repository).await, expected, "{context}");
        let inventory = assert_whole(&repository, &context).await;
        assert_eq!(inventory.repeated(), [], "{context}");
        assert_eq!(inventory.unindexed(), [], "{context}");
        let locks = repository.locks(scene.engine.instance()).await.unwrap();
        assert!(locks.is_empty(), "{context}: {locks:?}");
        k += 1;
    }
    assert!(k > 15);
}
