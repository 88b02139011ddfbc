//! Repositories that do not answer, before anything is read from the source or written to the target.

use std::sync::Arc;
use std::time::Duration;

use backupkit::repo::Repository;
use backupkit::testing::{Fault, ManualClock, MemoryTarget, Operation, PausePoint};
use backupkit::{CheckRequest, Env, ErrorKind, RestoreRequest, RunStatus};

use crate::entries::source;
use crate::scene::{Rig, Scene, path};

/// The calls by which a repository is locked and its index loaded.
pub(crate) const BEFORE_READING: [(Operation, &str); 6] = [
    (Operation::List, "locks"),
    (Operation::Create, "locks/"),
    (Operation::List, "snapshots"),
    (Operation::Get, "snapshots/"),
    (Operation::List, "index"),
    (Operation::Get, "index/"),
];

/// All of them, asked and not answered.
fn hangs(point: &PausePoint) -> impl Iterator<Item = Fault> {
    let replies = [(Operation::Create, "locks/"), (Operation::List, "index")];
    let calls = BEFORE_READING
        .map(|(operation, folder)| Fault::pause(point).on(operation).with_prefix(folder));
    calls.into_iter().chain(
        replies
            .map(|(operation, folder)| Fault::pause_reply(point).on(operation).with_prefix(folder)),
    )
}

async fn backed_up(scene: &Scene) -> Rig {
    let rig = scene.rig().await;
    scene.back_up(&source(), std::slice::from_ref(&rig.repository)).await;
    rig
}

fn assert_left_nothing(rig: &Rig, error: &backupkit::Error, context: &str) {
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{context}: {error:?}");
    assert_eq!(rig.count("locks"), 0, "{context}");
    assert_eq!(rig.count("snapshots"), 1, "{context}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_can_be_cancelled_while_a_repository_is_made_ready() {
    let scene = Scene::new().await;
    // Alone, before another one, and after it.
    for place in 0..3 {
        let (hanging, other) = (backed_up(&scene).await, backed_up(&scene).await);
        let order: &[&Repository] = match place {
            0 => &[&hanging.repository],
            1 => &[&hanging.repository, &other.repository],
            _ => &[&other.repository, &hanging.repository],
        };
        let repositories: Vec<Repository> = order.iter().map(|&one| one.clone()).collect();
        for number in 0..BEFORE_READING.len() + 2 {
            let point = PausePoint::new();
            let fault = hangs(&point).nth(number).unwrap();
            let context = format!("{fault:?} in place {place}");
            hanging.plan.add(fault);
            let run = scene.start(&source(), &repositories);
            point.reached().await;
            run.cancel();
            let error = run.wait().await.unwrap_err();
            hanging.plan.clear();
            assert_left_nothing(&hanging, &error, &context);
            assert_left_nothing(&other, &error, &context);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restores_and_checks_can_be_cancelled_while_the_repository_is_opened() {
    let scene = Scene::new().await;
    let rig = backed_up(&scene).await;
    let snapshot = rig.repository.find_snapshot("latest").await.unwrap().0;
    for number in 0..BEFORE_READING.len() + 2 {
        for restores in [true, false] {
            let point = PausePoint::new();
            let fault = hangs(&point).nth(number).unwrap();
            let context = format!("{fault:?}, restores: {restores}");
            // A restore knows its snapshot and lists none.
            if restores && context.contains("List") && context.contains("\"snapshots\"") {
                continue;
            }
            rig.plan.add(fault);
            let error = if restores {
                let target = Arc::new(MemoryTarget::new());
                let request = RestoreRequest::new(rig.repository.clone(), snapshot, target);
                let run = scene.engine.restore(request);
                point.reached().await;
                run.cancel();
                run.wait().await.unwrap_err()
            } else {
                let run = scene.engine.check(CheckRequest::new(rig.repository.clone()));
                point.reached().await;
                run.cancel();
                run.wait().await.unwrap_err()
            };
            rig.plan.clear();
            assert_left_nothing(&rig, &error, &context);
        }
    }
}

/// Lets everything that is ready go on, on one thread.
async fn settle() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_lock_is_renewed_while_a_repository_takes_long_to_be_made_ready() {
    let clock = ManualClock::default();
    let scene = Scene::with_env(Env::system().with_clock(Arc::new(clock.clone()))).await;
    let (rig, point) = (scene.rig().await, PausePoint::new());
    rig.plan.add(Fault::pause(&point).on(Operation::List).with_prefix("index"));
    let run = scene.start(&source(), std::slice::from_ref(&rig.repository));
    point.reached().await;
    settle().await;
    clock.advance(Duration::from_millis(200));
    settle().await;
    // Longer than any lock lasts.
    for renewals in 1..9 {
        clock.advance(Duration::from_mins(5));
        settle().await;
        assert_eq!(rig.plan.calls_of(Operation::Delete), renewals);
    }
    point.release();
    assert_eq!(run.wait().await.unwrap().status, RunStatus::Succeeded);
    rig.assert_tidy("renewed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_waits_for_a_repository_can_be_cancelled() {
    // A run that was cancelled still tries for a while to make use of what it stored.
    let scene = Scene::without_waits_of(Duration::from_secs(30)).await;
    for (operation, folder) in [(Operation::Create, "data/"), (Operation::Create, "snapshots/")] {
        let (rig, source) = (scene.rig().await, source());
        let (reading, hanging) = (PausePoint::new(), PausePoint::new());
        source.pause_at(&path("data/big"), 9 << 20, &reading);
        rig.plan.add(Fault::pause(&hanging).on(operation).with_prefix(folder).forever());
        let run = scene.start(&source, std::slice::from_ref(&rig.repository));
        reading.reached().await;
        run.pause();
        reading.release();
        hanging.reached().await;
        run.cancel();
        assert_eq!(run.wait().await.unwrap_err().kind(), ErrorKind::Cancelled, "{folder}");
    }
}
