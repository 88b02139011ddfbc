//! What the adapter of a run keeps, in the state store.

use async_trait::async_trait;
use bytes::Bytes;

use super::HeldPart;
use crate::error::{Error, ErrorKind, Result};
use crate::store::AdapterStore;

/// The small store of a run's adapter: it lasts as long as the run, over all its attempts.
#[derive(Debug)]
pub(super) struct RunValues(pub(super) HeldPart);

impl RunValues {
    async fn set(&self, key: &str, value: Option<Bytes>) -> Result<()> {
        let HeldPart { store, lease, part, .. } = &self.0;
        self.0.insist(|| store.set_adapter_value(lease, *part, key, value.clone())).await
    }
}

#[async_trait]
impl AdapterStore for RunValues {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        // A key is the first of those that start with it.
        let found = self.scan(key, None, 1).await?;
        Ok(found.into_iter().find_map(|(found, value)| (found == key).then_some(value)))
    }

    async fn put(&self, key: &str, value: Bytes, sealed: bool) -> Result<()> {
        if sealed {
            // What lasts no longer than a run is no credential.
            let message = format!("the value `{key}` of a run cannot be sealed");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        self.set(key, Some(value)).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.set(key, None).await
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>> {
        let HeldPart { store, lease, part, .. } = &self.0;
        self.0.insist(|| store.adapter_values(lease, *part, prefix, after, limit)).await
    }
}
