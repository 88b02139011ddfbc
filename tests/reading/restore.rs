//! Restores: all of it arrives, in bounded windows, and is compared.

use std::sync::Arc;

use backupkit::model::{EntryKind, EntryPath, FileTime, SnapshotId};
use backupkit::target::{ConflictPolicy, RestoreOptions, Step, StepAction};
use backupkit::testing::{MemoryNode, MemorySource, MemoryTarget};
use backupkit::{RestoreReport, RestoreRequest};

use crate::scene::{Scene, path, random};

fn request(scene: &Scene, id: SnapshotId, target: &MemoryTarget) -> RestoreRequest {
    RestoreRequest::new(scene.repository.clone(), id, Arc::new(target.clone()))
}

async fn restore(scene: &Scene, request: RestoreRequest) -> RestoreReport {
    let report = scene.engine.restore(request).wait().await.unwrap();
    assert!(scene.objects("locks/").is_empty());
    report
}

fn bytes_at(target: &MemoryTarget, name: &str) -> Vec<u8> {
    target.nodes()[&path(name)].bytes.to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_and_is_compared() {
    let scene = Scene::new().await;
    let source = MemorySource::new()
        .with_file(&path("a/text"), "some text")
        .with_file(&path("a/empty"), "")
        .with_file(&path("b/large"), random(1, 20 << 20))
        .with_link(&path("link"), "a/text")
        .with_directory(&path("nothing"));
    let id = scene.back_up(&source).await;
    let target = MemoryTarget::new();
    let report = restore(&scene, request(&scene, id, &target)).await;
    assert!(report.is_complete());
    assert_eq!((report.counts.created, report.counts.written_bytes), (7, 9 + (20 << 20)));
    let verified = report.verified.unwrap();
    assert_eq!((verified.same, verified.differs, verified.cannot), (7, 0, 0));
    assert_eq!(report.problem_count, 0, "{report:?}");
    assert_eq!(bytes_at(&target, "a/text"), b"some text");
    assert_eq!(bytes_at(&target, "a/empty"), b"");
    assert!(bytes_at(&target, "b/large") == random(1, 20 << 20));
    let link = &target.nodes()[&path("link")];
    assert_eq!(link.kind, EntryKind::Symlink { target: b"a/text".to_vec() });
    assert_eq!(target.nodes().len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_larger_than_a_window_arrive_among_small_ones() {
    const LARGE: usize = 80 << 20;
    let scene = Scene::new().await;
    let source = MemorySource::new();
    let zeros = vec![0; LARGE];
    source.set(&path("b-large"), random(2, LARGE));
    source.set(&path("d-zeros"), zeros.clone());
    source.set(&path("e-larger"), random(3, LARGE + 12_345));
    for number in 0..1100 {
        source.set(&path(&format!("a/{number}")), format!("first {number}"));
        source.set(&path(&format!("c/{number}")), format!("second {number}"));
    }
    let id = scene.back_up(&source).await;
    let target = MemoryTarget::new();
    let report = restore(&scene, request(&scene, id, &target).with_verify(None)).await;
    assert!(report.is_complete());
    assert_eq!(report.counts.created, 2 * 1100 + 2 + 3);
    assert!(report.verified.is_none());
    assert!(bytes_at(&target, "b-large") == random(2, LARGE));
    assert!(bytes_at(&target, "d-zeros") == zeros);
    assert!(bytes_at(&target, "e-larger") == random(3, LARGE + 12_345));
    for number in 0..1100 {
        assert_eq!(
            bytes_at(&target, &format!("c/{number}")),
            format!("second {number}").as_bytes()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_snapshot_goes_to_the_root_of_the_target() {
    let scene = Scene::new().await;
    let source =
        MemorySource::new().with_file(&path("a/b/file"), "1").with_file(&path("a/other"), "2");
    let id = scene.back_up(&source).await;
    for (part, expected) in [("a/b", "file"), ("a/other", "other")] {
        let target = MemoryTarget::new();
        let options = RestoreOptions { path: path(part), ..RestoreOptions::default() };
        let report = restore(&scene, request(&scene, id, &target).with_options(options)).await;
        assert_eq!(report.counts.created, 1);
        assert_eq!(target.nodes().into_keys().collect::<Vec<_>>(), [path(expected)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_are_counted_and_compared_where_they_were_decided() {
    let scene = Scene::new().await;
    let source =
        MemorySource::new().with_file(&path("new"), "new").with_file(&path("there"), "snapshot");
    let id = scene.back_up(&source).await;
    for (policy, created, overwritten, renamed, skipped) in [
        (ConflictPolicy::Overwrite, 1, 1, 0, 0),
        (ConflictPolicy::Skip, 1, 0, 0, 1),
        (ConflictPolicy::Rename, 1, 0, 1, 0),
    ] {
        let target = MemoryTarget::new();
        target.put(&path("there"), MemoryNode::file("old", FileTime::EPOCH));
        let options = RestoreOptions { conflict: policy, ..RestoreOptions::default() };
        let report = restore(&scene, request(&scene, id, &target).with_options(options)).await;
        let counts = (
            report.counts.created,
            report.counts.overwritten,
            report.counts.renamed,
            report.counts.skipped,
        );
        assert_eq!(counts, (created, overwritten, renamed, skipped), "{policy:?}");
        assert!(report.is_complete());
        let verified = report.verified.unwrap();
        assert_eq!(verified.same, created + overwritten + renamed, "{policy:?}");
        let expected = if policy == ConflictPolicy::Overwrite { "snapshot" } else { "old" };
        assert_eq!(bytes_at(&target, "there"), expected.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_the_target_cannot_hold_are_refused_and_told() {
    let scene = Scene::new().await;
    let hostile = EntryPath::from_names(["a/b"]);
    let source = MemorySource::new().with_file(&hostile, "1").with_file(&path("fine"), "2");
    let id = scene.back_up(&source).await;
    let target = MemoryTarget::new();
    let report = restore(&scene, request(&scene, id, &target)).await;
    assert_eq!((report.counts.created, report.counts.refused), (1, 1));
    assert!(!report.is_complete());
    assert_eq!(report.problem_count, 1);
    assert!(report.problems[0].kind.to_string().starts_with("not restored: /a/b: "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_writes_nothing_and_shows_every_step() {
    let scene = Scene::new().await;
    let source =
        MemorySource::new().with_file(&path("d/new"), "new").with_file(&path("there"), "snapshot");
    let id = scene.back_up(&source).await;
    let target = MemoryTarget::new();
    target.put(&path("there"), MemoryNode::file("old", FileTime::EPOCH));
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Step>(1);
    let steps = async move {
        let mut steps = Vec::new();
        while let Some(step) = receiver.recv().await {
            steps.push((step.destination.to_string(), step.action));
        }
        steps
    };
    let request = request(&scene, id, &target).dry_run().with_preview(sender);
    let (report, steps) = futures::join!(restore(&scene, request), steps);
    assert_eq!(
        (report.counts.created, report.counts.overwritten, report.counts.written_bytes),
        (2, 1, 3 + 8)
    );
    assert_eq!(report.verified, None);
    assert_eq!(target.nodes().len(), 1);
    assert_eq!(bytes_at(&target, "there"), b"old");
    let expected = [
        ("/d".to_owned(), StepAction::Create),
        ("/d/new".to_owned(), StepAction::Create),
        ("/there".to_owned(), StepAction::Overwrite),
    ];
    assert_eq!(steps, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_ends_with_everything_finished() {
    let scene = Scene::new().await;
    let source = MemorySource::new().with_file(&path("a"), random(5, 300_000));
    let id = scene.back_up(&source).await;
    let run = scene.engine.restore(request(&scene, id, &MemoryTarget::new()).with_verify(None));
    let control = run.control();
    run.wait().await.unwrap();
    let progress = control.progress();
    assert!(progress.listing_done);
    assert_eq!((progress.listed_entries, progress.listed_bytes), (1, 300_000));
    assert_eq!((progress.finished_entries, progress.finished_bytes), (1, 300_000));
    assert!(progress.read_bytes >= 300_000);
}
