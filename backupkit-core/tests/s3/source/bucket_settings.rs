//! The settings of a bucket, in a file beside it.

use std::sync::Arc;

use backupkit_core::adapters::s3::{S3Credentials, S3Destination, S3Source, S3SourceOptions};
use backupkit_core::destination::{Destination as _, ObjectKey};
use backupkit_core::model::{Entry, EntryKind, FileTime};
use backupkit_core::source::{ListedItem, OpenContext, Outcome, Source as _, SourceView};
use backupkit_core::testing::MemorySnapshot;
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3ServerOptions};
use backupkit_core::{Env, ErrorKind};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Scene, context, entries, list, path, read};
use crate::real_server::bucket_on;
use crate::scene::BUCKET;

const CORS: &str = "<CORSConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><CORSRule>\
     <AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin><NotKnownYet>1</NotKnownYet>\
     </CORSRule></CORSConfiguration>";
const POLICY: &str = r#"{"Version": "2012-10-17", "Statement": []}"#;

fn scene() -> Scene {
    let mut scene = Scene::holding(&["a", "z/x"]);
    scene.source = scene.source.with_options(S3SourceOptions::default());
    scene.server.set_bucket_setting(BUCKET, "cors", CORS);
    scene.server.set_bucket_setting(BUCKET, "policy", POLICY);
    scene
}

fn file(listed: &[Entry]) -> &Entry {
    let is_it = |entry: &&Entry| entry.path.name().unwrap().ends_with(b"%bucket.json");
    listed.iter().find(is_it).unwrap()
}

async fn settings_of(view: &dyn SourceView) -> Value {
    let listed = entries(&list(view, None).await.unwrap());
    let (_, bytes) = read(view, file(&listed)).await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn settings_are_kept_in_the_words_of_the_server() {
    let scene = scene();
    scene.server.refuse_bucket_setting(BUCKET, "replication", 403, "AccessDenied");
    scene.server.refuse_bucket_setting(BUCKET, "website", 405, "MethodNotAllowed");
    scene.server.refuse_bucket_setting(BUCKET, "accelerate", 400, "UnsupportedArgument");
    scene.server.refuse_bucket_setting(BUCKET, "inventory", 501, "NotImplemented");
    // Some servers take what they do not know for a listing.
    scene.server.set_bucket_setting(BUCKET, "metrics", "<ListBucketResult><X/></ListBucketResult>");
    let view = scene.open().await;
    let found = settings_of(&*view).await;
    assert_eq!((&found["version"], &found["bucket"]), (&json!(1), &json!(BUCKET)));
    let found = found["settings"].as_object().unwrap();
    assert_eq!(found.len(), 21);
    for (name, expected) in [
        ("cors", json!({ "value": CORS })),
        ("policy", json!({ "value": POLICY })),
        ("replication", json!("denied")),
        ("website", json!("unsupported")),
        ("accelerate", json!("unsupported")),
        ("inventory", json!("unsupported")),
        ("metrics", json!("unsupported")),
        ("lifecycle", json!("absent")),
        ("versioning", json!("absent")),
        ("tags", json!("absent")),
        ("analytics", json!("absent")),
    ] {
        assert_eq!(found[name], expected, "{name}");
    }
    let text = found["request_payment"]["value"].as_str().unwrap();
    assert!(text.starts_with("<RequestPayment") && text.contains("BucketOwner"), "{text}");
    assert!(found["acl"]["value"].as_str().unwrap().contains("fake-owner"));
    let notes = view.close(Outcome::Completed).await.unwrap();
    assert!(notes.warnings.is_empty(), "{notes:?}");
    assert_eq!(notes.remarks, ["settings of the bucket that this key may not read: replication"]);
}

#[tokio::test]
async fn a_bucket_that_stays_the_same_has_the_same_file_and_is_asked_once() {
    let scene = scene();
    let view = scene.open().await;
    let first = file(&entries(&list(&*view, None).await.unwrap())).clone();
    let (now, bytes) = read(&*view, &first).await.unwrap();
    assert_eq!((&now.fingerprint, now.size_bytes), (&first.fingerprint, bytes.len() as u64));
    list(&*view, None).await.unwrap();
    let counters = scene.server.counters();
    let asked =
        counters.of(S3Operation::GetBucketSetting) + counters.of(S3Operation::GetVersioning);
    assert_eq!(asked, 21, "asked again");

    // Seen long ago.
    let mut metadata = now.metadata.clone();
    metadata.mtime = FileTime::from_unix(1_000, 0);
    let (at, kind) = (&now.path, EntryKind::File);
    let parent = MemorySnapshot::new().with_node(at, kind, metadata.clone(), bytes.clone());
    let parent = parent.into_reader();
    for is_changed in [false, true] {
        if is_changed {
            scene.server.set_bucket_setting(BUCKET, "policy", "{}");
        }
        let context = OpenContext { parent: Some(Arc::clone(&parent)), ..context() };
        let view = scene.source.open(context).await.unwrap();
        let next = file(&entries(&list(&*view, None).await.unwrap())).clone();
        assert_eq!(next.fingerprint != first.fingerprint, is_changed);
        assert_eq!(read(&*view, &next).await.unwrap().1 != bytes, is_changed);
        assert_eq!(next.metadata.mtime != metadata.mtime, is_changed);
    }
}

#[tokio::test]
async fn settings_that_the_server_fails_to_give_fail_no_backup() {
    let scene = scene();
    scene.server.refuse_bucket_setting(BUCKET, "lifecycle", 500, "InternalError");
    let once = S3Fault::new(S3Effect::Reset).on(S3Operation::GetBucketSetting);
    scene.server.add_fault(once);
    let view = scene.open().await;
    let found = settings_of(&*view).await;
    let failed = found["settings"].as_object().unwrap().values();
    assert_eq!(failed.filter(|one| **one == json!("failed")).count(), 1, "{found}");
    let warnings = view.close(Outcome::Completed).await.unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].ends_with(": lifecycle"), "{warnings:?}");
}

#[tokio::test]
async fn the_file_comes_behind_the_bucket_and_nothing_behind_the_file() {
    let scene = scene();
    let view = scene.open().await;
    let listed = list(&*view, None).await.unwrap();
    let is_bucket = |item: &ListedItem| matches!(item, ListedItem::DirDone { path: found, .. } if *found == path(&[BUCKET]));
    let bucket = listed.iter().position(|listed| is_bucket(&listed.item)).unwrap();
    assert_eq!(bucket, listed.len() - 2);
    let rest = list(&*view, Some(&listed[bucket].token)).await.unwrap();
    assert_eq!(entries(&rest), entries(&listed[bucket + 1..]));
    assert_eq!((rest.len(), entries(&rest).len()), (1, 1));
    assert!(list(&*view, Some(&listed[bucket + 1].token)).await.unwrap().is_empty());
    let fault = S3Fault::new(S3Effect::refuse(403, "AccessDenied")).on(S3Operation::ListObjects);
    scene.server.add_fault(fault.always());
    let error = list(&*view, None).await.unwrap_err().error;
    assert!(error.is(ErrorKind::PermissionDenied), "a failed listing does not go on: {error}");
}

#[tokio::test]
async fn what_is_below_a_prefix_or_does_not_want_them_has_no_settings() {
    let mut below = Scene::with(S3ServerOptions::default(), |settings| settings.with_prefix("z"));
    below.source = below.source.with_options(S3SourceOptions::default());
    let unasked = Scene::new();
    for scene in [below.filled(&["z/x"]), unasked.filled(&["z/x"])] {
        let listed = entries(&list(&*scene.open().await, None).await.unwrap());
        assert_eq!(listed.len(), 1);
        assert_eq!(scene.server.counters().of(S3Operation::GetBucketSetting), 0);
    }
}

/// Each server has its own words for what it does not know.
async fn on_real_server(server: &str) {
    // Others fill the usual one at the same time.
    let Some((settings, id, secret)) = bucket_on(server, "settings").await else { return };
    let credentials = S3Credentials::keys(id, secret);
    let destination = S3Destination::new(settings.clone(), &credentials, Env::system()).unwrap();
    let here = ObjectKey::new("here").unwrap();
    destination.create(&here, Bytes::from_static(b"x").into()).await.unwrap();
    let options = S3SourceOptions::default().with_tags().with_acls();
    let source = |prefix: &str| {
        let settings = settings.clone().with_prefix(prefix);
        let source = S3Source::new(settings, &credentials, Env::system(), "host").unwrap();
        source.with_options(options.clone())
    };
    let whole = source("").open(context()).await.unwrap();
    let found = settings_of(&*whole).await;
    let found = found["settings"].as_object().unwrap();
    assert_eq!(found.len(), 21);
    let told = |one: &Value| one.is_object() || one == "absent" || one == "unsupported";
    assert!(found.values().all(told), "{server}: {found:#?}");
    // Its objects can be read with all that is asked for.
    let below = source(&settings.prefix).open(context()).await.unwrap();
    let entries = entries(&list(&*below, None).await.unwrap());
    // What tries the server for conditions is there, too.
    let here = entries.iter().find(|entry| entry.path.name() == Some(b"here")).unwrap();
    assert_eq!(read(&*below, here).await.unwrap().1, "x");
}

#[tokio::test]
async fn minio_has_settings() {
    on_real_server("BACKUPKIT_TEST_S3_MINIO").await;
}

#[tokio::test]
async fn seaweedfs_has_settings() {
    on_real_server("BACKUPKIT_TEST_S3_SEAWEEDFS").await;
}

#[tokio::test]
async fn moto_has_settings() {
    on_real_server("BACKUPKIT_TEST_S3_MOTO").await;
}
