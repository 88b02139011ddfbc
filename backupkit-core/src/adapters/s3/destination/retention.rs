//! Keeping what was written from being deleted, by the Object Lock of the bucket.
//!
//! What a restore needs is retained: config, keys, snapshots, indexes and packs. What comes and goes,
//! locks and leases, never is.

use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_s3::primitives::DateTime;
use jiff::Timestamp;

use super::S3Destination;
use crate::adapters::s3::S3Retention;
use crate::adapters::s3::bucket::{Bucket, ObjectRef};
use crate::adapters::s3::errors::{NO_OBJECT_LOCK, NOT_IMPLEMENTED};
use crate::adapters::s3::object::{ObjectLock, ObjectRecord};
use crate::destination::{Destination as _, Extension, ObjectKey, no_retention};
use crate::error::{Error, ErrorKind, Result, Retry};

/// What is written or extended is retained for so much longer than asked for, so that extending it once
/// a day is enough.
const SLACK: Duration = Duration::from_hours(24);
/// Some servers refuse to lock what was written just now.
const UNTOUCHED_SECONDS: i64 = 10;

const UNLOCKED_HINT: &str =
    "make the repository in a bucket that was made with Object Lock, or leave out retention_mode";

/// A time of the server, and when it told it, since the start of this machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerTime {
    told: Timestamp,
    at: Duration,
}

/// Whether an object is one that a restore needs.
fn is_retained(key: &ObjectKey) -> bool {
    let folder = key.as_str().split('/').next().unwrap_or_default();
    matches!(folder, "config" | "keys" | "snapshots" | "index" | "data")
}

impl S3Destination {
    /// What goes with an object that is written now.
    pub(super) async fn record_of(&self, key: &ObjectKey) -> Result<ObjectRecord> {
        let mut record = ObjectRecord::of_ours(self.storage_class(key));
        if let Some(retention) = self.bucket.settings().retention
            && is_retained(key)
        {
            let now = self.server_now().await?;
            let mode = retention.mode().wire();
            record.lock = lock(mode, now, retention.duration().saturating_add(SLACK));
        }
        Ok(record)
    }

    /// A lock of so long from now on, to try whether the server takes one.
    pub(super) async fn lock_for(
        &self,
        retention: S3Retention,
        time: Duration,
    ) -> Result<Option<ObjectLock>> {
        Ok(lock(retention.mode().wire(), self.server_now().await?, time))
    }

    /// Makes sure that the server keeps locks: some take them and forget them. An object that was just
    /// written with one is looked at, until that was seen once.
    ///
    /// # Errors
    /// `Unsupported` if the lock is not there.
    pub(super) async fn require_locked(
        &self,
        key: &ObjectKey,
        record: &ObjectRecord,
    ) -> Result<()> {
        if record.lock.is_none() || self.keeps_locks.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.bucket.look(key.as_str()).await? {
            Some(found) if found.lock.is_none() => {
                require_secrecy(&self.bucket, key.as_str()).await?;
            }
            // One that is gone again says nothing.
            None => return Ok(()),
            Some(_) => {}
        }
        self.keeps_locks.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Retains an object for longer, if it is not retained for long enough.
    pub(super) async fn extend(&self, key: &ObjectKey, dry_run: bool) -> Result<Extension> {
        let doing = format!("retain {key}");
        let Some(retention) = self.bucket.settings().retention else {
            return Err(no_retention(&self.location())
                .with_hint("set retention_mode and retention_days for this bucket"));
        };
        if !is_retained(key) {
            let message = format!("cannot {doing}: it comes and goes");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let found = self.bucket.look(key.as_str()).await?.ok_or_else(|| {
            let message = format!("cannot {doing}: there is none at {}", self.location());
            Error::new(ErrorKind::NotFound, message)
        })?;
        let now = self.server_now().await?;
        let old = found.lock.and_then(|lock| lock.still_at(now.as_second()));
        let wanted = now.saturating_add(retention.duration()).unwrap_or(Timestamp::MAX);
        let until = old.as_ref().and_then(ObjectLock::until);
        if until.is_some_and(|until| until.secs() >= wanted.as_second()) {
            return Ok(Extension::LongEnough);
        }
        let age = found.modified.map(|modified| now.as_second().saturating_sub(modified));
        if age.is_some_and(|age| age < UNTOUCHED_SECONDS) {
            return Ok(Extension::TooNew);
        }
        if !dry_run {
            // Servers refuse another mode as long as one holds.
            let mode = old.and_then(|old| old.mode);
            let mode = mode.as_deref().unwrap_or(retention.mode().wire());
            let full_key = self.bucket.full_key(key.as_str());
            let wished = lock(mode, now, retention.duration().saturating_add(SLACK));
            if let Some(lock) = wished
                && let Err(error) = self.bucket.retain(ObjectRef::newest(&full_key), &lock).await
            {
                // Somebody else may have retained it for as long meanwhile: this would be shorter.
                let found = self.bucket.look(key.as_str()).await.ok().flatten();
                let until = found.and_then(|found| found.lock?.until());
                return if until.is_some_and(|until| until.secs() >= wanted.as_second()) {
                    Ok(Extension::LongEnough)
                } else {
                    Err(refused(key.as_str(), error))
                };
            }
        }
        Ok(Extension::Extended)
    }

    /// The time by the clock of the server, which decides what is over. It is asked once.
    async fn server_now(&self) -> Result<Timestamp> {
        let clock = self.env.clock();
        let asking = self.server_time.get_or_try_init(|| async {
            let told = self.bucket.server_time("backupkit/").await?;
            let told = told.unwrap_or_else(|| self.env.now());
            Ok::<_, Error>(ServerTime { told, at: clock.elapsed_since_boot() })
        });
        let ServerTime { told, at } = *asking.await?;
        let passed = clock.elapsed_since_boot().saturating_sub(at);
        Ok(told.saturating_add(passed).unwrap_or(Timestamp::MAX))
    }
}

/// Makes sure that a lock that is not seen is one that this key must not see.
///
/// # Errors
/// `Unsupported` if there is none; those that pass, of a server that cannot be asked now.
pub(super) async fn require_secrecy(bucket: &Bucket, key: &str) -> Result<()> {
    let full_key = bucket.full_key(key);
    match bucket.retention(ObjectRef::newest(&full_key)).await {
        Ok(Some(_)) => Ok(()),
        Err(error) if error.is(ErrorKind::PermissionDenied) => Ok(()),
        Ok(None) => Err(unlocked(key)),
        Err(error) if error.retry() == Retry::Never => Err(unlocked(key).with_source(error)),
        Err(error) => Err(error),
    }
}

fn lock(mode: &str, now: Timestamp, time: Duration) -> Option<ObjectLock> {
    let until = now.saturating_add(time).unwrap_or(Timestamp::MAX);
    ObjectLock::new(Some(mode), Some(&DateTime::from_secs(until.as_second())), false)
}

/// What the refusal of an object with a lock means.
pub(super) fn refused(key: &str, error: Error) -> Error {
    if [NO_OBJECT_LOCK, NOT_IMPLEMENTED].contains(&error.code()) {
        unlocked(key).with_source(error)
    } else if error.is(ErrorKind::PermissionDenied) {
        error.with_hint("let this key do s3:PutObjectRetention, or leave out retention_mode")
    } else {
        error
    }
}

/// The refusal of a server that takes objects only without locks.
fn unlocked(key: &str) -> Error {
    let message = format!("cannot retain {key}: the server takes it only without a lock");
    Error::new(ErrorKind::Unsupported, message).with_code(NO_OBJECT_LOCK).with_hint(UNLOCKED_HINT)
}
