//! What concerns one object, and what concerns all of them.

use std::sync::Arc;
use std::time::Duration;

use backupkit_core::ErrorKind;
use backupkit_core::adapters::s3::{S3Filter, S3SourceOptions};
use backupkit_core::model::{EntryKind, Fingerprint};
use backupkit_core::source::{BodyContent, ListedItem, OpenContext, Outcome, Source as _};
use backupkit_core::testing::MemorySnapshot;
use backupkit_core::testing::fakes::{
    ReadVersions, S3Effect, S3Fault, S3Operation, S3ServerOptions,
};
use backupkit_core::testing::random_bytes;
use futures::StreamExt as _;
use jiff::Timestamp;

use super::{LARGE, Scene, attribute, context, entries, list, only_entry, path, read, refused};
use crate::scene::BUCKET;

/// A test that takes longer hangs.
const LIMIT: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_listing_that_nobody_asks_on_keeps_nobody_from_reading() {
    let options = S3ServerOptions::default().with_page_keys(2);
    let scene = Scene::with(options, |settings| settings);
    let scene = scene.filled(&["a/x", "b/x", "c/x", "d/x", "e/x"]);
    for marker in ["a/", "b/", "c/", "d/", "e/"] {
        scene.server.put(BUCKET, marker, "");
    }
    // One call at a time is left.
    let busy = S3Fault::new(S3Effect::slow_down()).on(S3Operation::ListObjects);
    scene.server.add_fault(busy.times(5));
    let view = scene.open().await;
    let mut listing = view.list(None);
    let ListedItem::Entry(first) = listing.next().await.unwrap().unwrap().item else {
        panic!("an object comes first");
    };
    let reading = async {
        for _ in 0..10 {
            read(&*view, &first).await.unwrap();
        }
    };
    tokio::time::timeout(LIMIT, reading).await.expect("it waits for the listing");
    assert_eq!(listing.count().await, 10);
}

#[tokio::test]
async fn a_key_that_ends_or_a_server_that_goes_away_concerns_all_objects() {
    let always = |effect| S3Fault::new(effect).always();
    for fault in [
        always(S3Effect::refuse(403, "InvalidAccessKeyId")),
        always(S3Effect::refuse(404, "NoSuchBucket")),
        always(S3Effect::Reset),
        always(S3Effect::slow_down()),
        always(S3Effect::refuse(500, "InternalError")),
        always(S3Effect::RefuseInHtml { status: 404 }),
    ] {
        let scene = Scene::holding(&["a", "b"]);
        let view = scene.open().await;
        let entries = entries(&list(&*view, None).await.unwrap());
        scene.server.add_fault(fault.clone());
        let error = view.body(&entries[0], None).await.unwrap_err();
        assert!(view.concerns_all(&error), "{fault:?}: {error}");
        scene.server.clear_faults();
        read(&*view, &entries[1]).await.unwrap();
    }
}

#[tokio::test]
async fn an_object_that_alone_cannot_be_read_does_not_concern_the_others() {
    let always = |effect| S3Fault::new(effect).for_keys_with("bad").on(S3Operation::GetObject);
    for (effect, code) in [
        (S3Effect::refuse(500, "InternalError"), "s3-unavailable"),
        (S3Effect::Reset, "s3-unreachable"),
        (S3Effect::refuse(400, "InvalidRequest"), "s3-refused"),
        (S3Effect::refuse(403, "AccessDenied"), "s3-access-denied"),
        // Against what it lists.
        (S3Effect::refuse(404, "NoSuchKey"), "s3-listed-without-object"),
    ] {
        for key in ["bad", "large-bad"] {
            let scene = Scene::new();
            let length = if key == "bad" { 10 } else { LARGE };
            scene.server.put(BUCKET, key, random_bytes(1, length));
            let view = scene.open().await;
            let entry = only_entry(&*view).await;
            scene.server.add_fault(always(effect.clone()).always());
            let error = view.body(&entry, None).await.unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            assert!(!view.concerns_all(&error), "{error}");
            let notes = view.close(Outcome::Completed).await.unwrap();
            assert_eq!(notes.remarks, [""; 0], "it did not vanish");
        }
    }
}

#[tokio::test]
async fn a_reply_that_cannot_be_understood_is_asked_for_once_and_slows_nobody_down() {
    let scene = Scene::new();
    let odd = [("x-amz-mp-parts-count", "many")];
    scene.server.put_with(BUCKET, "odd", "x", &odd, "");
    let view = scene.open().await;
    let entry = only_entry(&*view).await;
    scene.server.reset_counters();
    let error = view.body(&entry, None).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "s3-unreadable-reply"));
    assert!(!view.concerns_all(&error), "{error}");
    assert_eq!(scene.server.counters().requests, 1);
}

#[tokio::test]
async fn a_marker_that_cannot_be_looked_at_is_kept_without_metadata_and_told() {
    let odd = [("x-amz-mp-parts-count", "many")];
    let refuse = |effect| S3Fault::new(effect).on(S3Operation::GetObject).always();
    for fault in [
        None,
        Some(refuse(S3Effect::refuse(403, "AccessDenied"))),
        Some(refuse(S3Effect::refuse(500, "InternalError"))),
        Some(refuse(S3Effect::refuse(400, "InvalidRequest"))),
    ] {
        let scene = Scene::holding(&["a/x", "b"]);
        let headers = if fault.is_none() { &odd[..] } else { &[] };
        scene.server.put_with(BUCKET, "a/", "", headers, "");
        if let Some(fault) = &fault {
            scene.server.add_fault(fault.clone());
        }
        let view = scene.open().await;
        let listed = list(&*view, None).await.unwrap();
        let marked = listed.iter().find_map(|listed| match &listed.item {
            ListedItem::DirDone { path: found, metadata } if *found == path(&[BUCKET, "a"]) => {
                Some(metadata.attributes["backupkit.s3"].get().to_owned())
            }
            _ => None,
        });
        assert!(marked.unwrap().contains(r#""incomplete":true"#), "{fault:?}");
        let notes = view.close(Outcome::Completed).await.unwrap();
        assert_eq!(notes.warnings, ["a/: backed up without all of its metadata"]);
    }
}

#[tokio::test]
async fn a_marker_that_goes_or_gets_bytes_meanwhile_is_told() {
    for (bytes, remark) in [
        (None, "a/: deleted while the backup ran, and left out"),
        (Some("x"), "a/: replaced while the backup ran, and left to the next one"),
    ] {
        let scene = Scene::holding(&["a/x"]);
        scene.server.put(BUCKET, "a/", "");
        scene.fault(S3Effect::Hold, S3Operation::GetObject);
        let view = scene.open().await;
        let (listed, ()) = tokio::join!(list(&*view, None), async {
            scene.server.held(1).await;
            match bytes {
                None => scene.server.remove(BUCKET, "a/"),
                Some(bytes) => scene.server.put(BUCKET, "a/", bytes),
            }
            scene.server.release(1);
        });
        assert_eq!(listed.unwrap().len(), 3);
        assert_eq!(view.close(Outcome::Completed).await.unwrap().remarks, [remark]);
    }
}

#[tokio::test]
async fn versions_without_entity_tags_are_told_apart_by_their_time() {
    let options = S3ServerOptions::default().with_read_versions(ReadVersions::Unnamed);
    let scene = Scene::with(options, |settings| settings);
    scene.server.put(BUCKET, "k", random_bytes(1, LARGE));
    let view = scene.open().await;
    let entry = only_entry(&*view).await;
    let body = view.body(&entry, None).await.unwrap();
    let BodyContent::Ranged(content) = body.content else { panic!("bodies are ranged") };
    content.read_at(0..1_000).await.unwrap();
    scene.server.set_now(Timestamp::constant(1_767_225_700, 0));
    scene.server.put(BUCKET, "k", random_bytes(2, LARGE));
    let error = content.read_at(1_000..2_000).await.unwrap_err();
    assert!(error.is(ErrorKind::SourceChanged), "{error}");
}

#[tokio::test]
async fn what_was_read_without_tags_is_read_again_once_they_are_asked_for() {
    let scene = Scene::new();
    scene.server.put_with(BUCKET, "k", "x", &[], "a=1");
    let without = only_entry(&*scene.open().await).await;
    let scene = scene.reading(S3SourceOptions::default().with_tags());
    let view = scene.open().await;
    let with = only_entry(&*view).await;
    assert_ne!(with.fingerprint, without.fingerprint);
    let (now, _) = read(&*view, &with).await.unwrap();
    assert_eq!(now.fingerprint, with.fingerprint);
    let Fingerprint::Attribute { value, .. } = &now.fingerprint else { panic!("{now:?}") };
    assert_eq!(attribute(&now)["fingerprint"], value.as_str());
}

#[tokio::test]
async fn what_the_filter_leaves_out_is_counted_and_not_read() {
    let filter = S3Filter::default().with_exclude(&["*.tmp", "cache/"]).unwrap();
    let options = S3SourceOptions::default().with_filter(filter.with_size(Some(2), None));
    let keys = ["a", "bb", "bb.tmp", "cache/x", "d/cache/", "d/ee"];
    let prefixed = keys.map(|key| format!("p/{key}"));
    let prefixed = prefixed.each_ref().map(String::as_str);
    for (keys, prefix) in [(keys, ""), (prefixed, "p")] {
        let scene = Scene::with(S3ServerOptions::default(), |settings| {
            if prefix.is_empty() { settings } else { settings.with_prefix(prefix) }
        });
        for key in keys {
            let name = key.trim_start_matches("p/");
            scene.server.put(BUCKET, key, if name.ends_with('/') { "" } else { name }.to_owned());
        }
        let scene = scene.reading(options.clone());
        let view = scene.open().await;
        let found = entries(&list(&*view, None).await.unwrap());
        let names: Vec<String> = found.iter().map(|one| one.path.to_string()).collect();
        let expected = ["bb", "d/ee"].map(|name| match prefix {
            "" => format!("/bucket/{name}"),
            prefix => format!("/bucket/{prefix}/{name}"),
        });
        assert_eq!(names, expected);
        let notes = view.close(Outcome::Completed).await.unwrap();
        assert_eq!(notes.remarks, ["4 objects are left out by the filter of the source"]);
    }
    let all = S3Filter::default().with_exclude(&["**"]).unwrap();
    let scene = Scene::holding(&["a"]).reading(S3SourceOptions::default().with_filter(all));
    assert_eq!(list(&*scene.open().await, None).await.unwrap().len(), 1, "no key is no error");
}

#[tokio::test]
async fn a_listing_of_empty_pages_may_go_on_but_not_for_ever() {
    let scene = Scene::holding(&["a", "c"]);
    let empty = S3Fault::new(S3Effect::EmptyPage).on(S3Operation::ListObjects);
    scene.server.add_fault(empty.clone().times(100));
    // The last of these pages leads on behind the first key.
    assert_eq!(list(&*scene.open().await, None).await.unwrap().len(), 2);
    scene.server.add_fault(empty.always());
    assert_eq!(refused(&*scene.open().await).await.code(), "s3-listing-incomplete");
}

#[tokio::test]
async fn parts_of_an_object_are_asked_for_once_and_kept_if_they_fit() {
    for (key, part_bytes, expected) in
        [("even", 300_000, Some(300_000)), ("one", LARGE, Some(LARGE as u64)), ("whole", 0, None)]
    {
        let scene = Scene::new();
        match part_bytes {
            0 => scene.server.put(BUCKET, key, random_bytes(1, LARGE)),
            _ => scene.server.put_in_parts(BUCKET, key, random_bytes(1, LARGE), part_bytes),
        }
        let view = scene.open().await;
        let entry = only_entry(&*view).await;
        let (now, bytes) = read(&*view, &entry).await.unwrap();
        assert!(bytes == random_bytes(1, LARGE));
        assert_eq!(attribute(&now)["parts"].as_u64(), expected);
        let heads = scene.server.counters().of(S3Operation::HeadObject);
        assert_eq!(heads, u64::from(expected.is_some()), "{key}");
    }
    // A server that cannot tell them is no trouble.
    for effect in
        [S3Effect::refuse(400, "InvalidArgument"), S3Effect::refuse(501, "NotImplemented")]
    {
        let scene = Scene::new();
        scene.server.put_in_parts(BUCKET, "k", random_bytes(1, LARGE), 300_000);
        scene.fault(effect, S3Operation::HeadObject);
        let view = scene.open().await;
        let entry = only_entry(&*view).await;
        let (now, _) = read(&*view, &entry).await.unwrap();
        assert_eq!(attribute(&now).get("parts"), None);
    }
}

#[tokio::test]
async fn a_marker_that_is_the_same_is_not_asked_for_again() {
    let scene = Scene::holding(&["a/x"]);
    scene.server.put_with(BUCKET, "a/", "", &[("content-type", "text/x")], "");
    let marked = |listed: &[backupkit_core::source::Listed]| {
        let found = listed.iter().find_map(|listed| match &listed.item {
            ListedItem::DirDone { path: found, metadata } if *found == path(&[BUCKET, "a"]) => {
                Some((**metadata).clone())
            }
            _ => None,
        });
        found.unwrap()
    };
    let first = marked(&list(&*scene.open().await, None).await.unwrap());
    let directory = EntryKind::Directory;
    let parent =
        MemorySnapshot::new().with_node(&path(&[BUCKET, "a"]), directory, first.clone(), "");
    let parent = parent.into_reader();
    for (is_changed, gets) in [(false, 0), (true, 1)] {
        if is_changed {
            scene.server.set_now(Timestamp::constant(1_767_225_700, 0));
            scene.server.put_with(BUCKET, "a/", "", &[("content-type", "text/y")], "");
        }
        scene.server.reset_counters();
        let context = OpenContext { parent: Some(Arc::clone(&parent)), ..context() };
        let view = scene.source.open(context).await.unwrap();
        let next = marked(&list(&*view, None).await.unwrap());
        assert_eq!(scene.server.counters().of(S3Operation::GetObject), gets);
        assert_eq!(next == first, !is_changed);
    }
}
