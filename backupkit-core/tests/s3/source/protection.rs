//! What locks objects, and who may do what with them.

use backupkit_core::adapters::s3::S3SourceOptions;
use backupkit_core::source::{Outcome, SourceView};
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3Server};
use serde_json::{Value, json};

use super::{Scene, attribute, entries, list, read};
use crate::scene::BUCKET;

const EVERYBODY: &str = "uri=\"http://acs.amazonaws.com/groups/global/AllUsers\"";

/// What is kept of each object, by the order of their keys.
async fn kept(view: &dyn SourceView) -> Vec<Value> {
    let mut kept = Vec::new();
    for entry in entries(&list(view, None).await.unwrap()) {
        kept.push(attribute(&read(view, &entry).await.unwrap().0));
    }
    kept
}

fn share(server: &S3Server) {
    server.grant(BUCKET, "a", "x-amz-grant-read", EVERYBODY);
    server.grant(BUCKET, "a", "x-amz-grant-full-control", "id=\"fake-owner\", id=\"friend\"");
}

#[tokio::test]
async fn what_locks_an_object_is_on_its_node() {
    let scene = Scene::new();
    let mode = ("x-amz-object-lock-mode", "COMPLIANCE");
    let until = ("x-amz-object-lock-retain-until-date", "2030-01-02T03:04:05.000Z");
    let held = ("x-amz-object-lock-legal-hold", "ON");
    let released = ("x-amz-object-lock-legal-hold", "OFF");
    for (key, headers) in [("a", &[mode, until, held][..]), ("b", &[held]), ("c", &[released])] {
        scene.server.put_with(BUCKET, key, "x", headers, "");
    }
    let kept = kept(&*scene.open().await).await;
    let both = json!({ "mode": "COMPLIANCE", "until": "2030-01-02T03:04:05Z", "hold": true });
    assert_eq!(kept[0]["lock"], both);
    assert_eq!(kept[1]["lock"], json!({ "hold": true }));
    assert_eq!(kept[2].get("lock"), None);
}

#[tokio::test]
async fn access_lists_are_kept_if_asked_for_and_unusual() {
    let scene = Scene::holding(&["a", "b"]);
    share(&scene.server);
    assert_eq!(kept(&*scene.open().await).await[0].get("acl"), None);
    assert_eq!(scene.server.counters().of(S3Operation::GetAccessList), 0);
    let scene = scene.reading(S3SourceOptions::default().with_acls());
    let view = scene.open().await;
    let kept = kept(&*view).await;
    let everybody = "uri=http://acs.amazonaws.com/groups/global/AllUsers";
    let expected = json!({ "FULL_CONTROL": ["id=friend", "owner"], "READ": [everybody] });
    assert_eq!(kept[0]["acl"], expected);
    assert_eq!(kept[1].get("acl"), None, "the owner alone may do anything");
    assert_eq!(scene.server.counters().of(S3Operation::GetAccessList), 2);
    assert!(view.close(Outcome::Completed).await.unwrap().warnings.is_empty());
}

#[tokio::test]
async fn access_lists_that_cannot_be_had_are_given_up_soon_and_told() {
    for (status, code, word, most_asked) in [
        (400, "AccessControlListNotSupported", "has none", 1),
        (501, "NotImplemented", "has none", 1),
        (405, "MethodNotAllowed", "has none", 1),
        (403, "AccessDenied", "s3:GetObjectAcl", 3),
    ] {
        let scene = Scene::holding(&["a", "b", "c", "d", "e"]);
        share(&scene.server);
        let scene = scene.reading(S3SourceOptions::default().with_acls());
        let refuse = S3Fault::new(S3Effect::refuse(status, code)).on(S3Operation::GetAccessList);
        scene.server.add_fault(refuse.always());
        let view = scene.open().await;
        assert!(kept(&*view).await.iter().all(|kept| kept.get("acl").is_none()));
        let asked = scene.server.counters().of(S3Operation::GetAccessList);
        assert_eq!(asked, most_asked, "{code}");
        let warnings = view.close(Outcome::Completed).await.unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(word), "{code}: {warnings:?}");
    }
}
