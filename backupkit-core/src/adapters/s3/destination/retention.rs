//! Keeping what was written from being deleted, by the Object Lock of the bucket.
//!
//! What a restore needs is retained: config, keys, snapshots, indexes and packs. What comes and goes,
//! locks and leases, never is.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_s3::primitives::DateTime;
use jiff::Timestamp;

use super::S3Destination;
use crate::adapters::s3::S3Retention;
use crate::adapters::s3::bucket::{Bucket, ObjectRef, PagedVersion};
use crate::adapters::s3::errors::{NO_OBJECT_LOCK, NOT_IMPLEMENTED};
use crate::adapters::s3::object::{ObjectLock, ObjectRecord};
use crate::destination::{Destination as _, Extension, ObjectKey, no_retention};
use crate::error::{Error, ErrorKind, Result, Retry};

/// What is written or extended is retained for so much longer than asked for, so that extending it once
/// a day is enough.
const SLACK: Duration = Duration::from_hours(24);
/// Some servers refuse to lock what was written just now.
const UNTOUCHED_SECONDS: i64 = 10;

/// The clock of the server is asked for anew after so long.
const CLOCK_TIME: Duration = Duration::from_hours(1);
/// So many of the oldest versions of an object are retained for longer, besides the newest one.
const OLDEST_VERSIONS: usize = 8;

const UNLOCKED_HINT: &str =
    "make the repository in a bucket that was made with Object Lock, or leave out retention_mode";
const LIST_VERSIONS: &str = "let this key do s3:ListBucketVersions: somebody may have put another version before the true one";

/// A time of the server, and when it told it, since the start of this machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerTime {
    told: Timestamp,
    at: Duration,
}

/// Whether locks were seen of objects that were locked in each way: a server may keep them of one only.
#[derive(Debug, Default)]
pub(super) struct LockProofs {
    whole: AtomicBool,
    in_parts: AtomicBool,
    extended: AtomicBool,
    extended_by_version: AtomicBool,
}

/// How an object was locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Whole,
    InParts,
    Extended,
    ExtendedByVersion,
}

/// What has a key.
#[derive(Debug, Default)]
struct Versions {
    newest: Option<PagedVersion>,
    /// The last one is the oldest.
    oldest: VecDeque<PagedVersion>,
    /// Whether a mark of a deletion stands before all of them.
    is_deleted: bool,
}

impl LockProofs {
    fn of(&self, way: Way) -> &AtomicBool {
        match way {
            Way::Whole => &self.whole,
            Way::InParts => &self.in_parts,
            Way::Extended => &self.extended,
            Way::ExtendedByVersion => &self.extended_by_version,
        }
    }
}

impl ServerTime {
    fn after(self, now: Duration) -> Timestamp {
        let passed = now.saturating_sub(self.at);
        self.told.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }
}

impl Versions {
    fn add(&mut self, version: PagedVersion) {
        if version.is_mark() {
            self.is_deleted |= version.is_latest;
            return;
        }
        if self.newest.is_none() {
            self.newest = Some(version);
            return;
        }
        if self.oldest.len() == OLDEST_VERSIONS {
            self.oldest.pop_front();
        }
        self.oldest.push_back(version);
    }
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
    /// written with one is looked at, until that was seen once of an object that was written in that way.
    ///
    /// # Errors
    /// `Unsupported` if the lock is not there.
    pub(super) async fn require_locked(
        &self,
        key: &ObjectKey,
        record: &ObjectRecord,
        way: Way,
    ) -> Result<()> {
        let proof = self.keeps_locks.of(way);
        if record.lock.is_none() || proof.load(Ordering::Relaxed) {
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
        proof.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Makes sure that what was there already, with the same bytes, is retained as what is written now would
    /// be: whoever wrote it may not have locked it, or long ago.
    pub(super) async fn retain_existing(&self, key: &ObjectKey) -> Result<()> {
        let Some(retention) = self.bucket.settings().retention.filter(|_| is_retained(key)) else {
            return Ok(());
        };
        let full_key = self.bucket.full_key(key.as_str());
        let now = self.server_now().await?;
        self.extend_version(ObjectRef::newest(&full_key), retention, now, false).await.map(drop)
    }

    /// Retains an object for longer, if it is not retained for long enough.
    ///
    /// Whoever may add objects may put another version of one before the true one, and which one is true
    /// only a reader can tell. So it is each version: of very many the newest one, which is what there is
    /// now, and the oldest ones, as nobody knows the name of an object before it is written.
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
        let full_key = self.bucket.full_key(key.as_str());
        let now = self.server_now().await?;
        let is_new = |modified: i64| now.as_second().saturating_sub(modified) < UNTOUCHED_SECONDS;
        let none = || {
            let message = format!("cannot {doing}: there is none at {}", self.location());
            Error::new(ErrorKind::NotFound, message)
        };
        let found = match self.versions_of(key).await {
            Ok(found) => found,
            Err(error)
                if error.is(ErrorKind::PermissionDenied) || error.code() == NOT_IMPLEMENTED =>
            {
                let newest = self.bucket.look(key.as_str()).await?.ok_or_else(none)?;
                let object = ObjectRef::newest(&full_key);
                let extended = if newest.modified.is_some_and(is_new) {
                    Extension::TooNew
                } else {
                    self.extend_version(object, retention, now, dry_run).await?
                };
                // A server that shows no versions has none.
                return if error.is(ErrorKind::PermissionDenied) {
                    let doing = format!("{doing}, but for what is there now");
                    Err(error.while_doing(doing).with_hint(LIST_VERSIONS))
                } else {
                    Ok(extended)
                };
            }
            Err(error) => return Err(error),
        };
        let (mut extended, mut failure) = (Extension::LongEnough, None);
        let is_deleted = found.is_deleted;
        let versions = found.newest.into_iter().chain(found.oldest);
        let mut has_any = false;
        for version in versions {
            has_any = true;
            if is_new(version.modified.as_second()) {
                if extended == Extension::LongEnough {
                    extended = Extension::TooNew;
                }
                continue;
            }
            let object = ObjectRef { key: &full_key, version: version.id.as_deref() };
            match self.extend_version(object, retention, now, dry_run).await {
                Ok(Extension::Extended) => extended = Extension::Extended,
                Ok(_) => {}
                // It may be that of somebody else; the others are ours all the same.
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(error) => Err(error),
            // What is below the mark is retained, but nobody who opens the repository sees it.
            None if !has_any || is_deleted => Err(none()),
            None => Ok(extended),
        }
    }

    /// The versions of an object.
    async fn versions_of(&self, key: &ObjectKey) -> Result<Versions> {
        let (mut found, mut behind) = (Versions::default(), None);
        loop {
            let page = self.bucket.versions_page(key.as_str(), behind.as_ref()).await?;
            for version in page.versions {
                if version.key == key.as_str() {
                    found.add(version);
                }
            }
            // A key comes before all that begin with it.
            behind = page.next.filter(|next| next.key == key.as_str());
            if behind.is_none() {
                return Ok(found);
            }
        }
    }

    /// Retains a version for longer, if it is not retained for long enough from now on.
    async fn extend_version(
        &self,
        object: ObjectRef<'_>,
        retention: S3Retention,
        now: Timestamp,
        dry_run: bool,
    ) -> Result<Extension> {
        let wanted = now.saturating_add(retention.duration()).unwrap_or(Timestamp::MAX);
        let is_enough = |lock: &ObjectLock| {
            lock.until().is_some_and(|until| until.secs() >= wanted.as_second())
        };
        let old = match self.bucket.retention(object).await {
            Ok(lock) => lock.and_then(|lock| lock.still_at(now.as_second())),
            // This key must not see it.
            Err(error) if error.is(ErrorKind::PermissionDenied) => None,
            Err(error) => return Err(refused(object.key, error)),
        };
        if old.as_ref().is_some_and(is_enough) {
            return Ok(Extension::LongEnough);
        }
        // Servers refuse another mode as long as one holds.
        let mode = old.and_then(|old| old.mode);
        let mode = mode.as_deref().unwrap_or(retention.mode().wire());
        let wished = lock(mode, now, retention.duration().saturating_add(SLACK));
        let Some(wished) = wished.filter(|_| !dry_run) else { return Ok(Extension::Extended) };
        match self.bucket.retain(object, &wished).await {
            Ok(()) => {
                self.require_extended(object, is_enough).await?;
                Ok(Extension::Extended)
            }
            Err(error) => {
                // Somebody else may have retained it for as long meanwhile: this would be shorter.
                let lock = self.bucket.retention(object).await.ok().flatten();
                if lock.as_ref().is_some_and(is_enough) {
                    Ok(Extension::LongEnough)
                } else {
                    Err(refused(object.key, error))
                }
            }
        }
    }

    /// Makes sure that the server keeps longer locks, as [`Self::require_locked`] does of new ones.
    async fn require_extended(
        &self,
        object: ObjectRef<'_>,
        is_enough: impl Fn(&ObjectLock) -> bool,
    ) -> Result<()> {
        let is_newest = object.version.is_none();
        let way = if is_newest { Way::Extended } else { Way::ExtendedByVersion };
        let proof = self.keeps_locks.of(way);
        if proof.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.bucket.retention(object).await {
            Ok(lock) if lock.as_ref().is_some_and(is_enough) => {}
            // This key must not see it.
            Err(error) if error.is(ErrorKind::PermissionDenied) => {}
            Ok(_) => return Err(unlocked(object.key)),
            Err(error) => return Err(refused(object.key, error)),
        }
        proof.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The time by the clock of the server, which decides what is over; that of this machine if it tells
    /// none. It is asked for now and then, as both go on by themselves.
    async fn server_now(&self) -> Result<Timestamp> {
        let clock = self.env.clock();
        let mut known = self.server_time.lock().await;
        let earlier = known.map(|time| (time, clock.elapsed_since_boot()));
        if let Some((time, now)) = earlier
            && now.saturating_sub(time.at) < CLOCK_TIME
        {
            return Ok(time.after(now));
        }
        let told = match (self.bucket.server_time("backupkit/").await, *known) {
            (Ok(told), _) => told.unwrap_or_else(|| self.env.now()),
            // As well as can be told without; it is asked again later.
            (Err(_), Some(time)) => time.after(clock.elapsed_since_boot()),
            (Err(error), None) => return Err(error),
        };
        *known = Some(ServerTime { told, at: clock.elapsed_since_boot() });
        Ok(told)
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
