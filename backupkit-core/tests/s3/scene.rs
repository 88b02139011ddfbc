//! A server, a destination on it, and a clock that does not keep anybody waiting.

use std::sync::Arc;
use std::time::Duration;

use backupkit_core::adapters::s3::{S3Credentials, S3Destination, S3Settings};
use backupkit_core::destination::{Destination, ObjectKey, ObjectMeta};
use backupkit_core::testing::fakes::{S3Server, S3ServerOptions};
use backupkit_core::testing::{ManualClock, SeededEntropy};
use backupkit_core::{Clock as _, Env, Result};
use bytes::Bytes;
use futures::TryStreamExt as _;

pub(crate) const BUCKET: &str = "bucket";

pub(crate) struct Scene {
    pub(crate) server: S3Server,
    pub(crate) destination: S3Destination,
    pub(crate) clock: ManualClock,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(S3ServerOptions::default(), |settings| settings)
    }

    pub(crate) fn with(
        options: S3ServerOptions,
        change: impl FnOnce(S3Settings) -> S3Settings,
    ) -> Self {
        let server = S3Server::start_with(BUCKET, options);
        let clock = ManualClock::default().with_auto_advance();
        let settings = change(settings(&server));
        let destination = S3Destination::new(settings, &credentials(), env(&clock)).unwrap();
        Self { server, destination, clock }
    }

    /// Another handle, as another process has it.
    pub(crate) fn other_with(
        &self,
        change: impl FnOnce(S3Settings) -> S3Settings,
    ) -> S3Destination {
        let settings = change(settings(&self.server));
        S3Destination::new(settings, &credentials(), env(&self.clock)).unwrap()
    }

    /// With the server known to keep conditions, so that requests can be counted.
    pub(crate) async fn warmed_up() -> Self {
        let scene = Self::new();
        scene.create("locks/first", b"first").await.unwrap();
        scene.server.reset_counters();
        scene
    }

    pub(crate) async fn create(&self, name: &str, bytes: &'static [u8]) -> Result<()> {
        self.destination.create(&key(name), Bytes::from_static(bytes).into()).await
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Bytes> {
        self.destination.get(&key(name), None).await
    }

    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>> {
        self.destination.list(&key(prefix)).try_collect().await
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.elapsed_since_boot()
    }

    pub(crate) fn since(&self, started: Duration) -> Duration {
        self.elapsed().saturating_sub(started)
    }
}

pub(crate) fn settings(server: &S3Server) -> S3Settings {
    S3Settings::new(BUCKET).with_endpoint(server.endpoint())
}

pub(crate) fn credentials() -> S3Credentials {
    S3Credentials::keys(S3Server::ACCESS_KEY_ID, S3Server::SECRET_ACCESS_KEY)
}

pub(crate) fn env(clock: &ManualClock) -> Env {
    Env::system().with_clock(Arc::new(clock.clone())).with_entropy(Arc::new(SeededEntropy::new(1)))
}

pub(crate) fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).unwrap()
}
