//! How a run is told to pause or to stop.

use tokio::sync::watch;

use crate::token::CancelToken;

/// The gate that the reading side looks at, and the token that everything looks at. Clones share one
/// state.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    pause: watch::Sender<bool>,
    cancel: CancelToken,
    can_rest: bool,
}

impl Control {
    /// Returns the control of a run. One that cannot rest stops when it is asked to.
    pub(crate) fn new(can_rest: bool) -> Self {
        Self { pause: watch::Sender::new(false), cancel: CancelToken::new(), can_rest }
    }

    /// Asks the reading side to stop; what was read is stored.
    pub(crate) fn pause(&self) {
        self.pause.send_replace(true);
        if !self.can_rest {
            self.cancel.cancel();
        }
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
