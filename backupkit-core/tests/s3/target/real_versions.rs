//! Older versions on a real server: from one bucket into another one, as a client sees them that knows
//! nothing of ours.

use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use backupkit_core::adapters::fs::FsDestination;
use backupkit_core::adapters::s3::{
    S3Credentials, S3Settings, S3Source, S3SourceOptions, S3Target, S3TargetOptions,
};
use backupkit_core::repo::{InitOptions, Repository};
use backupkit_core::{BackupRequest, Engine, Env, RestoreRequest};
use futures::stream::{self, StreamExt as _};

use crate::real_server::{bucket_on, client};

const AT_ONCE: usize = 16;
const KEYS: usize = 200;

struct Place {
    client: Client,
    settings: S3Settings,
    credentials: S3Credentials,
}

impl Place {
    async fn on(name: &str) -> Option<Self> {
        let (mut settings, id, secret) = bucket_on("BACKUPKIT_TEST_S3_MINIO", name).await?;
        settings.prefix.clear();
        let client = client(&settings, &id, &secret);
        let enabled = BucketVersioningStatus::Enabled;
        let versioning = VersioningConfiguration::builder().status(enabled).build();
        let request = client.put_bucket_versioning().bucket(&settings.bucket);
        request.versioning_configuration(versioning).send().await.unwrap();
        Some(Self { client, settings, credentials: S3Credentials::keys(id, secret) })
    }

    async fn fill(&self, number: usize) {
        let (bucket, key) = (&self.settings.bucket, key(number));
        for round in 0..3 {
            if (number + round).is_multiple_of(5) {
                self.client.delete_object().bucket(bucket).key(&key).send().await.unwrap();
                continue;
            }
            let put = self.client.put_object().bucket(bucket).key(&key);
            let put = put.tagging(format!("round={round}")).metadata("number", number.to_string());
            let body = ByteStream::from(format!("{number} {round}").into_bytes());
            put.content_type("text/x").body(body).send().await.unwrap();
        }
    }

    /// What is known of each version of a key; nothing of a mark of a deletion.
    async fn versions(&self, key: &str) -> Vec<Option<String>> {
        let bucket = &self.settings.bucket;
        let page = self.client.list_object_versions().bucket(bucket).prefix(key);
        let page = page.send().await.unwrap();
        let mut found = Vec::new();
        for version in page.versions() {
            let id = version.version_id().unwrap();
            let head = self.client.head_object().bucket(bucket).key(key).version_id(id);
            let head = head.send().await.unwrap();
            let tags = self.client.get_object_tagging().bucket(bucket).key(key).version_id(id);
            let tags = tags.send().await.unwrap().tag_set;
            let told =
                format!("{:?} {:?} {:?} {tags:?}", head.e_tag, head.content_type, head.metadata);
            found.push(Some(told));
        }
        found.extend(page.delete_markers().iter().map(|_| None));
        // Within a second the order of both is not told: which are there, and how many.
        found.sort();
        found
    }

    async fn exists(&self, key: &str) -> bool {
        let request = self.client.head_object().bucket(&self.settings.bucket).key(key);
        request.send().await.is_ok()
    }
}

fn key(number: usize) -> String {
    format!("folder {}/object {number:03} ä%", number % 7)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_on_minio_comes_back_in_another_bucket_once() {
    let Some(from) = Place::on("history").await else { return };
    let Some(to) = Place::on("replayed").await else { return };
    stream::iter(0..KEYS).for_each_concurrent(AT_ONCE, |number| from.fill(number)).await;
    let (env, folder) = (Env::system(), tempfile::tempdir().unwrap());
    let engine = Engine::builder().env(env.clone()).build().unwrap();
    let place = Arc::new(FsDestination::new(folder.path().join("repository"), env.clone()));
    let options = InitOptions::default();
    let repository = Repository::init(place, &"password".into(), options, &env).await.unwrap();
    let source = S3Source::new(from.settings.clone(), &from.credentials, env.clone(), "host");
    let options = S3SourceOptions::default().with_tags().with_versions();
    let source = Arc::new(source.unwrap().with_options(options));
    let backup = BackupRequest::new(source, [repository.clone()]);
    let report = engine.backup(backup).wait().await.unwrap();
    let snapshot = report.outputs[0].snapshot.unwrap();
    for _ in 0..2 {
        let target = S3Target::new(to.settings.clone(), &to.credentials, env.clone()).unwrap();
        let target = target.with_options(S3TargetOptions::default().with_versions());
        let restore = RestoreRequest::new(repository.clone(), snapshot, Arc::new(target));
        let report = engine.restore(restore).wait().await.unwrap();
        assert!(report.is_complete(), "{report:?}");
        let compare = async |number: usize| {
            let key = key(number);
            let (before, after) = futures::join!(from.versions(&key), to.versions(&key));
            assert_eq!(before, after, "{key}");
            assert_eq!(from.exists(&key).await, to.exists(&key).await, "{key}");
        };
        stream::iter(0..KEYS).for_each_concurrent(AT_ONCE, compare).await;
    }
}
