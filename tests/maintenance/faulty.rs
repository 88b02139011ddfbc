//! Local folders whose destinations fail as planned.

use std::sync::Arc;

use backupkit::adapters::fs::FolderKind;
use backupkit::destination::Destination;
use backupkit::registry::{ConnectionSecrets, SourceContext, SystemKind, TargetContext};
use backupkit::source::Source;
use backupkit::target::RestoreTarget;
use backupkit::testing::{FaultDestination, FaultPlan};
use backupkit::{Env, FieldErrors, Result};
use serde_json::value::RawValue;

/// In the place of the kind that is built in.
#[derive(Debug)]
pub(crate) struct FaultyKind(pub(crate) FaultPlan);

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
        Ok(Arc::new(FaultDestination::new(folder, &self.0)))
    }

    fn target(
        &self,
        settings: &RawValue,
        context: &TargetContext<'_>,
    ) -> Result<Arc<dyn RestoreTarget>> {
        FolderKind.target(settings, context)
    }
}
