//! A state store, repositories in a folder, an engine, and a clock that can be moved.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use backupkit::adapters::fs::{FolderKind, FsDestination};
use backupkit::destination::MemoryDestination;
use backupkit::manage::{ConnectionBody, NewRepository, Workspace};
use backupkit::model::{
    EntryPath, Level, MaintenanceRecord, MaintenanceStep, RunKind, RunState, Wanted,
};
use backupkit::registry::Registry;
use backupkit::repo::{KeyOwner, Repository, is_checkpoint};
use backupkit::secret::{GivenKeys, MasterKey};
use backupkit::state::{
    Actor, InMemoryStore, LogFilter, NewRun, Run, RunFilter, RunId, Scope, StateStore,
};
use backupkit::testing::{FaultPlan, MemorySource, PausePoint, random_bytes};
use backupkit::{
    BackupReport, BackupRequest, CancelToken, Clock, Engine, Env, HeldRunOptions, Result,
    RunHandle, RunStatus,
};
use futures::future::BoxFuture;
use serde_json::value::RawValue;

use crate::faulty::FaultyKind;

const PASSWORD: &str = "maintenance";
pub(crate) const DAY: Duration = Duration::from_hours(24);

/// The system's clock, but for the date.
#[derive(Debug, Clone)]
pub(crate) struct ShiftedClock {
    clock: Arc<dyn Clock>,
    shift: Arc<Mutex<Duration>>,
}

impl Clock for ShiftedClock {
    fn now(&self) -> jiff::Timestamp {
        self.clock.now() + *self.shift.lock().unwrap()
    }

    fn elapsed_since_boot(&self) -> Duration {
        self.clock.elapsed_since_boot()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.clock.sleep(duration)
    }
}

pub(crate) struct World {
    folder: tempfile::TempDir,
    clock: ShiftedClock,
    env: Env,
    /// What goes wrong in the repositories, as maintenance sees them.
    pub(crate) faults: FaultPlan,
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) workspace: Workspace,
    pub(crate) engine: Engine,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(None).await
    }

    /// One whose repositories lie where leases can be kept, which are these.
    pub(crate) async fn with_leases() -> (Self, MemoryDestination) {
        let leases = MemoryDestination::new();
        (Self::with(Some(leases.clone())).await, leases)
    }

    async fn with(leases: Option<MemoryDestination>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock =
            ShiftedClock { clock: Arc::clone(Env::system().clock()), shift: Arc::default() };
        let env = Env::system().with_clock(Arc::new(clock.clone()));
        let store: Arc<dyn StateStore> = Arc::new(InMemoryStore::new(&env));
        let keys = Arc::new(GivenKeys::new([MasterKey::generate(&env).unwrap()]));
        let faults = FaultPlan::new();
        let registry = Registry::built_in().with(FaultyKind { faults: faults.clone(), leases });
        let actor = Actor::new("test").unwrap();
        let opening = Workspace::open(Arc::clone(&store), keys, registry, &env, actor);
        let workspace = opening.await.unwrap();
        let settings = serde_json::json!({ "path": folder.path().join("disk") }).to_string();
        let settings = RawValue::from_string(settings).unwrap().into();
        workspace
            .add_connection("disk", &ConnectionBody::new(FolderKind::NAME, settings))
            .await
            .unwrap();
        let engine = engine(&folder, &env);
        Self { folder, clock, env, faults, store, workspace, engine }
    }

    /// Lets so much time pass since the beginning.
    pub(crate) fn after(&self, time: Duration) {
        *self.clock.shift.lock().unwrap() = time;
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The engine of another process.
    pub(crate) fn process(&self) -> Engine {
        engine(&self.folder, &self.env)
    }

    /// Writes a file that was changed last at this age, by the clock of the system.
    pub(crate) fn write(&self, name: &str, age: Duration) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"left").unwrap();
        self.make_older(name, age);
        path
    }

    /// Makes a file look as if it was changed last at this age.
    pub(crate) fn make_older(&self, name: &str, age: Duration) {
        let file = std::fs::File::options().write(true).open(self.path(name)).unwrap();
        file.set_modified(SystemTime::from(Env::system().now() - age)).unwrap();
    }

    pub(crate) async fn add_repository(&self, name: &str) -> Repository {
        let (password, owner) = (Some(PASSWORD.into()), KeyOwner::default());
        let new = NewRepository { name, connection: "disk", path: name, password, owner };
        self.workspace.add_repository(new).await.unwrap();
        let place = FsDestination::new(self.path("disk").join(name), self.env.clone());
        Repository::open(Arc::new(place), &PASSWORD.into(), &self.env).await.unwrap()
    }

    pub(crate) async fn queued_run(&self) -> RunId {
        let id = RunId::random(&self.env).unwrap();
        let settings = RawValue::from_string("{}".to_owned()).unwrap().into();
        let new = NewRun::new(id, RunKind::Backup, "documents", settings);
        let actor = Actor::new("test").unwrap();
        self.store.create_run(&Scope::default(), &actor, new).await.unwrap();
        id
    }

    /// Ends a run, with so many lines in its log.
    pub(crate) async fn end(&self, id: RunId, lines: usize) {
        self.workspace.ask(id, Wanted::Cancel).await.unwrap();
        let claim = self.workspace.claim(&self.engine, Some(id), HeldRunOptions::default());
        let held = claim.await.unwrap().expect("the run");
        for _ in 0..lines {
            held.note(Level::Info, "a line".to_owned()).await.unwrap();
        }
        held.cancel().await.unwrap();
    }

    pub(crate) async fn is_known(&self, id: RunId) -> bool {
        self.store.run(&Scope::default(), id).await.unwrap().is_some()
    }

    pub(crate) async fn lines(&self, id: RunId) -> usize {
        self.workspace.logs(id, &LogFilter::default(), 0, 1000).await.unwrap().len()
    }

    pub(crate) async fn runs(&self) -> Vec<RunId> {
        let runs = self.workspace.runs(&RunFilter::default(), None, 1000).await.unwrap();
        runs.iter().map(|run| run.new.id).collect()
    }

    /// A finished backup, and then one that rests.
    pub(crate) async fn leave_checkpoint(&self, repository: &Repository, tags: Vec<String>) {
        let path = EntryPath::from_slashed(b"small");
        let source = MemorySource::new().with_file(&path, b"small".to_vec());
        let request = BackupRequest::new(Arc::new(source), std::slice::from_ref(repository));
        self.engine.backup(request).wait().await.unwrap();
        let (handle, point) = start(&self.engine, repository, tags);
        point.reached().await;
        handle.pause();
        point.release();
        assert_eq!(handle.wait().await.unwrap().status, RunStatus::Paused);
    }

    /// Orders maintenance and executes it.
    pub(crate) async fn run_maintenance(&self, dry_run: bool) -> (Run, MaintenanceRecord) {
        let id = self.workspace.order_maintenance(dry_run).await.unwrap().new.id;
        let run = self.execute(id).await;
        let record = serde_json::from_str(run.report.as_ref().expect("a report").get()).unwrap();
        (run, record)
    }

    pub(crate) async fn execute(&self, id: RunId) -> Run {
        self.try_execute(id).await.unwrap()
    }

    pub(crate) async fn try_execute(&self, id: RunId) -> Result<Run> {
        let claim = self.workspace.claim(&self.engine, Some(id), HeldRunOptions::default());
        let held = claim.await.unwrap().expect("the run");
        self.workspace.execute(held, "host", &CancelToken::new()).await
    }

    /// What maintenance removes: as a dry run says before.
    pub(crate) async fn tidy(&self) -> Vec<MaintenanceStep> {
        let (_, told) = self.run_maintenance(true).await;
        let (run, record) = self.run_maintenance(false).await;
        assert_eq!(told.steps, record.steps);
        assert_eq!((told.dry_run, record.dry_run), (true, false));
        assert_eq!(run.state, RunState::Succeeded, "{run:#?}");
        record.steps
    }
}

/// Starts a backup that reads until it reaches the point.
pub(crate) fn start(
    engine: &Engine,
    repository: &Repository,
    tags: Vec<String>,
) -> (RunHandle<BackupReport>, PausePoint) {
    let (path, point) = (EntryPath::from_slashed(b"big"), PausePoint::new());
    let source = MemorySource::new().with_file(&path, random_bytes(1, 12 << 20).to_vec());
    source.pause_at(&path, 0, &point);
    let request = BackupRequest::new(Arc::new(source), std::slice::from_ref(repository));
    (engine.backup(request.with_tags(tags)), point)
}

pub(crate) async fn checkpoints(repository: &Repository) -> usize {
    let snapshots = repository.snapshots().await.unwrap();
    snapshots.iter().filter(|(_, snapshot)| is_checkpoint(snapshot)).count()
}

fn engine(folder: &tempfile::TempDir, env: &Env) -> Engine {
    let at = |name: &str| folder.path().join(name);
    Engine::builder()
        .env(env.clone())
        .threads(2)
        .instance_folder(at("instances"))
        .cache_folder(at("cache"))
        .scratch_folder(at("scratch"))
        .build()
        .unwrap()
}
