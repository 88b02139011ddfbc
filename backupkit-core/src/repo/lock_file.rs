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
/// How old our own lock may be before we stop writing until it is known that it still exists: a
/// quarter of [`STALE_AFTER`] is kept for clocks that differ and writes under way.
pub const REFRESH_DEADLINE: Duration = Duration::from_secs(22 * 60 + 30);
/// How long to wait between writing a lock and looking for other locks again.
pub const RECHECK_DELAY: Duration = Duration::from_millis(200);
/// How long to wait before the first new attempt to take a lock; doubled each time.
pub const FIRST_RETRY_DELAY: Duration = Duration::from_secs(5);
/// The longest wait between two attempts to take a lock.
pub const MAX_RETRY_DELAY: Duration = Duration::from_mins(1);
/// The waits before reading a lock again that cannot be read. After the last one it is an error.
pub const UNREADABLE_RETRY_DELAYS: [Duration; 3] =
    [Duration::from_secs(5), Duration::from_secs(10), Duration::from_secs(20)];

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

    /// Whether both cannot exist at once.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        self.exclusive || other.exclusive
    }

    /// Whether the lock is so old that its owner cannot be alive. A lock from the future is not.
    ///
    /// A stale lock still counts until somebody removes it.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        self.is_older_than(STALE_AFTER, now)
    }

    /// Whether our own lock is due for a refresh.
    pub fn needs_refresh(&self, now: Timestamp) -> bool {
        self.is_older_than(REFRESH_INTERVAL, now)
    }

    /// Whether our own lock is so old that nothing may be written until it is refreshed with care.
    pub fn missed_refresh(&self, now: Timestamp) -> bool {
        self.is_older_than(REFRESH_DEADLINE, now)
    }

    /// Returns the lock that replaces this one at `now`.
    #[must_use]
    pub fn refreshed(&self, now: FileTime) -> Self {
        Self { time: now, ..self.clone() }
    }

    fn is_older_than(&self, age: Duration, now: Timestamp) -> bool {
        let elapsed = now.duration_since(self.time.timestamp());
        Duration::try_from(elapsed).is_ok_and(|elapsed| elapsed > age)
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
    fn only_shared_locks_stand_side_by_side() {
        assert!(!lock(false).conflicts_with(&lock(false)));
        assert!(lock(false).conflicts_with(&lock(true)));
        assert!(lock(true).conflicts_with(&lock(false)));
        assert!(lock(true).conflicts_with(&lock(true)));
    }

    #[test]
    fn a_lock_is_stale_after_half_an_hour_and_never_in_the_future() {
        assert!(!lock(false).is_stale(after(30 * 60)));
        assert!(lock(false).is_stale(after(30 * 60 + 1)));
        assert!(!lock(false).is_stale(after(-365 * 86_400)));
    }

    #[test]
    fn a_lock_is_refreshed_long_before_it_is_stale() {
        assert!(!lock(false).needs_refresh(after(299)));
        assert!(lock(false).needs_refresh(after(301)));
        assert!(!lock(false).missed_refresh(after(22 * 60 + 30)));
        assert!(lock(false).missed_refresh(after(22 * 60 + 31)));
        let new = lock(true).refreshed(FileTime::from_unix(1_000_000_400, 0));
        assert!(new.exclusive && !new.needs_refresh(after(500)));
    }

    #[test]
    fn what_is_not_a_lock_is_damaged() {
        for json in ["", "{}", "null", r#"{"time":"yesterday"}"#] {
            assert!(Lock::decode(json.as_bytes()).is_err(), "{json}");
        }
    }
}
