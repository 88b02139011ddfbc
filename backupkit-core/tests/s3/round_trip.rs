//! From a bucket into a repository and into another bucket, on real servers: listings, headers, metadata,
//! tags, classes and bytes are the same, as a client sees them that knows nothing of ours.
//!
//! `cargo xtask test --count 50000 --test s3 -- round_trip` moves so many objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, EncodingType, StorageClass};
use backupkit_core::adapters::fs::FsDestination;
use backupkit_core::adapters::s3::{
    S3Credentials, S3Settings, S3Source, S3SourceOptions, S3Target,
};
use backupkit_core::repo::{InitOptions, Repository};
use backupkit_core::testing::random_bytes;
use backupkit_core::{BackupRequest, Engine, Env, RestoreRequest};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use sha2::{Digest as _, Sha256};

use crate::real_server::{client, place_on, skip};

const AT_ONCE: usize = 32;
const PART_BYTES: usize = 5 << 20;

/// An object as a client sees it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    etag: Option<String>,
    class: Option<StorageClass>,
    headers: BTreeMap<&'static str, String>,
    metadata: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    len_bytes: usize,
    sha256: [u8; 32],
}

/// A prefix of a bucket.
struct Place {
    client: Client,
    settings: S3Settings,
}

/// What is to be put there.
struct Made {
    key: String,
    bytes: Bytes,
    class: Option<StorageClass>,
    number: usize,
}

impl Place {
    fn new(settings: S3Settings, id: &str, secret: &str) -> Self {
        Self { client: client(&settings, id, secret), settings }
    }

    fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.settings.prefix)
    }

    async fn put(&self, made: &Made) {
        let number = made.number;
        let (client, bucket, key) = (&self.client, &self.settings.bucket, self.key(&made.key));
        let tags = format!("number={number}&kind=a%20b");
        if made.bytes.len() > PART_BYTES {
            let begun = client.create_multipart_upload().bucket(bucket).key(&key).tagging(tags);
            let begun = begun.metadata("number", number.to_string()).send().await.unwrap();
            let (mut parts, id) = (Vec::new(), begun.upload_id.unwrap());
            for (part, number) in made.bytes.chunks(PART_BYTES).zip(1..) {
                let body = ByteStream::from(Bytes::copy_from_slice(part));
                let put = client.upload_part().bucket(bucket).key(&key).upload_id(&id);
                let put = put.part_number(number).body(body).send().await.unwrap();
                let part = CompletedPart::builder().part_number(number).set_e_tag(put.e_tag);
                parts.push(part.build());
            }
            let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
            let end = client.complete_multipart_upload().bucket(bucket).key(&key).upload_id(id);
            end.multipart_upload(parts).send().await.unwrap();
            return;
        }
        let mut put = client
            .put_object()
            .bucket(bucket)
            .key(key)
            .body(ByteStream::from(made.bytes.clone()))
            .set_storage_class(made.class.clone());
        // Some have all, some have nothing.
        if !number.is_multiple_of(3) {
            put = put.content_type(format!("text/x-{}", number % 7)).tagging(tags);
            put = put.metadata("number", number.to_string()).metadata("odd", "a, b; c=\"d\"");
        }
        if number.is_multiple_of(5) {
            put = put.cache_control("no-store").content_encoding("gzip").content_language("de, en");
            put = put.content_disposition("attachment; filename=\"x y.txt\"");
        }
        put.send().await.unwrap();
    }

    async fn keys(&self) -> Vec<String> {
        let (mut keys, prefix) = (Vec::new(), format!("{}/", self.settings.prefix));
        let list = self.client.list_objects_v2().bucket(&self.settings.bucket).prefix(&prefix);
        let mut pages = list.encoding_type(EncodingType::Url).into_paginator().send();
        while let Some(page) = pages.next().await {
            for object in page.unwrap().contents.unwrap_or_default() {
                let key = object.key.unwrap().replace('+', "%20");
                keys.push(decode(&key).strip_prefix(&prefix).unwrap().to_owned());
            }
        }
        keys
    }

    async fn seen(&self, key: &str) -> Seen {
        let (bucket, whole) = (&self.settings.bucket, self.key(key));
        let got = self.client.get_object().bucket(bucket).key(&whole).send().await.unwrap();
        let tags = self.client.get_object_tagging().bucket(bucket).key(&whole);
        let tags = tags.send().await.unwrap().tag_set;
        let headers = [
            ("content-type", got.content_type),
            ("content-encoding", got.content_encoding),
            ("content-language", got.content_language),
            ("content-disposition", got.content_disposition),
            ("cache-control", got.cache_control),
            ("expires", got.expires_string),
        ];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let headers = headers.collect();
        let bytes = got.body.collect().await.unwrap().into_bytes();
        Seen {
            etag: got.e_tag,
            class: got.storage_class,
            headers,
            metadata: got.metadata.unwrap_or_default().into_iter().collect(),
            tags: tags.into_iter().map(|tag| (tag.key, tag.value)).collect(),
            len_bytes: bytes.len(),
            sha256: Sha256::digest(&bytes).into(),
        }
    }
}

fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, more @ ..] = rest {
        rest = more;
        if *first == b'%' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&rest[..2]).unwrap(), 16).unwrap());
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// Puts objects into one place, backs that up, restores it into another, and compares the two.
async fn assert_round_trip(server: &str, made: Vec<Made>) {
    let (from, to) = match (place_on(server, |it| it), place_on(server, |it| it)) {
        (Ok((from, id, secret)), Ok((mut to, ..))) => {
            let credentials = S3Credentials::keys(id.clone(), secret.clone());
            "other".clone_into(&mut to.bucket);
            ((Place::new(from, &id, &secret), credentials), Place::new(to, &id, &secret))
        }
        (Err(why), _) | (_, Err(why)) => return skip(&why),
    };
    let (from, credentials) = from;
    stream::iter(&made).for_each_concurrent(AT_ONCE, |one| from.put(one)).await;
    let (env, folder) = (Env::system(), tempfile::tempdir().unwrap());
    let engine = Engine::builder().env(env.clone()).build().unwrap();
    let place = Arc::new(FsDestination::new(folder.path().join("repository"), env.clone()));
    let repository =
        Repository::init(place, &"password".into(), InitOptions::default(), &env).await.unwrap();
    let source = S3Source::new(from.settings.clone(), &credentials, env.clone(), "host").unwrap();
    let source = Arc::new(source.with_options(S3SourceOptions::default().with_tags()));
    let backup = BackupRequest::new(source, [repository.clone()]);
    let report = engine.backup(backup).wait().await.unwrap();
    let snapshot = report.outputs[0].snapshot.unwrap();
    let target = S3Target::new(to.settings.clone(), &credentials, env).unwrap();
    let restore = RestoreRequest::new(repository, snapshot, Arc::new(target));
    let report = engine.restore(restore).wait().await.unwrap();
    assert!(report.is_complete(), "{report:?}");
    // The keys below the prefix are those of the bucket, with the prefix that they were backed up from.
    let mut to = to;
    to.settings.prefix = to.key(&from.settings.prefix);
    let (before, after) = (from.keys().await, to.keys().await);
    assert_eq!(before.len(), made.len());
    assert!(before == after, "the listings differ");
    let compare = async |key: &String| {
        let (before, after) = futures::join!(from.seen(key), to.seen(key));
        assert_eq!(before, after, "{key:?}");
    };
    stream::iter(&before).for_each_concurrent(AT_ONCE, compare).await;
}

fn made(number: usize, key: String, len_bytes: usize) -> Made {
    Made { key, bytes: random_bytes(number as u64, len_bytes), class: None, number }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_objects_of_a_bucket_on_minio_come_back_in_another_one() {
    let count = std::env::var("BACKUPKIT_TEST_COUNT").map_or(500, |text| text.parse().unwrap());
    let many = (0..count).map(|number| {
        let key = format!("{}/{:02}/object {number}+ä%20.txt", number % 13, number % 97);
        // Few are large, most are small, some have no bytes.
        let len_bytes = if number % 499 == 7 { 2 * PART_BYTES + 77 } else { (number * 7) % 4_000 };
        made(number, key, len_bytes)
    });
    assert_round_trip("BACKUPKIT_TEST_S3_MINIO", many.collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_keys_and_classes_on_moto_come_back_in_another_bucket() {
    let odd = [
        "plain",
        "a/b",
        "a",
        "a-b",
        "a//b",
        "//",
        "x/./y",
        "x/../y",
        "..",
        "tab\there",
        "nul\u{1}",
        "back\\slash",
        "100%",
        "a+b c",
        "<&>\"'",
        "ü/日本/😀",
        "e\u{301}",
        "é",
        "dir/",
        "dir/x",
        "%2F",
        "%empty",
        "%range-x",
        "x%object",
        "con",
        "trailing ",
        "trailing.",
        "~",
        "a|b*?:",
    ];
    let classes =
        [StorageClass::StandardIa, StorageClass::GlacierIr, StorageClass::ReducedRedundancy];
    let long = ["long ".repeat(100), "ß".repeat(300)];
    let keys = odd.into_iter().map(str::to_owned).chain(long);
    let objects = keys.enumerate().map(|(number, key)| Made {
        class: classes.get(number % 4).cloned(),
        ..made(number, key, if number % 10 == 3 { 0 } else { 100 + number })
    });
    assert_round_trip("BACKUPKIT_TEST_S3_MOTO", objects.collect()).await;
}
