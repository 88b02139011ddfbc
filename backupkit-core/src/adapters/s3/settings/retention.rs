//! For how long what was written cannot be deleted.

use std::time::Duration;

/// For how long the files of a repository cannot be deleted once they are written, in a bucket with
/// Object Lock. Locks and leases of a repository come and go all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct S3Retention {
    mode: S3RetentionMode,
    days: u16,
}

/// Who can delete what is retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum S3RetentionMode {
    /// Whoever has a special right for it.
    Governance,
    /// Nobody, not even the owner of the account, until the time has come.
    Compliance,
}

impl S3Retention {
    /// The most days: a hundred years less what is added to them.
    pub const MOST_DAYS: u16 = 36_500;

    /// Returns a retention. `days` are at least one and at most [`Self::MOST_DAYS`]; others become the
    /// nearest of these.
    pub fn new(mode: S3RetentionMode, days: u16) -> Self {
        Self { mode, days: days.clamp(1, Self::MOST_DAYS) }
    }

    /// Who can delete what is retained.
    pub fn mode(self) -> S3RetentionMode {
        self.mode
    }

    /// For how many days.
    pub fn days(self) -> u16 {
        self.days
    }

    /// For how long.
    pub(in crate::adapters::s3) fn duration(self) -> Duration {
        Duration::from_hours(24 * u64::from(self.days))
    }
}

impl S3RetentionMode {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Governance, Self::Compliance];

    /// The word for it in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Governance => "governance",
            Self::Compliance => "compliance",
        }
    }

    /// The word for it in requests.
    pub(in crate::adapters::s3) fn wire(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}
