//! What a server refuses, in words that help, at once, and without the secret.

use std::time::Duration;

use backupkit_core::Clock as _;
use backupkit_core::ErrorKind::{
    self, InvalidConfig, PermissionDenied, StorageFull, Unauthenticated,
};
use backupkit_core::adapters::s3::{S3Credentials, S3Destination, S3Settings};
use backupkit_core::destination::Destination as _;
use backupkit_core::testing::ManualClock;
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3Server, S3ServerOptions};
use backupkit_core::{Probe, ProbeOutcome};

use crate::scene::{BUCKET, Scene, credentials, env, key, settings};

const SECRET: &str = "canary-of-a-secret-key";

#[tokio::test]
async fn refusals_are_told_apart_and_not_repeated() {
    for (status, code, kind, expected) in [
        (403, "InvalidAccessKeyId", Unauthenticated, "s3-unknown-key"),
        (403, "SignatureDoesNotMatch", Unauthenticated, "s3-wrong-secret"),
        (400, "ExpiredToken", Unauthenticated, "s3-expired"),
        (403, "AccessDenied", PermissionDenied, "s3-access-denied"),
        (403, "RequestTimeTooSkewed", Unauthenticated, "s3-clock"),
        (400, "AuthorizationHeaderMalformed", InvalidConfig, "s3-wrong-region"),
        (301, "PermanentRedirect", InvalidConfig, "s3-wrong-region"),
        (404, "NoSuchBucket", InvalidConfig, "s3-no-such-bucket"),
        (507, "XMinioStorageFull", StorageFull, "s3-storage-full"),
        (400, "InvalidStorageClass", InvalidConfig, "s3-refused"),
    ] {
        let scene = Scene::warmed_up().await;
        let fault = S3Fault::new(S3Effect::refuse(status, code)).on(S3Operation::PutObject);
        scene.server.add_fault(fault.always());
        let error = scene.create("index/a", b"x").await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (kind, expected), "{code}: {error:?}");
        assert!(error.hint().is_some() || error.is(StorageFull), "{code}");
        assert!(error.report().contains(code), "{}", error.report());
        assert_eq!(scene.server.counters().requests, 1, "{code}");
    }
}

#[tokio::test]
async fn the_reason_is_told_although_a_look_brings_none() {
    let scene = Scene::warmed_up().await;
    scene.server.take_only("another", "key", None);
    let error = scene.destination.stat(&key("config")).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (Unauthenticated, "s3-unknown-key"));
    assert_eq!(scene.server.counters().requests, 2);
}

/// As a proxy answers whose server is just starting.
#[tokio::test]
async fn what_is_not_of_the_server_does_not_say_that_something_is_gone() {
    for operation in [S3Operation::GetObject, S3Operation::HeadObject, S3Operation::DeleteObject] {
        let scene = Scene::warmed_up().await;
        let fault = || S3Fault::new(S3Effect::RefuseInHtml { status: 404 });
        scene.server.add_fault(fault().always());
        let first = key("locks/first");
        let error = match operation {
            S3Operation::GetObject => scene.destination.get(&first, None).await.unwrap_err(),
            S3Operation::HeadObject => scene.destination.stat(&first).await.unwrap_err(),
            _ => scene.destination.delete(&first).await.unwrap_err(),
        };
        assert!(error.is(ErrorKind::Unavailable), "{operation:?}: {error}");
        // Nor for a while.
        scene.server.clear_faults();
        scene.server.add_fault(fault().times(4));
        match operation {
            S3Operation::GetObject => drop(scene.get("locks/first").await.unwrap()),
            S3Operation::HeadObject => drop(scene.destination.stat(&first).await.unwrap()),
            _ => {
                scene.destination.delete(&first).await.unwrap();
                assert_eq!(scene.server.object(BUCKET, "locks/first"), None);
            }
        }
    }
}

#[tokio::test]
async fn a_look_into_a_bucket_that_is_not_there_finds_no_absence() {
    let scene = Scene::with(S3ServerOptions::default(), |mut settings| {
        "other".clone_into(&mut settings.bucket);
        settings
    });
    let error = scene.destination.stat(&key("config")).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (InvalidConfig, "s3-no-such-bucket"));
}

#[tokio::test]
async fn the_region_of_a_bucket_is_named() {
    let scene = Scene::warmed_up().await;
    let effect = S3Effect::Refuse {
        status: 301,
        code: "PermanentRedirect",
        retry_after_seconds: None,
        headers: &[("x-amz-bucket-region", "eu-central-1")],
    };
    scene.server.add_fault(S3Fault::new(effect).on(S3Operation::ListObjects));
    let error = scene.list("data").await.unwrap_err();
    assert_eq!(error.hint(), Some("set region to eu-central-1"));
}

#[tokio::test]
async fn no_error_and_no_debug_text_shows_a_secret() {
    let server = S3Server::start(BUCKET);
    let keys = S3Credentials::keys(S3Server::ACCESS_KEY_ID, SECRET);
    let session = S3Credentials::Keys {
        access_key_id: S3Server::ACCESS_KEY_ID.to_owned(),
        secret_access_key: SECRET.into(),
        session_token: Some(SECRET.into()),
    };
    for (credentials, code) in [(keys, "s3-wrong-secret"), (session, "s3-expired")] {
        let clock = ManualClock::default().with_auto_advance();
        let destination = S3Destination::new(settings(&server), &credentials, env(&clock)).unwrap();
        let error = destination.get(&key("config"), None).await.unwrap_err();
        assert_eq!(error.code(), code);
        let probe = destination.check().await.unwrap();
        for shown in [
            error.report(),
            format!("{error:?}"),
            format!("{credentials:?}"),
            format!("{destination:?} {}", destination.location()),
            format!("{probe:?}"),
        ] {
            assert!(!shown.contains(SECRET), "{shown}");
        }
    }
}

#[tokio::test]
async fn a_session_token_is_sent() {
    let server = S3Server::start(BUCKET);
    server.take_only("lent", "secret", Some("token"));
    let credentials = S3Credentials::Keys {
        access_key_id: "lent".to_owned(),
        secret_access_key: "secret".into(),
        session_token: Some("token".into()),
    };
    let clock = ManualClock::default().with_auto_advance();
    let destination = S3Destination::new(settings(&server), &credentials, env(&clock)).unwrap();
    assert!(destination.check().await.unwrap().is_healthy());
}

#[tokio::test]
async fn nobody_asks_without_a_signature() {
    let server = S3Server::start(BUCKET);
    server.take_everybody();
    server.put(BUCKET, "config", "public");
    let clock = ManualClock::default().with_auto_advance();
    let nobody = S3Credentials::Anonymous;
    let destination = S3Destination::new(settings(&server), &nobody, env(&clock)).unwrap();
    assert_eq!(destination.get(&key("config"), None).await.unwrap(), "public");
}

#[tokio::test]
async fn a_profile_is_read_from_its_file_and_nowhere_else() {
    let server = S3Server::start(BUCKET);
    server.put(BUCKET, "config", "private");
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("credentials");
    let text = format!(
        "[nas]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        S3Server::ACCESS_KEY_ID,
        S3Server::SECRET_ACCESS_KEY
    );
    std::fs::write(&file, text).unwrap();
    let open = |profile: &str| {
        let profile = S3Credentials::Profile { file: file.clone(), profile: profile.to_owned() };
        let clock = ManualClock::default().with_auto_advance();
        S3Destination::new(settings(&server), &profile, env(&clock)).unwrap()
    };
    assert_eq!(open("nas").get(&key("config"), None).await.unwrap(), "private");
    let error = open("other").get(&key("config"), None).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (Unauthenticated, "s3-no-credentials"));
    assert!(error.to_string().contains("no profile `other`"), "{error}");
}

fn failed(probe: &Probe) -> Vec<&str> {
    let is_failed = |outcome: &ProbeOutcome| matches!(outcome, ProbeOutcome::Failed(_));
    let steps = probe.steps.iter().filter(|step| is_failed(&step.outcome));
    steps.map(|step| step.name.as_str()).collect()
}

#[tokio::test]
async fn a_check_says_which_step_fails() {
    let scene = Scene::new();
    let refuse =
        |operation| S3Fault::new(S3Effect::refuse(403, "AccessDenied")).on(operation).always();
    for (operation, step) in [
        (S3Operation::ListObjects, "reach the server and list the bucket"),
        (S3Operation::PutObject, "write an object"),
        (S3Operation::GetObject, "read a part of it back"),
        (S3Operation::CreateUpload, "begin and drop an upload in parts"),
    ] {
        scene.server.add_fault(refuse(operation));
        let probe = scene.destination.check().await.unwrap();
        assert_eq!(failed(&probe), [step]);
        assert_eq!(probe.steps.len(), 7);
        scene.server.clear_faults();
    }
    // Who may only add keeps backups safe.
    scene.server.add_fault(refuse(S3Operation::DeleteObject));
    let probe = scene.destination.check().await.unwrap();
    assert!(probe.is_healthy(), "{probe:?}");
    let last = probe.steps.last().unwrap();
    assert!(matches!(&last.outcome, ProbeOutcome::Skipped(why) if why.contains("may not delete")));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_for_a_while() {
    // The port is taken, so that nobody else listens there, and refuses.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let endpoint = format!("http://{}", socket.local_addr().unwrap());
    let clock = ManualClock::default().with_auto_advance();
    let settings = S3Settings::new(BUCKET).with_endpoint(endpoint);
    let destination = S3Destination::new(settings, &credentials(), env(&clock)).unwrap();
    let started = clock.elapsed_since_boot();
    let error = destination.get(&key("config"), None).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "s3-unreachable"));
    assert!(error.report().contains("attempts=10"), "{}", error.report());
    assert!(clock.elapsed_since_boot() > started + Duration::from_secs(5));
}

#[tokio::test]
async fn a_key_that_was_changed_in_its_file_is_read_when_the_former_one_is_refused() {
    let server = S3Server::start(BUCKET);
    server.put(BUCKET, "config", "private");
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("credentials");
    let write = |secret: &str, token: &str| {
        let text = format!(
            "[nas]\naws_access_key_id = lent\naws_secret_access_key = {secret}\n\
             aws_session_token = {token}\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    write("one", "first");
    server.take_only("lent", "one", Some("first"));
    let profile = S3Credentials::Profile { file: file.clone(), profile: "nas".to_owned() };
    let clock = ManualClock::default().with_auto_advance();
    let destination = S3Destination::new(settings(&server), &profile, env(&clock)).unwrap();
    assert_eq!(destination.get(&key("config"), None).await.unwrap(), "private");
    write("two", "second");
    server.take_only("lent", "two", Some("second"));
    assert_eq!(destination.get(&key("config"), None).await.unwrap(), "private");
    // One that stays refused is refused at once.
    server.reset_counters();
    server.take_only("lent", "three", Some("third"));
    let error = destination.get(&key("config"), None).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (Unauthenticated, "s3-expired"));
    assert_eq!(server.counters().requests, 2);
}

#[tokio::test]
async fn a_request_that_cannot_be_made_is_a_matter_of_settings() {
    let server = S3Server::start(BUCKET);
    let arn = S3Settings::new("arn:aws:s3:::x/y").with_endpoint(server.endpoint());
    let no_scheme = S3Settings::new(BUCKET).with_endpoint("127.0.0.1:9");
    for settings in [arn, no_scheme] {
        let clock = ManualClock::default().with_auto_advance();
        let destination = S3Destination::new(settings, &credentials(), env(&clock)).unwrap();
        let started = clock.elapsed_since_boot();
        let error = destination.get(&key("config"), None).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (InvalidConfig, "s3-settings"), "{error:?}");
        assert!(error.hint().is_some());
        assert_eq!(clock.elapsed_since_boot(), started, "it is not tried again");
    }
}

#[tokio::test]
async fn a_check_tries_each_step_once() {
    let scene = Scene::warmed_up().await;
    scene.server.add_fault(S3Fault::new(S3Effect::slow_down()).always());
    let probe = scene.destination.check().await.unwrap();
    assert_eq!(failed(&probe), ["reach the server and list the bucket"]);
    assert_eq!(scene.server.counters().requests, 1);
}

/// As a bucket's policy may have it.
#[tokio::test]
async fn a_check_writes_as_backups_do() {
    let scene = Scene::new();
    scene
        .server
        .add_fault(S3Fault::new(S3Effect::refuse(403, "AccessDenied")).unconditional().always());
    let probe = scene.destination.check().await.unwrap();
    assert!(probe.is_healthy(), "{probe:?}");
}
