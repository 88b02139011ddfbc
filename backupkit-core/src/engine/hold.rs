//! A repository held under a shared lock while it is read.

use std::sync::Arc;

use super::RunContext;
use crate::error::{ErrorKind, Result};
use crate::model::Level;
use crate::pipeline::task::{self, OwnedTask};
use crate::repo::REFRESH_INTERVAL;
use crate::repo::locks::RepositoryLock;
use crate::repo::repository::Repository;

/// A lock that is renewed for as long as this lives.
pub(super) struct Held {
    lock: RepositoryLock,
    _refresher: OwnedTask<()>,
}

/// Takes a shared lock. Where locks cannot be written, the repository is read without one, and a
/// warning says so.
///
/// # Errors
/// `Locked` if somebody holds it alone.
pub(super) async fn hold(run: &RunContext, repository: &Repository) -> Result<Option<Held>> {
    let owner = run.engine.lock_owner();
    match RepositoryLock::acquire(repository, &owner, run.engine.instance(), false).await {
        Ok((lock, _)) => {
            let refresher = task::start(refresh(run.clone(), lock.clone()));
            Ok(Some(Held { lock, _refresher: refresher }))
        }
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::Unsupported | ErrorKind::StorageFull
            ) =>
        {
            let text = format!("read without a lock, so do not prune meanwhile: {}", error.report());
            run.events.note(Level::Warning, text);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Held {
    /// Gives the lock up. If that fails, others wait until it is old; what was read stays true.
    pub(super) async fn release(self, run: &RunContext) {
        if let Err(error) = self.lock.release().await {
            run.events.note(Level::Warning, format!("a lock stays behind: {}", error.report()));
        }
    }
}

/// A reader that loses its lock goes on: it verifies every blob, so it can fail but not be wrong.
async fn refresh(run: RunContext, lock: RepositoryLock) -> Result<()> {
    let clock = Arc::clone(run.events.env().clock());
    loop {
        clock.sleep(REFRESH_INTERVAL).await;
        if let Err(error) = lock.refresh().await
            && error.is(ErrorKind::Locked)
        {
            run.events.note(Level::Warning, error.report());
            return Ok(());
        }
    }
}
