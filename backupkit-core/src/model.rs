//! Plain data, no I/O: ids, paths, times, metadata and entries.

mod entry;
mod event;
mod id;
mod maintenance;
mod metadata;
mod path;
mod run;
mod time;

pub use entry::{Device, Entry, EntryKind, Fingerprint, Origin};
pub(crate) use event::is_damage;
pub use event::{Event, EventKind, Finding, Level, Progress};
pub use id::{BlobId, IndexId, KeyId, LockId, PackId, ParseIdError, SnapshotId};
pub(crate) use maintenance::days;
pub use maintenance::{MaintenanceRecord, MaintenanceSettings, MaintenanceStep, MaintenanceWork};
pub use metadata::{ExtendedAttribute, FileMode, Metadata};
pub use path::EntryPath;
pub use run::{
    AttemptPolicy, CANCEL_GRACE, LeaseChange, PAUSE_GRACE, ParseRunNameError, PauseReason, Refusal,
    RunFacts, RunInput, RunKind, RunOutcome, RunState, Transition, Wanted,
};
pub use time::FileTime;
