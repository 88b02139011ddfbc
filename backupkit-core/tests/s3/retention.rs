//! Repositories that cannot be deleted for a time, in buckets with Object Lock.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::ObjectLockMode;
use backupkit_core::adapters::s3::{
    S3Credentials, S3Destination, S3Retention, S3RetentionMode, S3Settings,
};
use backupkit_core::destination::{Destination, Extension, MemoryDestination, PayloadFile};
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3Server, S3ServerOptions};
use backupkit_core::testing::{ManualClock, random_bytes};
use backupkit_core::{Env, ErrorKind, Probe, ProbeOutcome, ProbeStep};
use bytes::Bytes;
use jiff::Timestamp;

use crate::real_server::{client, locking_bucket_on};
use crate::scene::{BUCKET, Scene, env, key, settings};

const MODE: &str = "x-amz-object-lock-mode";
const UNTIL: &str = "x-amz-object-lock-retain-until-date";
const RETAIN: &str = "keep an object from being deleted for a time";
const DAY: i64 = 24 * 60 * 60;

const RETAINED: [&str; 5] = ["config", "keys/a", "snapshots/a", "index/a", "data/3f/x"];

/// Seconds after the server was started. The clock of this machine is a month behind.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + 30 * DAY + seconds).unwrap()
}

fn with(options: S3ServerOptions) -> Scene {
    let scene = Scene::with(options, governed(30));
    scene.server.set_now(at(0));
    scene
}

fn scene() -> Scene {
    with(S3ServerOptions::default().with_object_lock())
}

fn governed(days: u16) -> impl Fn(S3Settings) -> S3Settings {
    move |settings| settings.with_retention(S3Retention::new(S3RetentionMode::Governance, days))
}

/// Puts an object there as if it had been written long ago.
fn put(scene: &Scene, name: &str, mode: &str, until: Timestamp) {
    scene.server.set_now(at(-DAY));
    let until = until.to_string();
    scene.server.put_with(BUCKET, name, "x", &[(MODE, mode), (UNTIL, until.as_str())], "");
    scene.server.set_now(at(0));
}

/// The mode and the end of a retention.
pub(crate) fn lock(scene: &Scene, name: &str) -> Option<(String, Timestamp)> {
    let headers = scene.server.object(BUCKET, name).unwrap().headers;
    let until = headers.get(UNTIL).map(|until| until.parse().unwrap());
    headers.get(MODE).cloned().zip(until)
}

fn governed_until(seconds: i64) -> (String, Timestamp) {
    ("GOVERNANCE".to_owned(), at(seconds))
}

#[tokio::test]
async fn what_a_restore_needs_is_retained_from_the_moment_it_is_written_and_a_day_longer() {
    let scene = scene();
    for name in RETAINED.into_iter().chain(["locks/a", "backupkit/other"]) {
        scene.create(name, b"x").await.unwrap();
    }
    let lease = Bytes::from_static(b"lease");
    scene.destination.swap(&key("backupkit/lease"), None, lease).await.unwrap();
    let bytes = random_bytes(1, (17 << 20) + 5);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let payload = PayloadFile::new(file, bytes.len() as u64, "a pack");
    scene.destination.create(&key("data/3f/large"), payload.into()).await.unwrap();
    for name in RETAINED.into_iter().chain(["data/3f/large"]) {
        assert_eq!(lock(&scene, name), Some(governed_until(31 * DAY)), "{name}");
    }
    for name in ["locks/a", "backupkit/other", "backupkit/lease", "backupkit/conditions"] {
        assert_eq!(lock(&scene, name), None, "{name}");
    }
    // Time passes for the server as they do here.
    scene.clock.advance(Duration::from_mins(50));
    scene.create("data/3f/later", b"x").await.unwrap();
    assert_eq!(lock(&scene, "data/3f/later"), Some(governed_until(31 * DAY + 50 * 60)));
}

#[tokio::test]
async fn a_lost_reply_leaves_one_version_with_its_lock() {
    let scene = scene();
    scene.create("keys/a", b"a key").await.unwrap();
    scene.server.add_fault(S3Fault::new(S3Effect::LoseReply).on(S3Operation::PutObject));
    scene.create("index/a", b"an index").await.unwrap();
    assert_eq!(lock(&scene, "index/a"), Some(governed_until(31 * DAY)));
    assert_eq!(versions(&other_client(&scene.server), BUCKET, "index/a").await.len(), 1);
    let error = scene.create("index/a", b"another one").await.unwrap_err();
    assert!(error.is(ErrorKind::AlreadyExists), "{error}");
}

#[tokio::test]
async fn checksums_go_with_locks_also_where_they_are_not_wanted() {
    let options = S3ServerOptions::default().with_object_lock();
    let scene = Scene::with(options, |settings| governed(1)(settings).without_checksums());
    scene.create("config", b"x").await.unwrap();
    assert!(lock(&scene, "config").is_some());
}

#[tokio::test]
async fn where_nothing_is_retained_nothing_is_written_as_if_it_were() {
    let locking = || S3ServerOptions::default().with_object_lock();
    for (options, is_refused) in [
        (S3ServerOptions::default(), true),
        (locking().without_header(MODE), true),
        // It is found out only after.
        (locking().forgetting_headers_with("object-lock"), false),
    ] {
        let scene = with(options);
        scene.create("locks/a", b"x").await.unwrap();
        for _ in 0..2 {
            let error = scene.create("config", b"x").await.unwrap_err();
            let found = (error.kind(), error.code());
            assert_eq!(found, (ErrorKind::Unsupported, "s3-no-object-lock"), "{error:?}");
            assert!(error.report().contains("retention_mode"), "{}", error.report());
            if is_refused {
                assert!(scene.server.object(BUCKET, "config").is_none());
            } else {
                scene.server.remove(BUCKET, "config");
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_must_not_see_locks_relies_on_the_server() {
    let scene = with(S3ServerOptions::default().with_object_lock().hiding_locks());
    scene.create("config", b"x").await.unwrap();
    assert_eq!(lock(&scene, "config"), Some(governed_until(31 * DAY)));
    let probe = scene.destination.check().await.unwrap();
    assert!(probe.is_healthy(), "{probe:?}");
}

fn step(probe: &Probe) -> &ProbeStep {
    probe.steps.iter().find(|step| step.name == RETAIN).unwrap()
}

#[tokio::test]
async fn a_check_tries_to_retain_what_ends_soon() {
    let scene = scene();
    let probe = scene.destination.check().await.unwrap();
    assert!(probe.is_healthy(), "{probe:?}");
    assert_eq!(step(&probe).outcome, ProbeOutcome::Ok);
    assert!(scene.server.keys(BUCKET).is_empty());
    // What is locked is gone from sight, and may go for good a minute later.
    let client = other_client(&scene.server);
    let versions = client.list_object_versions().bucket(BUCKET).send().await.unwrap();
    for version in versions.versions() {
        let (name, id) = (version.key().unwrap(), version.version_id().unwrap());
        let delete = || client.delete_object().bucket(BUCKET).key(name).version_id(id).send();
        scene.server.set_now(at(0));
        assert_eq!(delete().await.is_err(), name.ends_with("-retained"), "{name}");
        scene.server.set_now(at(61));
        delete().await.unwrap();
    }
}

#[tokio::test]
async fn a_check_says_why_nothing_can_be_retained() {
    let locking = || S3ServerOptions::default().with_object_lock();
    let refusal = S3Fault::new(S3Effect::refuse(403, "AccessDenied"))
        .on(S3Operation::PutObject)
        .for_keys_with("-retained")
        .always();
    for (options, fault, word) in [
        (S3ServerOptions::default(), None, "made with Object Lock"),
        (locking().without_header(MODE), None, "made with Object Lock"),
        (locking().forgetting_headers_with("object-lock"), None, "made with Object Lock"),
        (locking(), Some(refusal), "s3:PutObjectRetention"),
    ] {
        let scene = with(options);
        if let Some(fault) = fault {
            scene.server.add_fault(fault);
        }
        let probe = scene.destination.check().await.unwrap();
        let step = step(&probe);
        assert_eq!(step.outcome.as_str(), "failed", "{probe:?}");
        assert!(step.hint.as_deref().unwrap().contains(word), "{step:?}");
        let failed = probe.steps.iter().filter(|step| step.outcome.as_str() == "failed");
        assert_eq!(failed.count(), 1, "{probe:?}");
        assert!(scene.server.keys(BUCKET).is_empty());
    }
}

#[tokio::test]
async fn a_check_says_what_a_bucket_could_retain() {
    for (options, word) in [
        (S3ServerOptions::default(), "retention_mode is not set"),
        (S3ServerOptions::default().with_object_lock(), "the bucket has Object Lock"),
    ] {
        let scene = Scene::with(options, |settings| settings);
        let probe = scene.destination.check().await.unwrap();
        assert!(probe.is_healthy());
        assert!(step(&probe).outcome.reason().unwrap().contains(word), "{probe:?}");
    }
}

#[tokio::test]
async fn objects_are_retained_for_longer_and_never_for_less() {
    const GOVERNANCE: &str = "GOVERNANCE";
    const COMPLIANCE: &str = "COMPLIANCE";
    use Extension::{Extended, LongEnough};
    for (mode, until, expected, mode_then, until_then) in [
        (GOVERNANCE, 30 * DAY - 1, Extended, GOVERNANCE, 31 * DAY),
        (GOVERNANCE, 30 * DAY, LongEnough, GOVERNANCE, 30 * DAY),
        (GOVERNANCE, 99 * DAY, LongEnough, GOVERNANCE, 99 * DAY),
        // Servers let nobody change it, and it protects better.
        (COMPLIANCE, 10 * DAY, Extended, COMPLIANCE, 31 * DAY),
        (COMPLIANCE, 99 * DAY, LongEnough, COMPLIANCE, 99 * DAY),
        // It is over.
        (COMPLIANCE, -1, Extended, GOVERNANCE, 31 * DAY),
    ] {
        let scene = scene();
        put(&scene, "data/3f/x", mode, at(until));
        let before = lock(&scene, "data/3f/x");
        let extend =
            async |dry_run| scene.destination.extend_retention(&key("data/3f/x"), dry_run).await;
        assert_eq!(extend(true).await.unwrap(), expected, "{mode} {until}");
        assert_eq!(lock(&scene, "data/3f/x"), before);
        assert_eq!(extend(false).await.unwrap(), expected, "{mode} {until}");
        assert_eq!(lock(&scene, "data/3f/x"), Some((mode_then.to_owned(), at(until_then))));
        assert_eq!(extend(false).await.unwrap(), LongEnough);
        let written = u64::from(expected == Extended);
        assert_eq!(scene.server.counters().of(S3Operation::PutRetention), written);
    }
}

#[tokio::test]
async fn a_lost_reply_to_an_extension_is_success() {
    let scene = scene();
    put(&scene, "config", "GOVERNANCE", at(DAY));
    scene.server.add_fault(S3Fault::new(S3Effect::LoseReply).on(S3Operation::PutRetention));
    let extended = scene.destination.extend_retention(&key("config"), false).await.unwrap();
    assert_eq!(extended, Extension::Extended);
    assert_eq!(lock(&scene, "config"), Some(governed_until(31 * DAY)));
}

#[tokio::test]
async fn what_was_written_just_now_is_left_alone() {
    let scene = scene();
    // By a program that does not retain.
    scene.server.put(BUCKET, "data/3f/x", "x");
    let extend = async || scene.destination.extend_retention(&key("data/3f/x"), false).await;
    assert_eq!(extend().await.unwrap(), Extension::TooNew);
    scene.clock.advance(Duration::from_secs(9));
    assert_eq!(extend().await.unwrap(), Extension::TooNew);
    assert_eq!(lock(&scene, "data/3f/x"), None);
    scene.clock.advance(Duration::from_secs(1));
    assert_eq!(extend().await.unwrap(), Extension::Extended);
    assert_eq!(lock(&scene, "data/3f/x"), Some(governed_until(31 * DAY + 10)));
}

#[tokio::test]
async fn what_cannot_be_retained_is_refused() {
    let scene = scene();
    scene.create("locks/a", b"x").await.unwrap();
    let refused = async |name: &str| {
        scene.destination.extend_retention(&key(name), false).await.unwrap_err().kind()
    };
    assert_eq!(refused("locks/a").await, ErrorKind::InvalidInput);
    assert_eq!(refused("data/3f/x").await, ErrorKind::NotFound);
    put(&scene, "config", "GOVERNANCE", at(DAY));
    let refusal = S3Effect::refuse(403, "AccessDenied");
    scene.server.add_fault(S3Fault::new(refusal).on(S3Operation::PutRetention).always());
    assert_eq!(refused("config").await, ErrorKind::PermissionDenied);
    let without = Arc::new(scene.other_with(|settings| settings));
    for destination in [without as Arc<dyn Destination>, Arc::new(MemoryDestination::new())] {
        let error = destination.extend_retention(&key("config"), false).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Unsupported, "no-retention"));
    }
}

/// A client of the server in this process that knows nothing of ours.
pub(crate) fn other_client(server: &S3Server) -> Client {
    client(&settings(server), S3Server::ACCESS_KEY_ID, S3Server::SECRET_ACCESS_KEY)
}

/// The ids of all versions of a key.
pub(crate) async fn versions(client: &Client, bucket: &str, full_key: &str) -> Vec<String> {
    let (mut ids, mut behind) = (Vec::new(), (None, None));
    loop {
        let list = client.list_object_versions().bucket(bucket).prefix(full_key);
        let list = list.set_key_marker(behind.0).set_version_id_marker(behind.1);
        let page = list.send().await.unwrap();
        let own = page.versions().iter().filter(|version| version.key() == Some(full_key));
        ids.extend(own.map(|version| version.version_id().unwrap().to_owned()));
        if page.is_truncated() != Some(true) {
            return ids;
        }
        behind = (page.next_key_marker, page.next_version_id_marker);
    }
}

/// What servers promise, and what we make of it.
async fn is_kept_on(settings: S3Settings, id: &str, secret: &str) {
    let client = client(&settings, id, secret);
    let (bucket, prefix) = (settings.bucket.clone(), settings.prefix.clone());
    let full = |name: &str| format!("{prefix}/{name}").trim_start_matches('/').to_owned();
    let clock = ManualClock::default().with_auto_advance();
    let open = |days| {
        let settings = governed(days)(settings.clone());
        let credentials = S3Credentials::keys(id, secret);
        S3Destination::new(settings, &credentials, env(&clock)).unwrap()
    };
    let short = open(1);
    let now = short.time().await.unwrap().unwrap();
    // The end of a retention, in days from the start of the test.
    let ends_after = async |name: &str, days: i64| {
        let found = client.head_object().bucket(&bucket).key(full(name)).send().await.unwrap();
        assert_eq!(found.object_lock_mode(), Some(&ObjectLockMode::Governance), "{name}");
        let until = found.object_lock_retain_until_date().unwrap().secs();
        let later = until - now.as_second() - days * DAY;
        assert!((-60..600).contains(&later), "{name}: {later}");
    };
    for name in RETAINED.into_iter().chain(["locks/a"]) {
        short.create(&key(name), Bytes::from_static(b"x").into()).await.unwrap();
    }
    for name in RETAINED {
        ends_after(name, 2).await;
    }
    let lock = client.head_object().bucket(&bucket).key(full("locks/a")).send().await.unwrap();
    assert_eq!(lock.object_lock_mode(), None);
    assert!(short.check().await.unwrap().is_healthy());

    let extend = async |destination: &S3Destination, name: &str| {
        destination.extend_retention(&key(name), false).await.unwrap()
    };
    let long = open(3);
    assert_eq!(extend(&long, "config").await, Extension::TooNew);
    clock.advance(Duration::from_secs(11));
    assert_eq!(extend(&short, "config").await, Extension::LongEnough);
    for name in RETAINED {
        assert_eq!(extend(&long, name).await, Extension::Extended, "{name}");
        ends_after(name, 4).await;
        for destination in [&long, &short] {
            assert_eq!(extend(destination, name).await, Extension::LongEnough, "{name}");
        }
        ends_after(name, 4).await;
    }

    // Maintenance deletes, and yet nothing is lost.
    let pack = full("data/3f/x");
    short.delete(&key("data/3f/x")).await.unwrap();
    short.delete_many(&[key("index/a"), key("locks/a")]).await.unwrap();
    assert!(short.stat(&key("data/3f/x")).await.unwrap_err().is(ErrorKind::NotFound));
    let kept = versions(&client, &bucket, &pack).await;
    assert_eq!(kept.len(), 1);
    let delete = client.delete_object().bucket(&bucket).key(&pack).version_id(&kept[0]);
    assert!(delete.send().await.is_err(), "it is locked");
    short.create(&key("data/3f/x"), Bytes::from_static(b"x").into()).await.unwrap();
    ends_after("data/3f/x", 2).await;
    let kept = versions(&client, &bucket, &pack).await;
    assert_eq!(kept.len(), 2);
}

#[tokio::test]
async fn what_is_retained_stays_whatever_is_deleted() {
    let options = S3ServerOptions::default().with_object_lock();
    let server = S3Server::start_with(BUCKET, options);
    server.set_now(at(0));
    let (id, secret) = (S3Server::ACCESS_KEY_ID, S3Server::SECRET_ACCESS_KEY);
    is_kept_on(settings(&server), id, secret).await;
}

#[tokio::test]
async fn what_is_retained_stays_on_minio() {
    let made = locking_bucket_on("BACKUPKIT_TEST_S3_MINIO", "retention").await;
    let Some((settings, id, secret)) = made else { return };
    is_kept_on(settings, &id, &secret).await;
}

#[tokio::test]
async fn a_bucket_without_object_lock_is_told_apart_on_minio() {
    let made = crate::real_server::bucket_on("BACKUPKIT_TEST_S3_MINIO", "unlocked").await;
    let Some((settings, id, secret)) = made else { return };
    let credentials = S3Credentials::keys(id, secret);
    let destination =
        S3Destination::new(governed(1)(settings), &credentials, Env::system()).unwrap();
    let error = destination.create(&key("config"), Bytes::from_static(b"x").into()).await;
    assert_eq!(error.unwrap_err().code(), "s3-no-object-lock");
    let probe = destination.check().await.unwrap();
    assert_eq!(step(&probe).outcome.as_str(), "failed", "{probe:?}");
}
