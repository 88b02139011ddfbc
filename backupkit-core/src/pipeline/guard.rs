//! The last look before something is published.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::repo::lease::RepositoryLease;
use crate::repo::locks::RepositoryLock;
use crate::state::refusal::LEASE_LOST;

/// Tells whether this run still is the one that may write.
#[async_trait]
pub trait Liveness: fmt::Debug + Send + Sync + 'static {
    /// Whether the lease of the run is alive. Asked right before each publishing write.
    async fn is_alive(&self) -> bool;
}

/// Where there are no leases, a run lives as long as its process.
#[derive(Debug, Clone, Copy, Default)]
pub struct AlwaysAlive;

#[async_trait]
impl Liveness for AlwaysAlive {
    async fn is_alive(&self) -> bool {
        true
    }
}

/// Allows or refuses the writes that make data visible: index, snapshot, delete.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    lock: RepositoryLock,
    liveness: Arc<dyn Liveness>,
    /// Of what only one program at a time may do.
    lease: Option<RepositoryLease>,
}

impl Guard {
    pub(crate) fn new(lock: RepositoryLock, liveness: Arc<dyn Liveness>) -> Self {
        Self { lock, liveness, lease: None }
    }

    /// The same for what is done under a lease.
    pub(crate) fn with_lease(mut self, lease: RepositoryLease) -> Self {
        self.lease = Some(lease);
        self
    }

    /// The lock under which everything is written.
    pub(crate) fn lock(&self) -> &RepositoryLock {
        &self.lock
    }

    /// Returns an error if nothing may be written at all: called before what nobody sees yet.
    pub(crate) async fn check_lock(&self) -> Result<()> {
        self.lock.confirm().await
    }

    /// Returns an error if nothing more may be written.
    pub(crate) async fn check(&self) -> Result<()> {
        self.lock.confirm().await?;
        self.lock.check_alive().await?;
        if let Some(lease) = &self.lease {
            lease.check().await?;
        }
        // Last, as looking at the lock takes time.
        check_alive(&*self.liveness).await
    }
}

/// Returns an error if another worker may have the run by now.
pub(crate) async fn check_alive(liveness: &dyn Liveness) -> Result<()> {
    if liveness.is_alive().await {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Conflict, "another worker took this run over").with_code(LEASE_LOST))
}
