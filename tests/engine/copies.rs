//! Snapshots that are stored in another repository.

use std::slice::from_ref;
use std::sync::Arc;

use backupkit::testing::MemorySource;
use backupkit::{BackupRequest, RunStatus, SnapshotSource};

use crate::scene::{Scene, assert_whole, latest_tree, path, random};

fn source() -> MemorySource {
    let mut source = MemorySource::new().with_file(&path("data/large"), random(1, 20 << 20));
    for number in 0..300 {
        let name = format!("data/{}/{number}", number % 7);
        source =
            source.with_file(&path(&name), random(number, 10 + usize::try_from(number).unwrap()));
    }
    source.with_link(&path("data/link"), "x").with_directory(&path("data/empty"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_snapshot_has_tree_time_and_origin_of_the_first() {
    let scene = Scene::new().await;
    let (first, second) = (scene.repository().await, scene.repository().await);
    let report = scene.back_up(&source(), from_ref(&first)).await;
    let copied = SnapshotSource::load(&first, report.outputs[0].snapshot.unwrap()).await.unwrap();
    let time = copied.time();
    let request = BackupRequest::new(Arc::new(copied), from_ref(&second)).with_time(time);
    scene.engine.backup(request).wait().await.unwrap();
    assert_eq!(latest_tree(&first).await, latest_tree(&second).await);
    assert_whole(&second, "copied").await;
    let (_, original) = first.find_snapshot("latest").await.unwrap();
    let (_, copy) = second.find_snapshot("latest").await.unwrap();
    assert_eq!(
        (original.time, original.paths, original.hostname),
        (copy.time, copy.paths, copy.hostname)
    );
    // The next backup of the same data follows it.
    let report = scene.back_up(&source(), from_ref(&second)).await;
    assert_eq!(report.summary.files_new, 0, "{:?}", report.summary);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_on_after_a_pause() {
    let scene = Scene::new().await;
    let (first, second) = (scene.repository().await, scene.repository().await);
    let report = scene.back_up(&source(), from_ref(&first)).await;
    let id = report.outputs[0].snapshot.unwrap();
    let request = async || {
        let copied = SnapshotSource::load(&first, id).await.unwrap();
        BackupRequest::new(Arc::new(copied), from_ref(&second))
    };
    // At once, and then later each time, until it is not paused any more.
    for events in 0.. {
        let mut run = scene.engine.backup(request().await);
        let mut told = futures::StreamExt::take(run.events(), events);
        while futures::StreamExt::next(&mut told).await.is_some() {}
        run.pause();
        if run.wait().await.unwrap().status != RunStatus::Paused {
            break;
        }
        assert!(events < 100, "it does not come to an end");
    }
    assert_eq!(latest_tree(&first).await, latest_tree(&second).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_what_is_incomplete_is_not_called_complete() {
    let scene = Scene::new().await;
    let (first, second) = (scene.repository().await, scene.repository().await);
    let report = scene.back_up(&source(), from_ref(&first)).await;
    let copied = SnapshotSource::load(&first, report.outputs[0].snapshot.unwrap()).await.unwrap();
    let copied = Arc::new(copied.with_missing_entries(3));
    let report = scene.engine.backup(BackupRequest::new(copied, from_ref(&second))).wait().await;
    let report = report.unwrap();
    assert_eq!((report.status, report.problem_count), (RunStatus::Warnings, 1), "{report:#?}");
}
