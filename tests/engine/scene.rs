//! Repositories in memory, a source in memory, and an engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backupkit::destination::{Destination, DestinationCapabilities, MemoryDestination, ObjectKey};
use backupkit::model::{BlobId, EntryPath, EventKind};
use backupkit::repo::{InitOptions, Repository, is_checkpoint};
use backupkit::source::Source;
use backupkit::testing::{FaultDestination, FaultPlan, Inventory, random_bytes};
use backupkit::{
    BackupReport, BackupRequest, Clock, Engine, EngineBuilder, Env, Error, RunHandle, RunStatus,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;

pub(crate) const PASSWORD: &str = "engine";

/// An engine and repositories that cut chunks at the same places.
pub(crate) struct Scene {
    pub(crate) engine: Engine,
    pub(crate) env: Env,
    first: Repository,
    /// Where processes of this scene see each other.
    instances: tempfile::TempDir,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::without_waits_of(Duration::ZERO).await
    }

    /// Waits of this length are over at once, besides the short ones.
    pub(crate) async fn without_waits_of(skipped: Duration) -> Self {
        let env = Env::system();
        let clock = QuickClock { clock: Arc::clone(env.clock()), skipped };
        Self::with_env(env.with_clock(Arc::new(clock))).await
    }

    pub(crate) async fn with_env(env: Env) -> Self {
        let instances = tempfile::tempdir().unwrap();
        let engine = engine_of(&env, &instances).build().unwrap();
        let destination = Arc::new(MemoryDestination::new());
        let first =
            Repository::init(destination, &PASSWORD.into(), InitOptions::default(), &env).await;
        Self { engine, env, first: first.unwrap(), instances }
    }

    /// An engine as another process would have it, with what the builder gets besides.
    pub(crate) fn engine_with(&self, build: impl FnOnce(EngineBuilder) -> EngineBuilder) -> Engine {
        build(engine_of(&self.env, &self.instances)).build().unwrap()
    }

    /// The engine of another process.
    pub(crate) fn process(&self) -> Engine {
        self.engine_with(|builder| builder)
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

    /// A new repository whose chunks are cut at places of its own.
    pub(crate) async fn foreign_repository_in(
        &self,
        destination: Arc<dyn Destination>,
    ) -> Repository {
        let options = InitOptions::default();
        Repository::init(destination, &PASSWORD.into(), options, &self.env).await.unwrap()
    }

    /// A new repository that fails as planned.
    pub(crate) async fn rig(&self) -> Rig {
        let (memory, plan) = (small_packs(), FaultPlan::new());
        let destination = FaultDestination::new(Arc::new(memory.clone()), &plan);
        let repository = self.repository_in(Arc::new(destination)).await;
        Rig::new(repository, memory, plan)
    }

    /// The same, with cuts of its own.
    pub(crate) async fn foreign_rig(&self) -> Rig {
        let (memory, plan) = (small_packs(), FaultPlan::new());
        let destination = FaultDestination::new(Arc::new(memory.clone()), &plan);
        let repository = self.foreign_repository_in(Arc::new(destination)).await;
        Rig::new(repository, memory, plan)
    }

    pub(crate) fn start(
        &self,
        source: &(impl Source + Clone),
        repositories: &[Repository],
    ) -> RunHandle<BackupReport> {
        start(&self.engine, source, repositories)
    }

    pub(crate) async fn back_up(
        &self,
        source: &(impl Source + Clone),
        repositories: &[Repository],
    ) -> BackupReport {
        back_up(&self.engine, source, repositories).await
    }

    /// The tree that an undisturbed backup makes in an empty repository with the cuts of the scene.
    pub(crate) async fn undisturbed(&self, source: &(impl Source + Clone)) -> BlobId {
        let repository = self.repository().await;
        self.back_up(source, std::slice::from_ref(&repository)).await;
        latest_tree(&repository).await
    }
}

pub(crate) fn start(
    engine: &Engine,
    source: &(impl Source + Clone),
    repositories: &[Repository],
) -> RunHandle<BackupReport> {
    engine.backup(BackupRequest::new(Arc::new(source.clone()), repositories))
}

/// A backup in which nothing goes wrong.
pub(crate) async fn back_up(
    engine: &Engine,
    source: &(impl Source + Clone),
    repositories: &[Repository],
) -> BackupReport {
    let report = start(engine, source, repositories).wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded, "{report:#?}");
    report
}

/// A repository in memory that fails as planned.
pub(crate) struct Rig {
    pub(crate) repository: Repository,
    pub(crate) memory: MemoryDestination,
    pub(crate) plan: FaultPlan,
    empty: BTreeMap<ObjectKey, Bytes>,
}

impl Rig {
    pub(crate) fn new(repository: Repository, memory: MemoryDestination, plan: FaultPlan) -> Self {
        let empty = memory.objects();
        Self { repository, memory, plan, empty }
    }

    /// Takes away all that is stored and planned.
    pub(crate) fn reset(&self) {
        self.plan.clear();
        self.memory.replace_objects(self.empty.clone());
    }

    /// How many objects there are of a kind, such as `locks`.
    pub(crate) fn count(&self, folder: &str) -> usize {
        let prefix = format!("{folder}/");
        let objects = self.memory.objects();
        let keys = objects.keys();
        keys.filter(|key| key.as_str().starts_with(&prefix)).count()
    }

    /// Each snapshot is whole, and nothing is left over: no lock, no blob twice, no pack without an
    /// index.
    pub(crate) async fn assert_tidy(&self, context: &str) {
        let inventory = assert_whole(&self.repository, context).await;
        assert_eq!(inventory.repeated(), [], "{context}: stored twice");
        assert_eq!(inventory.unindexed(), [], "{context}: in no index");
        assert_eq!(self.count("locks"), 0, "{context}: locks");
    }
}

/// Proves that each snapshot has all that it names.
pub(crate) async fn assert_whole(repository: &Repository, context: &str) -> Inventory {
    let inventory = Inventory::read(repository).await;
    let inventory = inventory.unwrap_or_else(|error| panic!("{context}: {error}"));
    let whole = inventory.prove_whole(repository).await;
    whole.unwrap_or_else(|error| panic!("{context}: {error}"));
    inventory
}

/// A destination with the smallest packs, so that few bytes make several.
pub(crate) fn small_packs() -> MemoryDestination {
    let capabilities = DestinationCapabilities::new(8).with_preferred_pack_bytes(4 << 20);
    MemoryDestination::new().with_capabilities(capabilities)
}

/// Waits for the end and gives the events with it.
pub(crate) async fn watched(
    mut run: RunHandle<BackupReport>,
) -> (Result<BackupReport, Error>, Vec<EventKind>) {
    let events = run.events();
    let result = run.wait().await;
    let events = events.map(|event| event.kind).collect().await;
    (result, events)
}

/// The tree of the latest backup.
pub(crate) async fn latest_tree(repository: &Repository) -> BlobId {
    repository.find_snapshot("latest").await.unwrap().1.tree
}

/// The trees of all backups, oldest first.
pub(crate) async fn trees(repository: &Repository) -> Vec<BlobId> {
    let snapshots = repository.snapshots().await.unwrap();
    let finished = snapshots.iter().filter(|(_, one)| !is_checkpoint(one));
    finished.map(|(_, snapshot)| snapshot.tree).collect()
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

fn engine_of(env: &Env, instances: &tempfile::TempDir) -> EngineBuilder {
    Engine::builder().env(env.clone()).threads(2).instance_folder(instances.path())
}

/// A clock on which short waits are over at once: those between two looks at the locks, and those
/// before a call is repeated.
#[derive(Debug)]
struct QuickClock {
    clock: Arc<dyn Clock>,
    skipped: Duration,
}

impl Clock for QuickClock {
    fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    fn elapsed_since_boot(&self) -> Duration {
        self.clock.elapsed_since_boot()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        if duration > Duration::from_millis(250) && duration != self.skipped {
            return self.clock.sleep(duration);
        }
        Box::pin(tokio::task::yield_now())
    }
}
