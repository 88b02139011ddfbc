//! A destination of one's own: a map in memory. `cargo run --example custom_destination`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use backupkit::destination::{Destination, DestinationCapabilities};
use backupkit::destination::{ObjectKey, ObjectMeta, Payload};
use backupkit::repo::{InitOptions, Repository};
use backupkit::{Env, Error, ErrorKind, Probe, Result};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};

#[derive(Debug, Default)]
struct Shelf(Mutex<BTreeMap<ObjectKey, Bytes>>);

impl Shelf {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Bytes>> {
        self.0.lock().expect("nobody panics while holding the lock")
    }
}

#[async_trait]
impl Destination for Shelf {
    fn capabilities(&self) -> DestinationCapabilities {
        DestinationCapabilities::new(4)
    }

    fn location(&self) -> String {
        "shelf".to_owned()
    }
    async fn check(&self) -> Result<Probe> {
        Ok(Probe::default())
    }

    async fn create(&self, key: &ObjectKey, payload: Payload) -> Result<()> {
        let bytes = payload.to_bytes().await?;
        if *self.objects().entry(key.clone()).or_insert_with(|| bytes.clone()) == bytes {
            return Ok(());
        }
        Err(Error::new(ErrorKind::AlreadyExists, format!("{key} is taken")))
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes> {
        let missing = || Error::new(ErrorKind::NotFound, format!("there is no {key}"));
        let bytes = self.objects().get(key).cloned().ok_or_else(missing)?;
        let Some(range) = range else { return Ok(bytes) };
        let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX);
        if range.start > range.end || at(range.end) > bytes.len() {
            return Err(Error::new(ErrorKind::InvalidInput, format!("{key} ends before that")));
        }
        Ok(bytes.slice(at(range.start)..at(range.end)))
    }

    async fn stat(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let size_bytes = self.get(key, None).await?.len() as u64;
        Ok(ObjectMeta { key: key.clone(), size_bytes })
    }

    fn list(&self, prefix: &ObjectKey) -> BoxStream<'static, Result<ObjectMeta>> {
        let mut objects = self.objects().clone();
        objects.retain(|key, _| key.is_below(prefix));
        let sizes = objects.into_iter().map(|(key, bytes)| (key, bytes.len() as u64));
        stream::iter(sizes.map(|(key, size_bytes)| Ok(ObjectMeta { key, size_bytes }))).boxed()
    }
    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.objects().remove(key);
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (env, password) = (Env::system(), "secret".into());
    let place: Arc<dyn Destination> = Arc::new(Shelf::default());
    Repository::init(Arc::clone(&place), &password, InitOptions::default(), &env).await?;
    Repository::open(place, &password, &env).await.map(drop)
}
