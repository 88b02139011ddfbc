//! Bytes come whole, or not at all.

use backupkit_core::destination::Destination as _;
use backupkit_core::testing::fakes::{
    ReadVersions, S3Effect, S3Fault, S3Operation, S3ServerOptions,
};
use backupkit_core::testing::random_bytes;
use backupkit_core::{ErrorKind, Result};
use bytes::Bytes;

use crate::scene::{BUCKET, Scene, key};

/// Replaces an object between the first reply, which breaks off, and the second request.
async fn read_replaced(options: S3ServerOptions, cut: usize, now: Bytes) -> Result<Bytes> {
    let scene = Scene::with(options, |settings| settings);
    scene.server.put(BUCKET, "data/3f/x", random_bytes(1, 1 << 20));
    scene.server.add_fault(S3Fault::new(S3Effect::CutBody(cut)).on(S3Operation::GetObject));
    scene.server.add_fault(S3Fault::new(S3Effect::Hold).on(S3Operation::GetObject).after(1));
    let replace = async {
        scene.server.held(1).await;
        scene.server.put(BUCKET, "data/3f/x", now);
        scene.server.release(1);
    };
    let (found, ()) = tokio::join!(scene.get("data/3f/x"), replace);
    found
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_gone_on_with() {
    let scene = Scene::warmed_up().await;
    let bytes = random_bytes(1, 3 << 20);
    scene.server.put(BUCKET, "data/3f/x", bytes.clone());
    let cut = S3Fault::new(S3Effect::CutBody(1 << 20)).on(S3Operation::GetObject);
    scene.server.add_fault(cut.times(2));
    let found = scene.get("data/3f/x").await.unwrap();
    assert!(found == bytes);
    let counters = scene.server.counters();
    assert_eq!(counters.of(S3Operation::GetObject), 3);
    // What came is not asked for again, but for what was lost with the connection.
    assert!(counters.sent_bytes <= (3 << 20) + (2 << 20), "{counters:?}");
    let part = scene.destination.get(&key("data/3f/x"), Some(5..1_000_005)).await.unwrap();
    assert!(part == bytes.slice(5..1_000_005));
}

#[tokio::test]
async fn bytes_of_two_versions_are_never_joined() {
    for options in [
        S3ServerOptions::default(),
        // It gives the other version, whatever was asked for.
        S3ServerOptions::default().with_read_versions(ReadVersions::Unchecked),
    ] {
        for length in [1 << 20, 3 << 20] {
            let now = random_bytes(2, length);
            let error = read_replaced(options.clone(), 300_000, now).await.unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "s3-replaced"));
        }
    }
}

#[tokio::test]
async fn without_an_entity_tag_a_read_starts_over() {
    for length in [1_000, 1 << 20, 3 << 20] {
        let now = random_bytes(2, length);
        let options = S3ServerOptions::default().with_read_versions(ReadVersions::Unnamed);
        let found = read_replaced(options, 300_000, now.clone()).await.unwrap();
        assert!(found == now, "{length}");
    }
}

#[tokio::test]
async fn a_read_of_which_nothing_has_come_starts_over() {
    for length in [0, 1_000, 3 << 20] {
        let now = random_bytes(2, length);
        let found = read_replaced(S3ServerOptions::default(), 0, now.clone()).await.unwrap();
        assert!(found == now, "{length}");
    }
}

#[tokio::test]
async fn fewer_bytes_than_announced_are_never_taken_for_all() {
    let scene = Scene::warmed_up().await;
    let bytes = random_bytes(1, 100_000);
    scene.server.put(BUCKET, "data/3f/x", bytes.clone());
    let short = || S3Fault::new(S3Effect::ShortenBody(1_000)).on(S3Operation::GetObject);
    scene.server.add_fault(short().times(3));
    let part = scene.destination.get(&key("data/3f/x"), Some(10..50_000)).await.unwrap();
    assert!(part == bytes.slice(10..50_000));
    scene.server.add_fault(short().always());
    let error = scene.destination.get(&key("data/3f/x"), Some(10..50_000)).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "s3-odd-reply"));
}

#[tokio::test]
async fn an_object_that_went_away_while_it_was_read_is_not_found() {
    let scene = Scene::warmed_up().await;
    scene.server.put(BUCKET, "data/3f/x", random_bytes(1, 1 << 20));
    scene.server.add_fault(S3Fault::new(S3Effect::CutBody(300_000)).on(S3Operation::GetObject));
    scene.server.add_fault(S3Fault::new(S3Effect::Hold).on(S3Operation::GetObject).after(1));
    let remove = async {
        scene.server.held(1).await;
        scene.server.remove(BUCKET, "data/3f/x");
        scene.server.release(1);
    };
    let (found, ()) = tokio::join!(scene.get("data/3f/x"), remove);
    assert!(found.unwrap_err().is(ErrorKind::NotFound));
}

#[tokio::test]
async fn an_archived_object_says_what_to_do() {
    let scene = Scene::warmed_up().await;
    scene.server.put(BUCKET, "data/3f/x", "cold");
    let archived = S3Effect::refuse(403, "InvalidObjectState");
    scene.server.add_fault(S3Fault::new(archived).on(S3Operation::GetObject));
    let error = scene.get("data/3f/x").await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unsupported, "s3-archived"));
    assert!(error.hint().is_some());
}
