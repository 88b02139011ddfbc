//! From one bucket that keeps versions into another one, through a repository.

use std::sync::Arc;

use backupkit_core::adapters::fs::FsDestination;
use backupkit_core::adapters::s3::{S3Source, S3SourceOptions, S3Target, S3TargetOptions};
use backupkit_core::model::SnapshotId;
use backupkit_core::repo::{InitOptions, Repository};
use backupkit_core::target::{ConflictPolicy, RestoreOptions};
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3Server, S3ServerOptions};
use backupkit_core::testing::random_bytes;
use backupkit_core::{BackupRequest, Engine, Env, RestoreReport, RestoreRequest, RunStatus};
use jiff::Timestamp;

use crate::scene::{BUCKET, credentials, settings};

struct Scene {
    from: S3Server,
    to: S3Server,
    engine: Engine,
    repository: Repository,
    snapshot: SnapshotId,
    _folder: tempfile::TempDir,
}

fn server() -> S3Server {
    S3Server::start_with(BUCKET, S3ServerOptions::default().versioned().with_page_keys(7))
}

/// A bucket whose keys have versions of all kinds: one has very many, among them large ones.
fn fill(server: &S3Server) {
    for round in 0..4 {
        server.set_now(Timestamp::from_second(1_767_300_000 + round * 60).unwrap());
        for number in 0..12_i64 {
            let key = format!("folder {}/object {number}", number % 3);
            if number % 4 == 3 && round == 2 || number % 5 == 4 && round == 3 {
                server.remove(BUCKET, &key);
            } else if number >= round * 2 {
                let (text, tags) = (format!("{number} in {round}"), format!("round={round}"));
                server.put_with(BUCKET, &key, text, &[("content-type", "text/x")], &tags);
            }
        }
    }
    for version in 0..150_usize {
        let time = 1_767_400_000 + i64::try_from(version).unwrap() / 3;
        server.set_now(Timestamp::from_second(time).unwrap());
        match version {
            70 | 71 | 120 => server.put(BUCKET, "busy", random_bytes(version as u64, 10 << 20)),
            90 => server.remove(BUCKET, "busy"),
            _ => server.put(BUCKET, "busy", format!("version {}", version / 2)),
        }
    }
    server.put(BUCKET, "folder 1/", "");
    server.put(BUCKET, "folder 1/", "");
}

impl Scene {
    async fn new() -> Self {
        let (from, to, env) = (server(), server(), Env::system());
        fill(&from);
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::builder().env(env.clone()).build().unwrap();
        let place = Arc::new(FsDestination::new(folder.path().join("repository"), env.clone()));
        let options = InitOptions::default();
        let repository = Repository::init(place, &"password".into(), options, &env).await.unwrap();
        let source = S3Source::new(settings(&from), &credentials(), env, "host").unwrap();
        let options = S3SourceOptions::default().with_tags().with_versions();
        let source = Arc::new(source.with_options(options));
        let backup = BackupRequest::new(source, [repository.clone()]);
        let report = engine.backup(backup).wait().await.unwrap();
        let snapshot = report.outputs[0].snapshot.unwrap();
        // Another time than that of what is restored.
        to.set_now(Timestamp::from_second(1_767_500_000).unwrap());
        Self { from, to, engine, repository, snapshot, _folder: folder }
    }

    fn request(&self, policy: ConflictPolicy) -> RestoreRequest {
        let target = S3Target::new(settings(&self.to), &credentials(), Env::system()).unwrap();
        let target = target.with_options(S3TargetOptions::default().with_versions());
        let request = RestoreRequest::new(self.repository.clone(), self.snapshot, Arc::new(target));
        let options = RestoreOptions { conflict: policy, ..RestoreOptions::default() };
        request.with_options(options)
    }

    async fn restore(&self, policy: ConflictPolicy) -> RestoreReport {
        self.engine.restore(self.request(policy)).wait().await.unwrap()
    }

    /// Each version has the same bytes, headers and tags in both.
    fn assert_same(&self) {
        assert_eq!(self.to.keys(BUCKET), self.from.keys(BUCKET));
        let mut keys = vec!["busy".to_owned(), "folder 1/".to_owned()];
        keys.extend((0..12).map(|number| format!("folder {}/object {number}", number % 3)));
        for key in keys {
            let (before, after) =
                (self.from.versions(BUCKET, &key), self.to.versions(BUCKET, &key));
            assert_eq!(before.len(), after.len(), "{key}");
            for (number, pair) in before.into_iter().zip(after).enumerate() {
                match pair {
                    (Some(before), Some(after)) => {
                        assert!(before.bytes == after.bytes, "{key} {number}");
                        assert_eq!(before.tags, after.tags, "{key} {number}");
                        let name = "content-type";
                        let (before, after) = (before.headers.get(name), after.headers.get(name));
                        assert!(before.is_none() || before == after, "{key} {number}");
                    }
                    (None, None) => {}
                    _ => panic!("{key} {number}: a mark against an object"),
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_comes_back_whole_and_once() {
    let scene = Scene::new().await;
    let planned = scene.request(ConflictPolicy::Overwrite).dry_run();
    let planned = scene.engine.restore(planned).wait().await.unwrap().counts;
    assert!(scene.to.keys(BUCKET).is_empty());
    let report = scene.restore(ConflictPolicy::Overwrite).await;
    assert_eq!(report.status, RunStatus::Succeeded, "{report:?}");
    assert_eq!(report.counts, planned);
    let verified = report.verified.unwrap();
    assert_eq!((verified.differs, verified.cannot), (0, 0));
    scene.assert_same();
    for policy in [ConflictPolicy::Overwrite, ConflictPolicy::Skip] {
        let again = scene.restore(policy).await;
        assert_eq!(again.counts.skipped, planned.created, "{again:?}");
        assert_eq!(again.counts.created + again.counts.overwritten, 0, "{again:?}");
        scene.assert_same();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_breaks_off_is_completed_by_the_next_restore() {
    let scene = Scene::new().await;
    for after in [1, 20, 60] {
        let full = S3Fault::new(S3Effect::refuse(507, "InsufficientStorage"));
        let full = full.on(S3Operation::PutObject).for_keys_with("busy").after(after);
        scene.to.add_fault(full.always());
        drop(scene.engine.restore(scene.request(ConflictPolicy::Overwrite)).wait().await);
        scene.to.clear_faults();
    }
    drop(scene.restore(ConflictPolicy::Overwrite).await);
    assert_eq!(scene.to.keys(BUCKET), scene.from.keys(BUCKET));
    let newest = |server: &S3Server| server.object(BUCKET, "busy").unwrap().bytes;
    assert!(newest(&scene.to) == newest(&scene.from));
}
