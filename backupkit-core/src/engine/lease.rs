//! A run that is held by lease: kept while it goes on, and recorded in the state store.

mod execute;
mod journal;
mod keeper;
mod record;
mod recorder;
mod values;

use std::time::Duration;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

pub use execute::{HeldRun, HeldRunOptions};
pub use record::{BackupRecord, OutputRecord, RestoreRecord};

use crate::env::Env;
use crate::error::{Result, Retry};

/// So long to wait for a store that is busy.
const STORE_WAIT: Duration = Duration::from_millis(500);

/// Asks the state store again as long as its error may pass and the lease is not lost: that it is busy
/// is no reason to give up a repository, or what came of hours of work.
async fn insist<'a, T>(
    env: &Env,
    gone: &CancellationToken,
    call: impl Fn() -> BoxFuture<'a, Result<T>>,
) -> Result<T> {
    loop {
        match call().await {
            Err(error) if error.retry() != Retry::Never && !gone.is_cancelled() => {
                env.clock().sleep(STORE_WAIT).await;
            }
            answer => return answer,
        }
    }
}
