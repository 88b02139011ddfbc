//! The refusals of the contracts, so that all stores say the same.

use super::checkpoints::{MAX_CHECKPOINT_BYTES, MAX_PARTS};
use super::logs::MAX_LOG_LINE_BYTES;
use super::record::{Record, RecordKind, RecordRef};
use super::runs::{Run, RunId};
use crate::error::{Error, ErrorKind};
use crate::secret::MasterKeyId;

/// So many users are named in a message.
const NAMED_USERS: usize = 5;

/// Another record has this name.
pub fn name_taken(kind: RecordKind, name: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("there is a {kind} called `{name}` already"))
        .with_code("name-taken")
        .with_hint("choose another name")
}

/// There is a record with this id.
pub fn id_taken(RecordRef { kind, id }: RecordRef) -> Error {
    let message = format!("cannot create {kind} {}: its id is in use", id.short());
    Error::new(ErrorKind::Conflict, message).with_code("id-taken")
}

/// The code of the refusal of a change to what was changed meanwhile.
pub const STALE: &str = "stale";

/// The record was changed since the revision that the caller saw.
pub fn stale(kind: RecordKind, name: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("{kind} `{name}` was changed meanwhile"))
        .with_code(STALE)
        .with_hint("look at it again")
}

/// The code of the refusal of a secret that is sealed with another key than the one to seal with.
pub const KEY_RETIRED: &str = "master-key-retired";

/// A secret is sealed with another key than the one to seal with.
pub fn key_retired(given: MasterKeyId, wanted: MasterKeyId) -> Error {
    let message = format!("the master key was changed from {given} to {wanted} meanwhile");
    Error::new(ErrorKind::Conflict, message).with_code(KEY_RETIRED).with_hint("seal it again")
}

/// There is no such record, at least not in this scope.
pub fn missing(RecordRef { kind, id }: RecordRef) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no {kind} {}", id.short()))
        .with_code("no-such-record")
}

/// Others need the record.
pub fn in_use(record: &Record, users: &[Record]) -> Error {
    let named = users.iter().take(NAMED_USERS);
    let mut named: Vec<String> =
        named.map(|user| format!("{} `{}`", user.itself.kind, user.content.name)).collect();
    if let Some(more) = users.len().checked_sub(NAMED_USERS).filter(|more| *more > 0) {
        named.push(format!("{more} more"));
    }
    let (kind, name) = (record.itself.kind, &record.content.name);
    let message = format!("{kind} `{name}` is in use by {}", named.join(", "));
    Error::new(ErrorKind::Conflict, message)
        .with_code("in-use")
        .with_hint("change or delete these first")
}

/// Runs that have not ended need the record. `runs` are their numbers.
pub fn in_use_by_runs(record: &Record, runs: &[u64]) -> Error {
    let mut named: Vec<String> =
        runs.iter().take(NAMED_USERS).map(|number| format!("run {number}")).collect();
    if let Some(more) = runs.len().checked_sub(NAMED_USERS).filter(|more| *more > 0) {
        named.push(format!("{more} more"));
    }
    let (kind, name, runs) = (record.itself.kind, &record.content.name, named.join(", "));
    let message = format!("{kind} `{name}` is in use by {runs}: not ended yet");
    Error::new(ErrorKind::Conflict, message)
        .with_code("in-use")
        .with_hint("wait for their end, or cancel them, and let a worker see to that")
}

/// There is no such run, at least not in this scope.
pub fn run_missing(id: RunId) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no run {}", id.short()))
        .with_code("no-such-run")
}

/// There is a run with this id.
pub fn run_id_taken(id: RunId) -> Error {
    let message = format!("cannot create run {}: its id is in use", id.short());
    Error::new(ErrorKind::Conflict, message).with_code("id-taken")
}

/// A run that has not ended excludes another.
pub fn run_active(active: &Run) -> Error {
    let Run { number, state, .. } = active;
    let title = &active.new.title;
    let message = format!("run {number} of `{title}` has not ended: it is {state}");
    Error::new(ErrorKind::Conflict, message)
        .with_code(RUN_ACTIVE)
        .with_hint("wait for its end, or cancel it")
}

/// The code of what is refused without a lease that is alive.
pub const LEASE_LOST: &str = "lease-lost";
/// The code of the error that tells that another run is in the way.
pub const RUN_ACTIVE: &str = "run-active";

/// The lease is over, was given back, or is another worker's by now.
pub fn lease_lost(id: RunId) -> Error {
    let message = format!("the lease of run {} is lost; work on it no more", id.short());
    Error::new(ErrorKind::Conflict, message).with_code(LEASE_LOST)
}

/// Workers do not say such a thing of their runs.
pub fn not_reported() -> Error {
    Error::new(ErrorKind::InvalidInput, "a worker cannot report that; ask for it, or sweep")
}

/// The body of a run is too long. `what` it is, such as "progress".
pub fn body_too_long(what: &str, bytes: usize, most: usize) -> Error {
    let message = format!("the {what} of a run has {bytes} bytes; at most {most} are kept");
    Error::new(ErrorKind::InvalidInput, message)
}

/// The code of the refusal of a checkpoint that is too long.
pub const CHECKPOINT_TOO_LONG: &str = "checkpoint-too-long";

/// The checkpoint is too long.
pub fn checkpoint_too_long(bytes: usize) -> Error {
    let message =
        format!("a checkpoint has {bytes} bytes; at most {MAX_CHECKPOINT_BYTES} are kept");
    Error::new(ErrorKind::InvalidInput, message).with_code(CHECKPOINT_TOO_LONG)
}

/// A run has fewer parts.
pub fn no_such_part(part: u32) -> Error {
    let message = format!("a run has at most {MAX_PARTS} parts; there is no part {part}");
    Error::new(ErrorKind::InvalidInput, message)
}

/// The line of a log is too long, or its code is no code.
pub fn odd_log_line(code: &str) -> Error {
    let code: String = code.chars().take(64).collect();
    let message = format!(
        "a log line with code `{code}` has more than {MAX_LOG_LINE_BYTES} bytes, or an odd code"
    );
    Error::new(ErrorKind::InvalidInput, message)
}

/// What an adapter wants to keep is too long, or has no key.
pub fn odd_adapter_value(key: &str) -> Error {
    let key: String = key.chars().take(64).collect();
    Error::new(
        ErrorKind::InvalidInput,
        format!("a value under `{key}` is too long for the state store, or its key is"),
    )
}

/// The setting has an odd name, or too long a value.
pub fn odd_setting(name: &str) -> Error {
    let name: String = name.chars().take(64).collect();
    Error::new(
        ErrorKind::InvalidInput,
        format!("setting `{name}` has an odd name, or a value of more than 64 KiB"),
    )
}
