//! What happens in a run: typed events, and progress.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::{EntryPath, MaintenanceStep, SnapshotId};
use crate::error::ErrorKind;

/// Something that happened in a run. Holds no secrets.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Counts from 1 in each run, without gaps.
    pub number: u64,
    /// When.
    #[serde(rename = "ts")]
    pub at: Timestamp,
    /// How much it matters.
    pub level: Level,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Good to know.
    Info,
    /// Something is missing or different, and the run goes on.
    Warning,
    /// A part of the run failed.
    Error,
}

/// The kinds of events. `Display` gives the sentence for people.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EventKind {
    /// The backup follows this snapshot.
    ParentFound {
        /// Where the repository is.
        repository: String,
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// The backup goes on where an earlier one was paused.
    Resumed {
        /// Entries that were finished before.
        entries: u64,
        /// Bytes that were stored before.
        bytes: u64,
    },
    /// A checkpoint could not be used, so the backup starts from the beginning.
    CheckpointDropped {
        /// Why.
        reason: String,
    },
    /// Packs of a crashed run were found and are used again.
    PacksRecovered {
        /// Where the repository is.
        repository: String,
        /// How many.
        packs: u64,
    },
    /// An entry is not in the snapshot because it could not be read.
    EntryFailed {
        /// Where it stands.
        #[serde(flatten, serialize_with = "serialize_path")]
        path: EntryPath,
        /// Why.
        reason: String,
        /// The kind of error.
        error: &'static str,
    },
    /// An entry changed while it was read; what one look gave was stored.
    EntryChanged {
        /// Where it stands.
        #[serde(flatten, serialize_with = "serialize_path")]
        path: EntryPath,
    },
    /// An entry was restored, but not all that belongs to it.
    EntryIncomplete {
        /// Where it stands.
        #[serde(flatten, serialize_with = "serialize_path")]
        path: EntryPath,
        /// What is missing.
        reason: String,
    },
    /// An entry was not restored.
    EntryNotRestored {
        /// Where it stands in the snapshot.
        #[serde(flatten, serialize_with = "serialize_path")]
        path: EntryPath,
        /// Why.
        reason: String,
        /// The kind of error.
        error: &'static str,
    },
    /// What the target has is not what was restored.
    EntryDiffers {
        /// Where it stands in the snapshot.
        #[serde(flatten, serialize_with = "serialize_path")]
        path: EntryPath,
        /// In what.
        reason: String,
    },
    /// What the target has could not be compared.
    EntryNotCompared {
        /// Where it stands in the snapshot.
        #[serde(flatten, serialize_with = "serialize_path")]
        path: EntryPath,
        /// Why.
        reason: String,
    },
    /// A check found damage.
    Finding(Finding),
    /// A repository takes no part in the rest of the run.
    RepositorySetAside {
        /// Where the repository is.
        repository: String,
        /// Why.
        reason: String,
    },
    /// A system that takes part has asked for fewer requests. They are made again, later.
    SlowedDown {
        /// Where it is.
        place: String,
    },
    /// It has asked for that no more for a while.
    SpeedsUp {
        /// Where it is.
        place: String,
    },
    /// A snapshot was created.
    SnapshotCreated {
        /// Where the repository is.
        repository: String,
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// The run was asked to rest, or its worker shuts down.
    Pausing,
    /// The run rests; a checkpoint snapshot keeps what it stored.
    Paused {
        /// Where the repository is.
        repository: String,
        /// The checkpoint snapshot.
        snapshot: SnapshotId,
    },
    /// A step of maintenance is done.
    Tidied {
        /// What was done, or would be.
        #[serde(flatten)]
        step: MaintenanceStep,
        /// Whether nothing was changed.
        dry_run: bool,
    },
    /// Something else worth telling.
    Note {
        /// One sentence.
        text: String,
    },
    /// A subscriber was too slow and missed some events; the report counts them all.
    Missed {
        /// How many.
        events: u64,
    },
}

impl Event {
    /// Whether it tells that stored bytes are not what was written, or that what was restored differs.
    pub fn is_damage(&self) -> bool {
        let error = match &self.kind {
            EventKind::EntryNotRestored { error, .. } => Some(*error),
            _ => None,
        };
        is_damage(self.level, self.kind.code(), error)
    }
}

/// As [`Event::is_damage`], of a line in a log: its level, its code, and its field `error`.
pub(crate) fn is_damage(level: Level, code: &str, error: Option<&str>) -> bool {
    match code {
        "entry-not-restored" => error == Some(ErrorKind::Corrupt.as_str()),
        "entry-differs" | "finding" => true,
        // So a restore tells of a directory that cannot be read.
        "note" => level == Level::Error,
        _ => false,
    }
}

impl EventKind {
    /// The stable code, as JSON and logs have it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ParentFound { .. } => "parent-found",
            Self::Resumed { .. } => "resumed",
            Self::CheckpointDropped { .. } => "checkpoint-dropped",
            Self::PacksRecovered { .. } => "packs-recovered",
            Self::EntryFailed { .. } => "entry-failed",
            Self::EntryChanged { .. } => "entry-changed",
            Self::EntryIncomplete { .. } => "entry-incomplete",
            Self::EntryNotRestored { .. } => "entry-not-restored",
            Self::EntryDiffers { .. } => "entry-differs",
            Self::EntryNotCompared { .. } => "entry-not-compared",
            Self::Finding(_) => "finding",
            Self::RepositorySetAside { .. } => "repository-set-aside",
            Self::SlowedDown { .. } => "slowed-down",
            Self::SpeedsUp { .. } => "speeds-up",
            Self::SnapshotCreated { .. } => "snapshot-created",
            Self::Pausing => "pausing",
            Self::Paused { .. } => "paused",
            Self::Tidied { .. } => "tidied",
            Self::Note { .. } => "note",
            Self::Missed { .. } => "missed",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ParentFound { snapshot, .. } => {
                write!(f, "follows snapshot {}", snapshot.short())
            }
            Self::Resumed { entries, bytes } => {
                write!(f, "goes on after a pause: {entries} entries, {bytes} bytes are stored")
            }
            Self::CheckpointDropped { reason } => {
                write!(f, "starts from the beginning: {reason}")
            }
            Self::PacksRecovered { repository, packs } => {
                write!(f, "{packs} packs of a crashed run are used again in {repository}")
            }
            Self::EntryFailed { path, reason, .. } => write!(f, "not backed up: {path}: {reason}"),
            Self::EntryChanged { path } => {
                write!(f, "changed while it was read, stored as one look gave it: {path}")
            }
            Self::EntryIncomplete { path, reason } => write!(f, "{path}: {reason}"),
            Self::EntryNotRestored { path, reason, .. } => {
                write!(f, "not restored: {path}: {reason}")
            }
            Self::EntryDiffers { path, reason } => write!(f, "differs: {path}: {reason}"),
            Self::EntryNotCompared { path, reason } => {
                write!(f, "not compared: {path}: {reason}")
            }
            Self::Finding(finding) => write!(f, "{finding}"),
            Self::RepositorySetAside { repository, reason } => {
                write!(f, "{repository} is left out of the rest of the run: {reason}")
            }
            Self::SlowedDown { place } => {
                write!(f, "slowed down by {place}: it asks for fewer requests")
            }
            Self::SpeedsUp { place } => write!(f, "{place} slows down no more"),
            Self::SnapshotCreated { repository, snapshot } => {
                write!(f, "snapshot {} created in {repository}", snapshot.short())
            }
            Self::Pausing => f.write_str("asked to rest; nothing more is read"),
            Self::Paused { repository, .. } => {
                write!(f, "paused; {repository} keeps what is stored")
            }
            Self::Tidied { step, dry_run } => write!(f, "{} {step}", step.work.deed(*dry_run)),
            Self::Note { text } => f.write_str(text),
            Self::Missed { events } => write!(f, "{events} messages were not shown"),
        }
    }
}

/// Something that a check found to be damaged, or missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is damaged, such as `pack` and its id.
    pub object: String,
    /// In what way.
    pub problem: String,
    /// The file or directory that it is about.
    #[serde(flatten, serialize_with = "serialize_path_if_any")]
    pub path: Option<EntryPath>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.object)?;
        if let Some(path) = &self.path {
            write!(f, ", {path}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

#[expect(clippy::ref_option, reason = "serde asks for it")]
fn serialize_path_if_any<S: serde::Serializer>(
    path: &Option<EntryPath>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap as _;
    match path {
        Some(path) => serialize_path(path, serializer),
        None => serializer.serialize_map(Some(0))?.end(),
    }
}

/// `path`, and `path_b64` where the names are not UTF-8.
fn serialize_path<S: serde::Serializer>(
    path: &EntryPath,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    use base64::Engine as _;
    use serde::ser::SerializeMap as _;
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("path", &path.to_string())?;
    if path.names().any(|name| std::str::from_utf8(name).is_err()) {
        let joined = path.names().collect::<Vec<_>>().join(&b'/');
        let encoded = base64::engine::general_purpose::STANDARD.encode(joined);
        map.serialize_entry("path_b64", &encoded)?;
    }
    map.end()
}

/// How far a run is. Only the latest counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Entries found so far.
    pub listed_entries: u64,
    /// Their bytes.
    pub listed_bytes: u64,
    /// Whether everything has been found, so that the two above are totals.
    pub listing_done: bool,
    /// Entries finished.
    pub finished_entries: u64,
    /// Their bytes, read or known from an earlier snapshot.
    pub finished_bytes: u64,
    /// Bytes read from the source, or from the repository by a restore.
    pub read_bytes: u64,
    /// Entries with problems.
    pub problems: u64,
    /// Whether a system that takes part has lately asked for fewer requests.
    #[serde(rename = "slowed_down")]
    pub is_slowed_down: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_told_from_what_only_failed() {
        let (path, reason) = (EntryPath::root(), String::new());
        let not_restored = |kind: ErrorKind| EventKind::EntryNotRestored {
            path: path.clone(),
            reason: reason.clone(),
            error: kind.as_str(),
        };
        let note = EventKind::Note { text: "not restored: a directory".into() };
        for (level, kind, is_damage) in [
            (Level::Error, not_restored(ErrorKind::Corrupt), true),
            (Level::Error, not_restored(ErrorKind::PermissionDenied), false),
            (
                Level::Error,
                EventKind::EntryDiffers { path: path.clone(), reason: reason.clone() },
                true,
            ),
            (Level::Error, note.clone(), true),
            (Level::Warning, note, false),
        ] {
            let event = Event { number: 1, at: Timestamp::UNIX_EPOCH, level, kind };
            assert_eq!(event.is_damage(), is_damage, "{event:?}");
        }
    }

    #[test]
    fn codes_are_those_of_the_json() {
        let finding = Finding { object: "pack 1".into(), problem: "gone".into(), path: None };
        for kind in [
            EventKind::Pausing,
            EventKind::Missed { events: 1 },
            EventKind::EntryChanged { path: EntryPath::root() },
            EventKind::Finding(finding),
        ] {
            let json = serde_json::to_value(&kind).unwrap();
            assert_eq!(json["code"], kind.code());
        }
    }
}
