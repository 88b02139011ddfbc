//! Notes the calls to a destination, so that somebody can see whether it answers.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;

use super::{
    Destination, DestinationCapabilities, Extension, Leftovers, ObjectKey, ObjectMeta, Payload,
    Undeleted,
};
use crate::activity::Activity;
use crate::error::Result;
use crate::probe::Probe;

/// A [`Destination`] whose calls are noted.
#[derive(Debug, Clone)]
pub(crate) struct WatchedDestination {
    inner: Arc<dyn Destination>,
    activity: Activity,
}

impl WatchedDestination {
    /// Wraps a destination.
    pub(crate) fn new(inner: Arc<dyn Destination>, activity: &Activity) -> Self {
        Self { inner, activity: activity.clone() }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Destination for WatchedDestination {
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
        let _call = self.activity.begin();
        self.inner.check().await
    }

    async fn create(&self, key: &ObjectKey, payload: Payload) -> Result<()> {
        let _call = self.activity.begin();
        self.inner.create(key, payload).await
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes> {
        let _call = self.activity.begin();
        self.inner.get(key, range).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let _call = self.activity.begin();
        self.inner.stat(key).await
    }

    fn list(&self, prefix: &ObjectKey) -> BoxStream<'static, Result<ObjectMeta>> {
        // Each object is a sign of life; what its reader does meanwhile is no call.
        let state = (self.inner.list(prefix), self.activity.clone());
        stream::unfold(state, |(mut objects, activity)| async move {
            let call = activity.begin();
            let next = objects.next().await;
            drop(call);
            next.map(|object| (object, (objects, activity)))
        })
        .boxed()
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let _call = self.activity.begin();
        self.inner.delete(key).await
    }

    async fn delete_many(&self, keys: &[ObjectKey]) -> Result<Vec<Undeleted>> {
        let _call = self.activity.begin();
        self.inner.delete_many(keys).await
    }

    fn as_of(&self, time: Timestamp) -> Result<Arc<dyn Destination>> {
        Ok(Arc::new(Self::new(self.inner.as_of(time)?, &self.activity)))
    }

    async fn time(&self) -> Result<Option<Timestamp>> {
        let _call = self.activity.begin();
        self.inner.time().await
    }

    async fn extend_retention(&self, key: &ObjectKey, dry_run: bool) -> Result<Extension> {
        let _call = self.activity.begin();
        self.inner.extend_retention(key, dry_run).await
    }

    async fn remove_abandoned(
        &self,
        prefix: &ObjectKey,
        unchanged_for: Duration,
        dry_run: bool,
    ) -> Result<Leftovers> {
        let _call = self.activity.begin();
        self.inner.remove_abandoned(prefix, unchanged_for, dry_run).await
    }

    async fn swap(&self, key: &ObjectKey, expected: Option<Bytes>, bytes: Bytes) -> Result<()> {
        let _call = self.activity.begin();
        self.inner.swap(key, expected, bytes).await
    }
}
