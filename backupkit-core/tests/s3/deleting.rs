//! Deleting many objects.

use backupkit_core::ErrorKind;
use backupkit_core::destination::{Destination as _, ObjectKey};
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3ServerOptions};

use crate::scene::{BUCKET, Scene, key};

/// Packs in a bucket, below what its settings name.
fn packs(scene: &Scene, prefix: &str, count: usize) -> Vec<ObjectKey> {
    let keys: Vec<_> = (0..count).map(|n| key(&format!("data/{:02x}/{n:06}", n % 256))).collect();
    for key in &keys {
        scene.server.put(BUCKET, &format!("{prefix}{key}"), "pack");
    }
    keys
}

#[tokio::test]
async fn a_thousand_objects_go_with_one_request() {
    let scene = Scene::new();
    let keys = packs(&scene, "", 10_000);
    scene.server.put(BUCKET, "data/ff/another", "pack");
    assert!(scene.destination.delete_many(&keys).await.unwrap().is_empty());
    assert_eq!(scene.server.keys(BUCKET), ["data/ff/another"]);
    assert_eq!(scene.server.counters().requests, 10);
    assert_eq!(scene.server.counters().of(S3Operation::DeleteObjects), 10);
}

#[tokio::test]
async fn what_a_server_does_not_delete_is_told_and_the_others_go() {
    let scene = Scene::new();
    let keys = packs(&scene, "", 3_000);
    let refused = S3Fault::new(S3Effect::refuse(403, "AccessDenied")).always();
    scene.server.add_fault(refused.on(S3Operation::DeleteObject).for_keys_with("00017"));
    let undeleted = scene.destination.delete_many(&keys).await.unwrap();
    let mut stay: Vec<_> = undeleted.iter().map(|one| one.key.to_string()).collect();
    stay.sort_unstable();
    assert_eq!(stay.len(), 11, "17, 170 to 179");
    assert_eq!(scene.server.keys(BUCKET), stay);
    assert!(undeleted.iter().all(|one| one.error.is(ErrorKind::PermissionDenied)));
    assert!(undeleted[0].error.report().contains(undeleted[0].key.as_str()));
}

#[tokio::test]
async fn single_objects_that_are_to_come_later_are_asked_for_again() {
    let scene = Scene::new();
    let keys = packs(&scene, "", 500);
    for (code, times) in [("SlowDown", 40), ("InternalError", 3)] {
        let fault = S3Fault::new(S3Effect::refuse(503, code)).on(S3Operation::DeleteObject);
        scene.server.add_fault(fault.times(times));
    }
    assert!(scene.destination.delete_many(&keys).await.unwrap().is_empty());
    assert!(scene.server.keys(BUCKET).is_empty());
    assert_eq!(scene.server.counters().of(S3Operation::DeleteObject), 0);
}

#[tokio::test]
async fn what_is_gone_was_deleted() {
    let scene = Scene::new();
    let keys = packs(&scene, "", 3);
    let fault = S3Fault::new(S3Effect::refuse(404, "NoSuchKey")).on(S3Operation::DeleteObject);
    scene.server.add_fault(fault);
    assert!(scene.destination.delete_many(&keys).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_request_whose_reply_was_lost_or_cut_off_is_made_again() {
    for effect in [
        S3Effect::LoseReply,
        S3Effect::Reset,
        S3Effect::CutBody(30),
        S3Effect::ShortenBody(100),
        S3Effect::slow_down(),
        S3Effect::refuse(500, "InternalError"),
        S3Effect::RefuseWithOk { code: "InternalError" },
    ] {
        let scene = Scene::new();
        let keys = packs(&scene, "", 1_500);
        let fault = S3Fault::new(effect.clone()).on(S3Operation::DeleteObjects);
        scene.server.add_fault(fault.times(3));
        assert!(scene.destination.delete_many(&keys).await.unwrap().is_empty(), "{effect:?}");
        assert!(scene.server.keys(BUCKET).is_empty(), "{effect:?}");
        assert_eq!(scene.server.counters().of(S3Operation::DeleteObjects), 5, "{effect:?}");
    }
}

#[tokio::test]
async fn a_server_without_such_requests_deletes_one_by_one_and_is_asked_once() {
    for (status, code) in [
        (501, "NotImplemented"),
        (405, "MethodNotAllowed"),
        (400, "MissingContentMD5"),
        (400, "InvalidRequest"),
        (400, "MalformedXML"),
    ] {
        let scene = Scene::new();
        let keys = packs(&scene, "", 50);
        let fault = S3Fault::new(S3Effect::refuse(status, code)).on(S3Operation::DeleteObjects);
        scene.server.add_fault(fault.always());
        for part in keys.chunks(25) {
            assert!(scene.destination.delete_many(part).await.unwrap().is_empty(), "{code}");
        }
        assert!(scene.server.keys(BUCKET).is_empty());
        let counters = scene.server.counters();
        assert_eq!(counters.of(S3Operation::DeleteObject), 50, "{code}");
        assert_eq!(counters.of(S3Operation::DeleteObjects), 1, "{code}");
    }
}

#[tokio::test]
async fn a_key_that_may_not_delete_several_at_once_deletes_one_by_one() {
    let scene = Scene::new();
    let keys = packs(&scene, "", 50);
    let refused = S3Fault::new(S3Effect::refuse(403, "AccessDenied"));
    scene.server.add_fault(refused.clone().on(S3Operation::DeleteObjects).always());
    for part in keys[..40].chunks(20) {
        assert!(scene.destination.delete_many(part).await.unwrap().is_empty());
    }
    let counters = scene.server.counters();
    assert_eq!(counters.of(S3Operation::DeleteObject), 40);
    assert_eq!(counters.of(S3Operation::DeleteObjects), 1);
    // Who may delete nothing is not asked of each.
    let scene = Scene::new();
    let keys = packs(&scene, "", 50);
    scene.server.add_fault(refused.clone().on(S3Operation::DeleteObjects).always());
    scene.server.add_fault(refused.on(S3Operation::DeleteObject).always());
    let error = scene.destination.delete_many(&keys).await.unwrap_err();
    assert!(error.is(ErrorKind::PermissionDenied), "{error}");
    assert_eq!(scene.server.counters().requests, 2);
}

#[tokio::test]
async fn one_object_goes_with_a_request_of_its_own() {
    let scene = Scene::new();
    let keys = packs(&scene, "", 1);
    assert!(scene.destination.delete_many(&keys).await.unwrap().is_empty());
    assert_eq!(scene.server.counters().of(S3Operation::DeleteObject), 1);
    assert_eq!(scene.server.counters().requests, 1);
}

#[tokio::test]
async fn one_by_one_a_refusal_stops_no_others_and_a_key_that_is_refused_stops_all() {
    let scene = Scene::new();
    let keys = packs(&scene, "", 50);
    let unknown = S3Fault::new(S3Effect::refuse(501, "NotImplemented"));
    scene.server.add_fault(unknown.on(S3Operation::DeleteObjects).always());
    for (status, code, part) in [(403, "AccessDenied", "07"), (400, "InvalidRequest", "08")] {
        let refused = S3Fault::new(S3Effect::refuse(status, code)).on(S3Operation::DeleteObject);
        scene.server.add_fault(refused.for_keys_with(&format!("0000{part}")).always());
    }
    let undeleted = scene.destination.delete_many(&keys).await.unwrap();
    assert_eq!((undeleted.len(), scene.server.keys(BUCKET).len()), (2, 2));
    scene.server.take_only("another", "key", None);
    let error = scene.destination.delete_many(&keys).await.unwrap_err();
    assert!(error.is(ErrorKind::Unauthenticated), "{error}");
}

#[tokio::test]
async fn keys_that_no_xml_can_carry_go_one_by_one() {
    let prefix = "a\u{1}b";
    let options = S3ServerOptions::default();
    let scene = Scene::with(options, |settings| settings.with_prefix(prefix));
    let keys = packs(&scene, &format!("{prefix}/"), 5);
    assert!(scene.destination.delete_many(&keys).await.unwrap().is_empty());
    assert!(scene.server.keys(BUCKET).is_empty());
    assert_eq!(scene.server.counters().of(S3Operation::DeleteObjects), 0);
    let scene = Scene::with(S3ServerOptions::default(), |settings| settings.with_prefix("<ü&\">"));
    let keys = packs(&scene, "<ü&\">/", 5);
    assert!(scene.destination.delete_many(&keys).await.unwrap().is_empty());
    assert!(scene.server.keys(BUCKET).is_empty());
    assert_eq!(scene.server.counters().requests, 1);
}
