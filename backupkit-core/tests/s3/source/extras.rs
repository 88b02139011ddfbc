//! Tags and access lists of objects that are replaced while a bucket that keeps versions is read.

use backupkit_core::adapters::s3::S3SourceOptions;
use backupkit_core::model::Entry;
use backupkit_core::source::{ListedItem, Outcome, SourceView};
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3ServerOptions};
use std::sync::Arc;

use super::{Scene, attribute, entries, list, read};
use crate::scene::BUCKET;

const EVERYBODY: &str = "uri=\"http://acs.amazonaws.com/groups/global/AllUsers\"";

fn scene() -> Scene {
    let options = S3SourceOptions::default().with_tags().with_acls();
    let scene = Scene::with(S3ServerOptions::default().versioned(), |settings| settings);
    let scene = scene.reading(options);
    for key in ["a", "b", "c"] {
        scene.server.put_with(BUCKET, key, "old", &[], "t=old");
        scene.server.grant(BUCKET, key, "x-amz-grant-read", EVERYBODY);
    }
    scene
}

async fn listed(scene: &Scene) -> (Arc<dyn SourceView>, Vec<Entry>) {
    let view = scene.open().await;
    let entries = entries(&list(&*view, None).await.unwrap());
    (view, entries)
}

fn refuse_versions(scene: &Scene, operation: S3Operation, status: u16, code: &'static str) {
    let refuse = S3Fault::new(S3Effect::refuse(status, code)).on(operation);
    scene.server.add_fault(refuse.naming_a_version().always());
}

#[tokio::test]
async fn they_are_those_of_the_version_that_was_read() {
    let scene = scene();
    let (view, entries) = listed(&scene).await;
    let hold = S3Fault::new(S3Effect::Hold).on(S3Operation::GetTagging);
    scene.server.add_fault(hold);
    let (found, ()) = tokio::join!(read(&*view, &entries[0]), async {
        scene.server.held(1).await;
        scene.server.put_with(BUCKET, "a", "new", &[], "t=new");
        scene.server.release(1);
    });
    let (now, bytes) = found.unwrap();
    assert_eq!(bytes, "old");
    assert_eq!(attribute(&now)["tags"]["t"], "old");
    assert!(attribute(&now)["acl"]["READ"].is_array());
}

#[tokio::test]
async fn a_key_that_may_not_ask_of_versions_asks_of_what_there_is() {
    for (status, code) in [(403, "AccessDenied"), (501, "NotImplemented")] {
        let scene = scene();
        refuse_versions(&scene, S3Operation::GetTagging, status, code);
        refuse_versions(&scene, S3Operation::GetAccessList, status, code);
        let (view, entries) = listed(&scene).await;
        for entry in &entries {
            let kept = attribute(&read(&*view, entry).await.unwrap().0);
            assert_eq!(kept["tags"]["t"], "old");
            assert!(kept["acl"]["READ"].is_array(), "{kept}");
        }
        let counters = scene.server.counters();
        for operation in [S3Operation::GetTagging, S3Operation::GetAccessList] {
            assert_eq!(counters.of(operation), 3 + 1, "{code}: once of a version");
        }
        let notes = view.close(Outcome::Completed).await.unwrap();
        assert!(notes.warnings.is_empty(), "{notes:?}");
    }
}

#[tokio::test]
async fn an_object_whose_tags_are_of_another_version_is_read_anew() {
    let scene = scene();
    refuse_versions(&scene, S3Operation::GetTagging, 403, "AccessDenied");
    let (view, entries) = listed(&scene).await;
    read(&*view, &entries[1]).await.unwrap();
    let hold = S3Fault::new(S3Effect::Hold).on(S3Operation::GetTagging);
    scene.server.add_fault(hold);
    let (found, ()) = tokio::join!(read(&*view, &entries[0]), async {
        scene.server.held(1).await;
        scene.server.put_with(BUCKET, "a", "new", &[], "t=new");
        scene.server.release(1);
    });
    let (now, bytes) = found.unwrap();
    assert_eq!((&*bytes, &attribute(&now)["tags"]["t"]), (&b"new"[..], &"new".into()));
}

/// Replaces an object as often as its tags are asked for.
async fn keep_replacing(scene: &Scene, key: &str, bytes: &'static str) {
    for count in 1..=3 {
        scene.server.held(count).await;
        scene.server.put_with(BUCKET, key, bytes, &[], "t=new");
        scene.server.release(1);
    }
}

fn hold_tags(scene: &Scene, key: &str) {
    let hold = S3Fault::new(S3Effect::Hold).on(S3Operation::GetTagging);
    scene.server.add_fault(hold.naming_no_version().for_keys_with(key).times(3));
}

#[tokio::test]
async fn an_object_that_changes_all_the_time_is_kept_without_its_tags_and_told() {
    let scene = scene();
    refuse_versions(&scene, S3Operation::GetTagging, 403, "AccessDenied");
    let (view, entries) = listed(&scene).await;
    hold_tags(&scene, "a");
    let (found, ()) = tokio::join!(read(&*view, &entries[0]), keep_replacing(&scene, "a", "new"));
    let (now, bytes) = found.unwrap();
    assert_eq!(bytes, "new");
    let kept = attribute(&now);
    assert_eq!((kept.get("tags"), &kept["incomplete"]), (None, &true.into()), "{kept}");
    let notes = view.close(Outcome::Completed).await.unwrap();
    assert!(notes.warnings.iter().any(|one| one.starts_with("a: ")), "{notes:?}");
}

#[tokio::test]
async fn a_marker_that_changes_all_the_time_is_kept_without_its_tags_and_told() {
    let scene = scene();
    scene.server.put_with(BUCKET, "m/", "", &[], "t=old");
    refuse_versions(&scene, S3Operation::GetTagging, 403, "AccessDenied");
    hold_tags(&scene, "m/");
    let view = scene.open().await;
    let (listed, ()) = tokio::join!(list(&*view, None), keep_replacing(&scene, "m/", ""));
    let listed = listed.unwrap();
    let marked = listed.iter().find_map(|one| match &one.item {
        ListedItem::DirDone { metadata, .. } => metadata.attributes.get("backupkit.s3"),
        ListedItem::Entry(_) => None,
    });
    let marked: serde_json::Value = serde_json::from_str(marked.unwrap().get()).unwrap();
    assert_eq!(marked["marker"]["incomplete"], true, "{marked}");
    let notes = view.close(Outcome::Completed).await.unwrap();
    assert!(notes.warnings.iter().any(|one| one.starts_with("m/: ")), "{notes:?}");
    assert!(notes.remarks.is_empty(), "it has no bytes: {notes:?}");
}
