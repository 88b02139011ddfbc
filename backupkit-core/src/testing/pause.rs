//! A place where a call waits until the test lets it go on.

use std::sync::Arc;

use tokio::sync::watch;

/// A place where calls wait until they are released. Clones are the same place.
///
/// One that is never released is a call that hangs.
#[derive(Debug, Clone)]
pub struct PausePoint(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    arrived: watch::Sender<u64>,
    open: watch::Sender<bool>,
}

impl Default for PausePoint {
    fn default() -> Self {
        Self(Arc::new(Inner { arrived: watch::Sender::new(0), open: watch::Sender::new(false) }))
    }
}

impl PausePoint {
    /// Returns a place that is closed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits here until released. For the call that is to be stopped. Cancel safe.
    pub async fn pass(&self) {
        self.0.arrived.send_modify(|arrived| *arrived += 1);
        // The sender lives in `self`, so waiting ends by release only.
        let mut open = self.0.open.subscribe();
        let _open = open.wait_for(|open| *open).await;
    }

    /// Waits until a call has arrived. For the test. Cancel safe.
    pub async fn reached(&self) {
        let mut arrived = self.0.arrived.subscribe();
        let _arrived = arrived.wait_for(|arrived| *arrived > 0).await;
    }

    /// Whether a call has arrived.
    pub fn is_reached(&self) -> bool {
        *self.0.arrived.borrow() > 0
    }

    /// Lets every call go on, also those that arrive later.
    pub fn release(&self) {
        self.0.open.send_replace(true);
    }
}
