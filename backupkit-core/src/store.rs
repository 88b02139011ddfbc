//! A small store for adapters: tokens, folder ids, what a restore has decided.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;

/// Keys and small values that an adapter keeps between runs. Scoped to the connection it belongs to,
/// sealed on request, and fenced: a run that lost its lease cannot write.
#[async_trait]
pub trait AdapterStore: fmt::Debug + Send + Sync + 'static {
    /// The value of a key.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;

    /// Sets a value of at most 1 MiB; `sealed` encrypts it at rest.
    async fn put(&self, key: &str, value: Bytes, sealed: bool) -> Result<()>;

    /// Removes a key; a missing one is success.
    async fn delete(&self, key: &str) -> Result<()>;

    /// Returns at most `limit` keys and values with this prefix, in byte order, behind `after`.
    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>>;
}

/// An [`AdapterStore`] for where there is no state store. It is gone with the process.
#[derive(Default)]
pub struct InMemoryAdapterStore(Mutex<BTreeMap<String, Bytes>>);

impl fmt::Debug for InMemoryAdapterStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets.
        f.debug_struct("InMemoryAdapterStore").finish_non_exhaustive()
    }
}

impl InMemoryAdapterStore {
    fn entries(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl AdapterStore for InMemoryAdapterStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.entries().get(key).cloned())
    }

    async fn put(&self, key: &str, value: Bytes, _sealed: bool) -> Result<()> {
        self.entries().insert(key.to_owned(), value);
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.entries().remove(key);
        Ok(())
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>> {
        use std::ops::Bound;
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let entries = self.entries();
        let found = entries
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()));
        Ok(found.collect())
    }
}
