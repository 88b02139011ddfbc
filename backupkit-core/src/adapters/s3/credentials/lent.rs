//! A key that was read or lent, and for how long it is good.

use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::config::Credentials;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::super::small_file::read_small_text;
use crate::error::{Error, ErrorKind, Result};

/// So long before a key ends another one is asked for.
const MARGIN: Duration = Duration::from_mins(5);

/// A key.
pub(super) struct Lent {
    pub(super) credentials: Credentials,
    /// For how long it is used before another one is asked for.
    pub(super) fresh_for: Duration,
    /// For how long it can be used.
    pub(super) good_for: Duration,
}

impl Lent {
    /// A key that is read again after so long.
    pub(super) fn for_time(credentials: Credentials, time: Duration) -> Self {
        Self { credentials, fresh_for: time, good_for: time }
    }

    /// A key that ends at `expiration`, by a clock that shows `now`.
    pub(super) fn until(credentials: Credentials, expiration: Timestamp, now: Timestamp) -> Self {
        let good_for = Duration::try_from(expiration.duration_since(now)).unwrap_or_default();
        // One that is lent for minutes is not asked for all the time.
        let fresh_for = good_for.saturating_sub(MARGIN.min(good_for / 4));
        Self { credentials, fresh_for, good_for }
    }
}

/// Makes a key of its parts.
pub(super) fn credentials(id: &str, secret: &str, token: Option<&str>) -> Credentials {
    Credentials::new(id, secret, token.map(str::to_owned), None, "backupkit")
}

/// Reads a small file on a thread that may wait.
pub(super) async fn read_file(path: &Path) -> Result<Zeroizing<String>> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_small_text(&path));
    read.await.map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot read a file of credentials").with_source(error)
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_key_is_asked_for_before_one_ends() {
        let now = Timestamp::UNIX_EPOCH;
        for (lasts, fresh) in [(3_600, 3_300), (900, 675), (0, 0), (-5, 0)] {
            let expiration = Timestamp::from_second(lasts).unwrap();
            let lent = Lent::until(credentials("k", "s", None), expiration, now);
            assert_eq!(lent.fresh_for, Duration::from_secs(fresh), "{lasts}");
        }
    }
}
