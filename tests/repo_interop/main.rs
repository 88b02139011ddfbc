//! Repositories that two programs share: restic reads what we write, and we read what it writes.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod fixtures;
mod large;

#[path = "../support/lib.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backupkit::adapters::fs::{FsDestination, FsSource, FsTarget};
use backupkit::repo::{InitOptions, Repository};
use backupkit::target::VerifyLevel;
use backupkit::{
    BackupReport, BackupRequest, CheckRequest, Engine, Env, RestoreRequest, RunStatus,
};
use support::compare::{Aspects, assert_same};
use support::data::{self, Plan};
use support::restic::Restic;

const PASSWORD: &str = "interop";
const TIME_ZONES: [&str; 2] = ["Asia/Kolkata", "America/St_Johns"];

/// A folder to back up, a place for repositories, and the engine in one time zone.
struct Scene {
    scratch: tempfile::TempDir,
    env: Env,
    engine: Engine,
    zone: &'static str,
}

impl Scene {
    fn new(zone: &'static str) -> Self {
        let time_zone = jiff::tz::TimeZone::get(zone).unwrap();
        let env = Env::system().with_time_zone(time_zone);
        let engine = Engine::builder().env(env.clone()).build().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        Self { scratch, env, engine, zone }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn restic(&self, repository: &str) -> Option<Restic> {
        let restic = Restic::find(&self.path("home"), &self.path(repository), PASSWORD)?;
        Some(restic.in_time_zone(self.zone).in_folder(self.scratch.path()))
    }

    fn destination(&self, name: &str) -> Arc<FsDestination> {
        Arc::new(FsDestination::new(self.path(name), self.env.clone()))
    }

    async fn init(&self, name: &str) -> Repository {
        let options = InitOptions::default();
        Repository::init(self.destination(name), &PASSWORD.into(), options, &self.env)
            .await
            .unwrap()
    }

    async fn open(&self, name: &str) -> Repository {
        Repository::open(self.destination(name), &PASSWORD.into(), &self.env).await.unwrap()
    }

    /// Backs the folder up as `restic backup NAME` in the scratch folder would.
    async fn back_up(&self, folder: &str, repositories: &[&Repository]) -> BackupReport {
        let source = FsSource::new(vec![PathBuf::from(folder)], self.env.clone(), "host")
            .unwrap()
            .with_working_directory(self.scratch.path());
        let repositories: Vec<Repository> = repositories.iter().map(|&one| one.clone()).collect();
        let request = BackupRequest::new(Arc::new(source), repositories);
        self.engine.backup(request).wait().await.unwrap()
    }

    /// Reads and verifies every byte.
    async fn check(&self, repository: &Repository) {
        let request = CheckRequest::new(repository.clone()).with_read_data();
        let report = self.engine.check(request).wait().await.unwrap();
        assert!(report.is_clean(), "{report:#?}");
    }

    /// Restores the latest snapshot into a folder and compares it byte by byte.
    async fn restore(&self, repository: &Repository, folder: &str) {
        let (snapshot, _) = repository.find_snapshot("latest").await.unwrap();
        let target = Arc::new(FsTarget::new(self.path(folder), self.env.clone()));
        let request = RestoreRequest::new(repository.clone(), snapshot, target)
            .with_verify(Some(VerifyLevel::Bytes));
        let report = self.engine.restore(request).wait().await.unwrap();
        assert!(report.is_complete(), "{report:#?}");
    }
}

fn assert_succeeded(report: &BackupReport) {
    assert_eq!(report.status, RunStatus::Succeeded, "{report:#?}");
}

fn restored(target: &Path, folder: &str) -> PathBuf {
    target.join(folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn restic_checks_restores_and_prunes_what_we_write() {
    for zone in TIME_ZONES {
        let scene = Scene::new(zone);
        let Some(restic) = scene.restic("ours") else {
            return;
        };
        data::create(&scene.path("data"), 1, &Plan::everything());
        let repository = scene.init("ours").await;
        assert_succeeded(&scene.back_up("data", &[&repository]).await);
        restic.check_read_data();
        let target = scene.path("restored");
        restic.restore("latest", &target);
        assert_same(&scene.path("data"), &restored(&target, "data"), Aspects::ALL);
        assert_eq!(restic.snapshots_json().len(), 1);
        data::change(&scene.path("data"), 2);
        assert_succeeded(&scene.back_up("data", &[&repository]).await);
        restic.forget(&["--keep-last", "1", "--group-by", ""]);
        restic.prune();
        restic.check_read_data();
        let again = scene.path("again");
        restic.restore("latest", &again);
        assert_same(&scene.path("data"), &restored(&again, "data"), Aspects::ALL);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restic_adds_no_blob_to_our_backup_of_the_same_folder() {
    for zone in TIME_ZONES {
        let scene = Scene::new(zone);
        let Some(restic) = scene.restic("ours") else {
            return;
        };
        data::create(&scene.path("data"), 3, &Plan::everything());
        let repository = scene.init("ours").await;
        assert_succeeded(&scene.back_up("data", &[&repository]).await);
        let mut before = restic.list("blobs");
        let summary = restic.backup(&[Path::new("data")]);
        assert_eq!(summary["data_blobs"], 0, "{summary}");
        assert_eq!(summary["tree_blobs"], 0, "{summary}");
        let mut after = restic.list("blobs");
        before.sort();
        after.sort();
        assert!(after == before, "blobs were added");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn we_add_no_blob_to_restics_backup_of_the_same_folder() {
    for zone in TIME_ZONES {
        let scene = Scene::new(zone);
        let Some(restic) = scene.restic("theirs") else {
            return;
        };
        data::create(&scene.path("data"), 4, &Plan::everything());
        restic.init();
        restic.backup(&[Path::new("data")]);
        let repository = scene.open("theirs").await;
        let report = scene.back_up("data", &[&repository]).await;
        assert_succeeded(&report);
        let output = &report.outputs[0];
        assert_eq!((output.data_blobs, output.tree_blobs), (0, 0), "{report:#?}");
        restic.check_read_data();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn we_check_and_restore_what_restic_wrote() {
    for zone in TIME_ZONES {
        let scene = Scene::new(zone);
        let Some(restic) = scene.restic("theirs") else { return };
        data::create(&scene.path("data"), 5, &Plan::everything());
        restic.init();
        restic.backup(&[Path::new("data")]);
        let repository = scene.open("theirs").await;
        scene.check(&repository).await;
        scene.restore(&repository, "restored").await;
        let restored = scene.path("restored").join("data");
        assert_same(&scene.path("data"), &restored, Aspects::ALL);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn we_check_and_restore_what_we_wrote() {
    for zone in TIME_ZONES {
        let scene = Scene::new(zone);
        data::create(&scene.path("data"), 6, &Plan::everything());
        let repository = scene.init("ours").await;
        assert_succeeded(&scene.back_up("data", &[&repository]).await);
        scene.check(&repository).await;
        scene.restore(&repository, "restored").await;
        let restored = scene.path("restored").join("data");
        assert_same(&scene.path("data"), &restored, Aspects::ALL);
    }
}
