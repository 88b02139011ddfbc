//! Whether another process of ours still lives, told by a file lock and never by process number.
//!
//! Each process holds an OS lock on a file of its own with a random name. The system releases it when
//! the process ends, however it ends. Process numbers are reused and mean nothing in containers.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::env::Env;
use crate::error::{Error, Result};
use crate::model::LockId;

/// This process, as other processes of ours on this machine see it. Clones share the lock.
#[derive(Debug, Clone)]
pub struct Instance(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: String,
    /// The folder of the lock files, and our own locked file in it. `None`: others cannot tell
    /// whether we live, and we cannot tell of them.
    folder: Option<(PathBuf, File)>,
    /// The locks that runs of this process hold. Others that carry our id were left by runs that are
    /// over.
    held: Mutex<HashSet<LockId>>,
    /// Locks of ours may be left in a repository, so our file must tell that we are dead.
    leaves_locks: AtomicBool,
}

/// Says that a lock of this process is in use, until dropped.
#[derive(Debug)]
pub(crate) struct HeldLock {
    instance: Instance,
    id: LockId,
}

impl Instance {
    /// Registers this process in `folder`, which all processes of a user on one machine share.
    pub fn register(folder: &Path, env: &Env) -> Result<Self> {
        let id = hex::encode(env.random::<16>()?);
        let path = folder.join(format!("{id}.lock"));
        let open = || -> std::io::Result<File> {
            std::fs::create_dir_all(folder)?;
            let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        let file = open().map_err(|error| Error::io(format!("lock {}", path.display()), error))?;
        remove_dead_files(folder);
        Ok(Self::new(id, Some((folder.to_owned(), file))))
    }

    /// Returns an instance that nobody can see. Its locks are removed only by age.
    pub fn anonymous(env: &Env) -> Result<Self> {
        let id = hex::encode(env.random::<16>()?);
        Ok(Self::new(id, None))
    }

    fn new(id: String, folder: Option<(PathBuf, File)>) -> Self {
        Self(Arc::new(Inner {
            id,
            folder,
            held: Mutex::default(),
            leaves_locks: AtomicBool::new(false),
        }))
    }

    /// A random id of 32 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Whether the process with this id has ended for certain: it registered in the same folder and its
    /// file is locked no more. Of one without a file there nobody can tell: it is elsewhere, or ended in
    /// order.
    pub fn has_ended(&self, id: &str) -> bool {
        let Some((folder, _)) = self.0.folder.as_ref().filter(|_| id != self.0.id) else {
            return false;
        };
        let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id && is_unlocked(&folder.join(format!("{id}.lock")))
    }

    /// The host name as our locks carry it.
    pub(crate) fn lock_hostname(&self, host: &str) -> String {
        format!("{host}{MARK}{}", self.0.id)
    }

    /// Notes that a run of this process uses a lock.
    pub(crate) fn hold(&self, id: LockId) -> HeldLock {
        self.held().insert(id);
        HeldLock { instance: self.clone(), id }
    }

    /// Notes that a lock may stay in a repository. Once this process has ended, by a crash or not, others
    /// take it for dead.
    pub(crate) fn leaves_lock(&self) {
        self.0.leaves_locks.store(true, Ordering::Release);
    }

    /// Makes others see this process as dead, as after a crash, though it lives on.
    #[cfg(feature = "testing")]
    pub fn crash(&self) {
        self.leaves_lock();
        if let Some((_, file)) = &self.0.folder {
            drop(file.unlock());
        }
    }

    /// Whether a lock with this host name was left by a run of ours, on this machine, that is over
    /// for certain: its process is dead, or is this one and knows nothing of it.
    pub(crate) fn is_dead(&self, lock: LockId, lock_hostname: &str) -> bool {
        let Some((_, id)) = lock_hostname.rsplit_once(MARK) else {
            return false;
        };
        if id == self.0.id {
            return !self.held().contains(&lock);
        }
        self.has_ended(id)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashSet<LockId>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        self.instance.held().remove(&self.id);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The file stays, as after a crash, for as long as it has something to tell.
        if self.leaves_locks.load(Ordering::Acquire) {
            return;
        }
        if let Some((folder, _)) = &self.folder {
            drop(std::fs::remove_file(folder.join(format!("{}.lock", self.id))));
        }
    }
}

const MARK: &str = "/backupkit-";

/// How long the file of a dead instance is kept: as long as its locks may matter.
const KEEP_DEAD_FILES: std::time::Duration = std::time::Duration::from_hours(90 * 24);

fn is_unlocked(path: &Path) -> bool {
    let Ok(file) = OpenOptions::new().write(true).open(path) else {
        return false;
    };
    match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
    }
}

/// Best effort: a folder that cannot be cleaned is no reason not to back up.
fn remove_dead_files(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let age =
            entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > KEEP_DEAD_FILES) && is_unlocked(&entry.path()) {
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: LockId = LockId::from_bytes([7; 32]);

    #[test]
    fn an_instance_is_dead_once_its_lock_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let env = Env::system();
        let ours = Instance::register(folder.path(), &env).unwrap();
        let other = Instance::register(folder.path(), &env).unwrap();
        let name = other.lock_hostname("host");
        assert!(!ours.is_dead(LOCK, &name) && !ours.has_ended(other.id()));
        // A crash leaves the file behind with its lock free.
        let id = other.id().to_owned();
        drop(other);
        // Without a file it may as well live elsewhere.
        assert!(!ours.has_ended(&id));
        std::fs::write(folder.path().join(format!("{id}.lock")), "").unwrap();
        assert!(ours.is_dead(LOCK, &name) && ours.has_ended(&id));
    }

    #[test]
    fn a_lock_of_our_own_is_dead_once_no_run_holds_it() {
        let ours = Instance::anonymous(&Env::system()).unwrap();
        let name = ours.lock_hostname("host");
        let held = ours.hold(LOCK);
        assert!(!ours.is_dead(LOCK, &name));
        drop(held);
        assert!(ours.is_dead(LOCK, &name));
    }

    #[test]
    fn foreign_locks_are_never_called_dead() {
        let folder = tempfile::tempdir().unwrap();
        let ours = Instance::register(folder.path(), &Env::system()).unwrap();
        for name in ["host", "host/backupkit-../../etc", "host/backupkit-"] {
            assert!(!ours.is_dead(LOCK, name), "{name}");
        }
        assert!(!ours.is_dead(LOCK, &format!("host/backupkit-{}", "0".repeat(32))));
    }
}
