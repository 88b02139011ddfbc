//! A bucket as it was at a moment, on real servers.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use backupkit_core::Env;
use backupkit_core::adapters::s3::{ConsistentAt, S3Credentials, S3Source, S3SourceOptions};
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
}
