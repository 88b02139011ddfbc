//! A bucket as it was at a moment, whatever comes after it.

use std::sync::Arc;

use backupkit_core::adapters::s3::{
    ArchivedObjects, ConsistentAt, S3Filter, S3Settings, S3Source, S3SourceOptions, ThawTier,
};
use backupkit_core::model::Entry;
use backupkit_core::source::{ListedItem, OpenContext, Outcome, Source as _, SourceView, VANISHED};
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3Server, S3ServerOptions};
use backupkit_core::testing::random_bytes;
use backupkit_core::{Error, ErrorKind};
use bytes::Bytes;
use jiff::Timestamp;

use super::{LARGE, Scene, attribute, context, entries, list, read, refused};
use crate::scene::BUCKET;

/// Seconds after the server was started.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

fn as_of(seconds: i64) -> S3SourceOptions {
    S3SourceOptions::default().with_consistent_at(ConsistentAt::Time(at(seconds)))
}

pub(super) fn versioned(page_keys: usize) -> S3ServerOptions {
    S3ServerOptions::default().versioned().with_page_keys(page_keys)
}

fn scene(page_keys: usize) -> Scene {
    Scene::with(versioned(page_keys), |settings| settings)
}

/// Refuses whatever is asked of an object as it is now.
fn refuse_what_is_now(server: &S3Server) {
    for operation in [
        S3Operation::GetObject,
        S3Operation::HeadObject,
        S3Operation::GetTagging,
        S3Operation::GetAccessList,
        S3Operation::RestoreObject,
    ] {
        let now = S3Fault::new(S3Effect::refuse(404, "NoSuchKey")).on(operation);
        server.add_fault(now.naming_no_version().always());
    }
}

/// All objects that a view has, and their bytes.
async fn objects(view: &dyn SourceView) -> Vec<(String, Bytes)> {
    let mut objects = Vec::new();
    for entry in entries(&list(view, None).await.unwrap()) {
        let (now, bytes) = read(view, &entry).await.unwrap();
        assert_eq!(now.fingerprint, entry.fingerprint, "another version than listed: {now:?}");
        objects.push((entry.path.to_string(), bytes));
    }
    objects
}

fn named(pairs: &[(&str, &'static str)]) -> Vec<(String, Bytes)> {
    let named = |(name, text): &(&str, &'static str)| {
        (format!("/{BUCKET}/{name}"), Bytes::from_static(text.as_bytes()))
    };
    pairs.iter().map(named).collect()
}

#[tokio::test]
async fn each_object_is_the_newest_one_of_that_time_wherever_pages_end() {
    for page_keys in [1, 2, 3, 5, 1_000] {
        let scene = scene(page_keys);
        let server = &scene.server;
        for key in ["a", "a/b", "c", "d"] {
            server.put(BUCKET, key, "one");
        }
        server.set_now(at(10));
        server.put(BUCKET, "a", "two");
        server.remove(BUCKET, "c");
        server.set_now(at(20));
        server.put(BUCKET, "c", "two");
        server.remove(BUCKET, "d");
        server.put(BUCKET, "e", "one");
        for seconds in 30..60 {
            server.set_now(at(seconds));
            server.put(BUCKET, "a", "later");
            server.remove(BUCKET, "a/b");
            server.remove(BUCKET, "nothing");
            server.remove(BUCKET, "z");
        }
        refuse_what_is_now(server);
        let all_one = [("a%object", "one"), ("a/b", "one"), ("c", "one"), ("d", "one")];
        for (seconds, expected) in [
            (-1, named(&[])),
            (0, named(&all_one)),
            (9, named(&all_one)),
            (10, named(&[("a%object", "two"), ("a/b", "one"), ("d", "one")])),
            (29, named(&[("a%object", "two"), ("a/b", "one"), ("c", "two"), ("e", "one")])),
            (58, named(&[("a", "later"), ("c", "two"), ("e", "one")])),
        ] {
            let source =
                scene.source.clone().with_options(as_of(seconds).without_bucket_settings());
            let view = source.open(context()).await.unwrap();
            let mut found = objects(&*view).await;
            found.sort();
            assert_eq!(found, expected, "{seconds} {page_keys}");
        }
    }
}

#[tokio::test]
async fn pages_of_nothing_but_marks_of_deletions_do_not_end_a_listing() {
    let scene = scene(3);
    for number in 0..40 {
        scene.server.put(BUCKET, &format!("a{number:02}"), "x");
    }
    scene.server.put(BUCKET, "b", "x");
    scene.server.set_now(at(1));
    for number in 0..40 {
        let key = format!("a{number:02}");
        scene.server.remove(BUCKET, &key);
        scene.server.remove_old_versions(BUCKET, &key, 1);
    }
    scene.server.set_now(at(9));
    let scene = scene.reading(as_of(5));
    assert_eq!(objects(&*scene.open().await).await, named(&[("b", "x")]));
}

/// A bucket with all that objects may have, of a time after which all of it changed.
fn changed() -> Scene {
    let scene = scene(2);
    let server = &scene.server;
    let lock = ("x-amz-object-lock-legal-hold", "ON");
    let headers = [("content-type", "text/old"), ("x-amz-meta-a", "old"), lock];
    server.put_with(BUCKET, "large", random_bytes(1, LARGE), &headers, "t=old");
    server.put_with(BUCKET, "small", "old", &headers, "t=old");
    server.put_with(BUCKET, "marked/", "", &headers, "t=old");
    server.put_in_parts(BUCKET, "parts", random_bytes(2, 25), 10);
    let everybody = "uri=\"http://acs.amazonaws.com/groups/global/AllUsers\"";
    for key in ["large", "small", "marked/"] {
        server.grant(BUCKET, key, "x-amz-grant-read", everybody);
    }
    server.set_now(at(10));
    scene
}

fn change(server: &S3Server) {
    server.set_now(at(20));
    let headers = [("content-type", "text/new"), ("x-amz-meta-a", "new")];
    server.put_with(BUCKET, "large", random_bytes(3, LARGE), &headers, "t=new");
    server.put_with(BUCKET, "small", "new", &headers, "t=new");
    server.put_with(BUCKET, "marked/", "no marker", &headers, "t=new");
    server.remove(BUCKET, "parts");
    server.put(BUCKET, "another", "x");
}

#[tokio::test]
async fn all_that_is_asked_of_an_object_is_asked_of_the_version() {
    for when in ["before it is opened", "before it is listed", "before it is read", "never"] {
        let scene = changed().reading(as_of(5).with_tags().with_acls());
        refuse_what_is_now(&scene.server);
        let change_if = |now: &str| {
            if now == when {
                change(&scene.server);
            }
        };
        change_if("before it is opened");
        let view = scene.open().await;
        change_if("before it is listed");
        let listed = list(&*view, None).await.unwrap();
        change_if("before it is read");
        let mut kept = Vec::new();
        for listed in &listed {
            if let ListedItem::DirDone { path, metadata } = &listed.item
                && path.names().count() == 2
            {
                let text = metadata.attributes["backupkit.s3"].get();
                let record: serde_json::Value = serde_json::from_str(text).unwrap();
                kept.push(record["marker"].clone());
            }
        }
        let mut bytes = Vec::new();
        for entry in entries(&listed) {
            let (now, read) = read(&*view, &entry).await.unwrap();
            kept.push(attribute(&now));
            bytes.push(read);
        }
        assert_eq!(kept.len(), 4, "{when}");
        let parts = kept.iter().filter_map(|kept| kept["parts"].as_u64());
        assert_eq!(parts.collect::<Vec<_>>(), [10], "{when}");
        for kept in kept.iter().filter(|kept| kept.get("parts").is_none()) {
            assert_eq!(kept["ct"], "text/old", "{when}: {kept}");
            assert_eq!(kept["meta"]["a"], "old", "{when}: {kept}");
            assert_eq!(kept["tags"]["t"], "old", "{when}: {kept}");
            assert_eq!(kept["lock"]["hold"], true, "{when}: {kept}");
            assert!(kept["acl"]["READ"].is_array(), "{when}: {kept}");
        }
        let expected = [random_bytes(1, LARGE), random_bytes(2, 25), Bytes::from_static(b"old")];
        assert!(bytes == expected, "{when}");
        let notes = view.close(Outcome::Completed).await.unwrap();
        assert!(notes.warnings.is_empty(), "{when}: {notes:?}");
        assert_eq!(notes.remarks, ["the bucket as it was at 2026-01-01T00:00:05Z"]);
    }
}

#[tokio::test]
async fn what_is_the_same_has_the_same_fingerprint_as_without_a_time() {
    let scene = changed();
    let listed = |listed: &[_]| -> Vec<Entry> { entries(listed) };
    let plain = listed(&list(&*scene.open().await, None).await.unwrap());
    let scene = scene.reading(as_of(5));
    let fixed = listed(&list(&*scene.open().await, None).await.unwrap());
    assert_eq!(plain.len(), fixed.len());
    for (plain, fixed) in plain.iter().zip(&fixed) {
        assert_eq!((&plain.path, &plain.fingerprint), (&fixed.path, &fixed.fingerprint));
        assert_eq!(plain.metadata.mtime, fixed.metadata.mtime);
    }
}

#[tokio::test]
async fn a_backup_that_goes_on_later_keeps_its_moment_and_its_place() {
    let now = S3SourceOptions::default().with_consistent_at(ConsistentAt::Now);
    let scene = scene(2).reading(now);
    for key in ["a", "b/1", "b/2", "b-", "c"] {
        scene.server.put(BUCKET, key, key.to_owned());
    }
    scene.server.set_now(at(10));
    scene.server.put(BUCKET, "d", "in the second that is not over");
    let view = scene.open().await;
    assert_eq!(view.token().as_bytes(), b"s3 at 2026-01-01T00:00:09.999999999Z");
    let whole = list(&*view, None).await.unwrap();
    assert_eq!(entries(&whole).len(), 5, "{whole:?}");
    scene.server.set_now(at(99));
    for key in ["a", "b/1", "0", "bb", "z"] {
        scene.server.put(BUCKET, key, "new");
    }
    scene.server.remove(BUCKET, "b/2");
    let resumed = OpenContext { resume: Some(view.token()), ..context() };
    let later: Arc<dyn SourceView> = scene.source.open(resumed).await.unwrap();
    assert_eq!(later.token(), view.token());
    for (number, one) in whole.iter().enumerate() {
        let rest = list(&*later, Some(&one.token)).await.unwrap();
        assert_eq!(entries(&rest), entries(&whole[number + 1..]), "behind {number}");
        assert_eq!(rest.len(), whole.len() - number - 1);
    }
    scene.server.set_now(at(200));
    let anew = scene.open().await;
    assert_ne!(anew.token(), view.token());
    assert_eq!(entries(&list(&*anew, None).await.unwrap()).len(), 8);
    // One of another time, or of none, begins anew.
    for other in [as_of(5), S3SourceOptions::default()] {
        let source = scene.source.clone().with_options(other);
        let resumed = OpenContext { resume: Some(view.token()), ..context() };
        let error = source.open(resumed).await.map(drop).unwrap_err();
        assert!(error.is(ErrorKind::SourceChanged), "{error}");
    }
}

pub(super) async fn unopened(scene: &Scene) -> Error {
    scene.source.open(context()).await.map(drop).unwrap_err()
}

#[tokio::test]
async fn a_time_that_is_not_over_by_the_clock_of_the_server_is_refused() {
    let scene = scene(9);
    scene.server.set_now(at(10));
    for (seconds, is_refused) in [(9, false), (10, true), (11, true)] {
        let source = scene.source.clone().with_options(as_of(seconds));
        let opened = source.open(context()).await.map(drop);
        assert_eq!(opened.is_err(), is_refused, "{seconds}");
        if let Err(error) = opened {
            assert_eq!(error.code(), "s3-time-to-come", "{}", error.report());
        }
    }
}

#[tokio::test]
async fn a_bucket_that_does_not_keep_all_versions_is_refused() {
    let never = Scene::new().reading(as_of(-5));
    assert_eq!(unopened(&never).await.code(), "s3-no-versions");
    let suspended = scene(9).reading(as_of(-5));
    suspended.open().await;
    suspended.server.keep_versions(BUCKET, false);
    let error = unopened(&suspended).await;
    assert_eq!(error.code(), "s3-no-versions");
    assert!(error.report().contains("suspended"), "{}", error.report());
    assert_eq!(suspended.server.counters().of(S3Operation::ListVersions), 0);
}

#[tokio::test]
async fn what_a_key_may_not_do_or_a_server_cannot_is_told_and_never_a_listing_of_now() {
    for (operation, status, code, word) in [
        (S3Operation::GetVersioning, 403, "AccessDenied", "s3:GetBucketVersioning"),
        (S3Operation::GetVersioning, 501, "NotImplemented", "leave consistent_at out"),
        (S3Operation::ListVersions, 403, "AccessDenied", "s3:ListBucketVersions"),
        (S3Operation::ListVersions, 501, "NotImplemented", "leave consistent_at out"),
    ] {
        let scene = scene(9).filled(&["a"]).reading(as_of(5));
        scene.server.add_fault(S3Fault::new(S3Effect::refuse(status, code)).on(operation).always());
        let error = match scene.source.open(context()).await {
            Err(error) => error,
            Ok(view) => refused(&*view).await,
        };
        assert!(error.report().contains(word), "{operation:?}: {}", error.report());
    }
    let options = versioned(9).without_encoded_versions();
    let scene = Scene::with(options, |settings| settings).filled(&["a"]).reading(as_of(5));
    let error = refused(&*scene.open().await).await;
    assert_eq!(error.code(), "s3-versions-not-encoded");
    assert!(error.report().contains("leave consistent_at out"), "{}", error.report());
}

#[tokio::test]
async fn a_listing_of_versions_that_fails_or_breaks_off_is_never_a_shorter_one() {
    for effect in [S3Effect::slow_down(), S3Effect::CutBody(200), S3Effect::ShortenBody(200)] {
        let scene = scene(2).filled(&["a", "b", "c", "d", "e", "f", "g"]).reading(as_of(5));
        scene.server.set_now(at(9));
        let fault = || S3Fault::new(effect.clone()).on(S3Operation::ListVersions).after(2);
        scene.server.add_fault(fault());
        assert_eq!(objects(&*scene.open().await).await.len(), 7, "{effect:?}");
        scene.server.add_fault(fault().always());
        refused(&*scene.open().await).await;
    }
}

#[tokio::test]
async fn a_version_that_was_removed_for_good_is_no_object_that_vanished() {
    let scene = changed().reading(as_of(5));
    let view = scene.open().await;
    let entries = entries(&list(&*view, None).await.unwrap());
    change(&scene.server);
    for (entry, key) in entries.iter().zip(["large", "parts", "small"]) {
        scene.server.remove_old_versions(BUCKET, key, 1);
        let error = view.body(entry, None).await.unwrap_err();
        assert_eq!(error.code(), "s3-no-such-version", "{key}: {error}");
        assert_ne!(error.code(), VANISHED);
        assert!(!view.concerns_all(&error));
    }
}

#[tokio::test]
async fn objects_are_chosen_by_what_they_were() {
    let scene = changed();
    change(&scene.server);
    scene.server.set_now(at(1_000));
    refuse_what_is_now(&scene.server);
    let minute = std::time::Duration::from_mins(1);
    let by_tag = S3Filter::default().with_tags(vec!["t=old"], vec![]);
    let by_age = S3Filter::default().with_age(None, Some(minute));
    for (filter, expected) in
        [(by_tag, &["large", "small"][..]), (by_age, &["large", "parts", "small"])]
    {
        let options = as_of(5).with_filter(filter).without_bucket_settings();
        let source = scene.source.clone().with_options(options);
        let view = source.open(context()).await.unwrap();
        let listed = entries(&list(&*view, None).await.unwrap());
        let names: Vec<_> = listed.iter().map(|entry| entry.path.to_string()).collect();
        let expected: Vec<_> = expected.iter().map(|name| format!("/{BUCKET}/{name}")).collect();
        assert_eq!(names, expected);
    }
}

#[tokio::test]
async fn an_archived_version_is_asked_for_by_its_name() {
    let thaw = ArchivedObjects::Thaw { tier: ThawTier::Bulk, days: 1 };
    let scene = scene(9).reading(as_of(5).with_archived(thaw));
    let class = [("x-amz-storage-class", "DEEP_ARCHIVE")];
    scene.server.put_with(BUCKET, "cold", "old", &class, "");
    scene.server.set_now(at(9));
    scene.server.put_with(BUCKET, "cold", "new", &class, "");
    refuse_what_is_now(&scene.server);
    let view = scene.open().await;
    let listed = entries(&list(&*view, None).await.unwrap());
    let error = view.body(&listed[0], None).await.unwrap_err();
    assert_eq!(error.code(), "s3-thawing", "{error}");
    scene.server.end_restores(BUCKET);
    assert_eq!(read(&*view, &listed[0]).await.unwrap().1, "old");
}

#[tokio::test]
async fn a_prefix_below_which_there_was_nothing_then_is_an_error() {
    let below = |settings: S3Settings| settings.with_prefix("a b");
    let scene = Scene::with(versioned(2), below).filled(&["a", "a b", "z"]);
    scene.server.set_now(at(10));
    scene.server.put(BUCKET, "a b/x", "x");
    scene.server.put(BUCKET, "a b/y", "y");
    scene.server.set_now(at(20));
    let open = async |seconds| {
        let source: S3Source = scene.source.clone().with_options(as_of(seconds));
        source.open(context()).await.unwrap()
    };
    let error = refused(&*open(9).await).await;
    assert_eq!(error.code(), "s3-no-such-prefix");
    assert!(error.to_string().contains("2026-01-01T00:00:09Z"), "{error}");
    let found = objects(&*open(10).await).await;
    assert_eq!(found, named(&[("a b/x", "x"), ("a b/y", "y")]));
}

/// The steps of a probe that failed.
pub(super) async fn failed_steps(scene: &Scene) -> Vec<String> {
    let probe = scene.source.check().await.unwrap();
    let failed = probe.steps.iter().filter(|step| step.outcome.as_str() == "failed");
    failed.map(|step| format!("{step:?}")).collect()
}

#[tokio::test]
async fn a_probe_tries_what_reading_versions_needs() {
    let all = || as_of(5).with_tags().with_acls();
    for scene in [changed(), scene(9)] {
        assert_eq!(failed_steps(&scene.reading(all())).await, [""; 0]);
    }
    for (operation, word) in [
        (S3Operation::GetVersioning, "s3:GetBucketVersioning"),
        (S3Operation::ListVersions, "s3:ListBucketVersions"),
        (S3Operation::GetObject, "s3:GetObjectVersion"),
        (S3Operation::GetTagging, "s3:GetObjectVersionTagging"),
        (S3Operation::GetAccessList, "s3:GetObjectVersionAcl"),
    ] {
        let scene = changed().reading(all());
        let denied = S3Fault::new(S3Effect::refuse(403, "AccessDenied")).on(operation);
        scene.server.add_fault(denied.always());
        let failed = failed_steps(&scene).await;
        assert!(failed.len() == 1 && failed[0].contains(word), "{operation:?}: {failed:?}");
    }
    let unversioned = Scene::holding(&["a"]).reading(all());
    assert_eq!(failed_steps(&unversioned).await.len(), 1);
}

#[tokio::test]
async fn a_server_that_passes_over_versions_is_found_out() {
    for is_named in [true, false] {
        let options = versioned(9).passing_over_versions(is_named);
        let scene = Scene::with(options, |settings| settings).reading(as_of(5));
        for (key, text) in [("a", "x"), ("m/", "")] {
            scene.server.set_now(at(0));
            scene.server.put_with(BUCKET, key, text, &[("content-type", "text/one")], "");
            scene.server.set_now(at(10));
            // The same bytes, and so the same entity tag.
            scene.server.put_with(BUCKET, key, text, &[("content-type", "text/two")], "");
        }
        let view = scene.open().await;
        let entries = entries(&list(&*view, None).await.unwrap());
        let error = read(&*view, &entries[0]).await.unwrap_err();
        let found = (error.kind(), error.code());
        assert_eq!(found, (ErrorKind::Unsupported, "s3-other-version"), "{error}");
        let warnings = view.close(Outcome::Completed).await.unwrap().warnings;
        assert!(warnings.iter().any(|one| one.starts_with("m/: ")), "{warnings:?}");
    }
}

#[tokio::test]
async fn a_listing_of_versions_that_goes_in_circles_is_incomplete() {
    for page_keys in [1, 2] {
        let scene = scene(page_keys).reading(as_of(5));
        // Marks of deletions make nothing appear, so that nothing comes twice.
        for key in ["a", "b", "c", "d", "e"] {
            scene.server.remove(BUCKET, key);
        }
        let circle = S3Fault::new(S3Effect::LeadBack).on(S3Operation::ListVersions);
        scene.server.add_fault(circle.always());
        let error = refused(&*scene.open().await).await;
        assert_eq!(error.code(), "s3-listing-incomplete", "{error}");
        assert!(scene.server.counters().requests < 100);
    }
}
