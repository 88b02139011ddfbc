//! Lock files and the rules for them. Pure: taking and refreshing a lock is done elsewhere.
//!
//! Any number of shared locks, or one exclusive lock. There is no atomic way to take one: a program
//! looks, writes its lock, waits [`RECHECK_DELAY`] and looks again.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::model::FileTime;

use super::json::ObjectWriter;

/// How often a lock is replaced by a newer one.
pub const REFRESH_INTERVAL: Duration = Duration::from_mins(5);
/// How old a lock may be before other programs may remove it.
pub const STALE_AFTER: Duration = Duration::from_mins(30);
/// How long to wait between writing a lock and looking for other locks again.
pub const RECHECK_DELAY: Duration = Duration::from_millis(200);
/// What a lock file holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Lock {
    /// When it was written or last refreshed.
    pub time: FileTime,
    /// Whether it tolerates no other lock.
    #[serde(default)]
    pub exclusive: bool,
    /// The host of the process.
    #[serde(default)]
    pub hostname: String,
    /// The user of the process.
    #[serde(default)]
    pub username: String,
    /// The number of the process on its host.
    #[serde(default)]
    pub pid: i64,
    /// The number of the user.
    #[serde(default)]
    pub uid: u32,
    /// The number of the user's group.
    #[serde(default)]
    pub gid: u32,
}

impl Lock {
    /// Returns the text of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(256);
        let mut object = ObjectWriter::new(&mut json);
        object.time("time", &self.time);
        object.number("exclusive", self.exclusive);
        object.string("hostname", &self.hostname);
        object.string("username", &self.username);
        object.number("pid", self.pid);
        object.number_if_any("uid", self.uid);
        object.number_if_any("gid", self.gid);
        object.finish();
        json
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// `Corrupt` if it is not a lock.
    pub fn decode(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json)
            .map_err(|error| Error::corrupt("a lock", &error).with_source(error))
    }

    /// Whether the lock is so old that its owner cannot be alive. A lock from the future is not.
    ///
    /// A stale lock still counts until somebody removes it.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        let elapsed = now.duration_since(self.time.timestamp());
        Duration::try_from(elapsed).is_ok_and(|elapsed| elapsed > STALE_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::fixtures;

    fn lock(exclusive: bool) -> Lock {
        Lock {
            time: FileTime::from_unix(1_000_000_000, 0),
            exclusive,
            hostname: "host/backupkit-1".to_owned(),
            username: "user".to_owned(),
            pid: 7,
            uid: 0,
            gid: 0,
        }
    }

    fn after(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000_000 + seconds).unwrap()
    }

    #[test]
    fn what_go_writes_comes_back_byte_for_byte() {
        for line in fixtures::lines("locks.jsonl") {
            let lock = Lock::decode(line.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(lock.encode()).unwrap(), line);
        }
    }

    #[test]
    fn a_lock_is_stale_after_half_an_hour_and_never_in_the_future() {
        assert!(!lock(false).is_stale(after(30 * 60)));
        assert!(lock(false).is_stale(after(30 * 60 + 1)));
        assert!(!lock(false).is_stale(after(-365 * 86_400)));
    }

    #[test]
    fn what_is_not_a_lock_is_damaged() {
        for json in ["", "{}", "null", r#"{"time":"yesterday"}"#] {
            assert!(Lock::decode(json.as_bytes()).is_err(), "{json}");
        }
    }
}
