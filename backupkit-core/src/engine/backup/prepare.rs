//! Before a backup reads anything: each repository locked, its index loaded, what a crash left found.

use std::sync::Arc;

use super::BackupRequest;
use crate::engine::{RunContext, commit, origin, recover, resume};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EventKind, Level, LockId, Origin, SnapshotId};
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
    /// The snapshot, and how many warnings and errors that attempt had.
    Published(SnapshotId, u64),
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
    let mut keeping = Box::pin(keep(lock.clone()));
    let work = async {
        let loaded = load(run, number, repository, request, &lock, &takeover.dead_locks).await?;
        let begun = committed.iter().find(|output| output.repository_id == repository.id());
        let published = match begun {
            Some(output) => finish(run, &loaded, output, &request.source.origin()).await?,
            None => None,
        };
        Ok((loaded, published))
    };
    let kept = async {
        tokio::select! {
            biased;
            done = work => done,
            lost = &mut keeping => Err(lost),
        }
    };
    let release = async || {
        // What came before counts; a lock that stays is removed by the next run.
        drop(lock.release().await);
        lock.abandon();
    };
    match cancel.unless_cancelled(kept).await {
        Ok((_, Some(Published { snapshot, problems }))) => {
            release().await;
            Ok(Earlier::Published(snapshot, problems))
        }
        Ok((Loaded { lane, snapshots, reader }, None)) => {
            let keeper = Arc::clone(&lane);
            let refresher = task::start(async move {
                keeper.set_aside(keeping.await);
                Ok(())
            });
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
        index_files: reader.index_files().to_vec(),
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

/// A snapshot that an earlier attempt of the run created, or had only to create.
struct Published {
    snapshot: SnapshotId,
    problems: u64,
}

/// Finishes what an earlier attempt began to commit; `None` if that cannot be used any more.
async fn finish(
    run: &RunContext,
    loaded: &Loaded,
    output: &SealedOutput,
    origin: &Origin,
) -> Result<Option<Published>> {
    let lane = &loaded.lane;
    let Some(snapshot) = commit::finish(lane, output).await? else {
        return Ok(None);
    };
    let checkpoints = origin::find_checkpoints(&loaded.snapshots, origin);
    let checkpoints: Vec<SnapshotId> = checkpoints.iter().map(|(id, _)| *id).collect();
    resume::remove(run, lane, &checkpoints).await;
    Ok(Some(Published { snapshot, problems: output.problems }))
}

/// Looks a second time whether the lock is ours alone, then renews it for as long as this is polled. Ends
/// with the error of a lock that is lost. A destination that does not answer is tried again at the next
/// turn; the guard knows the age.
async fn keep(lock: RepositoryLock) -> Error {
    if let Err(error) = lock.confirm().await
        && error.is(ErrorKind::Locked)
    {
        return error;
    }
    loop {
        lock.clock().sleep(REFRESH_INTERVAL).await;
        if let Err(error) = lock.refresh().await
            && error.is(ErrorKind::Locked)
        {
            return error;
        }
    }
}
