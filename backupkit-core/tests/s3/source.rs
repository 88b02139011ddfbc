//! Buckets as a source: what a listing and a read do when the server, or the bucket, does not keep still.

mod ahead;
mod archive;
mod bucket_settings;
mod choice;
mod consistent;
mod contract;
mod extras;
mod history;
mod protection;
mod real_contract;
mod real_versions;
mod trouble;

use std::sync::Arc;

use backupkit_core::adapters::s3::{
    ArchivedObjects, ListingOrder, S3Settings, S3Source, S3SourceOptions,
};
use backupkit_core::model::{Entry, EntryPath, Fingerprint};
use backupkit_core::source::{
    BodyContent, ListError, Listed, ListedItem, OpenContext, Outcome, Source as _, SourceView,
    VANISHED,
};
use backupkit_core::store::InMemoryAdapterStore;
use backupkit_core::testing::fakes::{
    ReadVersions, S3Effect, S3Fault, S3Operation, S3Server, S3ServerOptions,
};
use backupkit_core::testing::{ManualClock, random_bytes};
use backupkit_core::{CancelToken, Error, ErrorKind, ListToken};
use bytes::Bytes;
use futures::StreamExt as _;

use crate::scene::{BUCKET, credentials, env, settings};

/// A bucket that is to be backed up.
struct Scene {
    server: S3Server,
    source: S3Source,
}

/// Longer than what is read in one go.
const LARGE: usize = 700_000;

impl Scene {
    fn new() -> Self {
        Self::with(S3ServerOptions::default(), |settings| settings)
    }

    fn with(options: S3ServerOptions, change: impl FnOnce(S3Settings) -> S3Settings) -> Self {
        let server = S3Server::start_with(BUCKET, options);
        let clock = ManualClock::default().with_auto_advance();
        let settings = change(settings(&server));
        let source = S3Source::new(settings, &credentials(), env(&clock), "host").unwrap();
        Self { server, source }.reading(S3SourceOptions::default())
    }

    /// With an object of each of these keys, whose bytes are the key.
    fn holding(keys: &[&str]) -> Self {
        Self::new().filled(keys)
    }

    fn filled(self, keys: &[&str]) -> Self {
        for key in keys {
            self.server.put(BUCKET, key, key.to_string());
        }
        self
    }

    fn reading(mut self, options: S3SourceOptions) -> Self {
        // Their file is no object, and has tests of its own.
        self.source = self.source.with_options(options.without_bucket_settings());
        self
    }

    async fn open(&self) -> Arc<dyn SourceView> {
        self.source.open(context()).await.unwrap()
    }

    fn fault(&self, effect: S3Effect, on: S3Operation) {
        self.server.add_fault(S3Fault::new(effect).on(on));
    }
}

pub(crate) fn context() -> OpenContext {
    let store = Arc::new(InMemoryAdapterStore::default());
    OpenContext { resume: None, parent: None, store, cancel: CancelToken::new() }
}

pub(crate) async fn list(
    view: &dyn SourceView,
    after: Option<&ListToken>,
) -> Result<Vec<Listed>, ListError> {
    let mut items = view.list(after);
    let mut listed = Vec::new();
    while let Some(item) = items.next().await {
        listed.push(item?);
    }
    Ok(listed)
}

async fn refused(view: &dyn SourceView) -> Error {
    let ListError { path, error } = list(view, None).await.unwrap_err();
    assert_eq!(path, None, "the listing goes on: {error}");
    error
}

pub(crate) fn entries(listed: &[Listed]) -> Vec<Entry> {
    let entries = listed.iter().filter_map(|listed| match &listed.item {
        ListedItem::Entry(entry) => Some((**entry).clone()),
        ListedItem::DirDone { .. } => None,
    });
    entries.collect()
}

async fn only_entry(view: &dyn SourceView) -> Entry {
    let mut entries = entries(&list(view, None).await.unwrap());
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0)
}

/// What a body gives, and its entry as it is then.
pub(crate) async fn read(view: &dyn SourceView, entry: &Entry) -> Result<(Entry, Bytes), Error> {
    let body = view.body(entry, None).await?;
    let BodyContent::Ranged(content) = body.content else { panic!("bodies are ranged") };
    let bytes = content.read_at(0..content.len_bytes()).await?;
    Ok((*body.refreshed.unwrap(), bytes))
}

fn attribute(entry: &Entry) -> serde_json::Value {
    serde_json::from_str(entry.metadata.attributes["backupkit.s3"].get()).unwrap()
}

fn path(names: &[&str]) -> EntryPath {
    EntryPath::from_names(names)
}

#[tokio::test]
async fn a_listing_that_fails_or_contradicts_itself_is_never_a_shorter_one() {
    let cases = [
        (S3Effect::refuse(403, "AccessDenied"), "s3-access-denied"),
        (S3Effect::ForgetToken, "s3-listing-incomplete"),
        (S3Effect::DropKey, "s3-listing-incomplete"),
        (S3Effect::ShortenBody(400), "s3-cut-reply"),
        (S3Effect::CutBody(300), "s3-unavailable"),
        (S3Effect::ReversePage, "s3-unordered"),
    ];
    for (effect, code) in cases {
        let options = S3ServerOptions::default().with_page_keys(3);
        let scene = Scene::with(options, |settings| settings);
        let scene = scene.filled(&["a", "b", "c", "d", "e", "f", "g", "h"]);
        let fault = S3Fault::new(effect.clone()).on(S3Operation::ListObjects);
        scene.server.add_fault(fault.after(1).always());
        let error = refused(&*scene.open().await).await;
        assert_eq!(error.code(), code, "{effect:?}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_loses_its_order_is_read_if_it_may_list_in_any() {
    let options = S3ServerOptions::default().with_page_keys(3);
    let scene = Scene::with(options, |settings| settings);
    let scene = scene.filled(&["a", "b", "c", "d", "e", "f", "g", "h"]);
    let fault = S3Fault::new(S3Effect::ReversePage).on(S3Operation::ListObjects);
    scene.server.add_fault(fault.after(1).always());
    let error = refused(&*scene.open().await).await;
    assert!(error.report().contains("set unordered to true"), "{}", error.report());
    scene.server.clear_faults();
    let fault = S3Fault::new(S3Effect::ReversePage).on(S3Operation::ListObjects);
    scene.server.add_fault(fault.after(1).always());
    let scene = scene.reading(S3SourceOptions::default().with_order(ListingOrder::Any));
    let listed = list(&*scene.open().await, None).await.unwrap();
    assert_eq!(entries(&listed).len(), 8);
}

#[tokio::test]
async fn a_page_that_comes_twice_is_no_listing() {
    let options = S3ServerOptions::default().with_page_keys(3);
    let scene = Scene::with(options, |settings| settings).filled(&["a", "b", "c", "d", "e"]);
    let fault = S3Fault::new(S3Effect::RepeatKeys).on(S3Operation::ListObjects);
    scene.server.add_fault(fault.after(1).always());
    assert_eq!(refused(&*scene.open().await).await.code(), "s3-unordered");
}

#[tokio::test]
async fn a_listing_is_one_request_for_each_page_and_none_for_an_object() {
    let scene = Scene::new();
    for number in 0..10_000 {
        scene.server.put(BUCKET, &format!("{:02}/{number:05}", number % 100), "");
    }
    let view = scene.open().await;
    let listed = list(&*view, None).await.unwrap();
    assert_eq!(listed.len(), 10_000 + 100 + 1);
    assert_eq!(scene.server.counters().requests, 10);
    let rest = list(&*view, Some(&listed[9_000].token)).await.unwrap();
    assert_eq!(rest.len(), listed.len() - 9_001);
}

#[tokio::test]
async fn a_prefix_below_which_there_is_nothing_is_an_error() {
    let with = |prefix: &'static str| {
        let change = move |settings: S3Settings| settings.with_prefix(prefix);
        Scene::with(S3ServerOptions::default(), change).filled(&["photos/a"])
    };
    let error = refused(&*with("phtoos").open().await).await;
    assert_eq!(error.code(), "s3-no-such-prefix");
    list(&*with("photos").open().await, None).await.unwrap();
    // A bucket may well be empty.
    assert_eq!(list(&*Scene::new().open().await, None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_the_server_says_of_an_object_is_on_its_node() {
    let scene = Scene::new().reading(S3SourceOptions::default().with_tags());
    let headers = [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-encoding", "gzip"),
        ("content-language", "de"),
        ("content-disposition", "inline"),
        ("cache-control", "no-store"),
        ("expires", "never"),
        ("x-amz-website-redirect-location", "/x"),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("x-amz-meta-owner", "=?UTF-8?Q?J=C3=B6rg?="),
    ];
    for (key, len) in [("small", 10), ("a/large", LARGE), ("marked/", 0)] {
        scene.server.put_with(BUCKET, key, random_bytes(1, len), &headers, "a=1&b%20c=%C3%A4");
    }
    let view = scene.open().await;
    let listed = list(&*view, None).await.unwrap();
    let mut found: Vec<serde_json::Value> = Vec::new();
    for entry in entries(&listed) {
        assert!(entry.metadata.attributes.is_empty(), "nothing is known before it is read");
        let (now, bytes) = read(&*view, &entry).await.unwrap();
        assert_eq!(bytes.len() as u64, now.size_bytes);
        let Fingerprint::Attribute { value, .. } = &now.fingerprint else { panic!("{now:?}") };
        assert_eq!(attribute(&now)["fingerprint"], value.as_str());
        assert_eq!(now.fingerprint, entry.fingerprint, "as it was listed");
        assert_eq!(now.metadata.mtime, entry.metadata.mtime);
        found.push(attribute(&now));
    }
    for listed in &listed {
        if let ListedItem::DirDone { path: directory, metadata } = &listed.item
            && *directory == path(&[BUCKET, "marked"])
        {
            let text = metadata.attributes["backupkit.s3"].get();
            let kept: serde_json::Value = serde_json::from_str(text).unwrap();
            found.push(kept["marker"].clone());
        }
    }
    assert_eq!(found.len(), 3);
    for kept in found {
        for (name, value) in [
            ("ct", "text/plain; charset=utf-8"),
            ("ce", "gzip"),
            ("cl", "de"),
            ("cd", "inline"),
            ("cc", "no-store"),
            ("exp", "never"),
            ("wr", "/x"),
            ("sc", "STANDARD_IA"),
        ] {
            assert_eq!(kept[name], value, "{kept}");
        }
        assert_eq!(kept["meta"]["owner"], "=?UTF-8?Q?J=C3=B6rg?=");
        assert_eq!(kept["tags"], serde_json::json!({ "a": "1", "b c": "ä" }));
    }
    let notes = view.close(Outcome::Completed).await.unwrap();
    assert!(notes.warnings.is_empty() && notes.remarks.is_empty(), "{notes:?}");
}

#[tokio::test]
async fn tags_that_may_not_be_read_are_a_warning_that_names_the_permission() {
    let keys = ["a", "b", "c", "d", "e", "f"];
    let scene = Scene::holding(&keys).reading(S3SourceOptions::default().with_tags());
    let denied = S3Fault::new(S3Effect::refuse(403, "AccessDenied")).on(S3Operation::GetTagging);
    scene.server.add_fault(denied.always());
    let view = scene.open().await;
    for entry in entries(&list(&*view, None).await.unwrap()) {
        read(&*view, &entry).await.unwrap();
    }
    let asked = scene.server.counters().of(S3Operation::GetTagging);
    assert_eq!(asked, 3, "one may be an exception, and three are enough");
    assert_eq!(view.untold_warnings(), 1);
    let notes = view.close(Outcome::Completed).await.unwrap();
    assert!(notes.warnings[0].contains("s3:GetObjectTagging"), "{notes:?}");
}

#[tokio::test]
async fn an_object_that_is_replaced_before_it_is_read_is_read_as_it_is_then() {
    for (before, after) in [(10, 20), (10, LARGE), (LARGE, LARGE + 1), (LARGE, 10), (LARGE, 0)] {
        let scene = Scene::new();
        scene.server.put(BUCKET, "k", random_bytes(1, before));
        let view = scene.open().await;
        let entry = only_entry(&*view).await;
        let now = random_bytes(2, after);
        scene.server.put(BUCKET, "k", now.clone());
        let (refreshed, bytes) = read(&*view, &entry).await.unwrap();
        assert!(bytes == now, "{before} to {after}: other bytes");
        assert_eq!(refreshed.size_bytes, after as u64);
        assert_ne!(refreshed.fingerprint, entry.fingerprint);
        // The next backup finds it unchanged.
        let next = only_entry(&*scene.open().await).await;
        assert_eq!(next.fingerprint, refreshed.fingerprint);
    }
}

#[tokio::test]
async fn bytes_of_two_versions_are_never_joined() {
    for options in [
        S3ServerOptions::default(),
        // Not every server knows `If-Match` for reading.
        S3ServerOptions::default().with_read_versions(ReadVersions::Unchecked),
    ] {
        let scene = Scene::with(options, |settings| settings);
        scene.server.put(BUCKET, "k", random_bytes(1, LARGE));
        let view = scene.open().await;
        let entry = only_entry(&*view).await;
        let body = view.body(&entry, None).await.unwrap();
        let BodyContent::Ranged(content) = body.content else { panic!("bodies are ranged") };
        content.read_at(0..1_000).await.unwrap();
        scene.server.put(BUCKET, "k", random_bytes(2, LARGE));
        let error = content.read_at(1_000..2_000).await.unwrap_err();
        assert!(error.is(ErrorKind::SourceChanged), "{error}");
        let (_, bytes) = read(&*view, &entry).await.unwrap();
        assert!(bytes == random_bytes(2, LARGE));
    }
}

#[tokio::test]
async fn an_object_that_is_replaced_while_a_broken_reply_is_continued_is_read_anew() {
    let scene = Scene::new();
    scene.server.put(BUCKET, "k", random_bytes(1, 300_000));
    let view = scene.open().await;
    let entry = only_entry(&*view).await;
    scene.fault(S3Effect::CutBody(100_000), S3Operation::GetObject);
    scene.server.add_fault(S3Fault::new(S3Effect::Hold).on(S3Operation::GetObject).after(1));
    let (found, ()) = tokio::join!(read(&*view, &entry), async {
        scene.server.held(1).await;
        scene.server.put(BUCKET, "k", random_bytes(2, 300_000));
        scene.server.release(1);
    });
    assert!(found.unwrap().1 == random_bytes(2, 300_000));
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_continued_where_it_ended() {
    let scene = Scene::new();
    scene.server.put(BUCKET, "k", random_bytes(1, 400_000));
    let view = scene.open().await;
    let entry = only_entry(&*view).await;
    scene.server.reset_counters();
    scene.fault(S3Effect::CutBody(300_000), S3Operation::GetObject);
    assert!(read(&*view, &entry).await.unwrap().1 == random_bytes(1, 400_000));
    assert!(scene.server.counters().sent_bytes < 600_000, "all was sent again");
}

#[tokio::test]
async fn an_object_that_vanished_is_counted_and_no_problem() {
    let scene = Scene::holding(&["a", "b"]);
    let view = scene.open().await;
    let entries = entries(&list(&*view, None).await.unwrap());
    scene.server.remove(BUCKET, "a");
    let error = view.body(&entries[0], None).await.unwrap_err();
    assert!(error.is(ErrorKind::NotFound) && error.code() == VANISHED, "{error}");
    let notes = view.close(Outcome::Completed).await.unwrap();
    assert!(notes.warnings.is_empty());
    assert_eq!(notes.remarks, ["a: deleted while the backup ran, and left out"]);
}

#[tokio::test]
async fn a_bucket_that_went_away_is_no_bucket_of_vanished_objects() {
    let scene = Scene::holding(&["a"]);
    let view = scene.open().await;
    let entry = only_entry(&*view).await;
    scene.fault(S3Effect::refuse(404, "NoSuchBucket"), S3Operation::GetObject);
    let error = view.body(&entry, None).await.unwrap_err();
    assert_ne!(error.code(), VANISHED, "{error}");
    scene.server.add_fault(
        S3Fault::new(S3Effect::RefuseInHtml { status: 404 }).on(S3Operation::GetObject).always(),
    );
    let error = view.body(&entry, None).await.unwrap_err();
    assert_ne!(error.code(), VANISHED, "{error}");
}

#[tokio::test]
async fn archived_objects_are_left_out_or_fail_the_backup() {
    for archived in [ArchivedObjects::Skip, ArchivedObjects::Fail] {
        let options = S3SourceOptions::default().with_archived(archived);
        let scene = Scene::holding(&["a"]).reading(options);
        let class = [("x-amz-storage-class", "DEEP_ARCHIVE")];
        scene.server.put_with(BUCKET, "cold", "x", &class, "");
        let view = scene.open().await;
        let entries = entries(&list(&*view, None).await.unwrap());
        read(&*view, &entries[0]).await.unwrap();
        let error = view.body(&entries[1], None).await.unwrap_err();
        assert_eq!(error.code(), "s3-archived");
        assert_eq!(view.concerns_all(&error), archived == ArchivedObjects::Fail);
    }
}

#[tokio::test]
async fn a_repository_in_the_bucket_is_left_out_and_named() {
    let mut scene = Scene::holding(&["backups/nas/config", "backups/nas2", "x"]);
    scene.source = scene.source.with_excluded_prefixes(vec!["backups/nas".to_owned()]);
    let view = scene.open().await;
    let found: Vec<String> = entries(&list(&*view, None).await.unwrap())
        .iter()
        .map(|one| one.path.to_string())
        .collect();
    assert_eq!(found, ["/bucket/backups/nas2", "/bucket/x"]);
    let notes = view.close(Outcome::Completed).await.unwrap();
    assert!(notes.remarks[0].starts_with("backups/nas/: left out"), "{notes:?}");
}

#[tokio::test]
async fn a_check_says_what_is_missing() {
    let scene = Scene::holding(&["a"]).reading(S3SourceOptions::default().with_tags());
    let healthy = scene.source.check().await.unwrap();
    assert!(healthy.is_healthy() && healthy.steps.len() == 3, "{healthy:?}");
    scene.fault(S3Effect::refuse(403, "AccessDenied"), S3Operation::GetObject);
    let sick = scene.source.check().await.unwrap();
    assert!(!sick.is_healthy(), "{sick:?}");
    scene.fault(S3Effect::refuse(403, "AccessDenied"), S3Operation::ListObjects);
    let sick = scene.source.check().await.unwrap();
    assert!(!sick.is_healthy() && sick.steps.len() == 3, "{sick:?}");
}
