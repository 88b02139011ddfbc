//! Objects are created once, whatever the network does.

use backupkit_core::destination::Destination as _;
use backupkit_core::testing::fakes::{
    ConditionalWrites, S3Effect, S3Fault, S3Operation, S3ServerOptions,
};
use backupkit_core::{Error, ErrorKind};
use bytes::Bytes;

use crate::scene::{BUCKET, Scene, key};

#[tokio::test]
async fn an_object_is_one_request_with_a_checksum() {
    let scene = Scene::warmed_up().await;
    scene.create("data/3f/x", b"pack").await.unwrap();
    assert_eq!(scene.server.counters().requests, 1);
    let object = scene.server.object(BUCKET, "data/3f/x").unwrap();
    assert!(object.headers.contains_key("x-amz-checksum-sha256"));
    assert_eq!(object.bytes, "pack");
}

#[tokio::test]
async fn a_lost_reply_is_success_and_the_bytes_are_not_read_back() {
    let scene = Scene::warmed_up().await;
    scene.server.add_fault(S3Fault::new(S3Effect::LoseReply).on(S3Operation::PutObject));
    scene.create("index/a", b"an index").await.unwrap();
    let counters = scene.server.counters();
    assert_eq!(counters.of(S3Operation::PutObject), 2);
    assert_eq!(counters.of(S3Operation::HeadObject), 1);
    assert_eq!(counters.of(S3Operation::GetObject), 0);
}

#[tokio::test]
async fn without_a_stored_checksum_bytes_are_compared() {
    let scene = Scene::warmed_up().await;
    scene.server.put(BUCKET, "index/a", "an index");
    scene.create("index/a", b"an index").await.unwrap();
    assert_eq!(scene.server.counters().of(S3Operation::GetObject), 1);
    let error = scene.create("index/a", b"an indeX").await.unwrap_err();
    assert!(error.is(ErrorKind::AlreadyExists), "{error}");
    assert_eq!(scene.get("index/a").await.unwrap(), "an index");
}

#[tokio::test]
async fn a_conflict_of_two_writers_is_tried_again() {
    let scene = Scene::warmed_up().await;
    let conflict = S3Effect::refuse(409, "ConditionalRequestConflict");
    scene.server.add_fault(S3Fault::new(conflict).on(S3Operation::PutObject).times(3));
    scene.create("config", b"config").await.unwrap();
    assert_eq!(scene.server.counters().of(S3Operation::PutObject), 4);
}

#[tokio::test]
async fn a_server_that_ignores_conditions_is_found_out_before_anything_is_written() {
    let options = S3ServerOptions::default().with_conditional_writes(ConditionalWrites::Ignored);
    let scene = Scene::with(options, |settings| settings);
    scene.server.put(BUCKET, "config", "of somebody else");
    for name in ["config", "locks/a"] {
        let error = scene.create(name, b"ours").await.unwrap_err();
        let found = (error.kind(), error.code());
        assert_eq!(found, (ErrorKind::Unsupported, "s3-no-conditional-writes"));
        assert!(error.report().contains("conditional_writes"), "{error:?}");
    }
    let (expected, bytes) = (Bytes::from_static(b"another"), Bytes::from_static(b"ours"));
    for expected in [None, Some(expected), Some(Bytes::from_static(b"of somebody else"))] {
        let swapped = scene.destination.swap(&key("config"), expected, bytes.clone()).await;
        assert!(swapped.unwrap_err().is(ErrorKind::Unsupported));
    }
    assert_eq!(scene.server.keys(BUCKET), ["config"]);
    assert_eq!(scene.server.object(BUCKET, "config").unwrap().bytes, "of somebody else");
    // Nothing but the object of the tries was ever written.
    assert_eq!(scene.server.counters().of(S3Operation::HeadObject), 0);
}

#[tokio::test]
async fn a_server_that_knows_only_one_of_the_conditions_swaps_nothing() {
    let options = S3ServerOptions::default().with_conditional_writes(ConditionalWrites::OnlyAbsent);
    let scene = Scene::with(options, |settings| settings);
    scene.create("backupkit/lease", b"one").await.unwrap();
    let (expected, bytes) = (Bytes::from_static(b"one"), Bytes::from_static(b"two"));
    let swapped = scene.destination.swap(&key("backupkit/lease"), Some(expected), bytes).await;
    assert_eq!(swapped.unwrap_err().code(), "s3-no-conditional-writes");
    assert_eq!(scene.get("backupkit/lease").await.unwrap(), "one");
}

#[tokio::test]
async fn a_server_that_was_tried_by_another_process_is_tried_with_one_request() {
    let scene = Scene::warmed_up().await;
    let other = scene.other_with(|settings| settings);
    other.create(&key("index/a"), Bytes::from_static(b"x").into()).await.unwrap();
    assert_eq!(scene.server.counters().requests, 2);
    let keys = scene.server.keys(BUCKET);
    assert_eq!(keys, ["backupkit/conditions", "index/a", "locks/first"]);
}

#[tokio::test]
async fn an_object_that_goes_away_while_it_is_written_is_written_again() {
    let scene = Scene::warmed_up().await;
    // As after the reply of an earlier attempt was lost, and somebody deleted the object.
    let failed = S3Effect::refuse(412, "PreconditionFailed");
    scene.server.add_fault(S3Fault::new(failed).on(S3Operation::PutObject).times(2));
    scene.create("index/a", b"x").await.unwrap();
    assert_eq!(scene.get("index/a").await.unwrap(), "x");
}

#[tokio::test]
async fn a_look_that_does_not_say_how_long_an_object_is_says_nothing() {
    let scene = Scene::warmed_up().await;
    scene.create("index/a", b"x").await.unwrap();
    let forget = || S3Fault::new(S3Effect::ForgetLength).on(S3Operation::HeadObject);
    scene.server.add_fault(forget());
    // The same bytes again: what is there is looked at.
    scene.create("index/a", b"x").await.unwrap();
    scene.server.add_fault(forget().always());
    let error = scene.destination.stat(&key("index/a")).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "s3-odd-reply"));
}

#[tokio::test]
async fn a_server_that_refuses_conditions_is_told_so() {
    let options = S3ServerOptions::default().with_conditional_writes(ConditionalWrites::Refused);
    let scene = Scene::with(options, |settings| settings);
    let error = scene.create("locks/a", b"ours").await.unwrap_err();
    assert_eq!(error.code(), "s3-no-conditional-writes", "{error}");
    assert!(scene.server.keys(BUCKET).is_empty());
}

#[tokio::test]
async fn a_lost_reply_to_a_swap_is_success() {
    let scene = Scene::warmed_up().await;
    scene.create("backupkit/lease", b"one").await.unwrap();
    scene.server.add_fault(S3Fault::new(S3Effect::LoseReply).on(S3Operation::PutObject));
    let swap = |expected: &'static [u8], bytes: &'static [u8]| {
        let (expected, bytes) = (Bytes::from_static(expected), Bytes::from_static(bytes));
        async { scene.destination.swap(&key("backupkit/lease"), Some(expected), bytes).await }
    };
    swap(b"one", b"two").await.unwrap();
    let late: Error = swap(b"one", b"three").await.unwrap_err();
    assert!(late.is(ErrorKind::Conflict), "{late}");
    assert_eq!(scene.get("backupkit/lease").await.unwrap(), "two");
}

#[tokio::test]
async fn only_packs_have_the_storage_class() {
    let scene = Scene::with(S3ServerOptions::default(), |settings| {
        settings.with_storage_class("STANDARD_IA")
    });
    for name in ["config", "index/a", "data/3f/x"] {
        scene.create(name, b"x").await.unwrap();
    }
    let class = |name: &str| {
        let object = scene.server.object(BUCKET, name).unwrap();
        object.headers.get("x-amz-storage-class").cloned()
    };
    assert_eq!(class("config"), None);
    assert_eq!(class("index/a"), None);
    assert_eq!(class("data/3f/x").as_deref(), Some("STANDARD_IA"));
}
