//! Runs that are cancelled, and runs that lose their lock.

use backupkit::ErrorKind;
use backupkit::testing::{Fault, Operation, PausePoint};

use crate::entries::source;
use crate::scene::{Scene, assert_whole, path, random, start, watched};

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_leaves_neither_lock_nor_snapshot() {
    let scene = Scene::new().await;
    let rigs = [scene.rig().await, scene.rig().await];
    let both = [rigs[0].repository.clone(), rigs[1].repository.clone()];
    let numbers = random(2024, 60);
    for round in 0..30 {
        for rig in &rigs {
            rig.reset();
        }
        let (source, point) = (source(), PausePoint::new());
        let (kind, number) = (numbers[2 * round], u64::from(numbers[2 * round + 1]));
        // At a call to one repository, at a byte of the source, or just after a while.
        match kind % 3 {
            0 => rigs[round % 2].plan.add(Fault::pause(&point).at_call(1 + number % 24)),
            1 => source.pause_at(&path("data/big"), number * 40_000, &point),
            _ => source.pause_at(&path(&format!("data/small/{}", number % 100)), 0, &point),
        }
        let run = scene.start(&source, &both);
        let control = run.control();
        let steer = async {
            point.reached().await;
            control.cancel();
            point.release();
            std::future::pending::<()>().await;
        };
        let end = tokio::select! {
            end = run.wait() => end,
            () = steer => continue,
        };
        let context = format!("round {round}, kind {kind}, number {number}: {end:?}");
        for rig in &rigs {
            rig.plan.clear();
            assert_eq!(rig.count("locks"), 0, "{context}");
            assert_whole(&rig.repository, &context).await;
            match &end {
                // It had begun to publish.
                Ok(_) => assert_eq!(rig.count("snapshots"), 1, "{context}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Cancelled, "{context}");
                    assert_eq!(rig.count("snapshots"), 0, "{context}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_for_a_repository_can_be_cancelled() {
    let (scene, source) = (Scene::new().await, source());
    for (operation, folder) in [(Operation::Create, "data/"), (Operation::Get, "data/")] {
        let rig = scene.rig().await;
        let repositories = [rig.repository.clone()];
        if operation == Operation::Get {
            scene.back_up(&source, &repositories).await;
        }
        let point = PausePoint::new();
        rig.plan.add(Fault::pause(&point).on(operation).with_prefix(folder));
        let run = scene.start(&source, &repositories);
        point.reached().await;
        run.cancel();
        if operation == Operation::Create {
            // What is under way may end.
            point.release();
        }
        let error = run.wait().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(rig.count("locks"), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_published_without_the_lock() {
    let scene = Scene::new().await;
    for at in ["data/big", "data/small/50"] {
        let (rig, source, point) = (scene.rig().await, source(), PausePoint::new());
        source.pause_at(&path(at), 0, &point);
        let run = start(&scene.process(), &source, std::slice::from_ref(&rig.repository));
        point.reached().await;
        let objects = rig.memory.objects();
        for key in objects.keys().filter(|key| key.as_str().starts_with("locks/")) {
            rig.memory.remove_raw(key);
        }
        point.release();
        let (end, _) = watched(run).await;
        assert_eq!(end.unwrap_err().code(), "lock-lost");
        assert_eq!(rig.count("index") + rig.count("snapshots"), 0);
    }
}
