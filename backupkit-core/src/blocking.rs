//! The way from async code to work that blocks a thread: files of this machine, slow key derivation.

use crate::error::{Error, ErrorKind, Result};

/// Runs `work` where blocking is allowed. A dropped call lets it run to its end.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        if error.is_panic() {
            Err(Error::new(ErrorKind::Internal, "a blocking task of the engine panicked"))
        } else {
            Err(Error::cancelled())
        }
    })
}
