//! Repositories in memory, a source in memory, and an engine.

use std::sync::Arc;

use backupkit::destination::{Destination, MemoryDestination};
use backupkit::model::{BlobId, EntryPath};
use backupkit::repo::{InitOptions, Repository, is_checkpoint};
use backupkit::source::Source;
use backupkit::testing::random_bytes;
use backupkit::{BackupReport, BackupRequest, Engine, Env, RunHandle, RunStatus};

pub(crate) const PASSWORD: &str = "engine";

/// An engine and repositories that cut chunks at the same places.
pub(crate) struct Scene {
    pub(crate) engine: Engine,
    pub(crate) env: Env,
    first: Repository,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let env = Env::system();
        let engine = Engine::builder().env(env.clone()).threads(2).build().unwrap();
        let destination = Arc::new(MemoryDestination::new());
        let first =
            Repository::init(destination, &PASSWORD.into(), InitOptions::default(), &env).await;
        Self { engine, env, first: first.unwrap() }
    }

    /// Returns a new, empty repository.
    pub(crate) async fn repository(&self) -> Repository {
        self.repository_in(Arc::new(MemoryDestination::new())).await
    }

    pub(crate) async fn repository_in(&self, destination: Arc<dyn Destination>) -> Repository {
        let options =
            InitOptions { polynomial_of: Some(self.first.clone()), ..InitOptions::default() };
        Repository::init(destination, &PASSWORD.into(), options, &self.env).await.unwrap()
    }

    pub(crate) fn start(
        &self,
        source: &(impl Source + Clone),
        repositories: &[Repository],
    ) -> RunHandle<BackupReport> {
        self.engine.backup(BackupRequest::new(Arc::new(source.clone()), repositories))
    }

    pub(crate) async fn back_up(
        &self,
        source: &(impl Source + Clone),
        repositories: &[Repository],
    ) -> BackupReport {
        let report = self.start(source, repositories).wait().await.unwrap();
        assert_eq!(report.status, RunStatus::Succeeded, "{report:#?}");
        report
    }
}

/// The tree of the latest backup.
pub(crate) async fn latest_tree(repository: &Repository) -> BlobId {
    repository.find_snapshot("latest").await.unwrap().1.tree
}

/// How many checkpoint snapshots there are.
pub(crate) async fn checkpoints(repository: &Repository) -> usize {
    let snapshots = repository.snapshots().await.unwrap();
    snapshots.iter().filter(|(_, snapshot)| is_checkpoint(snapshot)).count()
}

pub(crate) fn path(text: &str) -> EntryPath {
    EntryPath::from_slashed(text.as_bytes())
}

pub(crate) fn random(seed: u64, len_bytes: usize) -> Vec<u8> {
    random_bytes(seed, len_bytes).to_vec()
}
