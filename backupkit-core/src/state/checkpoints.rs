//! What a run needs to go on after a crash.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use super::journal::SealedOutput;
use super::leases::LeaseRef;
use super::refusal;
use crate::error::Result;
use crate::model::PackId;

/// The longest checkpoint, in bytes.
pub const MAX_CHECKPOINT_BYTES: usize = 1 << 20;
/// A run has no more parts.
pub const MAX_PARTS: u32 = 1024;
/// The longest key of what an adapter keeps, in bytes.
pub const MAX_ADAPTER_KEY_BYTES: usize = 1024;
/// The longest value that an adapter keeps, in bytes.
pub const MAX_ADAPTER_VALUE_BYTES: usize = 1 << 20;

/// Keeps, for each part of a run (one for each source, from 0), what its
/// [journal](super::RunJournal) and its adapter are told.
///
/// # Contract
/// 1. Each call names a lease that is alive, else it fails with `Conflict` and code `lease-lost` and
///    changes nothing; reading too.
/// 2. A change is durable on return, as far as the store is, and takes effect as a whole or not at all.
/// 3. A checkpoint of more than [`MAX_CHECKPOINT_BYTES`], a key that is empty or has more than
///    [`MAX_ADAPTER_KEY_BYTES`], a value of more than [`MAX_ADAPTER_VALUE_BYTES`], and in each call a
///    part that is not below [`MAX_PARTS`], is refused with `InvalidInput`.
/// 4. What is kept of one part is not seen in another.
#[async_trait]
pub trait Checkpoints: fmt::Debug + Send + Sync + 'static {
    /// Replaces the checkpoint of a part. If `reach` is greater than any before in this part, the run
    /// counts as having progressed since its lease was taken.
    async fn save_checkpoint(
        &self,
        lease: &LeaseRef,
        part: u32,
        checkpoint: Bytes,
        reach: u64,
    ) -> Result<()>;

    /// The last checkpoint of a part; nothing if there is none.
    async fn load_checkpoint(&self, lease: &LeaseRef, part: u32) -> Result<Option<Bytes>>;

    /// Notes packs of a repository. Twice is once.
    async fn record_packs(
        &self,
        lease: &LeaseRef,
        part: u32,
        repository_id: &str,
        packs: &[PackId],
    ) -> Result<()>;

    /// The packs noted for a repository, in order of their ids.
    async fn recorded_packs(
        &self,
        lease: &LeaseRef,
        part: u32,
        repository_id: &str,
    ) -> Result<Vec<PackId>>;

    /// Replaces the sealed outputs of a part.
    ///
    /// # Errors
    /// `Conflict` with code `run-refused` if the run is cancelling or comes to rest, since it is too
    /// late then, and if it is committing and the part has some already, since these may exist by now.
    async fn record_outputs(
        &self,
        lease: &LeaseRef,
        part: u32,
        outputs: &[SealedOutput],
    ) -> Result<()>;

    /// The sealed outputs of a part, in the order given; none before they are recorded.
    async fn recorded_outputs(&self, lease: &LeaseRef, part: u32) -> Result<Vec<SealedOutput>>;

    /// Sets what the adapter of a part keeps under a key, or removes it; removing what is not there is
    /// no error.
    async fn set_adapter_value(
        &self,
        lease: &LeaseRef,
        part: u32,
        key: &str,
        value: Option<Bytes>,
    ) -> Result<()>;

    /// At most `most` keys with this prefix, with their values, in the order of their bytes, behind the
    /// key `after`.
    async fn adapter_values(
        &self,
        lease: &LeaseRef,
        part: u32,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<(String, Bytes)>>;
}

/// Whether a checkpoint may be kept: for stores.
///
/// # Errors
/// `InvalidInput` if it is longer than [`MAX_CHECKPOINT_BYTES`].
pub fn check_checkpoint(checkpoint: &[u8]) -> Result<()> {
    let bytes = checkpoint.len();
    if bytes > MAX_CHECKPOINT_BYTES { Err(refusal::checkpoint_too_long(bytes)) } else { Ok(()) }
}

/// Whether a run may have this part: for stores.
///
/// # Errors
/// `InvalidInput` if it is not below [`MAX_PARTS`].
pub fn check_part(part: u32) -> Result<()> {
    if part >= MAX_PARTS { Err(refusal::no_such_part(part)) } else { Ok(()) }
}

/// Whether an adapter may keep this: for stores.
///
/// # Errors
/// `InvalidInput` for a key that is empty or too long, or a value that is too long.
pub fn check_adapter_value(key: &str, value: Option<&[u8]>) -> Result<()> {
    let is_long = value.is_some_and(|value| value.len() > MAX_ADAPTER_VALUE_BYTES);
    if is_long || key.is_empty() || key.len() > MAX_ADAPTER_KEY_BYTES {
        return Err(refusal::odd_adapter_value(key));
    }
    Ok(())
}
