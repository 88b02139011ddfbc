//! A run that is held by lease: kept while it goes on, and recorded in the state store.

mod execute;
mod journal;
mod keeper;
mod record;
mod recorder;
mod see_through;
mod values;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

pub use execute::{HeldRun, HeldRunOptions};
pub use record::{BackupRecord, OutputRecord, RestoreRecord};
pub(crate) use see_through::POLL;

use crate::env::Env;
use crate::error::{Result, Retry};
use crate::state::{LeaseRef, StateStore, refusal};

/// So long to wait for a store that is busy.
const STORE_WAIT: Duration = Duration::from_millis(500);

/// A part of a run in the state store, as whoever holds its lease sees it.
#[derive(Debug, Clone)]
struct HeldPart {
    store: Arc<dyn StateStore>,
    lease: LeaseRef,
    part: u32,
    env: Env,
    /// Ends when the lease is known to be lost.
    gone: CancellationToken,
}

impl HeldPart {
    /// Asks the state store again as long as its error may pass and the lease is not lost: that it is
    /// busy is no reason to give up a repository, or what came of hours of work. A store that hangs is
    /// waited for no longer than the lease lasts.
    async fn insist<'a, T>(&self, call: impl Fn() -> BoxFuture<'a, Result<T>>) -> Result<T> {
        let insisting = async {
            loop {
                match call().await {
                    Err(error) if error.retry() != Retry::Never => {
                        self.env.clock().sleep(STORE_WAIT).await;
                    }
                    answer => return answer,
                }
            }
        };
        let answer = self.gone.run_until_cancelled(insisting).await;
        answer.unwrap_or_else(|| Err(refusal::lease_lost(self.lease.run())))
    }
}
