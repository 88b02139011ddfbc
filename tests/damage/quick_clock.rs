//! A clock that skips short waits, so that hundreds of runs do not wait for their locks.

use std::time::Duration;

use backupkit::{Clock, Env};
use futures::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;

const SHORT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct QuickClock(Env);

impl QuickClock {
    pub(crate) fn new() -> Self {
        Self(Env::system())
    }
}

impl Clock for QuickClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn elapsed_since_boot(&self) -> Duration {
        self.0.clock().elapsed_since_boot()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        if duration < SHORT {
            return tokio::task::yield_now().boxed();
        }
        self.0.clock().sleep(duration)
    }
}
