//! A destination in memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;

use super::{
    Destination, DestinationCapabilities, Extension, Leftovers, ObjectKey, ObjectMeta, Payload,
    Undeleted, no_retention, no_versions,
};
use crate::error::{Error, ErrorKind, Result};
use crate::probe::{Probe, ProbeOutcome, ProbeStep};

/// A [`Destination`] that keeps its objects in memory, for tests and as an example of the trait.
///
/// Clones share the objects, so a clone is what another process would see.
#[derive(Debug, Clone)]
pub struct MemoryDestination {
    capabilities: DestinationCapabilities,
    objects: Arc<Mutex<BTreeMap<ObjectKey, Bytes>>>,
}

impl Default for MemoryDestination {
    fn default() -> Self {
        Self { capabilities: DestinationCapabilities::new(8).with_swap(), objects: Arc::default() }
    }
}

impl MemoryDestination {
    /// Returns an empty destination that can do everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces what the destination says it can do. Without `swap` that call fails.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: DestinationCapabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Returns all objects as they are now.
    pub fn objects(&self) -> BTreeMap<ObjectKey, Bytes> {
        self.lock().clone()
    }

    /// Replaces all objects, such as by an earlier copy from [`Self::objects`].
    pub fn replace_objects(&self, objects: BTreeMap<ObjectKey, Bytes>) {
        *self.lock() = objects;
    }

    /// Sets an object, also in place of another, and returns what was there. For damaging objects in
    /// tests.
    pub fn put_raw(&self, key: &ObjectKey, bytes: impl Into<Bytes>) -> Option<Bytes> {
        self.lock().insert(key.clone(), bytes.into())
    }

    /// Removes an object and returns it.
    pub fn remove_raw(&self, key: &ObjectKey) -> Option<Bytes> {
        self.lock().remove(key)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Bytes>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &ObjectKey) -> Result<Bytes> {
        let found = self.lock().get(key).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no object {key}")))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Destination for MemoryDestination {
    fn capabilities(&self) -> DestinationCapabilities {
        self.capabilities
    }

    fn location(&self) -> String {
        String::from("memory:")
    }

    fn is_slowed_down(&self) -> bool {
        false
    }

    async fn check(&self) -> Result<Probe> {
        Ok(Probe {
            steps: vec![ProbeStep {
                name: String::from("use memory"),
                outcome: ProbeOutcome::Ok,
                took: Duration::ZERO,
                hint: None,
            }],
        })
    }

    async fn create(&self, key: &ObjectKey, payload: Payload) -> Result<()> {
        let bytes = payload.to_bytes().await?;
        let mut objects = self.lock();
        match objects.get(key) {
            Some(there) if *there == bytes => Ok(()),
            Some(_) => Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("object {key} exists with other bytes"),
            )),
            None => {
                objects.insert(key.clone(), bytes);
                Ok(())
            }
        }
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes> {
        let bytes = self.find(key)?;
        let Some(range) = range else {
            return Ok(bytes);
        };
        let index = |at: u64| usize::try_from(at).ok().filter(|at| *at <= bytes.len());
        match (index(range.start), index(range.end)) {
            (Some(start), Some(end)) if start <= end => Ok(bytes.slice(start..end)),
            _ => Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "bytes {} to {} are not in object {key} of {} bytes",
                    range.start,
                    range.end,
                    bytes.len()
                ),
            )),
        }
    }

    async fn stat(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let bytes = self.find(key)?;
        Ok(ObjectMeta { key: key.clone(), size_bytes: bytes.len() as u64 })
    }

    fn list(&self, prefix: &ObjectKey) -> BoxStream<'static, Result<ObjectMeta>> {
        let found: Vec<_> = self
            .lock()
            .range(prefix..)
            .take_while(|(key, _)| key.as_str().starts_with(prefix.as_str()))
            .filter(|(key, _)| key.is_below(prefix))
            .map(|(key, bytes)| ObjectMeta { key: key.clone(), size_bytes: bytes.len() as u64 })
            .collect();
        stream::iter(found).map(Ok).boxed()
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.lock().remove(key);
        Ok(())
    }

    async fn delete_many(&self, keys: &[ObjectKey]) -> Result<Vec<Undeleted>> {
        self.lock().retain(|key, _| !keys.contains(key));
        Ok(Vec::new())
    }

    fn as_of(&self, _time: Timestamp) -> Result<Arc<dyn Destination>> {
        Err(no_versions(&self.location()))
    }

    async fn time(&self) -> Result<Option<Timestamp>> {
        Ok(None)
    }

    async fn extend_retention(&self, key: &ObjectKey, dry_run: bool) -> Result<Extension> {
        _ = (key, dry_run);
        Err(no_retention(&self.location()))
    }

    async fn remove_abandoned(
        &self,
        _prefix: &ObjectKey,
        _unchanged_for: Duration,
        _dry_run: bool,
    ) -> Result<Leftovers> {
        Ok(Leftovers::default())
    }

    async fn swap(&self, key: &ObjectKey, expected: Option<Bytes>, bytes: Bytes) -> Result<()> {
        if !self.capabilities.swap {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "this destination cannot replace objects",
            ));
        }
        let mut objects = self.lock();
        if objects.get(key) != expected.as_ref() {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("object {key} is not as expected"),
            ));
        }
        objects.insert(key.clone(), bytes);
        Ok(())
    }
}
