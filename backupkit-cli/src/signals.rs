//! Signals that ask the program to end. Engines install no handlers; programs do.

use tokio::signal::unix::{Signal, SignalKind, signal};

use backupkit_core::{Error, Result};

/// Ctrl-C, a request to end, and the loss of the terminal, from when this was made.
pub(crate) struct Signals([Signal; 3]);

impl Signals {
    pub(crate) fn listen() -> Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let listen = |kind| signal(kind).map_err(|error| Error::io("listen to signals", error));
        let [interrupt, terminate, hangup] = kinds.map(listen);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    /// Waits for the next one. Cancel safe.
    pub(crate) async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
