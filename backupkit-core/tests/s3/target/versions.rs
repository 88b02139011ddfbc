//! Older versions, which are put into a bucket that keeps versions, from the oldest to the newest.

use std::sync::Arc;

use backupkit_core::adapters::s3::{S3Target, S3TargetOptions};
use backupkit_core::model::{EntryKind, EntryPath, FileMode};
use backupkit_core::snapshot::SnapshotReader;
use backupkit_core::store::{AdapterStore, InMemoryAdapterStore};
use backupkit_core::target::{
    ConflictPolicy, RestoreContext, RestoreOptions, RestoreSession, RestoreTarget as _, Step,
    StepAction, Verdict, VerifyLevel,
};
use backupkit_core::testing::MemorySnapshot;
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3ServerOptions};
use backupkit_core::{CancelToken, Result};
use bytes::Bytes;
use futures::stream::TryStreamExt as _;

use super::{Place, body, bucket_snapshot, key, metadata, with_object};
use crate::scene::BUCKET;

fn versioned() -> Place {
    Place::with(S3ServerOptions::default().versioned())
}

fn with_versions(place: &Place) -> S3Target {
    place.target(|it| it).with_options(S3TargetOptions::default().with_versions())
}

/// A path below the directory of older versions.
fn past(path: &str) -> EntryPath {
    EntryPath::from_names(["b%versions"].into_iter().chain(path.split('/')))
}

fn with_past(
    snapshot: MemorySnapshot,
    path: &str,
    bytes: impl Into<Bytes>,
    record: &str,
) -> MemorySnapshot {
    snapshot.with_node(&past(path), EntryKind::File, metadata(FileMode::FILE, record), bytes)
}

const PLAIN: &str = r#"{"v":1}"#;
const RICH: &str = r#"{"v":1,"ct":"text/x","cc":"no-store","meta":{"m":"1"},"tags":{"t":"2"}}"#;

/// A bucket with a history.
fn snapshot() -> MemorySnapshot {
    let mut snapshot = bucket_snapshot();
    for path in ["", "a%past", "d", "d/gone%past", "d/x%object%past", "d/%empty%past"] {
        let path = if path.is_empty() { EntryPath::from_names(["b%versions"]) } else { past(path) };
        snapshot = snapshot.with_directory(&path);
    }
    snapshot = with_past(snapshot, "a%past/20260101T000000.000000Z-1", "one", RICH);
    snapshot = with_past(snapshot, "a%past/20260102T000000.000000Z-2%deleted", "", PLAIN);
    snapshot = with_past(snapshot, "a%past/20260103T000000.000000Z-3", "three", PLAIN);
    snapshot = with_past(snapshot, "a%past/20260104T000000.000000Z-4", "three", PLAIN);
    snapshot = with_past(snapshot, "d/gone%past/20260101T000000.000000Z-1", "was", PLAIN);
    snapshot = with_past(snapshot, "d/gone%past/20260102T000000.000000Z-2%deleted", "", PLAIN);
    snapshot = with_past(snapshot, "d/x%object%past/20260101T000000.000000Z-1", "old x", PLAIN);
    snapshot = with_past(snapshot, "d/%empty%past/20260101T000000.000000Z-1", "", PLAIN);
    snapshot = with_object(snapshot, "a", "new", RICH);
    snapshot = with_object(snapshot, "d/x", "new x", PLAIN);
    with_object(snapshot, "plain", "alone", PLAIN)
}

/// What the bucket has then, from the oldest version to the newest.
const EXPECTED: [(&str, &[&str]); 5] = [
    ("a", &["one", "-", "three", "three", "new"]),
    ("d/gone", &["was", "-"]),
    ("d/x", &["old x", "new x"]),
    ("d/", &[""]),
    ("plain", &["alone"]),
];

/// The versions of a key; `-` is the mark of a deletion.
fn found(place: &Place, key: &str) -> Vec<String> {
    let versions = place.server.versions(BUCKET, key).into_iter();
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    versions.map(|one| one.map_or("-".to_owned(), |object| text(object.bytes))).collect()
}

fn assert_as_in_snapshot(place: &Place, what: &str) {
    for (key, versions) in EXPECTED {
        assert_eq!(found(place, key), versions, "{key}: {what}");
    }
}

async fn open(
    place: &Place,
    path: EntryPath,
    store: &Arc<dyn AdapterStore>,
) -> (Arc<dyn SnapshotReader>, Arc<dyn RestoreSession>) {
    let snapshot = snapshot().into_reader();
    let options = RestoreOptions { conflict: place.policy, path, ..RestoreOptions::default() };
    let (store, cancel) = (Arc::clone(store), CancelToken::new());
    let cx = RestoreContext { snapshot: Arc::clone(&snapshot), options, store, cancel };
    (snapshot, with_versions(place).open(cx).await.unwrap())
}

async fn plan(session: &dyn RestoreSession) -> Result<Vec<Step>> {
    session.plan().try_collect().await
}

fn is_done(step: &Step) -> bool {
    matches!(step.action, StepAction::Skip | StepAction::Refuse(_))
}

#[tokio::test]
async fn older_versions_that_nobody_asked_for_are_counted_and_left() {
    let place = Place::new();
    let restored = place.restore(snapshot()).await;
    restored.assert_fine();
    assert_eq!(place.server.keys(BUCKET), ["a", "d/x", "plain"]);
    assert!(!restored.steps.iter().any(is_done), "{:?}", restored.steps);
    let told: Vec<_> = restored.notes.iter().filter(|note| note.contains("older")).collect();
    assert!(told.len() == 1 && told[0].starts_with("8 older versions"), "{:?}", restored.notes);
}

#[tokio::test]
async fn a_bucket_gets_the_same_versions_in_the_same_order() {
    for conditional in [true, false] {
        let place = versioned();
        let options = S3TargetOptions::default().with_versions();
        let target = place.target(|settings| {
            if conditional { settings } else { settings.without_conditional_writes() }
        });
        let restored = place.restore_into(&target.with_options(options), snapshot()).await;
        restored.assert_fine();
        assert_as_in_snapshot(&place, "the first time");
        assert_eq!(place.server.keys(BUCKET), ["a", "d/", "d/x", "plain"]);
        let oldest = place.server.versions(BUCKET, "a").remove(0).unwrap();
        assert_eq!(oldest.headers["content-type"], "text/x");
        assert_eq!(oldest.headers["cache-control"], "no-store");
        assert_eq!(oldest.headers["x-amz-meta-m"], "1");
        assert_eq!(oldest.tags, "t=2");
    }
}

#[tokio::test]
async fn a_restore_that_is_repeated_adds_nothing() {
    for policy in [
        ConflictPolicy::Overwrite,
        ConflictPolicy::Skip,
        ConflictPolicy::Newer,
        ConflictPolicy::Rename,
    ] {
        let place = versioned().with_policy(policy);
        for _ in 0..3 {
            let target = with_versions(&place);
            place.restore_into(&target, snapshot()).await.assert_fine();
            assert_as_in_snapshot(&place, &format!("{policy:?}"));
        }
    }
}

#[tokio::test]
async fn a_restore_that_was_killed_anywhere_goes_on_and_adds_nothing_twice() {
    for policy in [ConflictPolicy::Overwrite, ConflictPolicy::Skip, ConflictPolicy::Rename] {
        for keeps_store in [true, false] {
            for count in 0..=11 {
                let place = versioned().with_policy(policy);
                let store: Arc<dyn AdapterStore> = Arc::new(InMemoryAdapterStore::default());
                let (snapshot, session) = open(&place, EntryPath::root(), &store).await;
                for step in plan(&*session).await.unwrap().iter().take(count) {
                    let body = body(&*snapshot, step).await;
                    session.write(step, body, None).await.unwrap();
                }
                drop(session);
                let fresh: Arc<dyn AdapterStore> = Arc::new(InMemoryAdapterStore::default());
                let store = if keeps_store { store } else { fresh };
                let (snapshot, session) = open(&place, EntryPath::root(), &store).await;
                let steps = plan(&*session).await.unwrap();
                for step in steps.iter().filter(|step| !is_done(step)) {
                    let body = body(&*snapshot, step).await;
                    session.write(step, body, None).await.unwrap();
                }
                let what = format!("{policy:?}, {keeps_store}, {count}");
                assert_as_in_snapshot(&place, &what);
                for step in steps.iter().filter(|step| !is_done(step)) {
                    let verdict = session.verify(step, VerifyLevel::Checksum).await.unwrap();
                    assert_eq!(verdict, Verdict::Same(VerifyLevel::Checksum), "{what}: {step:?}");
                }
                session.finish().await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn what_is_there_decides_for_all_versions_of_a_key() {
    for (policy, expected) in [
        (ConflictPolicy::Skip, &["other"][..]),
        (ConflictPolicy::Overwrite, &["other", "one", "-", "three", "three", "new"]),
        // What is there is newer.
        (ConflictPolicy::Newer, &["other"]),
        (ConflictPolicy::Rename, &["other"]),
    ] {
        let place = versioned().with_policy(policy);
        place.server.put(BUCKET, "a", "other");
        for _ in 0..2 {
            let target = with_versions(&place);
            let restored = place.restore_into(&target, snapshot()).await;
            restored.assert_fine();
            assert_eq!(found(&place, "a"), expected, "{policy:?}");
            assert_eq!(found(&place, "d/gone"), ["was", "-"], "{policy:?}");
            if policy == ConflictPolicy::Rename {
                let keys: Vec<_> = restored.steps.iter().map(key).collect();
                let other = keys.iter().find(|key| key.starts_with("a.restored-")).unwrap();
                assert_eq!(keys.iter().filter(|key| *key == other).count(), 5, "{keys:?}");
                assert_eq!(found(&place, other), ["one", "-", "three", "three", "new"]);
                break;
            }
        }
    }
}

#[tokio::test]
async fn newer_objects_are_kept_although_they_are_like_an_old_version() {
    let place = versioned().with_policy(ConflictPolicy::Newer);
    for bytes in ["other", "one"] {
        place.server.put(BUCKET, "a", bytes);
    }
    place.restore_into(&with_versions(&place), snapshot()).await.assert_fine();
    assert_eq!(found(&place, "a"), ["other", "one"]);
}

#[tokio::test]
async fn versions_that_are_there_get_no_other_name() {
    let place = versioned();
    place.server.put(BUCKET, "a", "other");
    place.restore_into(&with_versions(&place), snapshot()).await.assert_fine();
    let place = place.with_policy(ConflictPolicy::Rename);
    let again = place.restore_into(&with_versions(&place), snapshot()).await;
    assert!(again.steps.iter().all(is_done), "{:?}", again.steps);
    assert_eq!(found(&place, "a").len(), 6);
}

#[tokio::test]
async fn what_comes_between_two_versions_is_not_covered_unseen() {
    let gone =
        ["d/gone%past/20260101T000000.000000Z-1", "d/gone%past/20260102T000000.000000Z-2%deleted"];
    let replaced = past("d/x%object%past/20260101T000000.000000Z-1");
    let keys = [("d/gone", past(gone[0]), past(gone[1])), ("d/x", replaced, super::at("d/x"))];
    for (policy, is_conditional) in [
        (ConflictPolicy::Skip, true),
        (ConflictPolicy::Skip, false),
        (ConflictPolicy::Overwrite, true),
        (ConflictPolicy::Overwrite, false),
    ] {
        let place = versioned().with_policy(policy);
        let target = place.target(|settings| {
            if is_conditional { settings } else { settings.without_conditional_writes() }
        });
        let target = target.with_options(S3TargetOptions::default().with_versions());
        let snapshot = snapshot().into_reader();
        let options = RestoreOptions { conflict: policy, ..RestoreOptions::default() };
        let (store, cancel) = (Arc::new(InMemoryAdapterStore::default()), CancelToken::new());
        let cx = RestoreContext { snapshot: Arc::clone(&snapshot), options, store, cancel };
        let session = target.open(cx).await.unwrap();
        let steps = plan(&*session).await.unwrap();
        for (key, first, second) in &keys {
            let step =
                |path: &EntryPath| steps.iter().find(|step| step.entry.path == *path).unwrap();
            session.write(step(first), body(&*snapshot, step(first)).await, None).await.unwrap();
            place.server.put(BUCKET, key, "of another program");
            let body = body(&*snapshot, step(second)).await;
            let written = session.write(step(second), body, None).await;
            let what = format!("{key}, {policy:?}, {is_conditional}");
            if policy == ConflictPolicy::Skip {
                assert_eq!(written.unwrap_err().code(), "s3-came-meanwhile", "{what}");
                assert_eq!(found(&place, key)[1..], ["of another program"], "{what}");
            } else {
                written.unwrap();
                assert_eq!(found(&place, key).len(), 3, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn a_bucket_that_keeps_no_versions_is_refused_before_anything_is_written() {
    for suspended in [false, true] {
        let place = if suspended { versioned() } else { Place::new() };
        place.server.keep_versions(BUCKET, false);
        let store: Arc<dyn AdapterStore> = Arc::new(InMemoryAdapterStore::default());
        let (_, session) = open(&place, EntryPath::root(), &store).await;
        let error = plan(&*session).await.unwrap_err();
        assert_eq!(error.code(), "s3-no-versions");
        assert!(place.server.keys(BUCKET).is_empty());
        let probe = with_versions(&place).check().await.unwrap();
        assert!(!probe.is_healthy(), "{probe:?}");
    }
    assert!(with_versions(&versioned()).check().await.unwrap().is_healthy());
}

#[tokio::test]
async fn replies_that_are_lost_add_nothing_twice() {
    let place = versioned();
    for operation in [S3Operation::PutObject, S3Operation::DeleteObject] {
        for key in ["gone", "x", "plain"] {
            let fault = S3Fault::new(S3Effect::LoseReply).on(operation).for_keys_with(key);
            place.server.add_fault(fault);
        }
    }
    let target = with_versions(&place);
    place.restore_into(&target, snapshot()).await.assert_fine();
    assert_as_in_snapshot(&place, "lost replies");
}

#[tokio::test]
async fn one_version_that_fails_does_not_keep_later_ones_away() {
    let place = versioned();
    let refuse = S3Fault::new(S3Effect::refuse(403, "AccessDenied")).on(S3Operation::PutObject);
    place.server.add_fault(refuse.for_keys_with("x").times(1));
    let target = with_versions(&place);
    let restored = place.restore_into(&target, snapshot()).await;
    assert_eq!(restored.written.iter().filter(|(_, written)| written.is_err()).count(), 1);
    assert_eq!(found(&place, "d/x"), ["new x"]);
    // It is never put on top of what came after it.
    let again = place.restore_into(&with_versions(&place), snapshot()).await;
    let refused = again.action(&past("d/x%object%past/20260101T000000.000000Z-1"));
    assert!(matches!(refused, StepAction::Refuse(_)), "{refused:?}");
    assert!(again.written.is_empty(), "{:?}", again.written);
    assert_eq!(found(&place, "d/x"), ["new x"]);
}

#[tokio::test]
async fn a_part_of_a_snapshot_comes_with_its_older_versions() {
    let version = past("a%past/20260101T000000.000000Z-1");
    for (path, expected) in [
        (EntryPath::from_names(["b"]), &[("a", 5), ("d/x", 2), ("plain", 1)][..]),
        (super::at("d"), &[("gone", 2), ("x", 2)]),
        (super::at("a"), &[("a", 5)]),
        (super::at("d/x"), &[("x", 2)]),
        (past("a%past"), &[("a", 4)]),
        (past("d"), &[("gone", 2), ("x", 1)]),
        (EntryPath::from_names(["b%versions"]), &[("a", 4), ("d/gone", 2)]),
        (version, &[("a", 1)]),
    ] {
        let place = versioned();
        let store: Arc<dyn AdapterStore> = Arc::new(InMemoryAdapterStore::default());
        let (snapshot, session) = open(&place, path.clone(), &store).await;
        // Below `d/` its own key would be empty.
        for step in plan(&*session).await.unwrap().into_iter().filter(|step| !is_done(step)) {
            let body = body(&*snapshot, &step).await;
            session.write(&step, body, None).await.unwrap();
            let verdict = session.verify(&step, VerifyLevel::Bytes).await.unwrap();
            assert_eq!(verdict, Verdict::Same(VerifyLevel::Bytes), "{path}: {step:?}");
        }
        for (key, count) in expected {
            assert_eq!(found(&place, key).len(), *count, "{key} of {path}");
        }
    }
}

#[tokio::test]
async fn a_version_that_is_named_becomes_the_object_of_its_key() {
    for (path, expected) in [
        ("a%past/20260101T000000.000000Z-1", Some("one")),
        ("a%past/20260102T000000.000000Z-2%deleted", None),
    ] {
        let place = Place::new();
        let (snapshot, store) = (snapshot().into_reader(), InMemoryAdapterStore::default());
        let options = RestoreOptions { path: past(path), ..RestoreOptions::default() };
        let (store, cancel) = (Arc::new(store), CancelToken::new());
        let cx = RestoreContext { snapshot: Arc::clone(&snapshot), options, store, cancel };
        let session = place.target(|it| it).open(cx).await.unwrap();
        let steps = plan(&*session).await.unwrap();
        assert_eq!(steps.len(), 1);
        if expected.is_some() {
            session.write(&steps[0], body(&*snapshot, &steps[0]).await, None).await.unwrap();
        } else {
            assert!(matches!(steps[0].action, StepAction::Refuse(_)), "{steps:?}");
        }
        assert_eq!(place.bytes("a").as_deref(), expected.map(str::as_bytes));
    }
}

#[tokio::test]
async fn a_directory_of_versions_is_refused_unless_versions_are_asked_for() {
    let place = Place::new();
    let options = RestoreOptions { path: past("a%past"), ..RestoreOptions::default() };
    let (store, cancel) = (Arc::new(InMemoryAdapterStore::default()), CancelToken::new());
    let cx = RestoreContext { snapshot: snapshot().into_reader(), options, store, cancel };
    let session = place.target(|it| it).open(cx).await.unwrap();
    assert_eq!(plan(&*session).await.unwrap_err().code(), "s3-older-versions");
}
