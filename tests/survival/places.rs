//! A repository and a state store that the witness watches.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use backupkit::destination::{
    Destination, DestinationCapabilities, ObjectKey, ObjectMeta, Payload,
};
use backupkit::testing::StoreHook;
use backupkit::{Probe, Result};
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::witness::Witness;

/// Calls that change something are named by what they do and the folder of the key, as `create-data`.
#[derive(Debug)]
pub(crate) struct WatchedDestination {
    pub(crate) place: Arc<dyn Destination>,
    pub(crate) witness: Witness,
}

fn named(verb: &str, key: &ObjectKey) -> String {
    let folder = key.as_str().split('/').next().unwrap_or_default();
    format!("{verb}-{folder}")
}

#[async_trait]
impl Destination for WatchedDestination {
    fn capabilities(&self) -> DestinationCapabilities {
        self.place.capabilities()
    }

    fn location(&self) -> String {
        self.place.location()
    }

    async fn check(&self) -> Result<Probe> {
        self.place.check().await
    }

    async fn create(&self, key: &ObjectKey, payload: Payload) -> Result<()> {
        let name = named("create", key);
        self.witness.begin(&name);
        self.place.create(key, payload).await?;
        self.witness.end_of(&name);
        self.witness.stop_if_due().await;
        Ok(())
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes> {
        let start = range.as_ref().map_or(0, |range| range.start);
        let bytes = self.place.get(key, range).await?;
        if key.as_str().starts_with("data/") {
            let pack = u64::from_str_radix(&key.name()[..15], 16).expect("packs have ids");
            self.witness.got(pack, start, start + bytes.len() as u64);
        }
        Ok(bytes)
    }

    async fn stat(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.place.stat(key).await
    }

    fn list(&self, prefix: &ObjectKey) -> BoxStream<'static, Result<ObjectMeta>> {
        self.place.list(prefix)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let name = named("delete", key);
        self.witness.begin(&name);
        self.place.delete(key).await?;
        self.witness.end_of(&name);
        Ok(())
    }
}

/// Calls of the store that change something are watched.
#[derive(Debug)]
pub(crate) struct WatchedStore(pub(crate) Witness);

const CHANGES: [&str; 8] = [
    "claim",
    "renew",
    "report",
    "save_checkpoint",
    "record_packs",
    "record_outputs",
    "append_logs",
    "set_adapter_value",
];

#[async_trait]
impl StoreHook for WatchedStore {
    async fn before(&self, call: &'static str) -> Result<()> {
        if CHANGES.contains(&call) {
            self.0.begin_in_store(call);
        }
        Ok(())
    }

    async fn after(&self, call: &'static str) -> Result<()> {
        if CHANGES.contains(&call) {
            self.0.end_in_store(call);
        }
        Ok(())
    }
}
