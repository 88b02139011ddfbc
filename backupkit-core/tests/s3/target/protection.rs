//! Locks and access lists, which are given back only if somebody asks for it, and settings of buckets,
//! which are not given back.

use backupkit_core::Env;
use backupkit_core::adapters::s3::{S3Credentials, S3Destination, S3Target, S3TargetOptions};
use backupkit_core::destination::{Destination as _, ObjectKey};
use backupkit_core::model::{EntryKind, EntryPath, FileMode, FileTime, Metadata};
use backupkit_core::target::WriteProgress;
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3ServerOptions};
use backupkit_core::testing::random_bytes;
use bytes::Bytes;
use futures::TryStreamExt as _;

use super::{Place, Restored, broken_body, bucket_snapshot, rest_of_body, with_object};
use crate::real_server::{place_on, skip};
use crate::scene::BUCKET;

const LOCKED: &str =
    r#"{"v":1,"lock":{"mode":"GOVERNANCE","until":"2100-01-02T03:04:05Z","hold":true}}"#;
const OVER: &str = r#"{"v":1,"lock":{"mode":"GOVERNANCE","until":"1990-01-01T00:00:00Z"}}"#;
const SHARED: &str = r#"{"v":1,"acl":{"FULL_CONTROL":["owner"],"READ":["id=b","uri=http://all"]}}"#;

async fn restored(options: S3ServerOptions, given_back: S3TargetOptions) -> (Place, Restored) {
    let place = Place::with(options);
    let snapshot = with_object(bucket_snapshot(), "locked", "a", LOCKED);
    let snapshot = with_object(snapshot, "over", "a", OVER);
    let large = LOCKED.replace("}}", r#"},"etag":"\"e-4\""}"#);
    let snapshot = with_object(snapshot, "large", random_bytes(1, 17 << 20), &large);
    let snapshot = with_object(snapshot, "shared", "b", SHARED);
    let target = place.target(|settings| settings).with_options(given_back);
    let restored = place.restore_into(&target, snapshot).await;
    (place, restored)
}

#[tokio::test]
async fn objects_are_neither_locked_nor_shared_unless_asked_for() {
    let options = S3ServerOptions::default().with_object_lock();
    let (place, restored) = restored(options, S3TargetOptions::default()).await;
    restored.assert_fine();
    for key in ["locked", "over", "large", "shared"] {
        let object = place.server.object(BUCKET, key).unwrap();
        assert!(object.grants.is_empty(), "{key}");
        assert!(object.headers.keys().all(|name| !name.contains("lock")), "{key}");
    }
    let notes = restored.notes.join("; ");
    assert!(notes.contains("2 objects are not locked"), "{notes}");
    assert!(notes.contains("1 objects are without their access lists"), "{notes}");
}

#[tokio::test]
async fn locks_that_still_hold_and_access_lists_are_given_back() {
    let options = S3ServerOptions::default().with_object_lock();
    let given_back = S3TargetOptions::default().with_locks().with_acls();
    let (place, restored) = restored(options, given_back).await;
    restored.assert_fine();
    assert!(restored.notes.is_empty(), "{:?}", restored.notes);
    for key in ["locked", "large"] {
        let object = place.server.object(BUCKET, key).unwrap();
        for (name, value) in [
            ("x-amz-object-lock-mode", "GOVERNANCE"),
            ("x-amz-object-lock-retain-until-date", "2100-01-02T03:04:05Z"),
            ("x-amz-object-lock-legal-hold", "ON"),
        ] {
            assert_eq!(object.headers.get(name).map(String::as_str), Some(value), "{key}");
        }
    }
    let over = place.server.object(BUCKET, "over").unwrap();
    assert!(!over.headers.contains_key("x-amz-object-lock-mode"));
    let shared = place.server.object(BUCKET, "shared").unwrap();
    assert_eq!(shared.grants["x-amz-grant-read"], "id=\"b\", uri=\"http://all\"");
    assert_eq!(shared.grants["x-amz-grant-full-control"], "id=\"fake-owner\"", "the owner there");
}

#[tokio::test]
async fn a_bucket_that_keeps_no_locks_and_no_access_lists_gets_objects_without() {
    let given_back = S3TargetOptions::default().with_locks().with_acls();
    let unknown = S3ServerOptions::default()
        .without_header("x-amz-object-lock-mode")
        .without_header("x-amz-grant-read");
    let forgotten = S3ServerOptions::default()
        .with_object_lock()
        .forgetting_headers_with("object-lock")
        .forgetting_headers_with("grant");
    for options in [S3ServerOptions::default().without_access_lists(), unknown, forgotten] {
        let (place, restored) = restored(options, given_back).await;
        for (key, word) in
            [("locked", "its lock"), ("large", "its lock"), ("shared", "access list")]
        {
            let warnings = restored.warnings(key);
            assert!(warnings.contains(word) && !warnings.contains("tags"), "{key}: {warnings}");
            let object = place.server.object(BUCKET, key).unwrap();
            assert!(object.grants.is_empty() && !object.bytes.is_empty());
        }
        assert!(restored.warnings("over").is_empty());
    }
}

fn is_locked(place: &Place, key: &str) -> bool {
    let object = place.server.object(BUCKET, key).unwrap();
    ["mode", "legal-hold"]
        .iter()
        .all(|name| object.headers.contains_key(&format!("x-amz-object-lock-{name}")))
}

#[tokio::test]
async fn a_reply_without_locks_is_no_proof_that_there_are_none() {
    let given_back = S3TargetOptions::default().with_locks();
    let options = S3ServerOptions::default().with_object_lock();
    let (place, restored) = restored(options.clone().telling_locks_on_request(), given_back).await;
    restored.assert_fine();
    assert!(is_locked(&place, "locked") && is_locked(&place, "large"));
    assert_eq!(restored.notes.len(), 1, "access lists: {:?}", restored.notes);
    // A key that must not see them cannot tell.
    let (place, restored) = self::restored(options.hiding_locks(), given_back).await;
    restored.assert_fine();
    assert!(is_locked(&place, "locked") && is_locked(&place, "large"));
    let notes = restored.notes.join("; ");
    assert!(notes.contains("s3:GetObjectRetention"), "{notes}");
}

#[tokio::test]
async fn a_lock_that_is_lost_is_that_of_one_object() {
    let given_back = S3TargetOptions::default().with_locks();
    for lost in ["x", "y"] {
        let place = Place::with(S3ServerOptions::default().with_object_lock());
        let forget = S3Fault::new(S3Effect::ForgetHeaders("object-lock"));
        place.server.add_fault(forget.on(S3Operation::PutObject).for_keys_with(lost));
        let mut snapshot = bucket_snapshot();
        for key in ["x", "y", "z"] {
            snapshot = with_object(snapshot, key, "a", LOCKED);
        }
        let target = place.target(|settings| settings).with_options(given_back);
        let restored = place.restore_into(&target, snapshot).await;
        for key in ["x", "y", "z"] {
            assert_eq!(is_locked(&place, key), key != lost, "{key}");
            assert_eq!(restored.warnings(key).contains("its lock"), key == lost, "{key}");
        }
    }
}

#[tokio::test]
async fn an_upload_that_goes_on_tells_what_it_was_begun_without() {
    let options = S3ServerOptions::default().with_object_lock().without_header("x-amz-tagging");
    let place = Place::with(options);
    let record = LOCKED.replace("}}", r#"},"sc":"ODD","tags":{"a":"b"},"etag":"\"e-4\""}"#);
    let snapshot = with_object(bucket_snapshot(), "large", random_bytes(1, 17 << 20), &record);
    let snapshot = snapshot.into_reader();
    let refuse = |code| {
        let refuse = S3Fault::new(S3Effect::refuse(400, code)).on(S3Operation::CreateUpload);
        place.server.add_fault(refuse);
    };
    refuse("InvalidStorageClass");
    let target = || {
        let given_back = S3TargetOptions::default().with_locks();
        place.target(|settings| settings).with_options(given_back)
    };
    let session = place.open(&target(), &snapshot).await.unwrap();
    let steps: Vec<_> = session.plan().try_collect().await.unwrap();
    let (step, progress) = (&steps[0], WriteProgress::new());
    let half = broken_body(&*snapshot, step, 120, Some(&progress)).await;
    session.write(step, half, None).await.unwrap_err();
    let (bytes, token) = progress.last().unwrap();
    drop(session);

    let session = place.open(&target(), &snapshot).await.unwrap();
    let written = session
        .write(step, rest_of_body(&*snapshot, step, bytes).await, Some(token))
        .await
        .unwrap();
    let warnings: Vec<_> = written.warnings.iter().map(ToString::to_string).collect();
    let warnings = warnings.join("; ");
    assert!(warnings.contains("its tags") && warnings.contains("its storage class"), "{warnings}");
    assert_eq!(written.warnings.len(), 2, "{warnings}");
    assert!(is_locked(&place, "large"));
    session.finish().await.unwrap();
}

#[tokio::test]
async fn the_settings_of_a_bucket_do_not_become_an_object() {
    let place = Place::new();
    let metadata = Metadata::new(FileMode::FILE, FileTime::from_unix(0, 0));
    let file = EntryPath::from_names(["b%bucket.json"]);
    let snapshot = with_object(bucket_snapshot(), "a", "a", r#"{"v":1}"#);
    let restored = place.restore(snapshot.with_node(&file, EntryKind::File, metadata, "{}")).await;
    restored.assert_fine();
    assert_eq!(place.server.keys(BUCKET), ["a"]);
    assert_eq!(restored.steps.len(), 1, "it is no step");
    assert!(restored.notes[0].contains("settings of the bucket"), "{:?}", restored.notes);
}

/// Their buckets were made without object lock; they have their own words for that.
async fn on_real_server(server: &str) {
    let (settings, id, secret) = match place_on(server, |settings| settings) {
        Ok(place) => place,
        Err(why) => return skip(&why),
    };
    let credentials = S3Credentials::keys(id, secret);
    let destination = S3Destination::new(settings.clone(), &credentials, Env::system()).unwrap();
    // Some make the bucket with the first object.
    let here = ObjectKey::new("made/here").unwrap();
    destination.create(&here, Bytes::from_static(b"x").into()).await.unwrap();
    let given_back = S3TargetOptions::default().with_locks().with_acls();
    let target = S3Target::new(settings, &credentials, Env::system()).unwrap();
    let snapshot = with_object(bucket_snapshot(), "locked", "a", LOCKED);
    let snapshot = with_object(snapshot, "shared", "b", SHARED);
    let restored = Place::new().restore_into(&target.with_options(given_back), snapshot).await;
    let warnings = restored.warnings("locked");
    assert!(warnings.contains("its lock"), "{server}: {warnings}");
    // Some know access lists, some refuse them, and some say nothing.
    let warnings = restored.warnings("shared");
    assert!(warnings.is_empty() || warnings.contains("its access list"), "{server}: {warnings}");
}

#[tokio::test]
async fn minio_gets_objects_without_locks() {
    on_real_server("BACKUPKIT_TEST_S3_MINIO").await;
}

#[tokio::test]
async fn moto_gets_objects_without_locks() {
    on_real_server("BACKUPKIT_TEST_S3_MOTO").await;
}
