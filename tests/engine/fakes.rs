//! Sources of all shapes through the real engine, with pause, resume and crash.

use std::sync::Arc;

use backupkit::model::BlobId;
use backupkit::source::Source;
use backupkit::store::{AdapterStore, InMemoryAdapterStore};
use backupkit::testing::fakes::{FakeDrive, FakeMongoDb, FakeS3};
use backupkit::testing::{Fault, Operation, PausePoint};
use backupkit::{BackupRequest, ErrorKind, RunStatus};

use crate::scene::{Rig, Scene, assert_whole, back_up, checkpoints, latest_tree, random, start};
use crate::waiting::Waiting;

fn database() -> FakeMongoDb {
    let server = FakeMongoDb::new(4000);
    for id in 0..30_000 {
        server.insert("shop", "orders", id * 3, &random(id, 700));
    }
    for id in 0..40 {
        server.insert("shop", "users", id, &random(90_000 + id, 300));
    }
    server.create_collection("shop", "empty");
    server.insert("other", "blobs", 7, &random(5, 3 << 20));
    server
}

fn bucket() -> FakeS3 {
    let bucket = FakeS3::new();
    for number in 0..400_u64 {
        // In the order of keys a directory is torn apart: `a-b` stands before `a/x`.
        let key = match number % 4 {
            0 => format!("a/{number}"),
            1 => format!("a-b/{number}"),
            2 => format!("a/deep/er/{number}"),
            _ => format!("z/{}/{number}", number % 7),
        };
        bucket.put(&key, random(number, 8000));
    }
    bucket.put("large", random(4000, 18 << 20));
    bucket
}

fn drive() -> FakeDrive {
    let drive = FakeDrive::new();
    drive.put_folder("top", "Papers", None);
    drive.put_folder("twin", "Papers", None);
    drive.put_folder("sub", "2024", Some("top"));
    for number in 0..90_u64 {
        let parent = ["top", "twin", "sub"][usize::try_from(number % 3).unwrap()];
        // Three files of each name in a folder.
        let name = format!("note {}", number / 9);
        drive.put_file(&format!("id{number}"), &name, Some(parent), random(number, 60_000));
    }
    drive.put_file("film", "film", None, random(777, 18 << 20));
    drive
}

/// The tree is the same whether or not the backup was disturbed, at any of these bodies and at any
/// upload.
async fn assert_undisturbed(source: &(impl Source + Clone), bodies: [u64; 3]) {
    let scene = Scene::new().await;
    let rig = scene.rig().await;
    let expected = scene.undisturbed(source).await;
    for n in bodies {
        rig.reset();
        paused_at_body(&scene, &rig, source, n).await;
        let context = format!("paused at body {n}");
        assert_goes_on(&scene, &rig, source, expected, &context).await;
    }
    for k in 1..=3 {
        rig.reset();
        crashed_at_upload(&scene, &rig, source, k).await;
        let context = format!("crashed at upload {k}");
        assert_goes_on(&scene, &rig, source, expected, &context).await;
        rig.assert_tidy(&context).await;
    }
}

async fn paused_at_body(scene: &Scene, rig: &Rig, source: &(impl Source + Clone), n: u64) {
    let point = PausePoint::new();
    let waiting = Waiting::at_body(source, n, &point);
    let run = scene.start(&waiting, std::slice::from_ref(&rig.repository));
    point.reached().await;
    run.pause();
    point.release();
    let report = run.wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Paused, "body {n}: {report:#?}");
    assert_eq!(checkpoints(&rig.repository).await, 1, "body {n}");
}

async fn crashed_at_upload(scene: &Scene, rig: &Rig, source: &(impl Source + Clone), k: u64) {
    let (process, point) = (scene.process(), PausePoint::new());
    let upload = Fault::pause_reply(&point).on(Operation::Create);
    rig.plan.add(upload.with_prefix("data/").at_call(k));
    let run = start(&process, source, std::slice::from_ref(&rig.repository));
    point.reached().await;
    rig.plan.die_after(0);
    point.release();
    run.wait().await.unwrap_err();
    process.instance().crash();
    rig.plan.clear();
}

async fn assert_goes_on(
    scene: &Scene,
    rig: &Rig,
    source: &(impl Source + Clone),
    expected: BlobId,
    context: &str,
) {
    assert_whole(&rig.repository, context).await;
    let repositories = [rig.repository.clone()];
    back_up(&scene.process(), source, &repositories).await;
    assert_eq!(latest_tree(&rig.repository).await, expected, "{context}");
    assert_eq!(checkpoints(&rig.repository).await, 0, "{context}");
    let inventory = assert_whole(&rig.repository, context).await;
    assert_eq!(inventory.repeated(), [], "{context}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_backed_up_the_same_through_pause_and_crash() {
    assert_undisturbed(&database(), [2, 6, 11]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_backed_up_the_same_through_pause_and_crash() {
    assert_undisturbed(&bucket(), [2, 200, 401]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drive_is_backed_up_the_same_through_pause_and_crash() {
    assert_undisturbed(&drive(), [2, 45, 91]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_entries_hold_what_happened_since_the_view_was_opened() {
    let (scene, server) = (Scene::new().await, database());
    let rig = scene.rig().await;
    let calm = scene.undisturbed(&server).await;
    paused_at_body(&scene, &rig, &server, 6).await;
    // Into a part that was read: only the late entry can have it.
    server.insert("shop", "orders", 1_000_000, b"after the pause");
    let repositories = [rig.repository.clone()];
    scene.back_up(&server, &repositories).await;
    let resumed = latest_tree(&rig.repository).await;
    assert_ne!(resumed, calm);
    scene.back_up(&server, &repositories).await;
    assert_ne!(latest_tree(&rig.repository).await, resumed, "the next log is empty");
    assert_whole(&rig.repository, "late").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_the_fingerprint_of_before_is_not_read() {
    let scene = Scene::new().await;
    let rigs = [scene.rig().await, scene.foreign_rig().await];
    let both = [rigs[0].repository.clone(), rigs[1].repository.clone()];
    let bucket = bucket();
    scene.back_up(&bucket, &both).await;
    let report = scene.back_up(&bucket, &both).await;
    assert_eq!((report.summary.read_bytes, report.summary.files_unmodified), (0, 401));
    assert_eq!(report.outputs[0].added_bytes + report.outputs[1].added_bytes, 0);
    bucket.put("a/0", random(5000, 8001));
    let report = scene.back_up(&bucket, &both).await;
    assert_eq!((report.summary.read_bytes, report.summary.files_changed), (8001, 1));
    for rig in &rigs {
        rig.reset();
    }
    let drive = drive();
    scene.back_up(&drive, &both).await;
    let report = scene.back_up(&drive, &both).await;
    assert_eq!((report.summary.read_bytes, report.summary.files_unmodified), (0, 91));
    for rig in &rigs {
        rig.assert_tidy("unchanged").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_of_an_adapter_is_its_own_and_lasts_from_run_to_run() {
    let (scene, drive) = (Scene::new().await, drive());
    let rig = scene.rig().await;
    let store = Arc::new(InMemoryAdapterStore::default());
    let point = PausePoint::new();
    let waiting = Waiting::at_body(&drive, 45, &point);
    let request = || {
        let repositories = [rig.repository.clone()];
        let request = BackupRequest::new(Arc::new(waiting.clone()), repositories);
        request.with_adapter_store(Arc::clone(&store) as Arc<dyn AdapterStore>)
    };
    let run = scene.engine.backup(request());
    point.reached().await;
    run.pause();
    point.release();
    assert_eq!(run.wait().await.unwrap().status, RunStatus::Paused);
    assert_eq!(store.get("change-token").await.unwrap(), None, "not complete");
    let run = scene.engine.backup(request());
    assert_eq!(run.wait().await.unwrap().status, RunStatus::Succeeded);
    assert!(store.get("change-token").await.unwrap().is_some());
    assert_eq!(store.scan("folder/", None, 10).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_token_moves_on_only_once_a_snapshot_stands() {
    let (scene, drive) = (Scene::new().await, drive());
    let rigs = [scene.rig().await, scene.rig().await];
    let store = Arc::new(InMemoryAdapterStore::default());
    let back_up = async |failing: &[&Rig]| {
        for rig in failing {
            let publish = Fault::fail(ErrorKind::StorageFull).on(Operation::Create);
            rig.plan.add(publish.with_prefix("snapshots/").forever());
        }
        let both = [rigs[0].repository.clone(), rigs[1].repository.clone()];
        let request = BackupRequest::new(Arc::new(drive.clone()), both);
        let request = request.with_adapter_store(Arc::clone(&store) as Arc<dyn AdapterStore>);
        let end = scene.engine.backup(request).wait().await;
        for rig in &rigs {
            rig.plan.clear();
        }
        (end.map(|report| report.status), store.get("change-token").await.unwrap().is_some())
    };
    let (end, has_moved) = back_up(&[&rigs[0], &rigs[1]]).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(!has_moved, "no snapshot stands");
    let (end, has_moved) = back_up(&[&rigs[0]]).await;
    assert_eq!((end.unwrap(), has_moved), (RunStatus::Partial, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_is_gone_starts_over() {
    let (scene, drive) = (Scene::new().await, drive());
    let rig = scene.rig().await;
    let expected = scene.undisturbed(&drive).await;
    paused_at_body(&scene, &rig, &drive, 45).await;
    drive.expire_tokens();
    assert_goes_on(&scene, &rig, &drive, expected, "expired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_objects_go_through() {
    let count = 1_000_000;
    let (scene, bucket) = (Scene::new().await, FakeS3::generated(count, 24));
    let rig = scene.rig().await;
    let repositories = [rig.repository.clone()];
    let run = scene.start(&bucket, &repositories);
    while run.progress().finished_entries < count / 3 {
        tokio::task::yield_now().await;
    }
    run.pause();
    assert_eq!(run.wait().await.unwrap().status, RunStatus::Paused);
    let report = scene.back_up(&bucket, &repositories).await;
    assert_eq!(report.summary.files_new, count);
    assert_eq!(report.summary.dirs_new, count.div_ceil(1000) + 1);
    let report = scene.back_up(&bucket, &repositories).await;
    assert_eq!((report.summary.files_unmodified, report.summary.read_bytes), (count, 0));
}
