//! The lease on what only one program at a time may do in a repository, such as maintenance.
//!
//! Locks tell programs of each other, and leave a moment in which two may not see each other. Where a
//! destination can replace an object only if it has the expected bytes, there is a lease besides: one
//! object, `backupkit/lease`, that one program writes at a time. It is sealed as all files are, and
//! restic does not look at it. It is never deleted, only given up, as not every server keeps conditions
//! of deletes. Who holds it is told by its bytes; how old it is, by the clock of the destination, or by
//! watching it for as long as it is valid: never by comparing clocks of two machines.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::layout::FileKind;
use super::repository::{Repository, read_capped, sha256};
use crate::destination::ObjectKey;
use crate::env::within;
use crate::error::{Error, ErrorKind, Result};
use crate::token::CancelToken;

/// After so long without a renewal others may take it.
pub(crate) const LEASE_TIME: Duration = Duration::from_mins(5);
/// How often it is renewed.
pub(crate) const LEASE_RENEWAL: Duration = Duration::from_secs(100);
/// After so long without a renewal nothing more is done under it.
const FREEZE_AFTER: Duration = Duration::from_secs(200);
/// How long one attempt to renew it may take, and how long after one that failed the next follows.
const ATTEMPT_TIME: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_secs(10);
/// How often it is looked whether it has run out.
const LOOK: Duration = Duration::from_secs(2);
/// How long giving it up may take.
const RELEASE_TIME: Duration = Duration::from_secs(10);
/// The code of what was begun under a lease that somebody else has now.
pub(crate) const REPOSITORY_LEASE_LOST: &str = "repository-lease-lost";

/// A lease that this process holds. One that is dropped runs out.
#[derive(Debug, Clone)]
pub(crate) struct RepositoryLease(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    repository: Repository,
    holder: String,
    epoch: u64,
    /// Held while the object is replaced or compared.
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    sealed: Bytes,
    /// What may be there instead: whether it came to be written is not known.
    unsure: Option<Bytes>,
    /// When it was last renewed, since boot.
    renewed_at: Duration,
    is_over: bool,
}

/// What the object holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// One more with each holder.
    epoch: u64,
    held: bool,
    /// For people.
    holder: String,
    /// By the clock of the destination, in seconds since 1970.
    renewed: Option<i64>,
}

impl RepositoryLease {
    /// Takes the lease; nothing where destinations cannot keep one.
    ///
    /// # Errors
    /// `Locked` if somebody else holds it.
    pub(crate) async fn acquire(
        repository: &Repository,
        holder: &str,
        cancel: &CancelToken,
    ) -> Result<Option<Self>> {
        if !repository.destination().capabilities().swap {
            return Ok(None);
        }
        cancel.unless_cancelled(Self::take(repository, holder)).await
    }

    async fn take(repository: &Repository, holder: &str) -> Result<Option<Self>> {
        let found = read(repository).await?;
        let epoch = match &found {
            None => 1,
            Some(sealed) => match open(repository, sealed) {
                Ok(record) if record.held => {
                    let holder = record.holder.clone();
                    wait_until_over(repository, sealed, record.renewed, &holder).await?;
                    record.epoch.saturating_add(1)
                }
                Ok(record) => record.epoch.saturating_add(1),
                // It says nothing, so only time tells.
                Err(_) => {
                    wait_until_over(repository, sealed, None, "unknown").await?;
                    1
                }
            },
        };
        let (sealed, renewed_at) = seal(repository, epoch, holder, true).await?;
        let swapped = repository.destination().swap(&key()?, found, sealed.clone()).await;
        match swapped {
            Ok(()) => {}
            Err(error) if error.is(ErrorKind::Conflict) => {
                return Err(held(repository, "somebody who took it in the same moment"));
            }
            // It only seemed to be able to.
            Err(error) if error.is(ErrorKind::Unsupported) => return Ok(None),
            Err(error) => return Err(error),
        }
        let written = Written { sealed, unsure: None, renewed_at, is_over: false };
        Ok(Some(Self(Arc::new(Inner {
            repository: repository.clone(),
            holder: holder.to_owned(),
            epoch,
            written: Mutex::new(written),
        }))))
    }

    /// Keeps the lease for as long as this is polled, and returns why it is lost.
    pub(crate) async fn keep(&self) -> Error {
        let clock = self.0.repository.env().clock();
        let mut wait = LEASE_RENEWAL;
        loop {
            let slept_from = clock.elapsed_since_boot();
            // In short turns: while a machine sleeps, so do its timers, and the lease runs out.
            loop {
                let slept = clock.elapsed_since_boot().saturating_sub(slept_from);
                let left = wait.saturating_sub(slept);
                if left.is_zero() {
                    break;
                }
                clock.sleep(left.min(LOOK)).await;
                let written = self.0.written.lock().await;
                if let Err(lost) = self.check_age(&written) {
                    return lost;
                }
            }
            wait = LEASE_RENEWAL;
            let Err(error) = within(clock, ATTEMPT_TIME, self.renew()).await else { continue };
            wait = AGAIN;
            if error.code() == REPOSITORY_LEASE_LOST {
                return error;
            }
            let written = self.0.written.lock().await;
            if let Err(lost) = self.check_age(&written) {
                return lost.with_source(error);
            }
        }
    }

    /// Renews the lease, unless it was given up.
    ///
    /// # Errors
    /// `Locked` with code `repository-lease-lost` if somebody else holds it; those of the destination.
    pub(crate) async fn renew(&self) -> Result<()> {
        let Inner { repository, holder, epoch, .. } = &*self.0;
        let mut written = self.0.written.lock().await;
        if written.is_over {
            return Ok(());
        }
        self.settle(&mut written).await?;
        let (sealed, renewed_at) = seal(repository, *epoch, holder, true).await?;
        written.unsure = Some(sealed.clone());
        let expected = Some(written.sealed.clone());
        match repository.destination().swap(&key()?, expected, sealed.clone()).await {
            Ok(()) => {
                *written = Written { sealed, unsure: None, renewed_at, is_over: false };
                Ok(())
            }
            Err(error) if error.is(ErrorKind::Conflict) => Err(self.lost("somebody took it over")),
            Err(error) => Err(error),
        }
    }

    /// Proves that nobody else has taken the lease. Called right before something is removed.
    ///
    /// # Errors
    /// As for [`Self::renew`].
    pub(crate) async fn check(&self) -> Result<()> {
        let mut written = self.0.written.lock().await;
        self.settle(&mut written).await?;
        if read(&self.0.repository).await?.as_ref() != Some(&written.sealed) {
            return Err(self.lost("somebody took it over"));
        }
        // Last, as looking takes time.
        self.check_age(&written)
    }

    /// Gives the lease up. One that stays runs out.
    ///
    /// # Errors
    /// `Timeout` if the destination does not answer within 10 s; else its error.
    pub(crate) async fn release(&self) -> Result<()> {
        let Inner { repository, holder, epoch, .. } = &*self.0;
        let release = async {
            let mut written = self.0.written.lock().await;
            written.is_over = true;
            self.settle(&mut written).await?;
            let (sealed, _) = seal(repository, *epoch, holder, false).await?;
            let expected = Some(written.sealed.clone());
            repository.destination().swap(&key()?, expected, sealed).await
        };
        match within(repository.env().clock(), RELEASE_TIME, release).await {
            // It is another's.
            Err(error)
                if error.code() == REPOSITORY_LEASE_LOST || error.is(ErrorKind::Conflict) =>
            {
                Ok(())
            }
            released => released,
        }
    }

    /// Finds out which of two is there, if that is not known.
    async fn settle(&self, written: &mut Written) -> Result<()> {
        let Some(unsure) = written.unsure.clone() else { return Ok(()) };
        let there = read(&self.0.repository).await?;
        if there.as_ref() == Some(&unsure) {
            written.sealed = unsure;
        } else if there.as_ref() != Some(&written.sealed) {
            return Err(self.lost("somebody took it over"));
        }
        // A write that is still on its way is a renewal, and makes the next look fail: rather that than
        // to go on without the lease.
        written.unsure = None;
        Ok(())
    }

    fn check_age(&self, written: &Written) -> Result<()> {
        let now = self.0.repository.env().clock().elapsed_since_boot();
        let age = now.saturating_sub(written.renewed_at);
        if age < FREEZE_AFTER {
            return Ok(());
        }
        Err(self.lost(&format!("it was not renewed for {} s", age.as_secs())))
    }

    fn lost(&self, why: &str) -> Error {
        let location = self.0.repository.location();
        let message = format!("the lease on {location} for maintenance is lost: {why}");
        Error::new(ErrorKind::Locked, message)
            .with_code(REPOSITORY_LEASE_LOST)
            .with_hint("run it again; nothing more was removed")
    }
}

fn key() -> Result<ObjectKey> {
    ObjectKey::new("backupkit/lease")
}

async fn read(repository: &Repository) -> Result<Option<Bytes>> {
    let limit = FileKind::Lock.max_bytes();
    match read_capped(&**repository.destination(), &key()?, limit).await {
        Ok(sealed) => Ok(Some(sealed)),
        Err(error) if error.is(ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn open(repository: &Repository, sealed: &Bytes) -> Result<Record> {
    let json = repository.open_sealed(FileKind::Lock, &sha256(sealed), sealed)?;
    serde_json::from_slice(&json).map_err(|error| Error::corrupt("the lease", error))
}

/// The bytes of a lease, and when it counts as renewed: before the time within was asked for.
async fn seal(
    repository: &Repository,
    epoch: u64,
    holder: &str,
    held: bool,
) -> Result<(Bytes, Duration)> {
    let renewed_at = repository.env().clock().elapsed_since_boot();
    let renewed = repository.destination().time().await?.map(Timestamp::as_second);
    let record = Record { epoch, held, holder: holder.to_owned(), renewed };
    let json = serde_json::to_vec(&record).map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot write a lease").with_source(error)
    })?;
    Ok((repository.seal_file(&json)?.into(), renewed_at))
}

/// Waits until a lease of another has certainly run out.
///
/// # Errors
/// `Locked` if it has not.
async fn wait_until_over(
    repository: &Repository,
    sealed: &Bytes,
    renewed: Option<i64>,
    holder: &str,
) -> Result<()> {
    let now = repository.destination().time().await?.map(Timestamp::as_second);
    if let (Some(now), Some(renewed)) = (now, renewed)
        && let Ok(age) = u64::try_from(now.saturating_sub(renewed))
    {
        let is_over = Duration::from_secs(age) > LEASE_TIME;
        return if is_over { Ok(()) } else { Err(held(repository, holder)) };
    }
    // Nobody tells how old it is. If it stays the same for so long, nobody renews it.
    repository.env().clock().sleep(LEASE_TIME + LEASE_RENEWAL).await;
    if read(repository).await?.as_ref() == Some(sealed) {
        return Ok(());
    }
    Err(held(repository, holder))
}

fn held(repository: &Repository, holder: &str) -> Error {
    let location = repository.location();
    let minutes = LEASE_TIME.as_secs() / 60;
    Error::new(ErrorKind::Locked, format!("maintenance of {location} is under way by {holder}"))
        .with_code("repository-leased")
        .with_hint(format!("wait until it is done; if it died, that is known in {minutes} min"))
}

#[cfg(test)]
#[cfg(all(feature = "testing", feature = "s3"))]
mod tests;
