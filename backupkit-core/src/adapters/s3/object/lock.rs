//! What keeps an object from being replaced and deleted.

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use serde::{Deserialize, Serialize};

/// The mode that nobody can lift.
const COMPLIANCE: &str = "COMPLIANCE";

/// The lock of an object: a retention, a legal hold, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::adapters::s3) struct ObjectLock {
    /// `GOVERNANCE` or `COMPLIANCE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::adapters::s3) mode: Option<String>,
    /// Until when it is retained, as in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// Whether somebody has to release it first.
    #[serde(rename = "hold", skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::adapters::s3) is_held: bool,
}

impl ObjectLock {
    /// Returns the lock that a server tells of; nothing if there is none.
    pub(in crate::adapters::s3) fn new(
        mode: Option<&str>,
        until: Option<&DateTime>,
        is_held: bool,
    ) -> Option<Self> {
        let mode = mode.filter(|mode| !mode.is_empty()).map(str::to_owned);
        let until = until.and_then(|until| until.fmt(DateTimeFormat::DateTime).ok());
        // One without the other retains nothing.
        let (mode, until) = mode.zip(until).unzip();
        (mode.is_some() || is_held).then_some(Self { mode, until, is_held })
    }

    /// Until when it is retained.
    pub(in crate::adapters::s3) fn until(&self) -> Option<DateTime> {
        let until = self.until.as_deref()?;
        DateTime::from_str(until, DateTimeFormat::DateTime).ok()
    }

    /// Whether it locks an object in all ways that another one does, and for as long.
    pub(in crate::adapters::s3) fn covers(&self, other: &Self) -> bool {
        let is_as_strict = self.mode == other.mode || self.mode.as_deref() == Some(COMPLIANCE);
        let is_retained = match (other.until(), self.until()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(least), Some(until)) => is_as_strict && until.secs() >= least.secs(),
        };
        is_retained && (self.is_held || !other.is_held)
    }

    /// What of it still holds; servers refuse a retention that is over.
    pub(in crate::adapters::s3) fn still_at(self, now_seconds: i64) -> Option<Self> {
        let is_retained = self.until().is_some_and(|until| until.secs() > now_seconds);
        let Self { mode, until, is_held } = self;
        let (mode, until) = mode.zip(until).filter(|_| is_retained).unzip();
        (mode.is_some() || is_held).then_some(Self { mode, until, is_held })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_ends_and_a_hold_does_not() {
        let until = DateTime::from_secs(1_000);
        let both = ObjectLock::new(Some("COMPLIANCE"), Some(&until), true).unwrap();
        assert_eq!(both.until(), Some(until));
        assert_eq!(both.clone().still_at(999), Some(both.clone()));
        let held = both.still_at(1_000).unwrap();
        assert!(held.is_held && held.mode.is_none() && held.until().is_none());
        let retained = ObjectLock::new(Some("GOVERNANCE"), Some(&until), false).unwrap();
        assert_eq!(retained.still_at(1_000), None);
        assert_eq!(ObjectLock::new(Some("GOVERNANCE"), None, false), None);
        assert_eq!(ObjectLock::new(None, None, false), None);
    }

    #[test]
    fn a_lock_covers_what_is_retained_no_longer_and_no_other_way() {
        let (soon, late) = (DateTime::from_secs(1_000), DateTime::from_secs(2_000));
        let lock =
            |mode, until, is_held| ObjectLock::new(Some(mode), Some(until), is_held).unwrap();
        let held = ObjectLock::new(None, None, true).unwrap();
        let governed = lock("GOVERNANCE", &late, false);
        assert!(governed.covers(&governed));
        assert!(governed.covers(&lock("GOVERNANCE", &soon, false)));
        assert!(!lock("GOVERNANCE", &soon, false).covers(&governed));
        assert!(!governed.covers(&lock("COMPLIANCE", &soon, false)));
        assert!(lock("COMPLIANCE", &soon, false).covers(&lock("GOVERNANCE", &soon, false)));
        assert!(!governed.covers(&held) && !held.covers(&governed));
        assert!(lock("GOVERNANCE", &late, true).covers(&held));
    }
}
