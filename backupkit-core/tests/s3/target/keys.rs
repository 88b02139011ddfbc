//! Which keys are written, and which are refused.

use backupkit_core::ErrorKind;
use backupkit_core::model::{EntryKind, EntryPath};
use backupkit_core::target::{ConflictPolicy, StepAction};
use backupkit_core::testing::MemorySnapshot;
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation};
use futures::TryStreamExt as _;

use super::{Place, at, bucket_snapshot, with_directory, with_object};
use crate::scene::BUCKET;

/// Where a backup puts keys, and the keys.
const ODD: [(&str, &str); 14] = [
    ("plain.txt", "plain.txt"),
    ("photos%object", "photos"),
    ("photos/1.jpg", "photos/1.jpg"),
    ("%empty/%empty/double", "//double"),
    ("%2E/here", "./here"),
    ("a/%2E%2E/b", "a/../b"),
    ("line%0Abreak", "line\nbreak"),
    ("back%5Cslash", "back\\slash"),
    ("100%25", "100%"),
    ("space +&<>\"'", "space +&<>\"'"),
    ("filled/%empty", "filled/"),
    ("flat/%range-k/k%object", "flat/k"),
    ("flat/%range-k/l", "flat/l"),
    ("flat/%range-k%2F/k/x", "flat/k/x"),
];

#[tokio::test]
async fn names_of_a_bucket_become_the_keys_that_they_were() {
    let place = Place::new();
    let mut snapshot = bucket_snapshot();
    for (path, key) in ODD {
        snapshot = with_object(snapshot, path, key, r#"{"v":1}"#);
    }
    snapshot = with_directory(snapshot, "marked", r#"{"v":1,"marker":{"v":1,"ct":"x/y"}}"#);
    let restored = place.restore(snapshot).await;
    restored.assert_fine();
    let mut wanted: Vec<&str> = ODD.iter().map(|(_, key)| *key).chain(["marked/"]).collect();
    wanted.sort_unstable();
    assert_eq!(place.server.keys(BUCKET), wanted);
    for (_, key) in ODD {
        assert_eq!(place.bytes(key).unwrap(), key);
    }
    let marker = place.server.object(BUCKET, "marked/").unwrap();
    assert_eq!(marker.headers["content-type"], "x/y");
    assert!(restored.notes.is_empty(), "{:?}", restored.notes);
}

#[tokio::test]
async fn two_entries_of_one_key_never_overwrite_each_other() {
    let place = Place::new();
    let mut snapshot = bucket_snapshot();
    for path in ["a", "a%object", "c%object", "c/x", "%63", "d/%empty", "e/y", "%65/y", "%65/z"] {
        snapshot = with_object(snapshot, path, path, r#"{"v":1}"#);
    }
    snapshot = with_directory(snapshot, "d", r#"{"v":1,"marker":{"v":1}}"#);
    let restored = place.restore(snapshot).await;
    for path in ["a%object", "%63", "d", "%65/y"] {
        let action = restored.action(&at(path));
        assert!(
            matches!(action, StepAction::Refuse(why) if why.contains("same key")),
            "{path}: {action:?}"
        );
    }
    assert_eq!(place.server.keys(BUCKET), ["a", "c", "c/x", "d/", "e/y", "e/z"]);
    for (key, path) in [("a", "a"), ("c", "c%object"), ("d/", "d/%empty"), ("e/y", "e/y")] {
        assert_eq!(place.bytes(key).unwrap(), path);
    }
}

#[tokio::test]
async fn what_no_bucket_holds_is_refused_one_by_one() {
    let place = Place::new();
    let long = format!("{}/x", vec!["y".repeat(200); 6].join("/"));
    let mut snapshot = MemorySnapshot::new().with_link(&EntryPath::from_slashed(b"home/link"), "x");
    for path in ["home/a", "home/b%object", "home/%zz"] {
        snapshot = snapshot.with_file(&EntryPath::from_slashed(path.as_bytes()), path);
    }
    let named = |name: &[u8]| EntryPath::from_names([&b"home"[..], name]);
    let odd = [named(b"\xff"), named(b".."), EntryPath::from_slashed(long.as_bytes())];
    for path in &odd {
        snapshot = snapshot.with_file(path, "odd");
    }
    let pipe = named(b"pipe");
    let metadata = backupkit_core::model::Metadata::new(
        backupkit_core::model::FileMode::FILE,
        backupkit_core::model::FileTime::EPOCH,
    );
    snapshot = snapshot.with_node(&pipe, EntryKind::Fifo, metadata, "");
    snapshot = snapshot.with_directory(&named(b"empty"));
    let restored = place.restore(snapshot).await;
    restored.assert_fine();
    for path in odd.iter().chain([&pipe, &named(b"link")]) {
        let action = restored.action(path);
        assert!(matches!(action, StepAction::Refuse(_)), "{path}: {action:?}");
    }
    // Names of folders are not decoded.
    assert_eq!(place.server.keys(BUCKET), ["home/%zz", "home/a", "home/b%object"]);
    assert!(restored.notes[0].contains("1 empty"), "{:?}", restored.notes);
}

#[tokio::test]
async fn keys_that_lead_out_of_the_prefix_are_refused() {
    let place = Place::new();
    let mut snapshot = bucket_snapshot();
    for path in ["%2E%2E/x", "a/%2E%2E/%2E%2E/x", "fine"] {
        snapshot = with_object(snapshot, path, path, r#"{"v":1}"#);
    }
    let target = place.target(|settings| settings.with_prefix("p"));
    let restored = place.restore_into(&target, snapshot).await;
    assert_eq!(place.server.keys(BUCKET), ["p/fine"]);
    assert!(matches!(restored.action(&at("%2E%2E/x")), StepAction::Refuse(_)));
}

#[tokio::test]
async fn a_server_that_changes_keys_is_found_out_before_it_does() {
    let place = Place::new();
    let drop = S3Fault::new(S3Effect::refuse(400, "InvalidArgument")).on(S3Operation::PutObject);
    place.server.add_fault(drop.for_keys_with("//").always());
    let mut snapshot = bucket_snapshot();
    for path in ["a/%empty/b", "%empty/c", "fine"] {
        snapshot = with_object(snapshot, path, path, r#"{"v":1}"#);
    }
    let restored = place.restore(snapshot).await;
    let error = restored.error("a//b");
    assert!(error.is(ErrorKind::Unsupported) && error.code() == "s3-odd-key", "{error:?}");
    assert_eq!(place.server.keys(BUCKET), ["/c", "fine"]);
}

#[tokio::test]
async fn nothing_is_restored_into_a_repository_that_nobody_has_named() {
    for (prefix, repository) in [("", ""), ("x", "x/"), ("x/y", "x/"), ("x/y/z", "")] {
        let place = Place::new();
        for file in ["config", "keys/12", "data/34"] {
            place.server.put(BUCKET, &format!("{repository}{file}"), "theirs");
        }
        let before = place.server.keys(BUCKET);
        let target = place.target(|settings| settings.with_prefix(prefix));
        let snapshot = with_object(bucket_snapshot(), "config", "ours", r#"{"v":1}"#).into_reader();
        let session = place.open(&target, &snapshot).await.unwrap();
        let planned: Result<Vec<_>, _> = session.plan().try_collect().await;
        let error = planned.unwrap_err();
        assert_eq!(error.code(), "target-holds-repository", "{prefix} {repository}");
        assert_eq!(place.server.keys(BUCKET), before);
    }
}

#[tokio::test]
async fn a_restored_repository_does_not_keep_its_restore_from_going_on() {
    let place = Place::new();
    let mut snapshot = bucket_snapshot();
    for path in ["config", "keys/12"] {
        snapshot = with_object(snapshot, path, path, r#"{"v":1}"#);
    }
    let snapshot = snapshot.into_reader();
    let target = place.target(|settings| settings);
    for _ in 0..2 {
        let session = place.open(&target, &snapshot).await.unwrap();
        let steps: Vec<_> = session.plan().try_collect().await.unwrap();
        for step in &steps {
            session.write(step, super::body(&*snapshot, step).await, None).await.unwrap();
        }
    }
    assert_eq!(place.server.keys(BUCKET), ["config", "keys/12"]);
}

#[tokio::test]
async fn a_new_name_is_no_other_entrys() {
    let place = Place::new().with_policy(ConflictPolicy::Rename);
    place.server.put(BUCKET, "a.txt", "theirs");
    let mut snapshot = bucket_snapshot();
    for path in ["a.txt", "a.restored-19700101T000000Z.txt"] {
        snapshot = with_object(snapshot, path, path, r#"{"v":1}"#);
    }
    place.restore(snapshot).await.assert_fine();
    assert_eq!(
        place.server.keys(BUCKET),
        ["a.restored-19700101T000000Z-2.txt", "a.restored-19700101T000000Z.txt", "a.txt"]
    );
    assert_eq!(place.bytes("a.txt").unwrap(), "theirs");
}
