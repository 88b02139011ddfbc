//! How an engine is set up.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Engine, Parts, Settings};
use crate::env::Env;
use crate::error::Result;
use crate::instance::Instance;
use crate::pool::Pool;
use crate::scratch::{Scratch, Tuning};
use crate::state::StateStore;

/// A repository that stores nothing for so long while others do is set aside.
const DEFAULT_STALL: Duration = Duration::from_mins(5);
/// zstd's default, and restic's.
const DEFAULT_LEVEL: i32 = 3;

/// Whom snapshots and locks name. Nothing is checked against it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The name of the machine.
    pub hostname: String,
    /// The name of the user.
    pub username: String,
    /// The numeric user.
    pub uid: u32,
    /// The numeric group.
    pub gid: u32,
}

/// Sets up an [`Engine`].
#[derive(Debug)]
pub struct EngineBuilder {
    env: Env,
    threads: usize,
    level: i32,
    identity: Identity,
    instance_folder: Option<PathBuf>,
    scratch_folder: Option<PathBuf>,
    tuning: Tuning,
    settings: Settings,
    store: Option<Arc<dyn StateStore>>,
}

impl Default for EngineBuilder {
    fn default() -> Self {
        Self {
            env: Env::system(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            level: DEFAULT_LEVEL,
            identity: Identity { hostname: "localhost".to_owned(), ..Identity::default() },
            instance_folder: None,
            scratch_folder: None,
            tuning: Tuning::default(),
            settings: Settings {
                memory_bytes: None,
                stall_after: DEFAULT_STALL,
                cache_folder: None,
                program_version: concat!("backupkit ", env!("CARGO_PKG_VERSION")).to_owned(),
            },
            store: None,
        }
    }
}

impl EngineBuilder {
    /// Replaces clock, randomness and time zone.
    #[must_use]
    pub fn env(mut self, env: Env) -> Self {
        self.env = env;
        self
    }

    /// Sets the number of threads that chunk, compress and encrypt. Default: one a core.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets how many bytes of a source may be in memory, at least 16 MiB. Default: 16 MiB for the chunks
    /// of two large entries, and four ranges; that is 24 MiB for a local folder, 48 MiB elsewhere. Each
    /// repository needs the room of a few packs besides, and each of at most two large entries that
    /// are read at the same time may hold 8 MiB more, where a chunk lies in two ranges.
    #[must_use]
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.settings.memory_bytes = Some(bytes);
        self
    }

    /// Sets the zstd level, from -7 to 22. Default 3.
    #[must_use]
    pub fn compression_level(mut self, level: i32) -> Self {
        self.level = level;
        self
    }

    /// Sets whom snapshots and locks name.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }

    /// Sets the folder in which the processes of one user on one machine see each other, so that
    /// locks of crashed ones are removed by the next. Without it, such locks stay until `unlock`.
    #[must_use]
    pub fn instance_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.instance_folder = Some(folder.into());
        self
    }

    /// Sets the folder for copies of indexes. Without it they are read from the repository each time.
    #[must_use]
    pub fn cache_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.settings.cache_folder = Some(folder.into());
        self
    }

    /// Sets the folder for what does not fit into memory, on a disk of this machine. It is made if it
    /// is missing. Without one, everything stays in memory: the nodes of all directories that a backup
    /// has begun, about 500 bytes for each entry, however many there are; and packs have at most
    /// 32 MiB, whatever a destination prefers.
    ///
    /// With one, a backup holds about 32 MiB of such nodes in memory and writes the rest there. Packs
    /// of more than 32 MiB are built there, five at most for each repository at the same time. The
    /// files have no names, only this user can read them, and nothing stays behind, not even after a
    /// crash. Packs are encrypted; nodes are not: they hold names and attributes of entries, but no
    /// content. A backup that finds no room there fails and says so.
    #[must_use]
    pub fn scratch_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.scratch_folder = Some(folder.into());
        self
    }

    /// Sets when the scratch folder is used.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn scratch_tuning(mut self, tuning: &crate::testing::ScratchTuning) -> Self {
        self.tuning = tuning.0.clone();
        self
    }

    /// Sets for how long a repository may store nothing while others do. Default 5 min.
    #[must_use]
    pub fn stall_after(mut self, duration: Duration) -> Self {
        self.settings.stall_after = duration;
        self
    }

    /// Sets what snapshots name as the program that made them.
    #[must_use]
    pub fn program_version(mut self, version: impl Into<String>) -> Self {
        self.settings.program_version = version.into();
        self
    }

    /// Sets where runs are on record that survive this process: see
    /// [`Engine::start_backup`]. Without one, `Engine::backup` and `Engine::restore` work as well.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn StateStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Builds the engine and starts its threads.
    ///
    /// # Errors
    /// `InvalidConfig` for a memory budget below a range and a chunk or an unknown compression level;
    /// the system's error if the instance folder or the scratch folder cannot be used.
    pub fn build(self) -> Result<Engine> {
        let instance = match &self.instance_folder {
            Some(folder) => Instance::register(folder, &self.env)?,
            None => Instance::anonymous(&self.env)?,
        };
        let scratch = self
            .scratch_folder
            .map(|folder| Scratch::new(&folder, &self.env, self.tuning))
            .transpose()?;
        Engine::new(Parts {
            pool: Pool::new(self.threads, self.level)?,
            env: self.env,
            identity: self.identity,
            instance,
            settings: self.settings,
            scratch,
            store: self.store,
        })
    }
}
