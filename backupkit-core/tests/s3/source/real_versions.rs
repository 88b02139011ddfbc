//! A bucket as it was at a moment, on real servers.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use backupkit_core::Env;
use backupkit_core::adapters::s3::{ConsistentAt, S3Credentials, S3Source, S3SourceOptions};
use backupkit_core::model::Entry;
use backupkit_core::source::{Outcome, Source as _};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};

use super::{LARGE, attribute, context, entries, list, read, refused};
use crate::real_server::{bucket_on, client};
use backupkit_core::testing::random_bytes;

/// A bucket of its own that keeps versions.
struct Place {
    client: Client,
    bucket: String,
    prefix: String,
    source: S3Source,
}

impl Place {
    async fn on(server: &str) -> Option<Self> {
        let (settings, id, secret) = bucket_on(server, "moments").await?;
        let client = client(&settings, &id, &secret);
        let enabled = BucketVersioningStatus::Enabled;
        let versioning = VersioningConfiguration::builder().status(enabled).build();
        let request = client.put_bucket_versioning().bucket(&settings.bucket);
        request.versioning_configuration(versioning).send().await.unwrap();
        let (bucket, prefix) = (settings.bucket.clone(), settings.prefix.clone());
        let credentials = S3Credentials::keys(id, secret);
        let source = S3Source::new(settings, &credentials, Env::system(), "host").unwrap();
        let options = S3SourceOptions::default().with_tags();
        let source = source.with_options(options.with_consistent_at(ConsistentAt::Now));
        Some(Self { client, bucket, prefix, source })
    }

    async fn put(&self, key: &str, bytes: impl Into<Bytes>, tag: &str) {
        let key = format!("{}/{key}", self.prefix);
        let request = self.client.put_object().bucket(&self.bucket).key(key).tagging(tag);
        request.body(ByteStream::from(bytes.into())).send().await.unwrap();
    }

    async fn delete(&self, key: &str) {
        let key = format!("{}/{key}", self.prefix);
        self.client.delete_object().bucket(&self.bucket).key(key).send().await.unwrap();
    }
}

#[tokio::test]
async fn a_bucket_is_as_it_was_when_the_backup_began() {
    let Some(place) = Place::on("BACKUPKIT_TEST_S3_MINIO").await else { return };
    // The first pages have nothing but marks, also of one key.
    let deletes = stream::iter(0..2_100).map(|_| place.delete("0"));
    deletes.buffer_unordered(16).collect::<Vec<_>>().await;
    let keys = ["a", "odd %+ ä", "sub/b", "sub/large"];
    let large = random_bytes(1, LARGE);
    for key in keys {
        place.put(key, "older", "t=older").await;
        let bytes = if key == "sub/large" { large.clone() } else { Bytes::from_static(b"old") };
        place.put(key, bytes, "t=old").await;
    }
    place.put("gone", "old", "t=old").await;
    place.delete("gone").await;
    let view = place.source.open(context()).await.unwrap();
    place.put("a", "new", "t=new").await;
    place.put("later", "new", "t=new").await;
    place.put("gone", "new", "t=new").await;
    place.delete("sub/b").await;
    let listed = list(&*view, None).await.unwrap();
    place.put("sub/large", random_bytes(2, LARGE), "t=new").await;
    place.delete("odd %+ ä").await;
    let mut found = BTreeMap::new();
    for entry in entries(&listed) {
        let (now, bytes) = read(&*view, &entry).await.unwrap();
        assert_eq!(attribute(&now)["tags"]["t"], "old", "{now:?}");
        assert_eq!(now.fingerprint, entry.fingerprint);
        found.insert(entry.path.to_string(), bytes);
    }
    let path =
        |key: &str| format!("/{}/{}/{}", place.bucket, place.prefix, key.replace('%', "%25"));
    let old = |key| if key == "sub/large" { large.clone() } else { Bytes::from_static(b"old") };
    let expected: BTreeMap<_, _> = keys.into_iter().map(|key| (path(key), old(key))).collect();
    assert!(found == expected, "{:?}", found.keys());
    let notes = view.close(Outcome::Completed).await.unwrap();
    assert!(notes.warnings.is_empty(), "{notes:?}");
    let anew = place.source.open(context()).await.unwrap();
    let listed = entries(&list(&*anew, None).await.unwrap());
    let names: Vec<_> = listed.iter().map(|entry| entry.path.to_string()).collect();
    assert_eq!(names, ["a", "gone", "later", "sub/large"].map(path));
    assert!(place.source.check().await.unwrap().is_healthy());
}

#[tokio::test]
async fn a_server_whose_listings_of_versions_may_lose_keys_is_refused() {
    let Some(place) = Place::on("BACKUPKIT_TEST_S3_SEAWEEDFS").await else { return };
    place.put("a", "x", "t=old").await;
    let view = place.source.open(context()).await.unwrap();
    assert_eq!(refused(&*view).await.code(), "s3-versions-not-encoded");
    let options = S3SourceOptions::default().with_versions();
    let view = place.source.with_options(options).open(context()).await.unwrap();
    assert_eq!(refused(&*view).await.code(), "s3-versions-not-encoded");
}

#[tokio::test]
async fn older_versions_of_a_bucket_are_all_that_was_written_and_deleted() {
    let Some(place) = Place::on("BACKUPKIT_TEST_S3_MINIO").await else { return };
    // More than a page of one key.
    for number in 0..1_050 {
        place.put("many", format!("{number:04}"), "t=old").await;
    }
    let large = random_bytes(1, LARGE);
    place.put("odd %+ ä/k", large.clone(), "t=old").await;
    place.delete("odd %+ ä/k").await;
    place.put("odd %+ ä/k", "again", "t=old").await;
    place.delete("odd %+ ä/k").await;
    place.put("plain", "one", "t=old").await;
    let options = S3SourceOptions::default().with_tags().with_versions();
    let source = place.source.clone().with_options(options.without_bucket_settings());
    let view = source.open(context()).await.unwrap();
    let listed = list(&*view, None).await.unwrap();
    let mut found: BTreeMap<String, Vec<(String, Bytes)>> = BTreeMap::new();
    for entry in entries(&listed) {
        let (now, bytes) = read(&*view, &entry).await.unwrap();
        assert_eq!(now.fingerprint, entry.fingerprint);
        let is_deletion = entry.path.to_string().ends_with("%deleted");
        if !is_deletion {
            assert_eq!(attribute(&now)["tags"]["t"], "old", "{now:?}");
        }
        let path = entry.path.to_string();
        let (above, name) = path.rsplit_once('/').unwrap();
        found.entry(above.to_owned()).or_default().push((name.to_owned(), bytes));
    }
    for versions in found.values_mut() {
        versions.sort();
    }
    let Place { bucket, prefix, .. } = &place;
    let there: Vec<_> =
        found[&format!("/{bucket}/{prefix}")].iter().map(|(name, _)| name).collect();
    assert_eq!(there, ["many", "plain"]);
    let many = &found[&format!("/{bucket}%versions/{prefix}/many%past")];
    let texts: Vec<_> = many.iter().map(|(_, bytes)| bytes.clone()).collect();
    let expected: Vec<_> = (0..1_049).map(|number| Bytes::from(format!("{number:04}"))).collect();
    assert!(texts == expected, "not from the oldest to the newest");
    let deleted = &found[&format!("/{bucket}%versions/{prefix}/odd %25+ ä/k%past")];
    let are_marks: Vec<_> = deleted.iter().map(|(name, _)| name.ends_with("%deleted")).collect();
    assert_eq!(are_marks, [false, true, false, true]);
    assert!(deleted[0].1 == large && deleted[2].1 == "again");
    assert_eq!(found.len(), 3, "{:?}", found.keys());
    let mut last: Option<Vec<Entry>> = None;
    for place in [0, 1, 2, 500, 999, 1_000, 1_001, 1_040, 1_051, 1_053, listed.len() - 1] {
        let rest = entries(&list(&*view, Some(&listed[place].token)).await.unwrap());
        assert_eq!(rest, entries(&listed[place + 1..]), "behind {place}");
        assert!(last.is_none_or(|last| rest.len() <= last.len()));
        last = Some(rest);
    }
    let notes = view.close(Outcome::Completed).await.unwrap();
    assert!(notes.warnings.is_empty(), "{notes:?}");
    assert!(source.check().await.unwrap().is_healthy());
}
