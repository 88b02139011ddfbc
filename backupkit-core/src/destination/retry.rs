//! Repeats calls that may succeed later.

use std::collections::HashSet;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{
    Destination, DestinationCapabilities, Extension, Leftovers, ObjectKey, ObjectMeta, Payload,
    Undeleted, delete_singly,
};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::probe::Probe;

/// How often and how long to repeat a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// How often a call is made at most, the first time included.
    pub max_attempts: u32,
    /// About how long to wait before the second attempt. Each further wait is twice as long.
    pub first_delay: Duration,
    /// The longest wait, unless the other side named a longer one.
    pub max_delay: Duration,
    /// No attempt begins later than this after the first. A call under way is not cut off.
    pub total_time: Duration,
}

impl Default for RetryPolicy {
    /// Ten attempts within 15 minutes: long enough for a restart of the other side.
    fn default() -> Self {
        Self {
            max_attempts: 10,
            first_delay: Duration::from_millis(500),
            max_delay: Duration::from_mins(1),
            total_time: Duration::from_mins(15),
        }
    }
}

impl RetryPolicy {
    /// Returns the default policy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how often a call is made at most, the first time included.
    #[must_use]
    pub fn with_max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets the first and the longest wait.
    #[must_use]
    pub fn with_delays(mut self, first: Duration, max: Duration) -> Self {
        self.first_delay = first;
        self.max_delay = max;
        self
    }

    /// Sets the time after which no attempt begins.
    #[must_use]
    pub fn with_total_time(mut self, total: Duration) -> Self {
        self.total_time = total;
        self
    }
}

/// Repeats calls of a [`Destination`] as their errors advise ([`Error::retry`]), with growing waits
/// that differ from caller to caller, so that many do not come back at once.
///
/// All calls are safe to repeat by the contract of the trait. A [`swap`](Destination::swap) whose
/// reply was lost is recognised by the bytes it left, so these must be the caller's own. A listing
/// that breaks off starts over and leaves out what it gave already; for that it remembers 16 bytes
/// for each object given.
///
/// # Cancel safety
/// A dropped call makes no further attempt.
#[derive(Debug, Clone)]
pub struct RetryDestination {
    inner: Arc<dyn Destination>,
    policy: RetryPolicy,
    env: Env,
}

impl RetryDestination {
    /// Wraps a destination.
    pub fn new(inner: Arc<dyn Destination>, policy: RetryPolicy, env: Env) -> Self {
        Self { inner, policy, env }
    }

    fn attempts(&self) -> Attempts {
        Attempts {
            policy: self.policy,
            env: self.env.clone(),
            started: self.env.clock().elapsed_since_boot(),
            made: 0,
        }
    }

    async fn repeat<T, F: Future<Output = Result<T>>>(&self, call: impl Fn() -> F) -> Result<T> {
        let mut attempts = self.attempts();
        loop {
            match call().await {
                Ok(value) => return Ok(value),
                Err(error) => attempts.wait_after(error).await?,
            }
        }
    }
}

/// The attempts of one call.
#[derive(Debug)]
struct Attempts {
    policy: RetryPolicy,
    env: Env,
    started: Duration,
    made: u32,
}

impl Attempts {
    /// Waits for the next attempt, or returns the error if there should be none.
    async fn wait_after(&mut self, error: Error) -> Result<()> {
        self.made = self.made.saturating_add(1);
        let delay = match error.retry() {
            Retry::Never => return Err(error),
            Retry::Soon => self.backoff(),
            // Not a moment earlier, and not all at the same one.
            Retry::After(named) => named.saturating_add(self.backoff() / 8),
        };
        let spent = self.env.clock().elapsed_since_boot();
        let spent = spent.saturating_sub(self.started);
        let out_of_time = spent.saturating_add(delay) > self.policy.total_time;
        if self.made >= self.policy.max_attempts || out_of_time {
            return Err(if self.made > 1 {
                error.with_context("attempts", self.made)
            } else {
                error
            });
        }
        self.env.clock().sleep(delay).await;
        Ok(())
    }

    /// Between half and all of the wait that is due, by chance.
    fn backoff(&self) -> Duration {
        let doubled = 2u32.saturating_pow(self.made.saturating_sub(1).min(31));
        let due = self.policy.first_delay.saturating_mul(doubled);
        let half = due.min(self.policy.max_delay) / 2;
        // Without randomness callers may come back together, which is no reason to fail.
        let chance = self.env.random::<2>().map_or(0, u16::from_le_bytes);
        half.saturating_add(half.mul_f64(f64::from(chance) / f64::from(u16::MAX)))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Destination for RetryDestination {
    fn capabilities(&self) -> DestinationCapabilities {
        self.inner.capabilities()
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn is_slowed_down(&self) -> bool {
        self.inner.is_slowed_down()
    }

    async fn check(&self) -> Result<Probe> {
        // A person waits for this one and wants to see the first failure.
        self.inner.check().await
    }

    async fn create(&self, key: &ObjectKey, payload: Payload) -> Result<()> {
        self.repeat(|| self.inner.create(key, payload.clone())).await
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes> {
        self.repeat(|| self.inner.get(key, range.clone())).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.repeat(|| self.inner.stat(key)).await
    }

    fn list(&self, prefix: &ObjectKey) -> BoxStream<'static, Result<ObjectMeta>> {
        let listing = Listing {
            inner: Arc::clone(&self.inner),
            prefix: prefix.clone(),
            objects: self.inner.list(prefix),
            attempts: self.attempts(),
            given: HashSet::new(),
        };
        stream::try_unfold(listing, |mut listing| async move {
            let next = listing.next().await?;
            Ok(next.map(|object| (object, listing)))
        })
        .boxed()
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.repeat(|| self.inner.delete(key)).await
    }

    async fn delete_many(&self, keys: &[ObjectKey]) -> Result<Vec<Undeleted>> {
        if self.inner.capabilities().delete_batch <= 1 {
            // Each is repeated by itself.
            return delete_singly(self, keys).await;
        }
        self.repeat(|| self.inner.delete_many(keys)).await
    }

    fn as_of(&self, time: Timestamp) -> Result<Arc<dyn Destination>> {
        Ok(Arc::new(Self { inner: self.inner.as_of(time)?, ..self.clone() }))
    }

    async fn time(&self) -> Result<Option<Timestamp>> {
        self.repeat(|| self.inner.time()).await
    }

    async fn extend_retention(&self, key: &ObjectKey, dry_run: bool) -> Result<Extension> {
        self.repeat(|| self.inner.extend_retention(key, dry_run)).await
    }

    async fn remove_abandoned(
        &self,
        prefix: &ObjectKey,
        unchanged_for: Duration,
        dry_run: bool,
    ) -> Result<Leftovers> {
        self.repeat(|| self.inner.remove_abandoned(prefix, unchanged_for, dry_run)).await
    }

    async fn swap(&self, key: &ObjectKey, expected: Option<Bytes>, bytes: Bytes) -> Result<()> {
        let mut attempts = self.attempts();
        loop {
            let swapped = self.inner.swap(key, expected.clone(), bytes.clone()).await;
            match swapped {
                Err(error) if error.is(ErrorKind::Conflict) && attempts.made > 0 => {
                    // The conflict may be with our own earlier attempt, the reply of which was lost.
                    return match self.get(key, None).await {
                        Ok(there) if there == bytes => Ok(()),
                        _ => Err(error),
                    };
                }
                Err(error) => attempts.wait_after(error).await?,
                Ok(()) => return Ok(()),
            }
        }
    }
}

struct Listing {
    inner: Arc<dyn Destination>,
    prefix: ObjectKey,
    objects: BoxStream<'static, Result<ObjectMeta>>,
    attempts: Attempts,
    given: HashSet<[u8; 16]>,
}

impl Listing {
    async fn next(&mut self) -> Result<Option<ObjectMeta>> {
        loop {
            match self.objects.next().await {
                None => return Ok(None),
                Some(Ok(object)) => {
                    if self.given.insert(digest(&object.key)) {
                        // The limits count what happens without progress.
                        self.attempts.made = 0;
                        self.attempts.started = self.attempts.env.clock().elapsed_since_boot();
                        return Ok(Some(object));
                    }
                }
                Some(Err(error)) => {
                    self.attempts.wait_after(error).await?;
                    self.objects = self.inner.list(&self.prefix);
                }
            }
        }
    }
}

fn digest(key: &ObjectKey) -> [u8; 16] {
    let mut digest = [0; 16];
    digest.copy_from_slice(&Sha256::digest(key.as_str())[..16]);
    digest
}
