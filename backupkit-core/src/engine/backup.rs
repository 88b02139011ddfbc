//! A backup from request to report.

mod gather;
mod prepare;
mod run;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::model::{Event, FileTime, SnapshotId};
use crate::pipeline::guard::{AlwaysAlive, Liveness};
use crate::repo::repository::Repository;
use crate::source::Source;
use crate::state::{InMemoryJournal, RunJournal};
use crate::store::{AdapterStore, InMemoryAdapterStore};

pub(super) use run::run;

/// What to back up, and into what.
#[derive(Debug, Clone)]
pub struct BackupRequest {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) participants: Vec<Participant>,
    pub(crate) tags: Vec<String>,
    pub(crate) excludes: Vec<String>,
    pub(crate) journal: Arc<dyn RunJournal>,
    pub(crate) liveness: Arc<dyn Liveness>,
    pub(crate) store: Arc<dyn AdapterStore>,
    pub(crate) skip_checkpoint: bool,
    pub(crate) time: Option<FileTime>,
}

impl BackupRequest {
    /// Returns a request to read `source` once and store it in each of `repositories`.
    pub fn new(source: Arc<dyn Source>, repositories: impl Into<Vec<Repository>>) -> Self {
        Self {
            source,
            participants: repositories.into().into_iter().map(Participant::Open).collect(),
            tags: Vec::new(),
            excludes: Vec::new(),
            journal: Arc::new(InMemoryJournal::default()),
            liveness: Arc::new(AlwaysAlive),
            store: Arc::new(InMemoryAdapterStore::default()),
            skip_checkpoint: false,
            time: None,
        }
    }

    /// Reads something else.
    #[must_use]
    pub fn with_source(mut self, source: Arc<dyn Source>) -> Self {
        self.source = source;
        self
    }

    /// Stores it in one more repository.
    #[must_use]
    pub fn with_repository(mut self, repository: Repository) -> Self {
        self.participants.push(Participant::Open(repository));
        self
    }

    /// Adds a repository that could not be opened. The others go on without it, and the backup ends as
    /// partial; if there is no other one, it fails with that error.
    #[must_use]
    pub fn with_absent(mut self, absent: AbsentRepository) -> Self {
        self.participants.push(Participant::Absent(absent));
        self
    }

    /// Adds tags to the snapshots.
    #[must_use]
    pub fn with_tags(mut self, tags: impl IntoIterator<Item = String>) -> Self {
        self.tags.extend(tags);
        self
    }

    /// Names in the snapshots what the source leaves out. The source itself does the leaving out.
    #[must_use]
    pub fn with_excludes(mut self, excludes: impl IntoIterator<Item = String>) -> Self {
        self.excludes.extend(excludes);
        self
    }

    /// Replaces the memory of the run, so that it can go on after a crash.
    #[must_use]
    pub fn with_journal(mut self, journal: Arc<dyn RunJournal>) -> Self {
        self.journal = journal;
        self
    }

    /// Asks before each publishing write whether this run still may write.
    #[must_use]
    pub fn with_liveness(mut self, liveness: Arc<dyn Liveness>) -> Self {
        self.liveness = liveness;
        self
    }

    /// Gives the source its small store.
    #[must_use]
    pub fn with_adapter_store(mut self, store: Arc<dyn AdapterStore>) -> Self {
        self.store = store;
        self
    }

    /// Gives the snapshots another time than that of the start, for what was read earlier.
    #[must_use]
    pub fn with_time(mut self, time: FileTime) -> Self {
        self.time = Some(time);
        self
    }

    /// Starts from the beginning even if an earlier backup of this origin was paused.
    #[must_use]
    pub fn without_resume(mut self) -> Self {
        self.skip_checkpoint = true;
        self
    }

    /// Those that could be opened.
    pub(crate) fn repositories(&self) -> impl Iterator<Item = &Repository> {
        self.participants.iter().filter_map(|participant| match participant {
            Participant::Open(repository) => Some(repository),
            Participant::Absent(_) => None,
        })
    }
}

/// A repository that could not be opened, and why.
#[derive(Debug, Clone)]
pub struct AbsentRepository {
    location: String,
    id: String,
    error: Arc<Error>,
}

impl AbsentRepository {
    /// Returns one that lies at `location` and has the id that its configuration names.
    pub fn new(location: impl Into<String>, id: impl Into<String>, error: Error) -> Self {
        Self { location: location.into(), id: id.into(), error: Arc::new(error) }
    }
}

/// A repository that a backup is to store into.
#[derive(Debug, Clone)]
pub(crate) enum Participant {
    Open(Repository),
    Absent(AbsentRepository),
}

impl Participant {
    pub(crate) fn location(&self) -> String {
        match self {
            Self::Open(repository) => repository.location(),
            Self::Absent(absent) => absent.location.clone(),
        }
    }

    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Open(repository) => repository.id(),
            Self::Absent(absent) => &absent.id,
        }
    }
}

/// How a run ended, as far as it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// All of it, stored, and readable.
    Succeeded,
    /// Some entries are missing or uncertain; the problems say which.
    Warnings,
    /// Some repositories have no snapshot of this run.
    Partial,
    /// It rests. The next backup of the same origin, or restore with the same journal, goes on.
    Paused,
}

/// What came of a backup.
#[derive(Debug)]
#[non_exhaustive]
pub struct BackupReport {
    /// How it ended.
    pub status: RunStatus,
    /// One for each repository, in the order of the request.
    pub outputs: Vec<OutputReport>,
    /// What was counted.
    pub summary: Summary,
    /// The first 1,000 warnings and errors of each code.
    pub problems: Vec<Event>,
    /// How many there were in all.
    pub problem_count: u64,
}

/// What a backup made of its source in one repository.
#[derive(Debug)]
#[non_exhaustive]
pub struct OutputReport {
    /// Where the repository is.
    pub repository: String,
    /// The id of the repository.
    pub repository_id: String,
    /// The snapshot; for a paused run, the checkpoint.
    pub snapshot: Option<SnapshotId>,
    /// The snapshot that it follows.
    pub parent: Option<SnapshotId>,
    /// Why there is no snapshot.
    pub error: Option<Error>,
    /// Bytes of new blobs, before compression.
    pub added_bytes: u64,
    /// Bytes of new blobs as stored.
    pub stored_bytes: u64,
    /// New data blobs.
    pub data_blobs: u64,
    /// New trees.
    pub tree_blobs: u64,
}

/// What a backup counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Summary {
    /// Files that no parent had.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files that were not read because they are the parent's.
    pub files_unmodified: u64,
    /// Entries that could not be read.
    pub files_failed: u64,
    /// Directories that no parent had.
    pub dirs_new: u64,
    /// Directories that differ from the parent's.
    pub dirs_changed: u64,
    /// Directories that are the parent's.
    pub dirs_unmodified: u64,
    /// Bytes of all files in the snapshot.
    pub total_bytes: u64,
    /// Bytes read from the source.
    pub read_bytes: u64,
    /// Seconds from start to end.
    pub seconds: f64,
}

impl Summary {
    /// What both counted.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            files_new: self.files_new.saturating_add(other.files_new),
            files_changed: self.files_changed.saturating_add(other.files_changed),
            files_unmodified: self.files_unmodified.saturating_add(other.files_unmodified),
            files_failed: self.files_failed.saturating_add(other.files_failed),
            dirs_new: self.dirs_new.saturating_add(other.dirs_new),
            dirs_changed: self.dirs_changed.saturating_add(other.dirs_changed),
            dirs_unmodified: self.dirs_unmodified.saturating_add(other.dirs_unmodified),
            total_bytes: self.total_bytes.saturating_add(other.total_bytes),
            read_bytes: self.read_bytes.saturating_add(other.read_bytes),
            seconds: self.seconds + other.seconds,
        }
    }
}
