//! Tags and access lists of objects that are replaced while a bucket that keeps versions is read.

use backupkit_core::ErrorKind;
use backupkit_core::adapters::s3::S3SourceOptions;
use backupkit_core::model::Entry;
use backupkit_core::source::{Outcome, SourceView};
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
async fn tags_of_another_version_than_was_read_are_not_taken() {
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
    let error = found.unwrap_err();
    assert!(error.is(ErrorKind::SourceChanged), "{error}");
    // So it is read again, as it is then.
    let (now, bytes) = read(&*view, &entries[0]).await.unwrap();
    assert_eq!((&*bytes, &attribute(&now)["tags"]["t"]), (&b"new"[..], &"new".into()));
}
