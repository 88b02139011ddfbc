//! How a run is told to pause or to stop.

use tokio::sync::watch;

use crate::token::CancelToken;

/// The gate that the reading side looks at, and the token that everything looks at. Clones share one
/// state.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    pause: watch::Sender<bool>,
    cancel: CancelToken,
}

impl Control {
    pub(crate) fn new() -> Self {
        Self {
            pause: watch::Sender::new(false),
            cancel: CancelToken::new(),
        }
    }

    /// Asks the reading side to stop; what was read is stored.
    pub(crate) fn pause(&self) {
        self.pause.send_replace(true);
    }

    /// Whether the gate is closed.
    pub(crate) fn is_pausing(&self) -> bool {
        *self.pause.borrow()
    }

    /// Waits until the gate closes. Cancel safe.
    pub(crate) async fn pausing(&self) {
        let mut gate = self.pause.subscribe();
        // The sender lives as long as `self`.
        let _closed = gate.wait_for(|closed| *closed).await.is_ok();
    }

    /// The token that tells everything to stop.
    pub(crate) fn cancel_token(&self) -> &CancelToken {
        &self.cancel
    }
}
