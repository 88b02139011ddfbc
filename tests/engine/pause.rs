//! A backup that was paused makes the same snapshot as one that was not.

use std::slice::from_ref;

use backupkit::RunStatus;
use backupkit::model::EntryPath;
use backupkit::testing::{MemorySource, PausePoint};

use crate::scene::{Scene, checkpoints, latest_tree, path, random};

const MIB: u64 = 1 << 20;

fn source() -> MemorySource {
    let mut source = MemorySource::new()
        .with_file(&path("data/big"), random(1, 24 << 20))
        .with_stream(&path("data/stream"), random(2, 20 << 20), 100_000)
        .with_file(&path("data/empty"), Vec::new())
        .with_directory(&path("data/hollow"))
        .with_link(&path("data/link"), "big")
        .with_late_file(&path("late"), random(3, 2 << 20));
    for number in 0..500_usize {
        let file = path(&format!("data/small/{}/{number}", number % 7));
        source = source.with_file(&file, random(1000 + number as u64, 1 + (number * 97) % 9000));
    }
    source
}

/// Where to pause: this entry, once so many bytes of it are asked for.
fn places() -> Vec<(EntryPath, u64)> {
    vec![
        (path("data/big"), 0),
        (path("data/big"), 8 * MIB),
        (path("data/big"), 16 * MIB),
        (path("data/stream"), 100_000),
        (path("data/stream"), 11 * MIB),
        (path("data/stream"), 19 * MIB),
        (path("data/small/3/3"), 0),
        (path("data/small/5/495"), 0),
        (path("late"), 0),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_backup_goes_on_and_makes_the_same_tree() {
    let scene = Scene::new().await;
    let undisturbed = scene.repository().await;
    scene.back_up(&source(), from_ref(&undisturbed)).await;
    let expected = latest_tree(&undisturbed).await;
    for (entry, offset) in places() {
        let source = source();
        let repository = scene.repository().await;
        let point = PausePoint::new();
        source.pause_at(&entry, offset, &point);
        let run = scene.start(&source, from_ref(&repository));
        point.reached().await;
        run.pause();
        point.release();
        let report = run.wait().await.unwrap();
        assert_eq!(report.status, RunStatus::Paused, "{entry} at {offset}: {report:#?}");
        assert_eq!(checkpoints(&repository).await, 1, "{entry} at {offset}");
        let report = scene.back_up(&source, from_ref(&repository)).await;
        assert_eq!(latest_tree(&repository).await, expected, "{entry} at {offset}");
        assert_eq!(checkpoints(&repository).await, 0, "{entry} at {offset}");
        // The open chunk and the ranges in flight of each unfinished entry, and nothing more.
        let total = report.summary.total_bytes;
        let repeated = source.bytes_read().saturating_sub(total);
        assert!(repeated <= 2 * 24 * MIB, "{entry} at {offset}: {repeated} bytes read again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_may_pause_again_and_again() {
    let scene = Scene::new().await;
    let undisturbed = scene.repository().await;
    scene.back_up(&source(), from_ref(&undisturbed)).await;
    let source = source();
    let repository = scene.repository().await;
    for (entry, offset) in places() {
        let point = PausePoint::new();
        source.pause_at(&entry, offset, &point);
        let run = scene.start(&source, from_ref(&repository));
        let control = run.control();
        let mut waiting = Box::pin(run.wait());
        tokio::select! {
            report = &mut waiting => {
                // It did not come by this place any more.
                report.unwrap();
                continue;
            }
            () = point.reached() => control.pause(),
        }
        point.release();
        waiting.await.unwrap();
    }
    scene.back_up(&source, from_ref(&repository)).await;
    assert_eq!(latest_tree(&repository).await, latest_tree(&undisturbed).await);
    assert_eq!(checkpoints(&repository).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_before_anything_is_read_loses_nothing() {
    let scene = Scene::new().await;
    let repository = scene.repository().await;
    let run = scene.start(&source(), from_ref(&repository));
    run.pause();
    assert_eq!(run.wait().await.unwrap().status, RunStatus::Paused);
    scene.back_up(&source(), from_ref(&repository)).await;
    assert_eq!(checkpoints(&repository).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_backup_leaves_no_snapshot_and_no_lock() {
    let scene = Scene::new().await;
    let repository = scene.repository().await;
    let source = source();
    let point = PausePoint::new();
    source.pause_at(&path("data/big"), 8 * MIB, &point);
    let run = scene.start(&source, from_ref(&repository));
    point.reached().await;
    run.cancel();
    let error = run.wait().await.unwrap_err();
    assert_eq!(error.kind(), backupkit::ErrorKind::Cancelled);
    assert!(repository.snapshots().await.unwrap().is_empty());
    assert!(repository.locks(scene.engine.instance()).await.unwrap().is_empty());
}
