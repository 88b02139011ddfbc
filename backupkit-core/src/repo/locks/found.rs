//! The locks that are in a repository, whoever took them.

use std::time::Duration;

use jiff::Timestamp;

use super::super::layout::FileKind;
use super::super::lock_file::Lock;
use super::super::repository::{Repository, read_capped, sha256};
use crate::error::{Error, ErrorKind, Result};
use crate::instance::Instance;
use crate::model::{FileTime, LockId};

/// How long to wait before a lock that is not whole is looked at again; then it counts. restic looks as
/// often.
const UNFINISHED_WAITS: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// A lock as `repo unlock` and errors show it.
#[derive(Debug, Clone)]
pub struct LockInfo {
    /// The id.
    pub id: LockId,
    /// Who holds it: user, machine and process.
    pub holder: String,
    /// Since when, or when it was last renewed.
    pub time: FileTime,
    /// Whether nobody else may hold one.
    pub exclusive: bool,
    /// Whether its holder is dead for certain, or it was not renewed for 30 minutes.
    pub stale: bool,
}

impl Repository {
    /// Lists the locks. Files that cannot be read are named as held by "unknown".
    pub async fn locks(&self, instance: &Instance) -> Result<Vec<LockInfo>> {
        let now = self.env().now();
        let mut locks = Vec::new();
        for (id, lock) in load_all(self).await? {
            locks.push(match lock {
                Some(lock) => LockInfo {
                    id,
                    holder: describe_holder(&lock),
                    time: lock.time,
                    exclusive: lock.exclusive,
                    stale: lock.is_stale(now) || instance.is_dead(id, &lock.hostname),
                },
                None => LockInfo {
                    id,
                    holder: "unknown".to_owned(),
                    time: FileTime::EPOCH,
                    exclusive: true,
                    stale: false,
                },
            });
        }
        Ok(locks)
    }

    /// The locks of processes of ours that are dead for certain and were last renewed before a time.
    pub(crate) async fn dead_locks(
        &self,
        instance: &Instance,
        before: Timestamp,
    ) -> Result<Vec<LockId>> {
        let found = load_all(self).await?.into_iter();
        let is_dead = |(id, lock): (LockId, Option<Lock>)| {
            let lock = lock.filter(|lock| instance.is_dead(id, &lock.hostname))?;
            (lock.time.timestamp() < before).then_some(id)
        };
        Ok(found.filter_map(is_dead).collect())
    }

    /// Removes stale locks, or all of them, and returns those removed.
    pub async fn unlock(&self, instance: &Instance, all: bool) -> Result<Vec<LockInfo>> {
        let mut locks = self.locks(instance).await?;
        locks.retain(|lock| all || lock.stale);
        let ids: Vec<LockId> = locks.iter().map(|lock| lock.id).collect();
        delete_locks(self, &ids).await?;
        Ok(locks)
    }
}

/// Removes the files of locks.
pub(super) async fn delete_locks(repository: &Repository, locks: &[LockId]) -> Result<()> {
    let ids: Vec<[u8; 32]> = locks.iter().map(|id| *id.as_bytes()).collect();
    match repository.delete_many(FileKind::Lock, &ids).await?.into_iter().next() {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// Returns the locks of dead runs of ours, which conflict with nothing.
pub(super) async fn refuse_conflict(
    repository: &Repository,
    instance: &Instance,
    exclusive: bool,
    own: Option<LockId>,
) -> Result<Vec<LockId>> {
    let mut dead = Vec::new();
    for (id, lock) in load_all(repository).await? {
        if Some(id) == own {
            continue;
        }
        if lock.as_ref().is_some_and(|lock| instance.is_dead(id, &lock.hostname)) {
            dead.push(id);
            continue;
        }
        let (conflicts, holder) = match &lock {
            Some(lock) => (exclusive || lock.exclusive, describe_holder(lock)),
            // Unreadable: it may be exclusive.
            None => (true, "unknown".to_owned()),
        };
        if conflicts {
            return Err(Error::new(
                ErrorKind::Locked,
                format!("the repository at {} is locked by {holder}", repository.location()),
            )
            .with_hint("wait until it is done; if it died, run `backupkit repo unlock`"));
        }
    }
    Ok(dead)
}

/// All locks; `None` for one that is there but cannot be read. Vanished and empty ones are left out.
///
/// One that is not whole may be on its way to a store that is slow or shows unfinished files, so it is
/// looked at again before it counts.
async fn load_all(repository: &Repository) -> Result<Vec<(LockId, Option<Lock>)>> {
    let mut locks = Vec::new();
    let mut ids = repository.list(FileKind::Lock).await?;
    let mut waits = UNFINISHED_WAITS.into_iter();
    loop {
        let mut unfinished = Vec::new();
        for id in ids {
            match load_one(repository, &id).await? {
                Found::Nothing => {}
                Found::Lock(lock) => locks.push((LockId::from_bytes(id), Some(lock))),
                Found::Unreadable => locks.push((LockId::from_bytes(id), None)),
                Found::Unfinished => unfinished.push(id),
            }
        }
        ids = unfinished;
        match waits.next() {
            Some(wait) if !ids.is_empty() => repository.env().clock().sleep(wait).await,
            _ => break,
        }
    }
    locks.extend(ids.into_iter().map(|id| (LockId::from_bytes(id), None)));
    Ok(locks)
}

/// What there is under the name of a lock.
enum Found {
    Nothing,
    Lock(Lock),
    /// Whole, and no lock that this key opens. Waiting changes nothing.
    Unreadable,
    /// Other bytes than its name says.
    Unfinished,
}

async fn load_one(repository: &Repository, id: &[u8; 32]) -> Result<Found> {
    let key = FileKind::Lock.key(id)?;
    let limit = FileKind::Lock.max_bytes();
    let sealed = match read_capped(&**repository.destination(), &key, limit).await {
        Ok(sealed) if sealed.is_empty() => return Ok(Found::Nothing),
        Ok(sealed) => sealed,
        Err(error) if error.is(ErrorKind::NotFound) => return Ok(Found::Nothing),
        Err(error) if error.is(ErrorKind::Corrupt) => return Ok(Found::Unfinished),
        Err(error) => return Err(error),
    };
    if sha256(&sealed) != *id {
        return Ok(Found::Unfinished);
    }
    let opened = repository.open_sealed(FileKind::Lock, id, &sealed);
    let lock = opened.and_then(|json| Lock::decode(&json));
    Ok(lock.map_or(Found::Unreadable, Found::Lock))
}

fn describe_holder(lock: &Lock) -> String {
    let host = lock.hostname.split("/backupkit-").next().unwrap_or(&lock.hostname);
    format!("{}@{host}, process {}, since {}", lock.username, lock.pid, lock.time)
}
