//! Retaining for longer what must not be lost: the version that is meant, of whoever wrote it.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use backupkit_core::adapters::s3::{S3Retention, S3RetentionMode, S3Settings};
use backupkit_core::destination::{Destination, Extension, PayloadFile};
use backupkit_core::repo::{InitOptions, Repository};
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3ServerOptions};
use backupkit_core::testing::random_bytes;
use backupkit_core::{Engine, Env, ErrorKind, ExtensionRequest, Result};
use jiff::Timestamp;

use crate::retention::{at, lock, other_client, versions};
use crate::scene::{BUCKET, Scene, key};

const DAY: i64 = 24 * 60 * 60;
const PACK: &str = "data/3f/x";

fn governed(days: u16) -> impl Fn(S3Settings) -> S3Settings {
    move |settings| settings.with_retention(S3Retention::new(S3RetentionMode::Governance, days))
}

fn scene() -> Scene {
    let options = S3ServerOptions::default().with_object_lock();
    let scene = Scene::with(options, governed(30));
    scene.server.set_now(at(0));
    scene
}

/// Days later, also here.
fn pass(scene: &Scene, days: i64) {
    scene.server.set_now(at(days * DAY));
    scene.clock.advance(Duration::from_hours(24 * days.unsigned_abs()));
}

/// The ends of the retentions of all versions, the oldest first, in days.
async fn ends(scene: &Scene, name: &str) -> Vec<Option<i64>> {
    let client = other_client(&scene.server);
    let mut ends = Vec::new();
    for id in versions(&client, BUCKET, name).await.into_iter().rev() {
        let asked = client.get_object_retention().bucket(BUCKET).key(name).version_id(id);
        let until = asked.send().await.ok().and_then(|reply| {
            reply.retention().and_then(|found| found.retain_until_date().copied())
        });
        ends.push(until.map(|until| (until.secs() - at(0).as_second()) / DAY));
    }
    ends
}

async fn extend(scene: &Scene) -> Result<Extension> {
    scene.destination.extend_retention(&key(PACK), false).await
}

#[tokio::test]
async fn garbage_that_was_put_over_a_pack_does_not_get_the_time_of_the_pack() {
    let scene = scene();
    scene.create(PACK, b"a pack").await.unwrap();
    for number in 0..3 {
        // Whoever stole a key that may only add.
        scene.server.put(BUCKET, PACK, format!("garbage {number}"));
    }
    scene.server.put(BUCKET, "data/3f/xy", "another");
    pass(&scene, 20);
    let tried = scene.destination.extend_retention(&key(PACK), true).await.unwrap();
    assert_eq!(tried, Extension::Extended);
    assert_eq!(ends(&scene, PACK).await, [Some(31), None, None, None]);
    assert_eq!(extend(&scene).await.unwrap(), Extension::Extended);
    assert_eq!(ends(&scene, PACK).await[0], Some(51), "the true one");
    assert_eq!(ends(&scene, "data/3f/xy").await, [None]);
    assert_eq!(extend(&scene).await.unwrap(), Extension::LongEnough);
}

#[tokio::test]
async fn very_much_garbage_does_not_hide_the_first_version() {
    let options = S3ServerOptions::default().with_object_lock().with_page_keys(3);
    let scene = Scene::with(options, governed(30));
    scene.server.set_now(at(0));
    scene.create(PACK, b"a pack").await.unwrap();
    for number in 0..20 {
        scene.server.put(BUCKET, PACK, format!("garbage {number}"));
    }
    pass(&scene, 20);
    // One that cannot be retained keeps nobody from the others.
    let refuse = S3Fault::new(S3Effect::refuse(403, "AccessDenied"));
    scene.server.add_fault(refuse.on(S3Operation::PutRetention));
    assert!(extend(&scene).await.unwrap_err().is(ErrorKind::PermissionDenied));
    let ends = ends(&scene, PACK).await;
    assert_eq!((ends.len(), ends[0]), (21, Some(51)));
    let written = scene.server.counters().of(S3Operation::PutRetention);
    assert!(written <= 9, "{written} of a flood");
}

#[tokio::test]
async fn what_somebody_deleted_is_retained_and_missed() {
    let scene = scene();
    scene.create(PACK, b"a pack").await.unwrap();
    pass(&scene, 20);
    scene.server.remove(BUCKET, PACK);
    assert!(extend(&scene).await.unwrap_err().is(ErrorKind::NotFound));
    assert_eq!(ends(&scene, PACK).await, [Some(51)]);
}

#[tokio::test]
async fn a_key_that_sees_no_versions_retains_what_there_is_and_says_so() {
    let scene = scene();
    scene.create(PACK, b"a pack").await.unwrap();
    pass(&scene, 20);
    let refuse = S3Fault::new(S3Effect::refuse(403, "AccessDenied"));
    scene.server.add_fault(refuse.on(S3Operation::ListVersions).always());
    let error = extend(&scene).await.unwrap_err();
    assert!(error.is(ErrorKind::PermissionDenied), "{error}");
    assert!(error.report().contains("s3:ListBucketVersions"), "{}", error.report());
    scene.server.clear_faults();
    assert_eq!(ends(&scene, PACK).await, [Some(51)]);
}

#[tokio::test]
async fn what_is_there_already_is_retained_as_if_it_were_written_now() {
    for is_conditional in [true, false] {
        let options = S3ServerOptions::default().with_object_lock();
        let scene = Scene::with(options, |settings| {
            let settings = governed(30)(settings);
            if is_conditional { settings } else { settings.without_conditional_writes() }
        });
        scene.server.set_now(at(0));
        // By a program that does not retain, or long ago.
        scene.server.put(BUCKET, PACK, "a pack");
        scene.create(PACK, b"a pack").await.unwrap();
        assert_eq!(ends(&scene, PACK).await, [Some(31)]);
        pass(&scene, 20);
        scene.create(PACK, b"a pack").await.unwrap();
        assert_eq!(ends(&scene, PACK).await, [Some(51)]);
        scene.create(PACK, b"a pack").await.unwrap();
        assert_eq!(scene.server.counters().of(S3Operation::PutRetention), 2);
        scene.server.put(BUCKET, "locks/a", "a lock");
        scene.create("locks/a", b"a lock").await.unwrap();
        assert_eq!(lock(&scene, "locks/a"), None);
    }
}

#[tokio::test]
async fn a_server_that_forgets_longer_locks_is_found_out() {
    let options = S3ServerOptions::default().with_object_lock().forgetting_longer_locks();
    let scene = Scene::with(options, governed(30));
    scene.server.set_now(at(0));
    scene.create(PACK, b"a pack").await.unwrap();
    pass(&scene, 20);
    let error = extend(&scene).await.unwrap_err();
    assert_eq!(error.code(), "s3-no-object-lock", "{error}");
    let error = scene.create(PACK, b"a pack").await.unwrap_err();
    assert_eq!(error.code(), "s3-no-object-lock", "{error}");
}

#[tokio::test]
async fn that_locks_are_kept_is_seen_of_each_way_to_write() {
    let scene = scene();
    let forget = S3Fault::new(S3Effect::ForgetHeaders("object-lock"));
    scene.server.add_fault(forget.on(S3Operation::CreateUpload).always());
    scene.create("config", b"x").await.unwrap();
    let bytes = random_bytes(1, (17 << 20) + 5);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let payload = PayloadFile::new(file, bytes.len() as u64, "a pack");
    let error = scene.destination.create(&key(PACK), payload.into()).await.unwrap_err();
    assert_eq!(error.code(), "s3-no-object-lock", "{error}");
}

#[tokio::test]
async fn the_clock_of_the_server_is_asked_now_and_then() {
    let scene = scene();
    let end = async |name: &str| -> Timestamp {
        scene.create(name, b"x").await.unwrap();
        lock(&scene, name).unwrap().1
    };
    assert_eq!(end("keys/a").await, at(31 * DAY));
    // Set right there, or wrong here: this machine slept.
    scene.server.set_now(at(2 * DAY));
    scene.clock.advance(Duration::from_mins(59));
    assert_eq!(end("keys/b").await, at(31 * DAY + 59 * 60), "not each time");
    scene.clock.advance(Duration::from_mins(1));
    assert_eq!(end("keys/c").await, at(33 * DAY));
    // What is known is good enough while it cannot be asked.
    scene.clock.advance(Duration::from_hours(2));
    let before = scene.elapsed();
    let fail = S3Fault::new(S3Effect::refuse(500, "InternalError")).on(S3Operation::ListObjects);
    scene.server.add_fault(fail.always());
    let end = end("keys/d").await;
    let waited = i64::try_from(scene.since(before).as_secs()).unwrap();
    let late = end.as_second() - at(33 * DAY + 2 * 60 * 60).as_second();
    assert!((0..=waited + 1).contains(&late), "{late} {waited}");
}

#[tokio::test]
async fn one_object_that_the_server_fails_with_keeps_nobody_from_the_others() {
    let scene = scene();
    let open = |days| {
        let destination: Arc<dyn Destination> = Arc::new(scene.other_with(governed(days)));
        destination
    };
    let env = Env::system();
    Repository::init(open(30), &"password".into(), InitOptions::default(), &env).await.unwrap();
    for number in 0..20 {
        scene.server.put(BUCKET, &format!("snapshots/{}", format!("{number:02}").repeat(32)), "x");
    }
    scene.server.set_now(at(DAY));
    let fail = |part| {
        let fail = S3Fault::new(S3Effect::refuse(500, "InternalError"));
        scene.server.add_fault(fail.on(S3Operation::PutRetention).for_keys_with(part).always());
    };
    let engine = Engine::builder().env(env.clone()).build().unwrap();
    let extend = async |days| {
        let repository = Repository::open(open(days), &"password".into(), &env).await.unwrap();
        engine.extend_retention(ExtensionRequest::new(repository)).wait().await
    };
    fail("config");
    fail("snapshots/07");
    let report = extend(60).await.unwrap();
    assert_eq!((report.objects, report.extended, report.failed), (22, 20, 2), "{report:?}");
    assert!(!report.is_complete());
    assert!(report.failures.iter().any(|failure| failure.contains("snapshots/07")), "{report:?}");
    // A server that fails with all of them is not asked for hours.
    fail("");
    let error = extend(90).await.unwrap_err();
    assert!(error.is(ErrorKind::Unavailable), "{error}");
}
