//! The engine: runs backups, restores and checks, each with a handle to watch and steer it.

mod backup;
mod builder;
mod check;
mod commit;
mod durable;
mod extend;
mod handle;
mod lease;
mod maintain;
mod origin;
mod reading;
mod recover;
mod restore;
mod resume;
mod snapshot_source;

use std::fmt;
use std::sync::Arc;

pub use backup::{AbsentRepository, BackupReport, BackupRequest, OutputReport, RunStatus, Summary};
pub use builder::{EngineBuilder, Identity};
pub use check::CheckRequest;
pub use durable::DurableRun;
pub use extend::ExtensionRequest;
pub use handle::{RunControl, RunHandle};
pub(crate) use lease::POLL;
pub use lease::{BackupRecord, HeldRun, HeldRunOptions, OutputRecord, RestoreRecord};
pub(crate) use maintain::{MaintainedRepository, MaintenanceRequest};
pub use restore::{RestoreCounts, RestoreReport, RestoreRequest, VerifyCounts};
pub use snapshot_source::SnapshotSource;

use crate::counters::Counters;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Events;
use crate::instance::Instance;
use crate::model::MaintenanceRecord;
use crate::pipeline::control::Control;
use crate::pipeline::guard::Liveness;
use crate::pool::Pool;
use crate::repo::check::CheckReport;
use crate::repo::extend::ExtensionReport;
use crate::repo::locks::LockOwner;
use crate::repo::repository::Repository;
use crate::scratch::Scratch;
use crate::state::StateStore;

/// Runs backups, restores and checks. Clones share its threads and limits.
///
/// It must live in a tokio runtime with a timer. It reads no environment, prints nothing and installs
/// no signal handler.
#[derive(Clone)]
pub struct Engine(Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) env: Env,
    pub(crate) pool: Pool,
    pub(crate) identity: Identity,
    pub(crate) instance: Instance,
    pub(crate) settings: Settings,
    /// Where goes what does not fit into memory.
    pub(crate) scratch: Option<Scratch>,
    /// Where runs are on record that survive this process.
    pub(crate) store: Option<Arc<dyn StateStore>>,
}

/// What the builder decides.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// `None`: what suits the source.
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) stall_after: std::time::Duration,
    pub(crate) cache_folder: Option<std::path::PathBuf>,
    pub(crate) program_version: String,
}

/// What every run has.
#[derive(Debug, Clone)]
pub(crate) struct RunContext {
    pub(crate) engine: Engine,
    pub(crate) events: Events,
    pub(crate) counters: Arc<Counters>,
    pub(crate) control: Control,
}

impl Engine {
    /// Returns a builder with the defaults.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// Starts a backup of one source into one or more repositories.
    pub fn backup(&self, request: BackupRequest) -> RunHandle<BackupReport> {
        RunHandle::start(self, true, |run| backup::run(run, request))
    }

    /// Starts a restore.
    pub fn restore(&self, request: RestoreRequest) -> RunHandle<RestoreReport> {
        // A dry run has nothing to go on with.
        RunHandle::start(self, !request.dry_run, |run| restore::run(run, request))
    }

    /// Ends a restore that rests, failed or crashed, for good: removes what is incomplete, and keeps what
    /// is whole. The request is that of the restore.
    pub fn abort_restore(&self, request: RestoreRequest) -> RunHandle<()> {
        RunHandle::start(self, false, |run| restore::abort(run, request))
    }

    /// Starts a check of a repository.
    pub fn check(&self, request: CheckRequest) -> RunHandle<CheckReport> {
        RunHandle::start(self, false, |run| check::run(run, request))
    }

    /// Retains a repository for longer, where its destination keeps what was written from being deleted.
    /// The run fails with `Unsupported` and the code `no-retention` where it does not.
    pub fn extend_retention(&self, request: ExtensionRequest) -> RunHandle<ExtensionReport> {
        RunHandle::start(self, false, |run| extend::run(run, request))
    }

    /// Removes the checkpoint snapshots with this tag that backups left when they came to rest, and with
    /// them what those would go on from.
    pub(crate) fn remove_checkpoints(
        &self,
        repositories: Vec<Repository>,
        tag: String,
        liveness: Arc<dyn Liveness>,
    ) -> RunHandle<()> {
        RunHandle::start(self, false, |run| resume::remove_tagged(run, repositories, tag, liveness))
    }

    /// Removes what crashed, cancelled and old runs left.
    pub(crate) fn maintain(
        &self,
        request: MaintenanceRequest,
        holder: maintain::Holder,
    ) -> RunHandle<MaintenanceRecord> {
        RunHandle::start(self, false, |run| maintain::run(run, request, holder))
    }

    /// This process, as others see it in locks.
    pub fn instance(&self) -> &Instance {
        &self.0.instance
    }

    /// The environment.
    pub fn env(&self) -> &Env {
        &self.0.env
    }

    /// The state store that the builder got.
    ///
    /// # Errors
    /// `InvalidConfig` if it got none.
    pub(crate) fn store(&self) -> Result<&Arc<dyn StateStore>> {
        self.0.store.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfig, "the engine has no state store to keep runs in")
                .with_hint("give it one with `Engine::builder().store(..)`")
        })
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0
    }

    pub(crate) fn lock_owner(&self) -> LockOwner {
        let identity = &self.0.identity;
        LockOwner {
            hostname: identity.hostname.clone(),
            username: identity.username.clone(),
            pid: std::process::id(),
            uid: identity.uid,
            gid: identity.gid,
        }
    }

    fn new(parts: Parts) -> Result<Self> {
        if let Some(bytes) = parts.settings.memory_bytes {
            crate::pipeline::budget::Budget::new(bytes, 1)?;
        }
        Ok(Self(Arc::new(parts)))
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}
