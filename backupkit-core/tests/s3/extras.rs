//! Tags and access lists over several backups: what could not be had once is no reason never to have it.

use std::sync::Arc;

use backupkit_core::adapters::fs::FsDestination;
use backupkit_core::adapters::s3::{S3Source, S3SourceOptions};
use backupkit_core::model::EntryPath;
use backupkit_core::repo::{InitOptions, ReaderOptions, Repository};
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3Server};
use backupkit_core::{BackupReport, BackupRequest, Engine, Env, RunStatus};

use crate::scene::{BUCKET, credentials, settings};

const OBJECTS: [&str; 3] = ["a", "b/c", "marked/"];

struct Scene {
    server: S3Server,
    engine: Engine,
    repository: Repository,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let server = S3Server::start(BUCKET);
        for key in OBJECTS {
            let bytes = if key.ends_with('/') { "" } else { key };
            server.put_with(BUCKET, key, bytes, &[], "stage=live");
        }
        let (env, folder) = (Env::system(), tempfile::tempdir().unwrap());
        let engine = Engine::builder().env(env.clone()).build().unwrap();
        let place = Arc::new(FsDestination::new(folder.path().join("repository"), env.clone()));
        let options = InitOptions::default();
        let repository = Repository::init(place, &"password".into(), options, &env).await.unwrap();
        Self { server, engine, repository, _folder: folder }
    }

    fn deny(&self, operation: S3Operation) {
        let denied = S3Fault::new(S3Effect::refuse(403, "AccessDenied"));
        self.server.add_fault(denied.on(operation).always());
    }

    /// Backs up, and says how many objects were read.
    async fn back_up(&self, options: S3SourceOptions) -> (BackupReport, u64) {
        let (settings, env) = (settings(&self.server), Env::system());
        let source = S3Source::new(settings, &credentials(), env, "host").unwrap();
        let source = Arc::new(source.with_options(options.without_bucket_settings()));
        self.server.reset_counters();
        let request = BackupRequest::new(source, [self.repository.clone()]);
        let report = self.engine.backup(request).wait().await.unwrap();
        (report, self.server.counters().of(S3Operation::GetObject))
    }

    /// The tags that a snapshot keeps of an object.
    async fn tags(&self, report: &BackupReport, names: &[&str]) -> serde_json::Value {
        let reader = self.repository.reader(ReaderOptions::default()).await.unwrap();
        let snapshot = reader.snapshot(report.outputs[0].snapshot.unwrap()).await.unwrap();
        let path = EntryPath::from_names([&[BUCKET], names].concat());
        let entry = snapshot.find(&path).await.unwrap().unwrap();
        let text = entry.metadata.attributes["backupkit.s3"].get();
        let kept: serde_json::Value = serde_json::from_str(text).unwrap();
        kept.get("marker").unwrap_or(&kept)["tags"].clone()
    }
}

#[tokio::test]
async fn objects_that_were_read_without_their_tags_are_read_again_once_those_may_be_had() {
    let scene = Scene::new().await;
    let live = serde_json::json!({ "stage": "live" });
    let options = || S3SourceOptions::default().with_tags();
    scene.deny(S3Operation::GetTagging);
    // Those that are read at once may all ask before one of them is refused.
    for (expected, most_asked) in [(3, 3), (0, 3), (0, 3)] {
        let (report, read) = scene.back_up(options()).await;
        assert_eq!(read, expected, "what cannot be had is no reason to read all again");
        assert_eq!(report.status, RunStatus::Warnings, "each backup says it: {report:?}");
        let asked = scene.server.counters().of(S3Operation::GetTagging);
        assert!((1..=most_asked).contains(&asked), "{asked}");
        assert_eq!(scene.tags(&report, &["a"]).await, serde_json::Value::Null);
    }
    scene.server.clear_faults();
    for expected in [3, 0] {
        let (report, read) = scene.back_up(options()).await;
        assert_eq!((report.status, read), (RunStatus::Succeeded, expected));
        for names in [&["a"][..], &["b", "c"], &["marked"]] {
            assert_eq!(scene.tags(&report, names).await, live, "{names:?}");
        }
    }
    // A permission that is lost takes away nothing that is kept.
    scene.deny(S3Operation::GetTagging);
    scene.server.put(BUCKET, "new", "new");
    let (report, read) = scene.back_up(options()).await;
    assert_eq!((report.status, read), (RunStatus::Warnings, 1));
    assert_eq!(scene.tags(&report, &["b", "c"]).await, live);
    assert_eq!(scene.tags(&report, &["marked"]).await, live);
    assert_eq!(scene.tags(&report, &["new"]).await, serde_json::Value::Null);
}

#[tokio::test]
async fn what_is_denied_of_one_object_is_asked_of_the_others() {
    let scene = Scene::new().await;
    let denied = S3Fault::new(S3Effect::refuse(403, "AccessDenied")).on(S3Operation::GetTagging);
    scene.back_up(S3SourceOptions::default()).await;
    scene.server.add_fault(denied.for_keys_with("b/c").always());
    let options = || S3SourceOptions::default().with_tags();
    for expected in [3, 1] {
        let (report, read) = scene.back_up(options()).await;
        assert_eq!((report.status, read), (RunStatus::Warnings, expected), "{report:?}");
        assert_eq!(scene.tags(&report, &["marked"]).await["stage"], "live");
        assert_eq!(scene.tags(&report, &["b", "c"]).await, serde_json::Value::Null);
    }
}

#[tokio::test]
async fn what_is_denied_of_the_first_object_is_asked_of_others_before_it_is_given_up() {
    let scene = Scene::new().await;
    scene.server.put(BUCKET, "0-first", "x");
    scene.back_up(S3SourceOptions::default()).await;
    let denied = S3Fault::new(S3Effect::refuse(403, "AccessDenied")).on(S3Operation::GetTagging);
    scene.server.add_fault(denied.for_keys_with("0-first").always());
    for expected in [4, 1] {
        let (report, read) = scene.back_up(S3SourceOptions::default().with_tags()).await;
        assert_eq!((report.status, read), (RunStatus::Warnings, expected), "{report:?}");
        assert_eq!(scene.tags(&report, &["b", "c"]).await["stage"], "live");
    }
}

#[tokio::test]
async fn access_lists_that_were_denied_do_not_take_the_tags_with_them() {
    let scene = Scene::new().await;
    let options = || S3SourceOptions::default().with_tags().with_acls();
    scene.deny(S3Operation::GetAccessList);
    for expected in [3, 0] {
        let (report, read) = scene.back_up(options()).await;
        assert_eq!((report.status, read), (RunStatus::Warnings, expected), "{report:?}");
        assert_eq!(scene.tags(&report, &["a"]).await["stage"], "live");
    }
    scene.server.clear_faults();
    let (report, read) = scene.back_up(options()).await;
    assert_eq!((report.status, read), (RunStatus::Succeeded, 3), "{report:?}");
}
