//! Local folders whose destinations fail as planned, and keep leases if they are to.

use std::ops::Range;
use std::sync::Arc;

use backupkit::adapters::fs::FolderKind;
use backupkit::destination::{
    Destination, DestinationCapabilities, MemoryDestination, ObjectKey, ObjectMeta, Payload,
};
use backupkit::registry::{ConnectionSecrets, SourceContext, SystemKind, TargetContext};
use backupkit::source::Source;
use backupkit::target::RestoreTarget;
use backupkit::testing::{FaultDestination, FaultPlan};
use backupkit::{Env, FieldErrors, Probe, Result};
use bytes::Bytes;
use futures::stream::BoxStream;
use serde_json::value::RawValue;

/// In the place of the kind that is built in.
#[derive(Debug)]
pub(crate) struct FaultyKind {
    pub(crate) faults: FaultPlan,
    /// Where leases are kept, if they are.
    pub(crate) leases: Option<MemoryDestination>,
}

impl SystemKind for FaultyKind {
    fn name(&self) -> &'static str {
        FolderKind::NAME
    }

    fn check_settings(&self, settings: &RawValue) -> FieldErrors {
        FolderKind.check_settings(settings)
    }

    fn location(&self, settings: &RawValue) -> Result<String> {
        FolderKind.location(settings)
    }

    fn source(&self, settings: &RawValue, context: &SourceContext<'_>) -> Result<Arc<dyn Source>> {
        FolderKind.source(settings, context)
    }

    fn destination(
        &self,
        settings: &RawValue,
        secrets: &ConnectionSecrets,
        path: &str,
        env: &Env,
    ) -> Result<Arc<dyn Destination>> {
        let folder = FolderKind.destination(settings, secrets, path, env)?;
        let place: Arc<dyn Destination> = match self.leases.clone() {
            Some(leases) => Arc::new(LeasingDestination { folder, leases }),
            None => folder,
        };
        Ok(Arc::new(FaultDestination::new(place, &self.faults)))
    }

    fn target(
        &self,
        settings: &RawValue,
        context: &TargetContext<'_>,
    ) -> Result<Arc<dyn RestoreTarget>> {
        FolderKind.target(settings, context)
    }
}

/// A folder in which one object can be replaced under a condition.
#[derive(Debug)]
struct LeasingDestination {
    folder: Arc<dyn Destination>,
    leases: MemoryDestination,
}

impl LeasingDestination {
    fn of(&self, key: &ObjectKey) -> &dyn Destination {
        if key.as_str().starts_with("backupkit/") { &self.leases } else { &*self.folder }
    }
}

#[async_trait::async_trait]
impl Destination for LeasingDestination {
    fn capabilities(&self) -> DestinationCapabilities {
        self.folder.capabilities().with_swap()
    }

    fn location(&self) -> String {
        self.folder.location()
    }

    async fn check(&self) -> Result<Probe> {
        self.folder.check().await
    }

    async fn create(&self, key: &ObjectKey, payload: Payload) -> Result<()> {
        self.of(key).create(key, payload).await
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes> {
        self.of(key).get(key, range).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.of(key).stat(key).await
    }

    fn list(&self, prefix: &ObjectKey) -> BoxStream<'static, Result<ObjectMeta>> {
        self.folder.list(prefix)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.of(key).delete(key).await
    }

    async fn swap(&self, key: &ObjectKey, expected: Option<Bytes>, bytes: Bytes) -> Result<()> {
        self.of(key).swap(key, expected, bytes).await
    }
}
