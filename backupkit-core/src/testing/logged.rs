//! Waits for what a run writes into its log.

use crate::error::Result;
use crate::state::{LogFilter, RunId, Scope, StateStore};

/// Waits until a run of the default scope has written a line with this code among its first thousand.
///
/// # Errors
/// Those of the store.
pub async fn logged(store: &dyn StateStore, run: RunId, code: &str) -> Result<()> {
    loop {
        let lines = store.logs(&Scope::default(), run, &LogFilter::default(), 0, 1000).await?;
        if lines.iter().any(|line| line.line.code == code) {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}
