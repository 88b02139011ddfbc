//! Before a backup reads anything: each repository locked, its index loaded, what a crash left found.

use std::sync::Arc;

use super::BackupRequest;
use crate::engine::{RunContext, commit, recover};
use crate::error::{ErrorKind, Result};
use crate::model::{EventKind, Level, LockId, SnapshotId};
use crate::pipeline::guard::Guard;
use crate::pipeline::lane::{Lane, LaneParts};
use crate::pipeline::task::{self, OwnedTask};
use crate::repo::REFRESH_INTERVAL;
use crate::repo::locks::RepositoryLock;
use crate::repo::reader::RepositoryReader;
use crate::repo::repository::Repository;
use crate::repo::snapshot_file::Snapshot;
use crate::state::SealedOutput;
use crate::token::CancelToken;

/// A repository that is ready to take part.
pub(super) struct Prepared {
    pub(super) lane: Arc<Lane>,
    pub(super) snapshots: Vec<(SnapshotId, Snapshot)>,
    /// Reads the snapshots that were there when the backup started.
    pub(super) reader: RepositoryReader,
    pub(super) lock: RepositoryLock,
    /// Renews the lock for as long as this lives.
    _refresher: OwnedTask<()>,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // A run that was dropped writes nothing more, as if it had crashed.
        self.lane.stop();
        self.lock.abandon();
    }
}

/// What an earlier attempt of the run left of an output.
pub(super) enum Earlier {
    Nothing(Box<Prepared>),
    Published(SnapshotId),
}

/// Locks a repository, loads what the lane needs, and finishes what an earlier attempt of the run
/// began to commit in it. On an error, and once it is published, the lock is given up.
///
/// # Errors
/// `Cancelled` wherever it waits; those of the repository.
pub(super) async fn prepare(
    run: &RunContext,
    number: usize,
    repository: &Repository,
    request: &BackupRequest,
    committed: &[SealedOutput],
    cancel: &CancelToken,
) -> Result<Earlier> {
    repository.config().check_writable()?;
    let (owner, instance) = (run.engine.lock_owner(), run.engine.instance());
    let (lock, takeover) =
        RepositoryLock::acquire(repository, &owner, instance, false, cancel).await?;
    let work = async {
        let loaded = load(run, number, repository, request, &lock, &takeover.dead_locks).await?;
        let begun = committed.iter().find(|output| output.repository_id == repository.id());
        let published = match begun {
            Some(output) => commit::finish(&loaded.lane, output).await?,
            None => None,
        };
        Ok((loaded, published))
    };
    let release = async || {
        // What came before counts; a lock that stays is removed by the next run.
        drop(lock.release().await);
        lock.abandon();
    };
    match cancel.unless_cancelled(work).await {
        Ok((_, Some(snapshot))) => {
            release().await;
            Ok(Earlier::Published(snapshot))
        }
        Ok((Loaded { lane, snapshots, reader }, None)) => {
            let refresher = task::start(refresh(Arc::clone(&lane), lock.clone()));
            let ready = Prepared { lane, snapshots, reader, lock, _refresher: refresher };
            Ok(Earlier::Nothing(Box::new(ready)))
        }
        Err(error) => {
            release().await;
            Err(error)
        }
    }
}

/// What is loaded under the lock.
struct Loaded {
    lane: Arc<Lane>,
    snapshots: Vec<(SnapshotId, Snapshot)>,
    reader: RepositoryReader,
}

async fn load(
    run: &RunContext,
    number: usize,
    repository: &Repository,
    request: &BackupRequest,
    lock: &RepositoryLock,
    dead_locks: &[LockId],
) -> Result<Loaded> {
    let parts = run.engine.parts();
    let BackupRequest { journal, liveness, .. } = request;
    // Snapshots before the index: what a snapshot names is then in the index.
    let (snapshots, damage) = repository.readable_snapshots().await?;
    for error in damage {
        // What is to be stored now needs none of the old ones.
        run.events.note(Level::Warning, error.report());
    }
    let cache = parts.settings.cache_folder.as_deref();
    let reader = RepositoryReader::open(repository, &parts.pool, cache).await?;
    let index = reader.fetcher().shared_index();
    let mut found =
        recover::find_recorded(repository, &index, journal.recorded_packs(repository.id()).await?)
            .await?;
    if !dead_locks.is_empty() {
        found.extend(recover::find_unindexed(repository, &index).await?);
        found.sort_by_key(|pack| pack.id);
        found.dedup_by_key(|pack| pack.id);
    }
    let lane = Lane::new(LaneParts {
        number,
        repository: repository.clone(),
        index,
        guard: Guard::new(lock.clone(), Arc::clone(liveness)),
        pool: parts.pool.clone(),
        journal: Arc::clone(journal),
        scratch: parts.scratch.clone(),
    });
    if !found.is_empty() {
        let (repository, packs) = (repository.location(), found.len() as u64);
        run.events.tell(Level::Info, EventKind::PacksRecovered { repository, packs });
        lane.adopt(found).await?;
    }
    // Only now: whoever crashes before this leaves the trace that leads the next run to the packs.
    lock.remove_dead(dead_locks).await?;
    Ok(Loaded { lane, snapshots, reader })
}

/// Renews the lock until this is dropped. A lock that is lost takes the lane out of the run. A
/// destination that does not answer is tried again at the next turn; the guard knows the age.
async fn refresh(lane: Arc<Lane>, lock: RepositoryLock) -> Result<()> {
    let clock = Arc::clone(lane.repository().env().clock());
    loop {
        clock.sleep(REFRESH_INTERVAL).await;
        if let Err(error) = lock.refresh().await
            && error.is(ErrorKind::Locked)
        {
            lane.set_aside(error);
            return Ok(());
        }
    }
}
