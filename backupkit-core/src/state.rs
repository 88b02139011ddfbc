//! What is kept between runs, and while they go: the traits that a state store implements.
//!
//! Each trait covers one concern. Whatever is kept belongs to a [`Scope`], and nothing of one scope is
//! seen from another; whatever changes is changed by an [`Actor`].

mod actor;
mod catalogue;
mod in_memory;
mod journal;
mod record;

pub use actor::{Actor, Scope};
pub use catalogue::{Catalogue, Change, ChangeKind, refusal};
pub use in_memory::InMemoryCatalogue;
pub use journal::{CheckpointInterval, InMemoryJournal, RunJournal, SealedOutput};
pub use record::{
    Draft, MAX_BODY_BYTES, MAX_NAME_BYTES, MAX_SECRETS, Record, RecordId, RecordKind, RecordRef,
};
