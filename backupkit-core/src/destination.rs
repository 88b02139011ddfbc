//! The trait to implement for keeping repositories in a new kind of place.

mod deleting;
mod extending;
mod key;
mod limit;
mod memory;
mod payload;
mod retry;
mod watched;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;

use crate::error::{Error, ErrorKind, Result};
use crate::probe::Probe;

pub use deleting::Undeleted;
pub(crate) use deleting::delete_singly;
#[cfg(any(feature = "s3", feature = "testing"))]
pub(crate) use deleting::note_deleted;
pub use extending::Extension;
pub(crate) use extending::{NO_RETENTION, no_retention};
pub use key::ObjectKey;
pub use limit::{LimitDestination, Limits};
pub use memory::MemoryDestination;
pub use payload::{Payload, PayloadFile};
pub use retry::{RetryDestination, RetryPolicy};
pub(crate) use watched::WatchedDestination;

/// A place that keeps the files of a repository.
///
/// # Contract
/// 1. [`create`](Self::create) is atomic and durable on return, and never replaces: the same bytes
///    under the same key are success, others are `AlreadyExists`.
/// 2. [`get`](Self::get) returns the bytes as created; a missing key is `NotFound`; a range beyond the
///    end is `InvalidInput`, never fewer bytes.
/// 3. [`list`](Self::list) gives every object with the prefix once, or an error; never a part of them
///    as if it were all. A prefix without objects gives nothing.
/// 4. [`delete`](Self::delete) of what is gone succeeds, and so does
///    [`delete_many`](Self::delete_many).
/// 5. A call that is dropped leaves either nothing or a whole object.
/// 6. Calls may run at the same time.
#[async_trait]
pub trait Destination: fmt::Debug + Send + Sync + 'static {
    /// What the destination can do. Constant over its life.
    fn capabilities(&self) -> DestinationCapabilities;

    /// The destination as people write it, such as `/srv/repo` or `s3://bucket/prefix`. No secrets.
    fn location(&self) -> String;

    /// Whether what is behind the destination has lately asked for fewer requests, and gets them more
    /// slowly for that. The engine says so, and does not take it for one that hangs. Wrappers ask what
    /// they wrap.
    fn is_slowed_down(&self) -> bool {
        false
    }

    /// Tests whether the destination can be reached, read and written.
    async fn check(&self) -> Result<Probe>;

    /// Creates an object.
    ///
    /// # Errors
    /// `AlreadyExists` if other bytes have this key; `StorageFull` and `QuotaExceeded` where no bytes
    /// fit.
    async fn create(&self, key: &ObjectKey, payload: Payload) -> Result<()>;

    /// Reads an object or a range of it.
    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes>;

    /// Looks at an object without reading it.
    async fn stat(&self, key: &ObjectKey) -> Result<ObjectMeta>;

    /// Lists the objects whose keys are `prefix` or stand below it, such as `data` or `data/3f`.
    fn list(&self, prefix: &ObjectKey) -> BoxStream<'static, Result<ObjectMeta>>;

    /// Deletes an object.
    async fn delete(&self, key: &ObjectKey) -> Result<()>;

    /// Deletes objects, in any order. Those that must stay, each for a reason of its own, are returned;
    /// all others are gone. It may be called again with the same keys. By default each is deleted by
    /// itself, some at the same time.
    ///
    /// # Errors
    /// What says the same of all objects, such as that nobody answers. Some may be gone then, and also
    /// if the call is dropped.
    async fn delete_many(&self, keys: &[ObjectKey]) -> Result<Vec<Undeleted>> {
        delete_singly(self, keys).await
    }

    /// Replaces an object only if it has the expected bytes (`None`: only if it does not exist).
    /// Optional, see [`DestinationCapabilities::swap`].
    ///
    /// # Errors
    /// `Conflict` if it has other bytes, `Unsupported` without the capability.
    async fn swap(&self, key: &ObjectKey, expected: Option<Bytes>, bytes: Bytes) -> Result<()> {
        drop((expected, bytes));
        let message = format!("cannot replace {key}: this destination has no atomic swap");
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    /// The destination as it was at a time, only to read, where what is replaced and deleted is kept.
    /// Nothing is asked for yet. Optional.
    ///
    /// # Errors
    /// `Unsupported` if nothing is kept, now or from the first call.
    fn as_of(&self, time: Timestamp) -> Result<Arc<dyn Destination>> {
        _ = time;
        Err(no_versions(&self.location()))
    }

    /// The time by the clock of what is behind the destination, in whole seconds or better; nothing if it
    /// has none, or does not tell. All who use the destination see the same clock.
    async fn time(&self) -> Result<Option<Timestamp>> {
        Ok(None)
    }

    /// Keeps an object from being deleted for as long as the settings of the destination say, from now on.
    /// Never for less than it is kept anyway. A dry run only looks. Optional.
    ///
    /// # Errors
    /// `Unsupported` with the code `no-retention` if nothing is retained there; `NotFound`;
    /// `PermissionDenied` where that may not be done. It may be called again.
    async fn extend_retention(&self, key: &ObjectKey, dry_run: bool) -> Result<Extension> {
        _ = (key, dry_run);
        Err(no_retention(&self.location()))
    }

    /// Removes what is left of objects with this prefix that never became whole, if it was not written
    /// to for `unchanged_for`: an age that no write takes, such as a day. A dry run only looks. Objects
    /// are never removed.
    ///
    /// By default there is nothing: a call of [`create`](Self::create) that breaks off leaves nothing.
    async fn remove_abandoned(
        &self,
        prefix: &ObjectKey,
        unchanged_for: Duration,
        dry_run: bool,
    ) -> Result<Leftovers> {
        _ = (prefix, unchanged_for, dry_run);
        Ok(Leftovers::default())
    }
}

/// The refusal to show what is not kept.
fn no_versions(location: &str) -> Error {
    let message =
        format!("cannot show {location} as it was: nothing is kept there of what was deleted");
    Error::new(ErrorKind::Unsupported, message).with_code("no-versions")
}

/// What was left behind and removed, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// How many files or objects.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Leftovers {
    /// Counts one more.
    pub fn add(&mut self, bytes: u64) {
        self.join(Self { count: 1, bytes });
    }

    /// Counts others.
    pub fn join(&mut self, others: Self) {
        self.count = self.count.saturating_add(others.count);
        self.bytes = self.bytes.saturating_add(others.bytes);
    }
}

/// What a destination can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DestinationCapabilities {
    /// How it keeps two writers from creating the same key.
    pub exclusive_create: ExclusiveCreate,
    /// The pack size it works best with; `None` leaves it to the engine. Packs have from 4 to 128 MiB;
    /// more than 32 MiB only in an engine with a scratch folder.
    pub preferred_pack_bytes: Option<u64>,
    /// How many calls at the same time it works best with.
    pub concurrency: usize,
    /// How many objects one request of [`Destination::delete_many`] takes; 1 if there is one for each.
    pub delete_batch: usize,
    /// Whether [`Destination::swap`] works.
    pub swap: bool,
    /// Whether nothing changes in it and all writes are refused, so that nobody needs a lock.
    pub frozen: bool,
}

impl DestinationCapabilities {
    /// Returns capabilities with atomic creation, this concurrency, and nothing special.
    pub fn new(concurrency: usize) -> Self {
        Self {
            exclusive_create: ExclusiveCreate::Atomic,
            preferred_pack_bytes: None,
            concurrency,
            delete_batch: 1,
            swap: false,
            frozen: false,
        }
    }

    /// Says that creation looks first and reads back after.
    #[must_use]
    pub fn with_checked_create(mut self) -> Self {
        self.exclusive_create = ExclusiveCreate::Checked;
        self
    }

    /// Names the pack size that works best.
    #[must_use]
    pub fn with_preferred_pack_bytes(mut self, bytes: u64) -> Self {
        self.preferred_pack_bytes = Some(bytes);
        self
    }

    /// Says that nothing changes in it.
    #[must_use]
    pub fn frozen(mut self) -> Self {
        self.frozen = true;
        self
    }

    /// Says how many objects one request deletes.
    #[must_use]
    pub fn with_delete_batch(mut self, objects: usize) -> Self {
        self.delete_batch = objects.max(1);
        self
    }

    /// Says that [`Destination::swap`] works.
    #[must_use]
    pub fn with_swap(mut self) -> Self {
        self.swap = true;
        self
    }
}

/// How a destination keeps two writers from creating the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExclusiveCreate {
    /// The storage refuses the second writer.
    Atomic,
    /// The adapter looks first and reads back after; a race is possible. The user gets one warning,
    /// and the race cases of the conformance suite do not apply.
    Checked,
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The key.
    pub key: ObjectKey,
    /// The number of bytes.
    pub size_bytes: u64,
}
