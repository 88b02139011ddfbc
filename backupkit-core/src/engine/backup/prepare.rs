//! Before a backup reads anything: each repository locked, its index loaded, what a crash left found.

use std::sync::Arc;

use crate::engine::{RunContext, recover};
use crate::error::{ErrorKind, Result};
use crate::model::{EventKind, Level, LockId, SnapshotId};
use crate::pipeline::guard::{Guard, Liveness};
use crate::pipeline::lane::{Lane, LaneParts};
use crate::pipeline::task::{self, OwnedTask};
use crate::repo::REFRESH_INTERVAL;
use crate::repo::locks::RepositoryLock;
use crate::repo::reader::RepositoryReader;
use crate::repo::repository::Repository;
use crate::repo::snapshot_file::Snapshot;
use crate::state::RunJournal;

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

/// Locks a repository and loads what the lane needs. On an error the lock is given up.
pub(super) async fn prepare(
    run: &RunContext,
    number: usize,
    repository: &Repository,
    journal: &Arc<dyn RunJournal>,
    liveness: &Arc<dyn Liveness>,
) -> Result<Prepared> {
    repository.config().check_writable()?;
    let owner = run.engine.lock_owner();
    let (lock, takeover) =
        RepositoryLock::acquire(repository, &owner, run.engine.instance(), false).await?;
    let loaded =
        load(run, number, repository, journal, liveness, &lock, &takeover.dead_locks).await;
    match loaded {
        Ok(Loaded { lane, snapshots, reader }) => {
            let refresher = task::start(refresh(Arc::clone(&lane), lock.clone()));
            Ok(Prepared { lane, snapshots, reader, lock, _refresher: refresher })
        }
        Err(error) => {
            // The first error counts; a lock that stays is removed by age.
            drop(lock.release().await);
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
    journal: &Arc<dyn RunJournal>,
    liveness: &Arc<dyn Liveness>,
    lock: &RepositoryLock,
    dead_locks: &[LockId],
) -> Result<Loaded> {
    let parts = run.engine.parts();
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
