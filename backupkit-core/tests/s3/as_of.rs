//! A bucket as it was.

use std::sync::Arc;

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use backupkit_core::adapters::s3::{S3Credentials, S3Destination, S3Settings};
use backupkit_core::destination::{Destination, ObjectMeta};
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3ServerOptions};
use backupkit_core::{Env, Result};
use futures::TryStreamExt as _;
use jiff::Timestamp;

use crate::real_server::{bucket_on, client};
use crate::scene::{BUCKET, Scene, key};

/// Seconds after the server was started.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

fn scene(page_keys: usize) -> Scene {
    let options = S3ServerOptions::default().versioned().with_page_keys(page_keys);
    Scene::with(options, |settings| settings.with_prefix("a b"))
}

fn view(scene: &Scene, seconds: i64) -> Arc<dyn Destination> {
    scene.destination.as_of(at(seconds)).unwrap()
}

async fn list(view: &dyn Destination, prefix: &str) -> Result<Vec<(String, u64)>> {
    let found: Vec<ObjectMeta> = view.list(&key(prefix)).try_collect().await?;
    Ok(found.into_iter().map(|one| (one.key.to_string(), one.size_bytes)).collect())
}

#[tokio::test]
async fn what_was_deleted_and_replaced_is_there_as_it_was() {
    for page_keys in [1, 2, 3, 1_000] {
        let scene = scene(page_keys);
        scene.create("data/aa/1", b"one").await.unwrap();
        scene.create("data/aa/2", b"two").await.unwrap();
        scene.server.put(BUCKET, "a b/data-other", "not below");
        scene.server.put(BUCKET, "another/data/aa/3", "not ours");
        scene.server.set_now(at(10));
        scene.destination.delete(&key("data/aa/1")).await.unwrap();
        scene.server.put(BUCKET, "a b/data/aa/2", "overwritten");
        scene.create("data/aa/3", b"three").await.unwrap();
        scene.server.set_now(at(20));
        scene.create("data/aa/1", b"again").await.unwrap();
        scene.destination.delete_many(&[key("data/aa/2"), key("data/aa/3")]).await.unwrap();
        let of = |pairs: &[(&str, u64)]| -> Vec<(String, u64)> {
            pairs.iter().map(|(name, size)| (format!("data/aa/{name}"), *size)).collect()
        };
        for (seconds, expected) in [
            (-1, of(&[])),
            (0, of(&[("1", 3), ("2", 3)])),
            (9, of(&[("1", 3), ("2", 3)])),
            (10, of(&[("2", 11), ("3", 5)])),
            (20, of(&[("1", 5)])),
            (99, of(&[("1", 5)])),
        ] {
            let view = view(&scene, seconds);
            assert_eq!(list(&*view, "data").await.unwrap(), expected, "{seconds} {page_keys}");
            // Also for whoever did not list before.
            let view = view.as_of(at(seconds)).unwrap();
            for name in ["data/aa/1", "data/aa/2", "data/aa/3"] {
                let found = view.stat(&key(name)).await.ok().map(|found| found.size_bytes);
                let listed = expected.iter().find(|(listed, _)| listed == name);
                assert_eq!(found, listed.map(|(_, size)| *size), "{seconds} {name}");
            }
        }
        let view = view(&scene, 9);
        assert_eq!(view.get(&key("data/aa/1"), None).await.unwrap(), "one");
        assert_eq!(view.get(&key("data/aa/2"), Some(1..3)).await.unwrap(), "wo");
        assert_eq!(view.get(&key("data/aa/2"), Some(3..3)).await.unwrap(), "");
        assert!(view.get(&key("data/aa/2"), Some(2..4)).await.is_err());
        assert!(view.get(&key("data/aa/3"), None).await.is_err());
    }
}

#[tokio::test]
async fn what_came_and_went_in_one_moment_is_gone_only_if_nothing_came_after() {
    let scene = scene(1_000);
    scene.create("data/a", b"x").await.unwrap();
    scene.destination.delete(&key("data/a")).await.unwrap();
    scene.create("data/b", b"x").await.unwrap();
    scene.destination.delete(&key("data/b")).await.unwrap();
    scene.server.set_now(at(1));
    scene.create("data/b", b"x").await.unwrap();
    scene.destination.delete(&key("data/b")).await.unwrap();
    assert_eq!(list(&*view(&scene, 0), "data").await.unwrap(), [("data/b".to_owned(), 1)]);
    assert!(list(&*view(&scene, 1), "data").await.unwrap().is_empty());
}

#[tokio::test]
async fn nothing_is_written_through_a_view() {
    let scene = scene(1_000);
    scene.create("data/a", b"x").await.unwrap();
    let (view, before) = (view(&scene, 5), scene.server.keys(BUCKET));
    scene.server.reset_counters();
    let one = key("data/a");
    let created = view.create(&key("locks/a"), bytes::Bytes::from_static(b"x").into()).await;
    let swapped = view.swap(&one, None, bytes::Bytes::from_static(b"y")).await;
    for refused in [created, view.delete(&one).await, swapped] {
        assert!(refused.unwrap_err().is(backupkit_core::ErrorKind::Unsupported));
    }
    let undeleted = view.delete_many(std::slice::from_ref(&one)).await.unwrap();
    assert_eq!(undeleted[0].error.code(), "read-only-view");
    assert_eq!(scene.server.counters().requests, 0);
    assert_eq!(scene.server.keys(BUCKET), before);
    assert!(view.capabilities().frozen && !scene.destination.capabilities().frozen);
}

#[tokio::test]
async fn a_bucket_that_keeps_nothing_shows_nothing() {
    let scene = Scene::with(S3ServerOptions::default(), |settings: S3Settings| settings);
    scene.create("data/a", b"x").await.unwrap();
    let view = view(&scene, 5);
    assert_eq!(list(&*view, "data").await.unwrap_err().code(), "s3-no-versions");
    assert_eq!(view.stat(&key("data/a")).await.unwrap_err().code(), "s3-no-versions");
    assert!(!view.check().await.unwrap().is_healthy());
}

#[tokio::test]
async fn a_listing_of_versions_is_whole_or_an_error() {
    for effect in [S3Effect::slow_down(), S3Effect::CutBody(200), S3Effect::ShortenBody(200)] {
        let scene = scene(2);
        for n in 0..7 {
            scene.server.put(BUCKET, &format!("a b/data/{n}"), "x");
        }
        let fault = || S3Fault::new(effect.clone()).on(S3Operation::ListVersions).after(2);
        scene.server.add_fault(fault());
        assert_eq!(list(&*view(&scene, 5), "data").await.unwrap().len(), 7, "{effect:?}");
        scene.server.add_fault(fault().always());
        assert!(list(&*view(&scene, 5), "data").await.is_err(), "{effect:?}");
    }
}

/// A bucket of its own on a real server, that keeps versions.
async fn versioned_on(server: &str) -> Option<S3Destination> {
    let (settings, id, secret) = bucket_on(server, "versions").await?;
    let client = client(&settings, &id, &secret);
    let status = BucketVersioningStatus::Enabled;
    let versioning = VersioningConfiguration::builder().status(status).build();
    let request = client.put_bucket_versioning().bucket(&settings.bucket);
    request.versioning_configuration(versioning).send().await.unwrap();
    let credentials = S3Credentials::keys(id, secret);
    Some(S3Destination::new(settings, &credentials, Env::system()).unwrap())
}

/// Two seconds of the server's clock, with the moment between them.
async fn wait_for_a_moment_between(destination: &S3Destination) -> Timestamp {
    let started = destination.time().await.unwrap().unwrap();
    let mut now = started;
    while now.as_second() < started.as_second() + 2 {
        now = destination.time().await.unwrap().unwrap();
    }
    Timestamp::from_second(started.as_second() + 1).unwrap()
}

#[tokio::test]
async fn real_servers_show_what_was_deleted_and_replaced() {
    for server in ["BACKUPKIT_TEST_S3_MINIO", "BACKUPKIT_TEST_S3_SEAWEEDFS"] {
        let Some(destination) = versioned_on(server).await else { continue };
        let create = async |name: &str, bytes: &'static [u8]| {
            let payload = bytes::Bytes::from_static(bytes).into();
            destination.create(&key(name), payload).await.unwrap();
        };
        for name in ["config", "data/aa/1", "data/aa/2"] {
            create(name, b"first").await;
        }
        let then = wait_for_a_moment_between(&destination).await;
        for name in ["config", "data/aa/1", "data/aa/2"] {
            destination.delete(&key(name)).await.unwrap();
        }
        create("config", b"of an attacker").await;
        let view = destination.as_of(then).unwrap();
        let expected = ["data/aa/1", "data/aa/2"].map(|name| (name.to_owned(), 5));
        assert_eq!(list(&*view, "data").await.unwrap(), expected, "{server}");
        for name in ["config", "data/aa/1", "data/aa/2"] {
            assert_eq!(view.get(&key(name), None).await.unwrap(), "first", "{server} {name}");
        }
        assert!(list(&destination, "data").await.unwrap().is_empty(), "{server}");
    }
}
