//! A folder to back up, a repository, a state store beside it, and processes that work with them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use backupkit::adapters::fs::FsSource;
use backupkit::manage::{ConnectionBody, NewRepository, Workspace};
use backupkit::registry::Registry;
use backupkit::repo::KeyOwner;
use backupkit::secret::{GivenKeys, MasterKey};
use backupkit::source::Source as _;
use backupkit::state::{Actor, Run, StateStore};
use backupkit::testing::HookedStore;
use backupkit::{Engine, Env};
use backupkit_sqlite::SqliteStore;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::value::RawValue;

use crate::orders::Moment;
use crate::places::WatchedStore;
use crate::source::{STREAM, WatchedKind};
use crate::support::data::{self, Plan};
use crate::support::process::Running;
use crate::support::random::Random;
use crate::support::restic::Restic;
use crate::witness::Witness;

pub(crate) const PASSWORD: &str = "survival";
pub(crate) const PLAN: &str = "plan";
/// A worker that takes longer is stuck.
pub(crate) const PATIENCE: Duration = Duration::from_mins(5);
/// What the variables of worker processes are called.
pub(crate) const FOLDER: &str = "SURVIVAL_FOLDER";
pub(crate) const ATTEMPT: &str = "SURVIVAL_ATTEMPT";
pub(crate) const MOMENT: &str = "SURVIVAL_MOMENT";
pub(crate) const STOP_FILE: &str = "SURVIVAL_STOP_FILE";
pub(crate) const LEASE_SECONDS: &str = "SURVIVAL_LEASE_SECONDS";
pub(crate) const TOTAL_BYTES: &str = "SURVIVAL_TOTAL";
pub(crate) const CHECKPOINT_BYTES: &str = "SURVIVAL_CHECKPOINT_BYTES";
const LEASE: Duration = Duration::from_mins(1);

/// What is backed up: one large file, one that is read in order, and many small ones.
pub(crate) struct Data {
    folder: tempfile::TempDir,
    pub(crate) total_bytes: u64,
    pub(crate) n_files: u64,
}

impl Data {
    pub(crate) fn new(large_bytes: u64, stream_bytes: u64, n_small_files: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        data::create(folder.path(), 1, &Plan { n_small_files, ..Plan::nothing() });
        let mut random = Random::new(2);
        random.write_file(&folder.path().join("large"), large_bytes);
        let stream = folder.path().join(std::str::from_utf8(STREAM).unwrap());
        random.write_file(&stream, stream_bytes);
        let files = data::paths_below(folder.path()).into_iter().filter(|path| path.is_file());
        let sizes: Vec<u64> = files.map(|path| path.metadata().unwrap().len()).collect();
        Self { folder, total_bytes: sizes.iter().sum(), n_files: sizes.len() as u64 }
    }

    /// With the sizes that issue and design ask for.
    pub(crate) fn large() -> Self {
        Self::new(512 << 20, 64 << 20, 20_000)
    }

    pub(crate) fn small() -> Self {
        Self::new(160 << 20, 12 << 20, 300)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// How much is read of a large file at a time.
    pub(crate) fn range_bytes(&self) -> u64 {
        let source = FsSource::new(vec![self.path().to_owned()], Env::system(), "host");
        source.unwrap().capabilities().range_bytes
    }
}

/// Makes the key with which a state store in this folder seals.
pub(crate) fn write_key(folder: &Path) {
    let key = MasterKey::generate(&Env::system()).unwrap().to_text();
    fs::write(folder.join("key"), key.expose_secret()).unwrap();
}

/// A process that works in this folder until no run is left.
pub(crate) fn worker(folder: &Path, attempt: u32) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "worker_process", "--nocapture", "--test-threads", "1"])
        .env(FOLDER, folder)
        .env(ATTEMPT, attempt.to_string())
        .env(MOMENT, Moment::Never.to_string())
        .env(LEASE_SECONDS, LEASE.as_secs().to_string())
        .env(TOTAL_BYTES, u64::MAX.to_string());
    command
}

/// A repository, a state store, and the processes that were started so far.
pub(crate) struct World<'a> {
    pub(crate) data: &'a Data,
    folder: tempfile::TempDir,
    pub(crate) restic: Restic,
    pub(crate) attempts: u32,
    pub(crate) lease: Duration,
}

/// A worker stands still for as long as this is there.
pub(crate) struct Standstill {
    file: File,
    attempt: u32,
}

impl Standstill {
    /// Lets the worker go on, as soon as it is not stopped.
    pub(crate) fn end(self) {
        self.file.unlock().unwrap();
    }
}

/// The program's view of a world.
pub(crate) struct Desk {
    pub(crate) workspace: Workspace,
    pub(crate) engine: Engine,
}

impl Desk {
    pub(crate) async fn open(folder: &Path, witness: &Witness) -> Self {
        let env = Env::system();
        let store = Arc::new(SqliteStore::open(folder.join("state.db"), &env).await.unwrap());
        let hook = Arc::new(WatchedStore(witness.clone()));
        let store: Arc<dyn StateStore> = Arc::new(HookedStore::new(store, hook));
        let key = MasterKey::parse(&fs::read_to_string(folder.join("key")).unwrap().into());
        let keys = Arc::new(GivenKeys::new([key.unwrap()]));
        let registry = Registry::built_in().with(WatchedKind(witness.clone()));
        let actor = Actor::new("test").unwrap();
        let workspace = Workspace::open(store, keys, registry, &env, actor).await.unwrap();
        let workers = folder.join("workers");
        let engine = Engine::builder().env(env).instance_folder(workers).build().unwrap();
        Self { workspace, engine }
    }

    /// Of somebody whom nothing ends.
    pub(crate) async fn of_a_person(folder: &Path) -> Self {
        let own = folder.join("ours");
        fs::create_dir_all(&own).unwrap();
        let witness = Witness::new(&own, 0, Moment::Never, None, u64::MAX);
        Self::open(folder, &witness).await
    }

    pub(crate) async fn latest(&self) -> Run {
        self.workspace.find_run("latest").await.unwrap()
    }
}

impl<'a> World<'a> {
    /// Nothing if there is no restic to judge by.
    pub(crate) async fn new(data: &'a Data) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let restic = Restic::find(&at("restic"), &at("repo"), PASSWORD)?;
        write_key(folder.path());
        let world = Self { data, folder, restic, attempts: 0, lease: LEASE };
        let desk = world.desk().await;
        let connect = async |name: &str, path: &Path| {
            let settings = serde_json::to_string(path.to_str().unwrap()).unwrap();
            let settings = RawValue::from_string(settings).unwrap().into();
            desk.workspace
                .add_connection(name, &ConnectionBody::new(WatchedKind::NAME, settings))
                .await
                .unwrap();
        };
        connect("source", data.path()).await;
        connect("disk", &world.path("repo")).await;
        let repository = NewRepository {
            name: "repository",
            connection: "disk",
            path: "",
            password: Some(SecretString::from(PASSWORD)),
            owner: KeyOwner::default(),
        };
        desk.workspace.add_repository(repository).await.unwrap();
        let to = ["repository".to_owned()];
        desk.workspace.add_plan(PLAN, &["source".to_owned()], &to, Vec::new()).await.unwrap();
        Some(world)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// This process takes part too, and nothing ends it.
    pub(crate) async fn desk(&self) -> Desk {
        Desk::of_a_person(self.folder()).await
    }

    /// Starts a worker that works until no run is left, or its moment comes.
    pub(crate) fn start(&mut self, moment: &Moment) -> Running {
        Running::start(&mut self.command(moment))
    }

    /// Nothing ends this one.
    pub(crate) fn start_never(&mut self) -> Running {
        self.start(&Moment::Never)
    }

    /// The same as [`Self::start`], but at its moment the worker stands still, until what comes with it
    /// lets it go on.
    pub(crate) fn start_to_stop(&mut self, moment: &Moment) -> (Running, Standstill) {
        let path = self.path(&format!("stop-{}", self.attempts));
        let standstill = Standstill { file: File::create(&path).unwrap(), attempt: self.attempts };
        standstill.file.lock().unwrap();
        let mut command = self.command(moment);
        (Running::start(command.env(STOP_FILE, path)), standstill)
    }

    fn command(&mut self, moment: &Moment) -> Command {
        let mut command = worker(self.folder(), self.attempts);
        command
            .env(MOMENT, moment.to_string())
            .env(LEASE_SECONDS, self.lease.as_secs().to_string())
            .env(TOTAL_BYTES, self.data.total_bytes.to_string());
        self.attempts += 1;
        command
    }

    /// The log of an attempt's reads.
    pub(crate) fn reads(&self, attempt: u32) -> PathBuf {
        self.path(&format!("reads-{attempt}"))
    }

    /// The log of what an attempt read of packs.
    pub(crate) fn gets(&self, attempt: u32) -> PathBuf {
        self.path(&format!("gets-{attempt}"))
    }

    /// Stops a worker as a suspended machine does, once it stands still. False if it ends before that.
    pub(crate) fn suspend(&self, worker: &mut Running, standstill: &Standstill) -> bool {
        while self.stage_of(standstill.attempt).is_none() {
            if worker.has_ended() {
                return false;
            }
            worker.let_run(Duration::from_millis(5));
        }
        worker.suspend();
        while !worker.is_stopped() {
            worker.let_run(Duration::from_millis(5));
        }
        true
    }

    /// In which stage an attempt was ended; nothing if it was not.
    pub(crate) fn stage_of(&self, attempt: u32) -> Option<usize> {
        fs::read_to_string(self.path(&format!("ended-{attempt}"))).ok()?.parse().ok()
    }
}
