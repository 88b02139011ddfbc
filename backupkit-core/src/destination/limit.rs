//! Limits how much a destination is asked for at the same time and in a second.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    Destination, DestinationCapabilities, Extension, Leftovers, ObjectKey, ObjectMeta, Payload,
    Undeleted, delete_singly,
};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::probe::Probe;

/// What to limit; nothing by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Limits {
    /// How many calls run at the same time at most; 0 counts as 1. `None`: any number.
    pub concurrency: Option<usize>,
    /// How many bytes are written in a second, on average.
    pub upload_bytes_per_second: Option<u64>,
    /// How many bytes are read in a second, on average.
    pub download_bytes_per_second: Option<u64>,
}

impl Limits {
    /// Returns no limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits how many calls run at the same time.
    #[must_use]
    pub fn with_concurrency(mut self, calls: usize) -> Self {
        self.concurrency = Some(calls);
        self
    }

    /// Limits what is written.
    #[must_use]
    pub fn with_upload_bytes_per_second(mut self, bytes: u64) -> Self {
        self.upload_bytes_per_second = Some(bytes);
        self
    }

    /// Limits what is read.
    #[must_use]
    pub fn with_download_bytes_per_second(mut self, bytes: u64) -> Self {
        self.download_bytes_per_second = Some(bytes);
        self
    }
}

/// Limits the calls of a [`Destination`]. Clones share the limits.
///
/// Bytes are limited on average: one object passes at full speed, and the next one waits until its
/// bytes are paid for.
///
/// # Cancel safety
/// A call dropped while it waits costs nothing.
#[derive(Debug, Clone)]
pub struct LimitDestination {
    inner: Arc<dyn Destination>,
    calls: Arc<Calls>,
}

#[derive(Debug)]
struct Calls {
    slots: Option<(usize, Semaphore)>,
    upload: Option<Rate>,
    download: Option<Rate>,
}

impl LimitDestination {
    /// Wraps a destination.
    pub fn new(inner: Arc<dyn Destination>, limits: Limits, env: &Env) -> Self {
        let rate = |bytes_per_second: Option<u64>| {
            bytes_per_second.map(|bytes_per_second| Rate {
                bytes_per_second: bytes_per_second.max(1),
                env: env.clone(),
                paid_until: Mutex::default(),
            })
        };
        let slots = limits.concurrency.map(|calls| {
            let calls = calls.clamp(1, Semaphore::MAX_PERMITS);
            (calls, Semaphore::new(calls))
        });
        Self {
            inner,
            calls: Arc::new(Calls {
                slots,
                upload: rate(limits.upload_bytes_per_second),
                download: rate(limits.download_bytes_per_second),
            }),
        }
    }
}

impl Calls {
    /// Waits for a free slot, which is taken until the permit is dropped.
    async fn slot(&self) -> Result<Option<SemaphorePermit<'_>>> {
        let Some((_, slots)) = &self.slots else {
            return Ok(None);
        };
        let permit = slots.acquire().await.map_err(|closed| {
            Error::new(ErrorKind::Internal, "cannot wait for a free call").with_source(closed)
        })?;
        Ok(Some(permit))
    }
}

/// A number of bytes in a second.
#[derive(Debug)]
struct Rate {
    bytes_per_second: u64,
    env: Env,
    /// Since boot.
    paid_until: Mutex<Duration>,
}

impl Rate {
    /// Waits until earlier bytes are paid for, and books these in the same moment, so that waiting
    /// callers pass one after the other.
    async fn wait_and_book(&self, bytes: u64) {
        while let Some(wait) = self.book_or_wait(bytes) {
            self.env.clock().sleep(wait).await;
        }
    }

    fn book_or_wait(&self, bytes: u64) -> Option<Duration> {
        let now = self.env.clock().elapsed_since_boot();
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        match paid_until.checked_sub(now) {
            Some(wait) if !wait.is_zero() => Some(wait),
            _ => {
                *paid_until = now.saturating_add(self.cost(bytes));
                None
            }
        }
    }

    /// Books bytes that have passed already.
    fn book(&self, bytes: u64) {
        let now = self.env.clock().elapsed_since_boot();
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paid_until = now.max(*paid_until).saturating_add(self.cost(bytes));
    }

    fn cost(&self, bytes: u64) -> Duration {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Destination for LimitDestination {
    fn capabilities(&self) -> DestinationCapabilities {
        let mut capabilities = self.inner.capabilities();
        if let Some((calls, _)) = &self.calls.slots {
            capabilities.concurrency = capabilities.concurrency.min(*calls);
        }
        capabilities
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn is_slowed_down(&self) -> bool {
        self.inner.is_slowed_down()
    }

    async fn check(&self) -> Result<Probe> {
        let _slot = self.calls.slot().await?;
        self.inner.check().await
    }

    async fn create(&self, key: &ObjectKey, payload: Payload) -> Result<()> {
        let _slot = self.calls.slot().await?;
        if let Some(upload) = &self.calls.upload {
            upload.wait_and_book(payload.len_bytes()).await;
        }
        self.inner.create(key, payload).await
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes> {
        let _slot = self.calls.slot().await?;
        let Some(download) = &self.calls.download else {
            return self.inner.get(key, range).await;
        };
        // How much comes is known only where a range was asked for.
        let asked = range.as_ref().map(|r| r.end.saturating_sub(r.start));
        download.wait_and_book(asked.unwrap_or_default()).await;
        let bytes = self.inner.get(key, range).await?;
        if asked.is_none() {
            download.book(bytes.len() as u64);
        }
        Ok(bytes)
    }

    async fn stat(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let _slot = self.calls.slot().await?;
        self.inner.stat(key).await
    }

    fn list(&self, prefix: &ObjectKey) -> BoxStream<'static, Result<ObjectMeta>> {
        // A slot is taken only while the listing works, not while its reader does: a reader that
        // deletes what it is given would wait for itself.
        let state = (self.inner.list(prefix), Arc::clone(&self.calls));
        stream::try_unfold(state, |(mut objects, calls)| async move {
            let slot = calls.slot().await?;
            let next = objects.next().await.transpose()?;
            drop(slot);
            Ok(next.map(|object| (object, (objects, calls))))
        })
        .boxed()
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let _slot = self.calls.slot().await?;
        self.inner.delete(key).await
    }

    async fn delete_many(&self, keys: &[ObjectKey]) -> Result<Vec<Undeleted>> {
        if self.inner.capabilities().delete_batch <= 1 {
            // Each is a call.
            return delete_singly(self, keys).await;
        }
        let _slot = self.calls.slot().await?;
        self.inner.delete_many(keys).await
    }

    fn as_of(&self, time: Timestamp) -> Result<Arc<dyn Destination>> {
        Ok(Arc::new(Self { inner: self.inner.as_of(time)?, calls: Arc::clone(&self.calls) }))
    }

    async fn time(&self) -> Result<Option<Timestamp>> {
        let _slot = self.calls.slot().await?;
        self.inner.time().await
    }

    async fn extend_retention(&self, key: &ObjectKey, dry_run: bool) -> Result<Extension> {
        let _slot = self.calls.slot().await?;
        self.inner.extend_retention(key, dry_run).await
    }

    async fn remove_abandoned(
        &self,
        prefix: &ObjectKey,
        unchanged_for: Duration,
        dry_run: bool,
    ) -> Result<Leftovers> {
        let _slot = self.calls.slot().await?;
        self.inner.remove_abandoned(prefix, unchanged_for, dry_run).await
    }

    async fn swap(&self, key: &ObjectKey, expected: Option<Bytes>, bytes: Bytes) -> Result<()> {
        let _slot = self.calls.slot().await?;
        if let Some(upload) = &self.calls.upload {
            upload.wait_and_book(bytes.len() as u64).await;
        }
        self.inner.swap(key, expected, bytes).await
    }
}
