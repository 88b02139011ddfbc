//! Large objects go in parts, and nothing of them is left behind.

use std::io::Write as _;
use std::time::Duration;

use backupkit_core::ErrorKind;
use backupkit_core::destination::{Destination as _, Leftovers, Payload, PayloadFile};
use backupkit_core::testing::fakes::{
    ConditionalWrites, S3Effect, S3Fault, S3Operation, S3ServerOptions,
};
use backupkit_core::testing::random_bytes;
use jiff::{SignedDuration, Timestamp};

use crate::scene::{BUCKET, Scene, key};

/// More than two parts.
const LEN_BYTES: usize = (17 << 20) + 5;

fn file(bytes: &[u8]) -> Payload {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    PayloadFile::new(file, bytes.len() as u64, "a pack").into()
}

#[tokio::test]
async fn a_large_file_comes_back_whole() {
    let scene = Scene::warmed_up().await;
    let bytes = random_bytes(1, LEN_BYTES);
    scene.destination.create(&key("data/3f/x"), file(&bytes)).await.unwrap();
    let counters = scene.server.counters();
    assert_eq!(counters.of(S3Operation::UploadPart), 3);
    assert_eq!(counters.requests, 5);
    assert!(scene.get("data/3f/x").await.unwrap() == bytes);
    // The same again is success, other bytes are refused; neither leaves parts.
    scene.destination.create(&key("data/3f/x"), file(&bytes)).await.unwrap();
    let other = random_bytes(2, LEN_BYTES);
    let error = scene.destination.create(&key("data/3f/x"), file(&other)).await.unwrap_err();
    assert!(error.is(ErrorKind::AlreadyExists), "{error}");
    assert!(scene.get("data/3f/x").await.unwrap() == bytes);
    assert_eq!(scene.server.open_uploads(BUCKET), 0);
}

#[tokio::test]
async fn trouble_with_parts_is_waited_out() {
    let scene = Scene::warmed_up().await;
    let bytes = random_bytes(1, LEN_BYTES);
    let complete = |effect| S3Fault::new(effect).on(S3Operation::CompleteUpload);
    let part = |effect| S3Fault::new(effect).on(S3Operation::UploadPart);
    scene.server.add_fault(part(S3Effect::slow_down()));
    scene.server.add_fault(part(S3Effect::Reset).after(1));
    scene.server.add_fault(part(S3Effect::LoseReply).after(2));
    scene.server.add_fault(complete(S3Effect::RefuseWithOk { code: "InternalError" }));
    scene.server.add_fault(complete(S3Effect::LoseReply).after(1));
    scene.destination.create(&key("data/3f/x"), file(&bytes)).await.unwrap();
    assert!(scene.get("data/3f/x").await.unwrap() == bytes);
    assert_eq!(scene.server.open_uploads(BUCKET), 0);
}

#[tokio::test]
async fn an_upload_that_fails_leaves_nothing() {
    let scene = Scene::warmed_up().await;
    let refuse = S3Fault::new(S3Effect::refuse(403, "AccessDenied"));
    scene.server.add_fault(refuse.on(S3Operation::UploadPart).after(1));
    let payload = file(&random_bytes(1, LEN_BYTES));
    let error = scene.destination.create(&key("data/3f/x"), payload).await.unwrap_err();
    assert!(error.is(ErrorKind::PermissionDenied), "{error}");
    assert_eq!(scene.server.open_uploads(BUCKET), 0);
    assert_eq!(scene.server.object(BUCKET, "data/3f/x"), None);
}

#[tokio::test]
async fn an_upload_that_is_cancelled_goes_with_the_next_call() {
    let scene = Scene::warmed_up().await;
    let hold = S3Fault::new(S3Effect::Hold).on(S3Operation::UploadPart).after(1);
    scene.server.add_fault(hold.always());
    let destination = scene.destination.clone();
    let payload = file(&random_bytes(1, LEN_BYTES));
    let create = async move { destination.create(&key("data/3f/x"), payload).await };
    tokio::select! {
        _ = create => panic!("it cannot end"),
        () = scene.server.held(1) => {}
    }
    assert_eq!(scene.server.open_uploads(BUCKET), 1);
    // As a run does when it ends.
    scene.destination.delete(&key("locks/first")).await.unwrap();
    assert_eq!(scene.server.open_uploads(BUCKET), 0);
    assert_eq!(scene.server.object(BUCKET, "data/3f/x"), None);
}

#[tokio::test]
async fn uploads_of_a_crash_go_when_they_are_old() {
    for prefix in ["", "a prefix/of ü"] {
        let scene = Scene::with(S3ServerOptions::default().with_page_keys(1), |settings| {
            settings.with_prefix(prefix)
        });
        let other = scene.other_with(|settings| settings.with_prefix(prefix));
        let refuse = |operation| S3Fault::new(S3Effect::refuse(403, "AccessDenied")).on(operation);
        scene.server.add_fault(refuse(S3Operation::CompleteUpload).always());
        scene.server.add_fault(refuse(S3Operation::AbortUpload).always());
        for n in 0..3 {
            let payload = file(&random_bytes(n, LEN_BYTES));
            scene.destination.create(&key(&format!("data/x{n}")), payload).await.unwrap_err();
        }
        scene.server.clear_faults();
        assert_eq!(scene.server.open_uploads(BUCKET), 3);
        // Another process knows nothing of them but what the server does.
        let day = Duration::from_hours(24);
        let found = other.remove_abandoned(&key("data"), day, false).await.unwrap();
        assert_eq!(found, Leftovers::default());
        scene.clock.set_now(Timestamp::constant(1_767_225_600, 0) + SignedDuration::from_hours(25));
        let expected = Leftovers { count: 3, bytes: 3 * LEN_BYTES as u64 };
        assert_eq!(other.remove_abandoned(&key("index"), day, false).await.unwrap().count, 0);
        assert_eq!(other.remove_abandoned(&key("data"), day, true).await.unwrap(), expected);
        assert_eq!(scene.server.open_uploads(BUCKET), 3);
        assert_eq!(other.remove_abandoned(&key("data"), day, false).await.unwrap(), expected);
        assert_eq!(scene.server.open_uploads(BUCKET), 0);
    }
}

#[tokio::test]
async fn a_key_that_may_not_see_uploads_clears_nothing() {
    let scene = Scene::warmed_up().await;
    let refuse = S3Fault::new(S3Effect::refuse(403, "AccessDenied"));
    scene.server.add_fault(refuse.on(S3Operation::ListUploads));
    let found = scene.destination.remove_abandoned(&key("data"), Duration::ZERO, false).await;
    assert_eq!(found.unwrap(), Leftovers::default());
}

/// Begins an upload, and is dropped while it sends parts.
async fn begin_and_go(scene: &Scene, name: &str, held: u64) {
    let destination = scene.destination.clone();
    let (key, payload) = (key(name), file(&random_bytes(1, LEN_BYTES)));
    let create = async move { destination.create(&key, payload).await };
    tokio::select! {
        _ = create => panic!("it cannot end"),
        () = scene.server.held(held) => {}
    }
}

#[tokio::test]
async fn uploads_that_cannot_be_dropped_now_hold_nobody_up_and_go_later() {
    let scene = Scene::warmed_up().await;
    let hold = S3Fault::new(S3Effect::Hold).on(S3Operation::UploadPart).always();
    scene.server.add_fault(hold);
    let failed = S3Effect::refuse(500, "InternalError");
    scene.server.add_fault(S3Fault::new(failed).on(S3Operation::AbortUpload).always());
    begin_and_go(&scene, "data/3f/x", 1).await;
    begin_and_go(&scene, "data/3f/y", 3).await;
    for name in ["index/a", "index/b", "index/c"] {
        scene.create(name, b"x").await.unwrap();
    }
    assert_eq!(scene.server.counters().of(S3Operation::AbortUpload), 1);
    assert_eq!(scene.server.open_uploads(BUCKET), 2);
    scene.server.clear_faults();
    scene.clock.advance(Duration::from_mins(2));
    scene.create("index/d", b"x").await.unwrap();
    assert_eq!(scene.server.open_uploads(BUCKET), 0);
}

#[tokio::test]
async fn a_key_that_may_not_drop_uploads_is_asked_once() {
    let scene = Scene::warmed_up().await;
    scene.server.add_fault(S3Fault::new(S3Effect::Hold).on(S3Operation::UploadPart).always());
    let refuse = S3Fault::new(S3Effect::refuse(403, "AccessDenied"));
    scene.server.add_fault(refuse.on(S3Operation::AbortUpload).always());
    begin_and_go(&scene, "data/3f/x", 1).await;
    begin_and_go(&scene, "data/3f/y", 3).await;
    for n in 0..5 {
        scene.create(["a", "b", "c", "d", "e"][n], b"x").await.unwrap();
        scene.clock.advance(Duration::from_mins(2));
    }
    assert_eq!(scene.server.counters().of(S3Operation::AbortUpload), 1);
}

#[tokio::test]
async fn an_upload_whose_first_reply_was_lost_leaves_no_other_one() {
    let scene = Scene::warmed_up().await;
    scene.server.add_fault(S3Fault::new(S3Effect::LoseReply).on(S3Operation::CreateUpload));
    let payload = file(&random_bytes(1, LEN_BYTES));
    scene.destination.create(&key("data/3f/x"), payload).await.unwrap();
    assert_eq!(scene.server.open_uploads(BUCKET), 1);
    scene.create("index/a", b"x").await.unwrap();
    assert_eq!(scene.server.open_uploads(BUCKET), 0);
}

#[tokio::test]
async fn an_upload_that_was_dropped_by_somebody_else_is_made_again() {
    let scene = Scene::warmed_up().await;
    scene.server.add_fault(S3Fault::new(S3Effect::Hold).on(S3Operation::CompleteUpload));
    let bytes = random_bytes(1, LEN_BYTES);
    let drop_it = async {
        scene.server.held(1).await;
        let other = scene.other_with(|settings| settings);
        scene.clock.set_now(Timestamp::constant(1_767_225_600, 0) + SignedDuration::from_hours(25));
        other.remove_abandoned(&key("data"), Duration::from_hours(24), false).await.unwrap();
        scene.server.release(1);
    };
    let name = key("data/3f/x");
    let create = scene.destination.create(&name, file(&bytes));
    let (created, ()) = tokio::join!(create, drop_it);
    created.unwrap();
    assert!(scene.get("data/3f/x").await.unwrap() == bytes);
    assert_eq!(scene.server.open_uploads(BUCKET), 0);
}

#[tokio::test]
async fn large_objects_need_conditions_as_well() {
    for conditions in [ConditionalWrites::Ignored, ConditionalWrites::Refused] {
        let options = S3ServerOptions::default().with_conditional_writes(conditions);
        let scene = Scene::with(options, |settings| settings);
        let payload = file(&random_bytes(1, LEN_BYTES));
        let error = scene.destination.create(&key("data/3f/x"), payload).await.unwrap_err();
        assert_eq!(error.code(), "s3-no-conditional-writes");
        assert!(scene.server.keys(BUCKET).is_empty());
        assert_eq!(scene.server.open_uploads(BUCKET), 0);
    }
}
