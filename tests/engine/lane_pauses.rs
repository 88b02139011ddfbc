//! Pauses of runs with several repositories.

use std::collections::BTreeMap;

use backupkit::model::EventKind;
use backupkit::testing::{Fault, MemorySource, Operation, PausePoint};
use backupkit::{ErrorKind, RunStatus};

use crate::lanes::{assert_tree_as_alone, second, source};
use crate::scene::{Rig, Scene, assert_whole, back_up, checkpoints, path, watched};

const MIB: u64 = 1 << 20;

/// Pauses a backup into these repositories at a place in the source.
async fn pause(scene: &Scene, source: &MemorySource, rigs: &[&Rig], at: (&str, u64)) {
    let point = PausePoint::new();
    source.pause_at(&path(at.0), at.1, &point);
    let repositories: Vec<_> = rigs.iter().map(|rig| rig.repository.clone()).collect();
    let run = scene.start(source, &repositories);
    point.reached().await;
    run.pause();
    point.release();
    let report = run.wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Paused, "{report:#?}");
    for rig in rigs {
        assert_eq!(checkpoints(&rig.repository).await, 1);
        assert_whole(&rig.repository, "paused").await;
    }
}

fn places() -> [(&'static str, u64); 3] {
    [("data/big", 8 * MIB), ("data/stream", 2 * MIB), ("late", 0)]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_two_repositories_goes_on_in_both() {
    for same_cuts in [true, false] {
        for place in places() {
            let (scene, source) = (Scene::new().await, source());
            let rigs = [scene.rig().await, second(&scene, same_cuts).await];
            pause(&scene, &source, &[&rigs[0], &rigs[1]], place).await;
            let both = [rigs[0].repository.clone(), rigs[1].repository.clone()];
            let (report, events) = watched(scene.start(&source, &both)).await;
            let context = format!("{place:?}, same cuts: {same_cuts}");
            assert_eq!(report.unwrap().status, RunStatus::Succeeded, "{context}");
            assert!(has_resumed(&events), "{context}: {events:#?}");
            for rig in &rigs {
                assert_eq!(checkpoints(&rig.repository).await, 0, "{context}");
                let inventory = assert_whole(&rig.repository, &context).await;
                assert_eq!(inventory.repeated(), [], "{context}");
                assert_tree_as_alone(&scene, &source, rig, &context).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_serves_some_of_its_repositories_and_is_dropped_for_others() {
    let (scene, source) = (Scene::new().await, source());
    let rigs = [scene.rig().await, scene.foreign_rig().await, scene.rig().await];
    let kept: Vec<BTreeMap<_, _>> = {
        pause(&scene, &source, &[&rigs[0], &rigs[1]], places()[0]).await;
        rigs.iter().map(|rig| rig.memory.objects()).collect()
    };
    // One is missing, another comes instead or besides, or one came back without what it had.
    for (chosen, emptied, goes_on) in [
        (vec![0], None, true),
        (vec![1], None, true),
        (vec![1, 0], None, true),
        (vec![0, 2], None, false),
        (vec![2, 0], None, false),
        (vec![2, 1], None, false),
        (vec![0, 1, 2], None, false),
        (vec![0, 1], Some(0), false),
        (vec![0, 1], Some(1), false),
        (vec![1], Some(1), false),
    ] {
        for (rig, objects) in rigs.iter().zip(&kept) {
            rig.memory.replace_objects(objects.clone());
        }
        if let Some(number) = emptied {
            rigs[number].reset();
        }
        let context = format!("{chosen:?}, without the content of {emptied:?}");
        let repositories: Vec<_> = chosen.iter().map(|n| rigs[*n].repository.clone()).collect();
        let (report, events) = watched(scene.start(&source, &repositories)).await;
        assert_eq!(report.unwrap().status, RunStatus::Succeeded, "{context}");
        let dropped = |event: &EventKind| matches!(event, EventKind::CheckpointDropped { .. });
        assert_eq!(has_resumed(&events), goes_on, "{context}: {events:#?}");
        // One that a repository has lost is not even found, if there is no other.
        let is_found = chosen.len() > 1 || emptied.is_none();
        assert_eq!(events.iter().any(dropped), !goes_on && is_found, "{context}: {events:#?}");
        for number in &chosen {
            let rig = &rigs[*number];
            assert_eq!(checkpoints(&rig.repository).await, 0, "{context}");
            assert_whole(&rig.repository, &context).await;
            assert_tree_as_alone(&scene, &source, rig, &context).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_one_repository_cannot_keep_goes_on_in_the_other_or_starts_over() {
    let (scene, source) = (Scene::new().await, source());
    let rigs = [scene.rig().await, scene.foreign_rig().await];
    let both = [rigs[0].repository.clone(), rigs[1].repository.clone()];
    let point = PausePoint::new();
    source.pause_at(&path("data/big"), 8 * MIB, &point);
    let full = Fault::fail(ErrorKind::StorageFull).on(Operation::Create);
    rigs[0].plan.add(full.with_prefix("data/").forever());
    let run = scene.start(&source, &both);
    point.reached().await;
    run.pause();
    point.release();
    let report = run.wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Paused, "{report:#?}");
    assert!(report.outputs[0].error.is_some() && report.outputs[1].snapshot.is_some());
    rigs[0].plan.clear();
    back_up(&scene.process(), &source, &both).await;
    for rig in &rigs {
        assert_eq!(checkpoints(&rig.repository).await, 0);
        assert_whole(&rig.repository, "after a pause of one").await;
        assert_tree_as_alone(&scene, &source, rig, "after a pause of one").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_no_repository_can_keep_is_an_error() {
    let (scene, source) = (Scene::new().await, source());
    let rig = scene.rig().await;
    let point = PausePoint::new();
    source.pause_at(&path("data/big"), 8 * MIB, &point);
    let full = Fault::fail(ErrorKind::StorageFull).on(Operation::Create);
    rig.plan.add(full.with_prefix("snapshots/").forever());
    let run = scene.start(&source, std::slice::from_ref(&rig.repository));
    point.reached().await;
    run.pause();
    point.release();
    let error = run.wait().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(rig.count("locks") + rig.count("snapshots"), 0);
}

fn has_resumed(events: &[EventKind]) -> bool {
    let resumed = |event: &EventKind| matches!(event, EventKind::Resumed { .. });
    events.iter().any(resumed)
}
