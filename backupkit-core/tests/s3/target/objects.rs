//! What goes with objects, and what becomes of it where a server does not take it.

use backupkit_core::target::{ConflictPolicy, StepAction};
use backupkit_core::testing::fakes::{
    ConditionalWrites, S3Effect, S3Fault, S3Operation, S3ServerOptions,
};
use backupkit_core::testing::random_bytes;

use super::{Place, at, bucket_snapshot, with_object};
use crate::scene::BUCKET;

const FULL: &str = r#"{"v":1,"etag":"\"e\"","sc":"GLACIER_IR","ct":"text/plain","ce":"gzip",
    "cl":"de, en","cd":"attachment","cc":"no-store","exp":"never","wr":"/elsewhere",
    "meta":{"a":"=?UTF-8?Q?=C3=A4?=","b":"x y"},"tags":{"k":"v","ü":"a b&c"}}"#;

#[tokio::test]
async fn all_of_an_object_goes_in_one_request() {
    let place = Place::new();
    let snapshot = with_object(bucket_snapshot(), "full", "bytes", FULL);
    place.restore(snapshot).await.assert_fine();
    let object = place.server.object(BUCKET, "full").unwrap();
    for (name, value) in [
        ("x-amz-storage-class", "GLACIER_IR"),
        ("content-type", "text/plain"),
        ("content-encoding", "gzip"),
        ("content-language", "de, en"),
        ("content-disposition", "attachment"),
        ("cache-control", "no-store"),
        ("expires", "never"),
        ("x-amz-website-redirect-location", "/elsewhere"),
        ("x-amz-meta-a", "=?UTF-8?Q?=C3=A4?="),
        ("x-amz-meta-b", "x y"),
    ] {
        assert_eq!(object.headers.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(object.tags, "k=v&%C3%BC=a%20b%26c");
    let plain = with_object(bucket_snapshot(), "plain", "bytes", r#"{"v":1}"#);
    place.restore(plain).await.assert_fine();
    let object = place.server.object(BUCKET, "plain").unwrap();
    assert_eq!(object.headers["content-type"], "binary/octet-stream");
}

#[tokio::test]
async fn a_large_object_keeps_what_goes_with_it_and_its_entity_tag() {
    let place = Place::new();
    let bytes = random_bytes(1, 21 << 20);
    // Five parts of 5 MiB.
    let record = FULL.replace(r#"\"e\""#, r#"\"e-5\""#);
    let snapshot = with_object(bucket_snapshot(), "large", bytes.clone(), &record);
    place.restore(snapshot).await.assert_fine();
    let object = place.server.object(BUCKET, "large").unwrap();
    assert!(object.bytes == bytes);
    assert!(object.etag.ends_with("-5\""), "{}", object.etag);
    assert_eq!(object.headers["expires"], "never");
    assert_eq!(object.tags, "k=v&%C3%BC=a%20b%26c");
}

#[tokio::test]
async fn an_archived_object_comes_back_readable() {
    let place = Place::new();
    let snapshot =
        with_object(bucket_snapshot(), "cold", "bytes", r#"{"v":1,"sc":"DEEP_ARCHIVE"}"#);
    let restored = place.restore(snapshot).await;
    restored.assert_fine();
    assert!(restored.notes[0].contains("archive"), "{:?}", restored.notes);
    let object = place.server.object(BUCKET, "cold").unwrap();
    assert_eq!(object.headers.get("x-amz-storage-class"), None);
}

#[tokio::test]
async fn what_cannot_stand_in_a_header_is_left_out_and_told() {
    let place = Place::new();
    let record = r#"{"v":1,"ct":"ä","meta":{"a":"b\nc","d":"e"},"incomplete":true}"#;
    let snapshot = with_object(bucket_snapshot(), "odd", "bytes", record);
    let restored = place.restore(snapshot).await;
    let warnings = restored.warnings("odd");
    for part in ["Content-Type", "metadata a", "could not be read"] {
        assert!(warnings.contains(part), "{warnings}");
    }
    assert_eq!(place.server.object(BUCKET, "odd").unwrap().headers["x-amz-meta-d"], "e");
}

#[tokio::test]
async fn a_refusal_of_tags_is_not_one_of_conditions() {
    let place = Place::with(S3ServerOptions::default().without_header("x-amz-tagging"));
    let mut snapshot = bucket_snapshot();
    for path in ["a", "b"] {
        snapshot = with_object(snapshot, path, path, FULL);
    }
    let large = FULL.replace(r#"\"e\""#, r#"\"e-3\""#);
    let snapshot = with_object(snapshot, "large", random_bytes(1, 17 << 20), &large);
    let restored = place.restore(snapshot).await;
    for path in ["a", "b", "large"] {
        let warnings = restored.warnings(path);
        assert!(warnings.contains("its tags"), "{path}: {warnings}");
        assert!(!warnings.contains("redirect") && !warnings.contains("class"), "{warnings}");
        let object = place.server.object(BUCKET, path).unwrap();
        assert_eq!(object.headers["x-amz-website-redirect-location"], "/elsewhere");
        assert_eq!(object.tags, "");
    }
    // Conditions are still relied on.
    assert!(restored.notes.is_empty(), "{:?}", restored.notes);
    let created = with_object(bucket_snapshot(), "later", "ours", FULL);
    place.restore(created).await;
    assert_eq!(
        place.server.counters().unconditional_writes,
        3,
        "only what is tried is written without one"
    );
}

#[tokio::test]
async fn a_refusal_of_conditions_is_not_one_of_tags() {
    let options = S3ServerOptions::default().with_conditional_writes(ConditionalWrites::Refused);
    let place = Place::with(options);
    let restored = place.restore(with_object(bucket_snapshot(), "a", "a", FULL)).await;
    restored.assert_fine();
    assert_eq!(place.server.object(BUCKET, "a").unwrap().tags, "k=v&%C3%BC=a%20b%26c");
    assert!(restored.notes[0].contains("no conditions of writes"), "{:?}", restored.notes);
}

#[tokio::test]
async fn a_refusal_of_another_feature_is_blamed_on_that() {
    let options = S3ServerOptions::default().without_header("x-amz-website-redirect-location");
    let place = Place::with(options);
    let restored = place.restore(with_object(bucket_snapshot(), "a", "a", FULL)).await;
    let warnings = restored.warnings("a");
    assert!(warnings.contains("redirect") && !warnings.contains("tags"), "{warnings}");
    assert_eq!(place.server.object(BUCKET, "a").unwrap().tags, "k=v&%C3%BC=a%20b%26c");
}

#[tokio::test]
async fn an_object_that_is_certainly_the_same_is_left_alone() {
    for policy in [ConflictPolicy::Overwrite, ConflictPolicy::Newer] {
        let place = Place::new().with_policy(policy);
        place.server.put(BUCKET, "a", "bytes");
        let etag = place.server.object(BUCKET, "a").unwrap().etag;
        let record = format!(r#"{{"v":1,"etag":{etag:?}}}"#);
        let restored = place.restore(with_object(bucket_snapshot(), "a", "bytes", &record)).await;
        assert_eq!(*restored.action(&at("a")), StepAction::Skip);
        let other = with_object(bucket_snapshot(), "a", "other bytes", &record);
        let restored = place.with_policy(ConflictPolicy::Overwrite).restore(other).await;
        assert_eq!(*restored.action(&at("a")), StepAction::Overwrite);
    }
}

#[tokio::test]
async fn what_comes_after_the_plan_is_kept_unless_all_is_to_be_replaced() {
    use super::{body, key};
    use futures::TryStreamExt as _;
    for conditions in [ConditionalWrites::Honoured, ConditionalWrites::Ignored] {
        for (policy, is_replaced) in [
            (ConflictPolicy::Skip, false),
            (ConflictPolicy::Newer, false),
            (ConflictPolicy::Rename, false),
            (ConflictPolicy::Overwrite, true),
        ] {
            let options = S3ServerOptions::default().with_conditional_writes(conditions);
            let place = Place::with(options).with_policy(policy);
            let snapshot = with_object(bucket_snapshot(), "a", "ours", r#"{"v":1}"#);
            let snapshot = with_object(snapshot, "large", random_bytes(1, 17 << 20), r#"{"v":1}"#)
                .into_reader();
            let target = place.target(|settings| settings);
            let session = place.open(&target, &snapshot).await.unwrap();
            let steps: Vec<_> = session.plan().try_collect().await.unwrap();
            for step in &steps {
                place.server.put(BUCKET, &key(step), "theirs");
                let written = session.write(step, body(&*snapshot, step).await, None).await;
                assert_eq!(written.is_ok(), is_replaced, "{conditions:?} {policy:?} {written:?}");
                let is_theirs = place.bytes(&key(step)).unwrap() == "theirs";
                assert_eq!(is_theirs, !is_replaced, "{conditions:?} {policy:?}");
            }
            session.finish().await.unwrap();
            assert_eq!(place.server.open_uploads(BUCKET), 0);
        }
    }
}

#[tokio::test]
async fn a_class_that_the_server_does_not_know_is_left_out() {
    let place = Place::new();
    let refuse = S3Fault::new(S3Effect::refuse(400, "InvalidStorageClass"));
    place.server.add_fault(refuse.on(S3Operation::PutObject).for_keys_with("xyz"));
    let restored = place.restore(with_object(bucket_snapshot(), "xyz", "a", FULL)).await;
    assert!(restored.warnings("xyz").contains("storage class"), "{restored:?}");
    let object = place.server.object(BUCKET, "xyz").unwrap();
    assert_eq!(object.headers.get("x-amz-storage-class"), None);
    assert!(!object.tags.is_empty());
}
