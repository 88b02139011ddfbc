//! The older versions of keys.

mod resuming;

use std::collections::BTreeMap;
use std::time::Duration;

use backupkit_core::ErrorKind;
use backupkit_core::adapters::s3::{ConsistentAt, S3Filter, S3Settings, S3SourceOptions};
use backupkit_core::source::{Listed, ListedItem, Outcome, Source as _, SourceView, VANISHED};
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3ServerOptions};
use backupkit_core::testing::random_bytes;
use bytes::Bytes;
use jiff::SignedDuration;

use super::consistent::{at, failed_steps, unopened, versioned};
use super::{LARGE, Scene, attribute, context, entries, list, read, refused};
use crate::scene::BUCKET;

fn with_versions() -> S3SourceOptions {
    S3SourceOptions::default().with_versions()
}

fn scene(page_keys: usize) -> Scene {
    Scene::with(versioned(page_keys), |settings| settings).reading(with_versions())
}

/// Where a version stands that was written so many microseconds after the server was started.
fn named(key: &str, microseconds: i64, end: &str) -> String {
    let time = at(0) + SignedDuration::from_micros(microseconds);
    format!("/{BUCKET}%versions/{key}%past/{}-{end}", time.strftime("%Y%m%dT%H%M%S.%6fZ"))
}

fn names(listed: &[Listed]) -> Vec<String> {
    let names = listed.iter().map(|listed| match &listed.item {
        ListedItem::Entry(entry) => entry.path.to_string(),
        ListedItem::DirDone { path, .. } => format!("{path}/"),
    });
    names.collect()
}

/// The bytes of everything in a view, by its path.
async fn files(view: &dyn SourceView) -> BTreeMap<String, Bytes> {
    let mut files = BTreeMap::new();
    for entry in entries(&list(view, None).await.unwrap()) {
        let (now, bytes) = read(view, &entry).await.unwrap();
        assert_eq!(now.fingerprint, entry.fingerprint, "another one than listed: {now:?}");
        assert_eq!(now.metadata.mtime, entry.metadata.mtime);
        assert!(attribute(&now)["fingerprint"].is_string(), "{now:?}");
        assert!(files.insert(entry.path.to_string(), bytes).is_none(), "twice: {}", entry.path);
    }
    files
}

fn texts(files: &BTreeMap<String, Bytes>) -> Vec<(&str, &str)> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    files.iter().map(|(path, bytes)| (path.as_str(), text(bytes))).collect()
}

#[tokio::test]
async fn older_versions_and_deletions_stand_beside_the_bucket_from_the_oldest_on() {
    let scene = scene(3);
    let server = &scene.server;
    for (seconds, key, bytes) in [
        (0, "a", Some("one")),
        (0, "gone", Some("lost")),
        (0, "only", Some("only")),
        (5, "a", Some("two")),
        (5, "a", None),
        (5, "a", Some("three")),
        (9, "a", Some("four")),
        (9, "gone", None),
        (9, "sub/", Some("")),
        (9, "sub/", Some("filled")),
        (9, "sub/x", Some("1")),
        (9, "sub/x", Some("2")),
    ] {
        server.set_now(at(seconds));
        match bytes {
            Some(bytes) => server.put(BUCKET, key, bytes),
            None => server.remove(BUCKET, key),
        }
    }
    let view = scene.open().await;
    let past = |key, microseconds, end| named(key, microseconds, end);
    let expected = [
        (past("a", 0, "v1"), "one"),
        (past("a", 4_999_998, "v4"), "two"),
        (past("a", 4_999_999, "v5%deleted"), ""),
        (past("a", 5_000_000, "v6"), "three"),
        (past("gone", 0, "v2"), "lost"),
        (past("gone", 9_000_000, "v8%deleted"), ""),
        (past("sub/%empty", 8_999_999, "v9"), ""),
        (past("sub/x", 8_999_999, "v11"), "1"),
        (format!("/{BUCKET}/a"), "four"),
        (format!("/{BUCKET}/only"), "only"),
        (format!("/{BUCKET}/sub/%empty"), "filled"),
        (format!("/{BUCKET}/sub/x"), "2"),
    ];
    let files = files(&*view).await;
    let expected: Vec<_> = expected.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    assert_eq!(texts(&files), expected);
    let notes = view.close(Outcome::Completed).await.unwrap();
    assert_eq!(notes.remarks, ["with 6 older versions and 2 deletions of objects"]);
    assert!(notes.warnings.is_empty(), "{notes:?}");
}

#[tokio::test]
async fn without_the_option_nothing_is_different() {
    let scene = scene(3);
    for text in ["one", "two"] {
        scene.server.put(BUCKET, "a", text);
    }
    let with = scene.open().await;
    let with = list(&*with, None).await.unwrap();
    let scene = scene.reading(S3SourceOptions::default());
    scene.server.reset_counters();
    let without = scene.open().await;
    assert_eq!(scene.server.counters().requests, 0);
    let without = list(&*without, None).await.unwrap();
    assert_eq!(names(&without), ["/bucket/a", "/bucket/"]);
    assert_eq!(names(&with[..2]), names(&without));
    assert_eq!(entries(&with)[0], entries(&without)[0]);
    for (with, without) in with.iter().zip(&without) {
        assert_eq!(with.token, without.token);
    }
    assert_eq!(scene.server.counters().of(S3Operation::ListVersions), 0);
}

#[tokio::test]
async fn a_shortened_part_of_a_key_is_kept_with_the_directory_of_its_versions() {
    let scene = scene(9);
    let long = "x".repeat(300);
    for bytes in ["one", "two"] {
        scene.server.put(BUCKET, &format!("{long}/{long}"), bytes);
    }
    let listed = list(&*scene.open().await, None).await.unwrap();
    let mut kept = Vec::new();
    for listed in &listed {
        if let ListedItem::DirDone { path, metadata } = &listed.item
            && path.to_string().contains("%versions")
        {
            let record = metadata.attributes.get("backupkit.s3");
            let record: Option<serde_json::Value> =
                record.map(|record| serde_json::from_str(record.get()).unwrap());
            kept.push(record.map(|record| record["seg"].clone()));
        }
    }
    let long = serde_json::Value::from(long);
    assert_eq!(kept, [Some(long.clone()), Some(long), None]);
}

#[tokio::test]
async fn a_version_has_all_that_it_had_and_is_asked_for_by_its_id() {
    let scene = scene(2).reading(with_versions().with_tags().with_acls());
    let server = &scene.server;
    let headers = [("content-type", "text/old"), ("x-amz-meta-a", "old")];
    server.put_with(BUCKET, "k", random_bytes(1, LARGE), &headers, "t=old");
    server.grant(BUCKET, "k", "x-amz-grant-read", "id=\"you\"");
    server.put_in_parts(BUCKET, "k", random_bytes(2, 25), 10);
    server.put(BUCKET, "k", "new");
    let view = scene.open().await;
    let listed = entries(&list(&*view, None).await.unwrap());
    let mut found = Vec::new();
    for entry in &listed[1..] {
        assert!(entry.metadata.attributes.is_empty(), "nothing is known before it is read");
        let (now, bytes) = read(&*view, entry).await.unwrap();
        assert_eq!(now.size_bytes, bytes.len() as u64);
        found.push((attribute(&now), bytes));
    }
    let [(parts, second), (old, first)] = &found[..] else { panic!("{listed:?}") };
    assert!(*first == random_bytes(1, LARGE) && *second == random_bytes(2, 25));
    assert_eq!(parts["parts"], 10, "{parts}");
    assert_eq!(old["ct"], "text/old", "{old}");
    assert_eq!(old["meta"]["a"], "old", "{old}");
    assert_eq!(old["tags"]["t"], "old", "{old}");
    assert!(old["acl"]["READ"].is_array(), "{old}");
}

#[tokio::test]
async fn what_was_there_at_a_time_and_its_past_are_all_that_was_written_till_then() {
    for page_keys in [1, 2, 3, 1_000] {
        let scene = scene(page_keys);
        let server = &scene.server;
        let mut written = Vec::new();
        for step in 0..40_i64 {
            let seconds = step / 4;
            server.set_now(at(seconds));
            let key = ["a", "b", "b/c", "d"][usize::try_from(step * 7 % 11).unwrap() % 4];
            if step % 5 == 3 {
                server.remove(BUCKET, key);
                written.push((seconds, key, String::new()));
            } else {
                let text = format!("{key} {step}");
                server.put(BUCKET, key, text.clone());
                written.push((seconds, key, text));
            }
        }
        server.set_now(at(99));
        for until in [0, 3, 5, 9] {
            let time = ConsistentAt::Time(at(until));
            let options = with_versions().with_consistent_at(time).without_bucket_settings();
            let source = scene.source.clone().with_options(options);
            let view = source.open(context()).await.unwrap();
            let found = files(&*view).await;
            let mut expected: Vec<String> = written
                .iter()
                .filter(|(seconds, ..)| *seconds <= until)
                .map(|(_, _, text)| text.clone())
                .collect();
            let mut all: Vec<String> =
                found.values().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).collect();
            expected.sort();
            all.sort();
            assert_eq!(all, expected, "{page_keys} {until}");
            // What is there is the last that was written, if it was not deleted.
            for key in ["a", "b", "b/c", "d"] {
                let mut of_key = written.iter().filter(|(at, of, _)| *at <= until && *of == key);
                let last = of_key.next_back().map(|(_, _, text)| text.clone());
                let paths = [format!("/{BUCKET}/{key}"), format!("/{BUCKET}/{key}%object")];
                let there = paths.iter().find_map(|path| found.get(path));
                let there = there.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
                assert_eq!(there, last.filter(|text| !text.is_empty()), "{key} {until}");
            }
        }
    }
}

#[tokio::test]
async fn versions_from_before_they_were_kept_and_from_a_suspension_count() {
    let scene = Scene::new().reading(with_versions());
    let server = &scene.server;
    server.put(BUCKET, "k", "first");
    server.keep_versions(BUCKET, true);
    server.set_now(at(5));
    server.put(BUCKET, "k", "second");
    server.set_now(at(7));
    server.keep_versions(BUCKET, false);
    server.put(BUCKET, "other", "passing");
    server.remove(BUCKET, "other");
    let files = files(&*scene.open().await).await;
    let expected = [
        (named("k", 0, "null"), "first"),
        (named("other", 7_000_000, "null%deleted"), ""),
        (format!("/{BUCKET}/k"), "second"),
    ];
    let expected: Vec<_> = expected.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    assert_eq!(texts(&files), expected);
}

#[tokio::test]
async fn a_version_that_was_removed_before_it_is_read_vanished() {
    let scene = scene(9);
    for bytes in ["one", "two", "three"] {
        scene.server.put(BUCKET, "k", bytes);
    }
    let view = scene.open().await;
    let listed = entries(&list(&*view, None).await.unwrap());
    scene.server.remove_old_versions(BUCKET, "k", 2);
    let error = view.body(&listed[2], None).await.unwrap_err();
    assert!(error.is(ErrorKind::NotFound) && error.code() == VANISHED, "{error}");
    read(&*view, &listed[1]).await.unwrap();
    let notes = view.close(Outcome::Completed).await.unwrap();
    assert!(notes.warnings.is_empty(), "{notes:?}");
    let expected = [
        "with 1 older version of objects",
        "k: an older version was removed while the backup ran, and is left out",
    ];
    assert_eq!(notes.remarks, expected);
}

#[tokio::test]
async fn a_version_that_the_server_lists_and_has_not_is_no_version_that_was_removed() {
    let scene = scene(2);
    for bytes in ["one", "two", "three"] {
        scene.server.put(BUCKET, "k", bytes);
    }
    let view = scene.open().await;
    let listed = entries(&list(&*view, None).await.unwrap());
    scene.fault(S3Effect::refuse(404, "NoSuchVersion"), S3Operation::GetObject);
    let error = view.body(&listed[2], None).await.unwrap_err();
    assert_eq!(error.code(), "s3-listed-without-object", "{error}");
    assert!(!error.is(ErrorKind::NotFound), "{error}");
}

#[tokio::test]
async fn pages_that_name_only_a_key_lose_no_version_of_it() {
    for page_keys in 1..8 {
        let scene = scene(page_keys);
        for key in ["j", "k", "k", "k", "k", "k", "l", "l"] {
            scene.server.put(BUCKET, key, key);
        }
        let fault = S3Fault::new(S3Effect::ForgetToken).on(S3Operation::ListVersions);
        scene.server.add_fault(fault.always());
        assert_eq!(files(&*scene.open().await).await.len(), 8, "{page_keys}");
    }
}

#[tokio::test]
async fn each_version_is_chosen_by_what_it_is_and_deletions_by_their_key() {
    let scene = scene(2);
    let server = &scene.server;
    for (seconds, len) in [(0, 10), (100, 20), (200, 30)] {
        server.set_now(at(seconds));
        for key in ["k", "no.tmp"] {
            server.put_with(BUCKET, key, random_bytes(1, len), &[], &format!("len={len}"));
            server.remove(BUCKET, key);
        }
    }
    server.set_now(at(300));
    let time = ConsistentAt::Time(at(250));
    let mark = |seconds: i64, id| named("k", seconds * 1_000_000, &format!("{id}%deleted"));
    let marks = || vec![mark(0, "v2"), mark(100, "v6"), mark(200, "v10")];
    let version = |seconds: i64, id| named("k", seconds * 1_000_000 - 1, id);
    let all = S3Filter::default().with_exclude(&["*.tmp"]).unwrap();
    let by_age = all.clone().with_age(None, Some(Duration::from_secs(200)));
    for (filter, versions, marks, left_out) in [
        (
            all.clone().with_size(Some(20), None),
            vec![version(100, "v5"), version(200, "v9")],
            marks(),
            7,
        ),
        (all.clone().with_tags(["len=10"], []), vec![version(0, "v1")], marks(), 8),
        (
            by_age,
            vec![version(100, "v5"), version(200, "v9")],
            vec![mark(100, "v6"), mark(200, "v10")],
            8,
        ),
    ] {
        let options = with_versions().with_consistent_at(time).with_filter(filter);
        let source = scene.source.clone().with_options(options.without_bucket_settings());
        let view = source.open(context()).await.unwrap();
        let listed = entries(&list(&*view, None).await.unwrap());
        let mut found: Vec<_> = listed.iter().map(|entry| entry.path.to_string()).collect();
        found.sort();
        let mut expected = [versions, marks].concat();
        expected.sort();
        assert_eq!(found, expected);
        let notes = view.close(Outcome::Completed).await.unwrap();
        let sentence =
            format!("{left_out} older versions are left out by the filter of the source");
        assert!(notes.remarks.contains(&sentence), "{notes:?}");
    }
}

#[tokio::test]
async fn what_belongs_to_a_repository_has_no_past_either() {
    let mut scene = scene(2);
    for key in ["repo/config", "k"] {
        scene.server.put(BUCKET, key, "one");
        scene.server.put(BUCKET, key, "two");
    }
    scene.source = scene.source.with_excluded_prefixes(vec!["repo".to_owned()]);
    let listed = list(&*scene.open().await, None).await.unwrap();
    assert!(names(&listed).iter().all(|name| !name.contains("repo")), "{:?}", names(&listed));
    assert_eq!(entries(&listed).len(), 2);
}

#[tokio::test]
async fn an_archived_version_is_left_out_like_an_object() {
    let scene = scene(2);
    scene.server.put_with(BUCKET, "k", "x", &[("x-amz-storage-class", "GLACIER")], "");
    scene.server.put(BUCKET, "k", "two");
    let view = scene.open().await;
    let listed = entries(&list(&*view, None).await.unwrap());
    assert_eq!(view.body(&listed[1], None).await.unwrap_err().code(), "s3-archived");
    read(&*view, &listed[0]).await.unwrap();
}

#[tokio::test]
async fn a_prefix_below_which_all_was_deleted_has_a_past() {
    let below = |settings: S3Settings| settings.with_prefix("a b");
    let scene = || Scene::with(versioned(2), below).reading(with_versions());
    let deleted = scene();
    deleted.server.put(BUCKET, "a b/x", "one");
    deleted.server.put(BUCKET, "a bc", "not asked for");
    deleted.server.put(BUCKET, "a bc", "not asked for");
    deleted.server.remove(BUCKET, "a b/x");
    let listed = list(&*deleted.open().await, None).await.unwrap();
    let expected = [
        format!("/{BUCKET}/"),
        named("a b/x", 0, "v4%deleted"),
        named("a b/x", -1, "v1"),
        format!("/{BUCKET}%versions/a b/x%past/"),
        format!("/{BUCKET}%versions/a b/"),
        format!("/{BUCKET}%versions/"),
    ];
    assert_eq!(names(&listed), expected);
    let error = refused(&*scene().open().await).await;
    assert_eq!(error.code(), "s3-no-such-prefix");
    // One with nothing older is no error.
    let plain = scene();
    plain.server.put(BUCKET, "a b/x", "one");
    assert_eq!(entries(&list(&*plain.open().await, None).await.unwrap()).len(), 1);
}

#[tokio::test]
async fn where_versions_cannot_be_had_the_backup_does_not_begin_or_fails_and_says_why() {
    let never = Scene::holding(&["a"]).reading(with_versions());
    let error = unopened(&never).await;
    assert_eq!(error.code(), "s3-no-versions");
    assert!(error.report().contains("leave versions out"), "{}", error.report());
    for (operation, status, code, word) in [
        (S3Operation::GetVersioning, 403, "AccessDenied", "s3:GetBucketVersioning"),
        (S3Operation::GetVersioning, 501, "NotImplemented", "leave versions out"),
        (S3Operation::ListVersions, 403, "AccessDenied", "s3:ListBucketVersions"),
        (S3Operation::ListVersions, 501, "NotImplemented", "leave versions out"),
    ] {
        let scene = scene(9).filled(&["a"]);
        scene.server.add_fault(S3Fault::new(S3Effect::refuse(status, code)).on(operation).always());
        let error = match scene.source.open(context()).await {
            Err(error) => error,
            Ok(view) => refused(&*view).await,
        };
        assert!(error.report().contains(word), "{operation:?}: {}", error.report());
    }
    let options = versioned(9).without_encoded_versions();
    let scene = Scene::with(options, |settings| settings).filled(&["a"]).reading(with_versions());
    let error = refused(&*scene.open().await).await;
    assert_eq!(error.code(), "s3-versions-not-encoded");
    assert!(error.report().contains("leave versions out"), "{}", error.report());
    let options = S3ServerOptions::default().versioned().with_page_keys(9).listing_in_no_order();
    let keys = ["a", "b", "c", "d", "e", "f", "g"];
    let scene = Scene::with(options, |settings| settings).filled(&keys).filled(&keys);
    let error = refused(&*scene.reading(with_versions()).open().await).await;
    assert_eq!(error.code(), "s3-unordered");
}

#[tokio::test]
async fn a_listing_of_versions_that_breaks_off_is_never_a_shorter_one() {
    for effect in [S3Effect::slow_down(), S3Effect::CutBody(200), S3Effect::ShortenBody(200)] {
        let keys = ["a", "b", "c", "d"];
        let scene = scene(2).filled(&keys).filled(&keys);
        let fault = || S3Fault::new(effect.clone()).on(S3Operation::ListVersions).after(2);
        scene.server.add_fault(fault());
        assert_eq!(files(&*scene.open().await).await.len(), 8, "{effect:?}");
        scene.server.add_fault(fault().always());
        refused(&*scene.open().await).await;
    }
}

#[tokio::test]
async fn a_probe_tries_what_older_versions_need() {
    let versioned = || scene(9).filled(&["a", "a"]);
    assert_eq!(failed_steps(&versioned()).await, [""; 0]);
    assert_eq!(failed_steps(&scene(9)).await, [""; 0]);
    for (operation, word) in [
        (S3Operation::GetVersioning, "s3:GetBucketVersioning"),
        (S3Operation::ListVersions, "s3:ListBucketVersions"),
    ] {
        let scene = versioned();
        let denied = S3Fault::new(S3Effect::refuse(403, "AccessDenied")).on(operation);
        scene.server.add_fault(denied.always());
        let failed = failed_steps(&scene).await;
        assert!(failed.len() == 1 && failed[0].contains(word), "{operation:?}: {failed:?}");
    }
    // The first read is that of what is there.
    let scene = versioned();
    let denied = S3Fault::new(S3Effect::refuse(403, "AccessDenied")).on(S3Operation::GetObject);
    scene.server.add_fault(denied.after(1).always());
    let failed = failed_steps(&scene).await;
    assert!(failed.len() == 1 && failed[0].contains("s3:GetObjectVersion"), "{failed:?}");
    let never = Scene::holding(&["a"]).reading(with_versions());
    let failed = failed_steps(&never).await;
    assert!(failed.len() == 1 && failed[0].contains("leave versions out"), "{failed:?}");
}
