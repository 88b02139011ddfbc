//! Locks in a repository: restic's protocol, so that both programs may share one.

mod found;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::layout::FileKind;
use super::lock_file::{Lock, RECHECK_DELAY};
use super::repository::{Repository, exists, sha256};
use crate::env::{Clock, within};
use crate::error::{Error, ErrorKind, Result};
use crate::instance::{HeldLock, Instance};
use crate::model::{FileTime, LockId};
use crate::token::CancelToken;
pub use found::LockInfo;
use found::{delete_locks, refuse_conflict};

/// After so long without a renewal nothing more is written: others may remove the lock at 30 minutes.
pub(crate) const FREEZE_AFTER: Duration = Duration::from_mins(20);

/// How long giving up a lock may take.
const RELEASE_TIME: Duration = Duration::from_secs(10);

/// Who takes a lock.
#[derive(Debug, Clone, Default)]
pub struct LockOwner {
    /// The name of the machine.
    pub hostname: String,
    /// The name of the user.
    pub username: String,
    /// The number of the process.
    pub pid: u32,
    /// The numeric user.
    pub uid: u32,
    /// The numeric group.
    pub gid: u32,
}

/// A lock that this process holds. Release it with [`RepositoryLock::release`]; one that is dropped or
/// cannot be removed stays as after a crash: the next run of this process, or after it, takes it for
/// dead.
#[derive(Debug, Clone)]
pub(crate) struct RepositoryLock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    repository: Repository,
    owner: LockOwner,
    instance: Instance,
    exclusive: bool,
    /// Whether it was looked a second time.
    confirmed: OnceCell<()>,
    /// Held while the file is replaced or removed: of two at a time one would be forgotten.
    changing: tokio::sync::Mutex<Presence>,
    state: Mutex<State>,
}

/// Whether files of a lock may be in the repository.
#[derive(Debug, PartialEq, Eq)]
enum Presence {
    There,
    Released,
}

#[derive(Debug)]
struct State {
    id: LockId,
    refreshed_at: Duration,
    /// When whoever took a lock in the same moment sees this one.
    seen_from: Duration,
    /// `None` once the run that took the lock is over.
    held: Option<HeldLock>,
}

/// What was found while taking a lock.
#[derive(Debug, Default)]
pub(crate) struct Takeover {
    /// Locks of dead runs of ours. Packs of those may lack an index, so whoever takes over indexes
    /// them before it removes the locks with [`RepositoryLock::remove_dead`].
    pub(crate) dead_locks: Vec<LockId>,
}

impl RepositoryLock {
    /// Takes a lock, shared or exclusive. Locks of our own dead runs do not count. A shared one is to
    /// be confirmed before the first write.
    ///
    /// # Errors
    /// `Locked` if somebody else holds one that conflicts.
    pub(crate) async fn acquire(
        repository: &Repository,
        owner: &LockOwner,
        instance: &Instance,
        exclusive: bool,
        cancel: &CancelToken,
    ) -> Result<(Self, Takeover)> {
        let looking = refuse_conflict(repository, instance, exclusive, None);
        let dead_locks = cancel.unless_cancelled(looking).await?;
        let lock = Self::create(repository, owner, instance, exclusive, cancel).await?;
        if exclusive && let Err(error) = cancel.unless_cancelled(lock.confirm()).await {
            drop(lock.release().await);
            return Err(error);
        }
        Ok((lock, Takeover { dead_locks }))
    }

    /// Takes a shared lock to read. Locks of our own dead instances do not count and stay: the next
    /// backup must see them, to find the packs that lack an index.
    ///
    /// # Errors
    /// `Locked` if somebody else holds an exclusive lock.
    pub(crate) async fn acquire_for_reading(
        repository: &Repository,
        owner: &LockOwner,
        instance: &Instance,
        cancel: &CancelToken,
    ) -> Result<Self> {
        cancel.unless_cancelled(refuse_conflict(repository, instance, false, None)).await?;
        Self::create(repository, owner, instance, false, cancel).await
    }

    async fn create(
        repository: &Repository,
        owner: &LockOwner,
        instance: &Instance,
        exclusive: bool,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let (sealed, id, held) = seal(repository, owner, instance, exclusive)?;
        let lock = Self(Arc::new(Inner {
            repository: repository.clone(),
            owner: owner.clone(),
            instance: instance.clone(),
            exclusive,
            confirmed: OnceCell::new(),
            changing: tokio::sync::Mutex::new(Presence::There),
            state: Mutex::new(State {
                id,
                refreshed_at: repository.env().clock().elapsed_since_boot(),
                seen_from: Duration::ZERO,
                held: Some(held),
            }),
        }));
        let take = async {
            repository.create_sealed(FileKind::Lock, [sealed.into()]).await?;
            lock.state().seen_from = repository.env().clock().elapsed_since_boot() + RECHECK_DELAY;
            Ok(())
        };
        if let Err(error) = cancel.unless_cancelled(take).await {
            // It may be there, whatever went wrong.
            drop(lock.release().await);
            return Err(error);
        }
        Ok(lock)
    }

    /// Looks, once, whether somebody took a lock that conflicts in the same moment: neither saw the
    /// other's then. Looks at once, for whoever is about to go, and again when each sees the other's.
    /// Reading may begin before; writing may not.
    ///
    /// # Errors
    /// `Locked` if somebody did.
    pub(crate) async fn confirm(&self) -> Result<()> {
        let Inner { repository, instance, exclusive, confirmed, .. } = &*self.0;
        let look = || async {
            let (id, seen_from) = {
                let state = self.state();
                (state.id, state.seen_from)
            };
            refuse_conflict(repository, instance, *exclusive, Some(id)).await?;
            let clock = repository.env().clock();
            let wait = seen_from.saturating_sub(clock.elapsed_since_boot());
            if !wait.is_zero() {
                clock.sleep(wait).await;
            }
            refuse_conflict(repository, instance, *exclusive, Some(id)).await.map(drop)
        };
        confirmed.get_or_try_init(look).await.copied()
    }

    /// Removes locks of dead runs, once what those left is taken care of.
    pub(crate) async fn remove_dead(&self, dead_locks: &[LockId]) -> Result<()> {
        if !dead_locks.is_empty() {
            self.confirm().await?;
        }
        delete_locks(&self.0.repository, dead_locks).await
    }

    /// Renews the lock: the new file first, then the old one goes. Nothing happens to one that was
    /// released.
    ///
    /// # Errors
    /// `Locked` if the lock is gone, or has not been renewed for so long that others may have removed
    /// it: the caller writes nothing more.
    pub(crate) async fn refresh(&self) -> Result<()> {
        let changing = self.0.changing.lock().await;
        if *changing == Presence::Released {
            return Ok(());
        }
        self.check_alive().await?;
        let Inner { repository, owner, instance, exclusive, .. } = &*self.0;
        let (sealed, id, held) = seal(repository, owner, instance, *exclusive)?;
        // What others see is the time within, not when it arrived.
        let refreshed_at = repository.env().clock().elapsed_since_boot();
        // It may arrive though this fails or is dropped.
        let unsure = LeavesLock(instance);
        repository.create_sealed(FileKind::Lock, [sealed.into()]).await?;
        // That may have taken long enough for others to remove the one before, and what it protected.
        if let Err(lost) = self.check_alive().await {
            repository.delete(FileKind::Lock, id.as_bytes()).await?;
            unsure.settle();
            return Err(lost);
        }
        let now = repository.env().clock().elapsed_since_boot();
        let new = State { id, refreshed_at, seen_from: now + RECHECK_DELAY, held: Some(held) };
        let old = std::mem::replace(&mut *self.state(), new);
        repository.delete(FileKind::Lock, old.id.as_bytes()).await?;
        unsure.settle();
        Ok(())
    }

    /// Proves that the lock is still ours. Called right before anything is published.
    pub(crate) async fn check_alive(&self) -> Result<()> {
        let repository = &self.0.repository;
        let lost = |why: String| {
            Error::new(
                ErrorKind::Locked,
                format!("the lock on {} is lost: {why}", repository.location()),
            )
            .with_code("lock-lost")
            .with_hint("run it again; what was stored is kept")
        };
        loop {
            let (id, refreshed_at) = {
                let state = self.state();
                (state.id, state.refreshed_at)
            };
            let now = repository.env().clock().elapsed_since_boot();
            let age = now.saturating_sub(refreshed_at);
            if age >= FREEZE_AFTER {
                return Err(lost(format!("it was not renewed for {} min", age.as_secs() / 60)));
            }
            let key = FileKind::Lock.key(id.as_bytes())?;
            if exists(&**repository.destination(), &key).await? {
                return Ok(());
            }
            // Renewed while we looked: then the file of before is rightly gone.
            if self.id() == id {
                return Err(lost("somebody removed it".to_owned()));
            }
        }
    }

    /// Leaves the lock behind as a crash would: the next run of this process takes it for dead.
    pub(crate) fn abandon(&self) {
        self.state().held = None;
    }

    /// Gives the lock up. One that stays is removed by the next run of this process, or after it.
    ///
    /// # Errors
    /// `Timeout` if the destination does not answer within 10 s; else its error.
    pub(crate) async fn release(&self) -> Result<()> {
        let repository = &self.0.repository;
        let release = async {
            let mut changing = self.0.changing.lock().await;
            let id = self.state().id;
            repository.delete(FileKind::Lock, id.as_bytes()).await?;
            *changing = Presence::Released;
            Ok(())
        };
        within(repository.env().clock(), RELEASE_TIME, release).await
    }

    /// The clock that its age is told by.
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        self.0.repository.env().clock()
    }

    /// The id of the lock file as of now.
    pub(crate) fn id(&self) -> LockId {
        self.state().id
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if *self.changing.get_mut() == Presence::There {
            self.instance.leaves_lock();
        }
    }
}

/// Notes, if dropped before it is settled, that a lock may stay.
struct LeavesLock<'a>(&'a Instance);

impl LeavesLock<'_> {
    fn settle(self) {
        std::mem::forget(self);
    }
}

impl Drop for LeavesLock<'_> {
    fn drop(&mut self) {
        self.0.leaves_lock();
    }
}

/// Makes the bytes of a lock. It counts as held before it is there.
fn seal(
    repository: &Repository,
    owner: &LockOwner,
    instance: &Instance,
    exclusive: bool,
) -> Result<(Vec<u8>, LockId, HeldLock)> {
    let env = repository.env();
    let lock = Lock {
        time: FileTime::from_timestamp(env.now(), env.time_zone()),
        exclusive,
        // Not the plain host name: restic would probe our process with a signal.
        hostname: instance.lock_hostname(&owner.hostname),
        username: owner.username.clone(),
        pid: i64::from(owner.pid),
        uid: owner.uid,
        gid: owner.gid,
    };
    let sealed = repository.seal_file(&lock.encode())?;
    // Other runs of this process must not take it for dead.
    let id = LockId::from_bytes(sha256(&sealed));
    let held = instance.hold(id);
    Ok((sealed, id, held))
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
