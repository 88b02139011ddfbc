//! What maintenance goes by, and what came of it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// The greatest age, in days: a century.
const MAX_DAYS: u32 = 36_500;
const SECONDS_A_DAY: u64 = 24 * 60 * 60;

/// How old what is left behind must be before maintenance removes it, in days. Ages are from 1 to
/// 36,500 days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaintenanceSettings {
    /// Whether workers order maintenance by themselves, a day after the last one.
    pub automatic: bool,
    /// Logs, since their run ended. 90 by default.
    pub logs_days: u32,
    /// Runs, since they ended. With them goes all that is on record of them. 365 by default.
    pub runs_days: u32,
    /// Files that were still being written when their process died, since somebody wrote to them last.
    /// 1 by default.
    pub temporary_files_days: u32,
    /// What backups that rested or crashed left in repositories for the next one to go on from, since
    /// it was left, and since its run ended. 7 by default.
    pub checkpoints_days: u32,
    /// Copies of indexes, since somebody used them. 30 by default.
    pub caches_days: u32,
}

/// Something that maintenance sees to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MaintenanceWork {
    /// Lines in logs of runs.
    Logs,
    /// Runs that ended.
    Runs,
    /// Files that were still being written when their process died.
    TemporaryFiles,
    /// Copies of indexes that nobody uses.
    Caches,
    /// Checkpoint snapshots that nobody goes on from.
    Checkpoints,
    /// Locks of processes of ours that died.
    Locks,
    /// Objects that are kept from being deleted for longer; all others are removed.
    Retention,
}

/// What a step of maintenance did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceStep {
    /// What.
    pub work: MaintenanceWork,
    /// The folder or repository that it was in; nothing for the state store.
    pub place: Option<String>,
    /// How many.
    pub count: u64,
    /// Their bytes, where these are known.
    pub bytes: Option<u64>,
}

/// The [report](crate::state::Run::report) of maintenance that has finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceRecord {
    /// Whether nothing was removed: the steps tell what would be.
    pub dry_run: bool,
    /// The steps that found something, the first 1,000 of them. The log has all.
    pub steps: Vec<MaintenanceStep>,
    /// How many warnings and errors there were.
    pub problem_count: u64,
}

impl Default for MaintenanceSettings {
    fn default() -> Self {
        Self {
            automatic: true,
            logs_days: 90,
            runs_days: 365,
            temporary_files_days: 1,
            checkpoints_days: 7,
            caches_days: 30,
        }
    }
}

impl MaintenanceSettings {
    /// Says what is wrong with the ages, if anything is.
    ///
    /// # Errors
    /// `InvalidInput` for an age that is not from 1 to 36,500 days.
    pub fn check(&self) -> Result<()> {
        let Self {
            logs_days, runs_days, temporary_files_days, checkpoints_days, caches_days, ..
        } = self;
        for (what, days) in [
            ("logs", logs_days),
            ("runs", runs_days),
            ("temporary files", temporary_files_days),
            ("checkpoints", checkpoints_days),
            ("caches", caches_days),
        ] {
            if !(1..=MAX_DAYS).contains(days) {
                let message = format!("{what} are kept for 1 to {MAX_DAYS} days, not {days}");
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
        }
        Ok(())
    }
}

impl MaintenanceWork {
    /// What maintenance does to them, or would do.
    pub fn deed(self, dry_run: bool) -> &'static str {
        match (self, dry_run) {
            (Self::Retention, false) => "extended",
            (Self::Retention, true) => "would extend",
            (_, false) => "removed",
            (_, true) => "would remove",
        }
    }

    /// What people call so many of them.
    pub fn noun(self, count: u64) -> &'static str {
        let (one, many) = match self {
            Self::Logs => ("line of a log", "lines of logs"),
            Self::Runs => ("run", "runs"),
            Self::TemporaryFiles => ("temporary file", "temporary files"),
            Self::Caches => ("copy of an index", "copies of indexes"),
            Self::Checkpoints => ("checkpoint", "checkpoints"),
            Self::Locks => ("lock of a process that died", "locks of processes that died"),
            Self::Retention => ("retained object", "retained objects"),
        };
        if count == 1 { one } else { many }
    }
}

/// Such as `3 temporary files, 4096 bytes, in /srv/repo`.
impl fmt::Display for MaintenanceStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.count, self.work.noun(self.count))?;
        if let Some(bytes) = self.bytes.filter(|bytes| *bytes > 0) {
            write!(f, ", {bytes} bytes")?;
        }
        match &self.place {
            Some(place) => write!(f, ", in {place}"),
            None => Ok(()),
        }
    }
}

/// A number of days.
pub(crate) fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * SECONDS_A_DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_are_not_known_are_refused_and_those_that_lack_have_their_default() {
        let read = serde_json::from_str::<MaintenanceSettings>;
        let settings = read(r#"{"logs_days":5}"#).unwrap();
        assert_eq!(settings, MaintenanceSettings { logs_days: 5, ..Default::default() });
        assert!(read(r#"{"log_days":5}"#).is_err());
    }

    #[test]
    fn ages_of_no_days_and_of_more_than_a_century_are_refused() {
        MaintenanceSettings::default().check().unwrap();
        for caches_days in [0, MAX_DAYS + 1] {
            let settings = MaintenanceSettings { caches_days, ..Default::default() };
            assert!(settings.check().unwrap_err().is(ErrorKind::InvalidInput));
        }
    }

    #[test]
    fn a_step_says_how_much_of_what_and_where() {
        let step = |count, bytes, place: Option<&str>| MaintenanceStep {
            work: MaintenanceWork::Checkpoints,
            place: place.map(str::to_owned),
            count,
            bytes,
        };
        assert_eq!(step(1, None, None).to_string(), "1 checkpoint");
        let step = step(2, Some(7), Some("/srv"));
        assert_eq!(step.to_string(), "2 checkpoints, 7 bytes, in /srv");
    }
}
