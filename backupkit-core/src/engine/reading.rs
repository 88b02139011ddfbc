//! The lock of a run that only reads, or removes what nobody needs.

use std::future::Future;
use std::sync::Arc;

use super::RunContext;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Events;
use crate::model::Level;
use crate::pipeline::guard::{Guard, Liveness};
use crate::pipeline::task;
use crate::repo::REFRESH_INTERVAL;
use crate::repo::lease::RepositoryLease;
use crate::repo::locks::{LockOwner, RepositoryLock};
use crate::repo::repository::Repository;

/// Does `work` under a shared lock, so that nobody prunes meanwhile. A destination that refuses the
/// lock, such as a full or write-protected one, is read without, with a warning; one in which nothing
/// changes is read without.
///
/// # Errors
/// `Locked` if somebody holds an exclusive lock; else those of `work`.
pub(super) async fn under_shared_lock<T>(
    run: &RunContext,
    repository: &Repository,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    if repository.destination().capabilities().frozen {
        return work.await;
    }
    let owner = run.engine.lock_owner();
    let (instance, cancel) = (run.engine.instance(), run.control.cancel_token());
    let acquired = RepositoryLock::acquire_for_reading(repository, &owner, instance, cancel).await;
    let lock = match acquired {
        Ok(lock) => lock,
        Err(error) if refuses_writes(&error) => {
            run.events.note(
                Level::Warning,
                format!(
                    "{} is read without a lock, so a prune at the same time would disturb: {}",
                    repository.location(),
                    error.report()
                ),
            );
            return work.await;
        }
        Err(error) => return Err(error),
    };
    let mut work = Box::pin(work);
    // The second look at the locks need not hold up the work.
    let confirmed = async {
        let early = tokio::select! {
            biased;
            result = &mut work => Some(result),
            confirmed = lock.confirm() => confirmed.err().map(Err),
        };
        match early {
            Some(result) => result,
            None => work.await,
        }
    };
    holding(run, &lock, confirmed).await
}

/// Does `work` under a shared lock, with the guard that it asks before it removes anything.
///
/// # Errors
/// `Locked` if somebody holds an exclusive lock; those of a destination that refuses the lock; else those
/// of `work`.
pub(super) async fn under_guard<T>(
    run: &RunContext,
    repository: &Repository,
    liveness: Arc<dyn Liveness>,
    work: impl AsyncFnOnce(&Guard) -> Result<T>,
) -> Result<T> {
    let owner = run.engine.lock_owner();
    let (instance, cancel) = (run.engine.instance(), run.control.cancel_token());
    let lock = RepositoryLock::acquire_for_reading(repository, &owner, instance, cancel).await?;
    let guard = Guard::new(lock.clone(), liveness);
    let confirmed = async {
        lock.confirm().await?;
        work(&guard).await
    };
    holding(run, &lock, confirmed).await
}

/// Does `work` alone of its kind, where the destination can see to that.
///
/// # Errors
/// `Locked` if somebody else does the same, or has taken it over meanwhile, which ends `work`; else those
/// of `work`.
pub(super) async fn alone<T>(
    run: &RunContext,
    repository: &Repository,
    guard: &Guard,
    work: impl AsyncFnOnce(&Guard) -> Result<T>,
) -> Result<T> {
    let LockOwner { username, hostname, pid, .. } = run.engine.lock_owner();
    let holder = format!("{username}@{hostname}, process {pid}");
    let cancel = run.control.cancel_token();
    let Some(lease) = RepositoryLease::acquire(repository, &holder, cancel).await? else {
        return work(guard).await;
    };
    let guard = guard.clone().with_lease(lease.clone());
    let result = tokio::select! {
        biased;
        // First: after the machine slept, nothing is done that the lease no longer covers.
        lost = lease.keep() => Err(lost),
        result = work(&guard) => result,
    };
    if let Err(error) = lease.release().await {
        let error = error.while_doing("give up the lease of this run");
        run.events.note(Level::Warning, error.report());
    }
    result
}

/// Keeps a lock for as long as the work takes.
async fn holding<T>(
    run: &RunContext,
    lock: &RepositoryLock,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let refreshing = task::start(refresh(lock.clone(), run.events.clone()));
    let result = work.await;
    drop(refreshing);
    if let Err(error) = lock.release().await {
        // The work is done; a lock that stays is removed by age.
        let error = error.while_doing("remove the lock of this run");
        run.events.note(Level::Warning, error.report());
    }
    result
}

fn refuses_writes(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied
            | ErrorKind::Unsupported
            | ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
    )
}

/// Renews the lock until this is dropped. Reading goes on without it.
async fn refresh(lock: RepositoryLock, events: Events) -> Result<()> {
    let clock = Arc::clone(events.env().clock());
    loop {
        clock.sleep(REFRESH_INTERVAL).await;
        if let Err(error) = lock.refresh().await
            && error.is(ErrorKind::Locked)
        {
            events.note(Level::Warning, error.report());
            return Ok(());
        }
    }
}
