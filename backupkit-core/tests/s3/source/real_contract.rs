//! The contract of sources on real servers, which keep the one of the tests honest.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use backupkit_core::Env;
use backupkit_core::adapters::s3::{S3Credentials, S3Source, S3SourceOptions};
use backupkit_core::model::EntryPath;
use backupkit_core::source_conformance;
use backupkit_core::testing::conformance::{Setup, SourceFixture};
use bytes::Bytes;
use futures::FutureExt as _;

use super::contract::objects;
use crate::real_server::{client, place_on};

/// Objects with keys that every server keeps as they are.
fn plain(key: &str) -> bool {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 200;
    key.split('/').all(is_plain) && key != "both" && key.is_ascii()
}

/// The same on a server that keeps every key.
fn any(key: &str) -> bool {
    // It makes something else of a line feed.
    !key.contains('\n')
}

/// A prefix of its own for each case.
async fn setup(server: &str, keeps: fn(&str) -> bool) -> Setup<SourceFixture> {
    let (settings, id, secret) = match place_on(server, |settings| settings) {
        Ok(place) => place,
        Err(why) => return Setup::Unavailable(why),
    };
    let (client, prefix) = (client(&settings, &id, &secret), settings.prefix.clone());
    let bucket = settings.bucket.clone();
    let (mut files, mut keys) = (BTreeMap::new(), BTreeMap::new());
    for (below, key, bytes) in objects() {
        if keeps(&key) {
            let names = [bucket.as_bytes(), prefix.as_bytes()].into_iter();
            let path = EntryPath::from_names(names.chain(below.names()));
            let key = format!("{prefix}/{key}");
            put(&client, &bucket, &key, bytes.clone()).await;
            files.insert(path.clone(), bytes);
            keys.insert(path, key);
        }
    }
    let credentials = S3Credentials::keys(id, secret);
    let source = S3Source::new(settings, &credentials, Env::system(), "host").expect("a source");
    let source = source.with_options(S3SourceOptions::default().without_bucket_settings());
    let fixture = SourceFixture::new(source, files).with_vanish(move |path| {
        let (client, bucket, key) = (client.clone(), bucket.clone(), keys[&path].clone());
        async move {
            client.delete_object().bucket(bucket).key(key).send().await.expect("a deletion");
        }
        .boxed()
    });
    fixture.into()
}

async fn put(client: &Client, bucket: &str, key: &str, bytes: Bytes) {
    let put = client.put_object().bucket(bucket).key(key).body(ByteStream::from(bytes));
    put.send().await.unwrap_or_else(|error| panic!("{key:?}: {error:?}"));
}

source_conformance!(minio, async || setup("BACKUPKIT_TEST_S3_MINIO", plain).await);

source_conformance!(seaweedfs, async || setup("BACKUPKIT_TEST_S3_SEAWEEDFS", plain).await);

source_conformance!(moto, async || setup("BACKUPKIT_TEST_S3_MOTO", any).await);

source_conformance!(rclone, async || setup("BACKUPKIT_TEST_S3_RCLONE", plain).await);
