//! What is kept between runs, and while they go: the traits that a state store implements.
//!
//! Each trait covers one concern. Whatever is kept belongs to a [`Scope`], and nothing of one scope is
//! seen from another; whatever changes is changed by an [`Actor`].

mod actor;
mod catalogue;
mod checkpoints;
mod id;
mod in_memory;
mod journal;
mod leases;
mod logs;
mod record;
mod runs;
mod settings;
mod stored;

pub mod refusal;

pub use actor::{Actor, Scope};
pub use catalogue::{Catalogue, Change, ChangeKind};
pub use checkpoints::{
    Checkpoints, MAX_ADAPTER_KEY_BYTES, MAX_ADAPTER_VALUE_BYTES, MAX_CHECKPOINT_BYTES, MAX_PARTS,
    check_adapter_value, check_checkpoint, check_part,
};
pub use in_memory::InMemoryStore;
pub use journal::{CheckpointInterval, InMemoryJournal, RunJournal, SealedOutput};
pub use leases::{Claim, Lease, LeaseRef, Leases, Renewal, Report, WorkerId, check_progress};
pub use logs::{LogFilter, LogLine, Logs, MAX_LOG_LINE_BYTES, NewLogLine};
pub(crate) use record::check_name;
pub use record::{
    Draft, MAX_BODY_BYTES, MAX_NAME_BYTES, MAX_SECRETS, Record, RecordId, RecordKind, RecordRef,
};
pub use runs::{
    Cause, MAX_CAUSE_BYTES, MAX_RUN_BODY_BYTES, MAX_SLOTS, NewRun, Run, RunFilter, RunId, Runs,
    Slot,
};
pub use settings::{MAX_SETTING_BYTES, Settings, check_setting};
pub use stored::{Dropped, Moment, StoredRun, Tick};

/// All of it in one place.
pub trait StateStore: Catalogue + Runs + Leases + Checkpoints + Logs + Settings {}

impl<T: Catalogue + Runs + Leases + Checkpoints + Logs + Settings> StateStore for T {}
