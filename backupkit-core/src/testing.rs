//! For implementers of adapters: conformance suites, fault wrappers and fakes.
//!
//! - [`conformance`]: every line of a trait's contract as a test, one macro call for an adapter.
//! - [`FaultDestination`], [`FaultSource`]: fail, lose replies, hang, flip bits, die at a call.
//! - [`HookedStore`]: a state store that fails, waits or dies where a test wants it.
//! - [`ManualClock`], [`SeededEntropy`]: time and randomness that tests own.
//! - [`MemorySource`], [`MemorySnapshot`], [`MemoryTarget`]: the traits in memory, with hooks.
//! - [`ScratchTuning`]: a small memory for what goes to the scratch folder.
//! - [`logged`]: waits for a line in the log of a run.
//! - [`Inventory`]: what a repository holds, to judge the engine by.
//! - [`hash_side_by_side`]: how the engine hashes, to be measured.
//! - [`fakes`]: systems with the habits of real ones, in memory.

mod clock;
mod entropy;
mod faults;
mod inventory;
mod listing;
mod logged;
mod memory_snapshot;
mod memory_source;
mod memory_target;
mod pause;
mod scratch;
mod source_faults;
mod store_hook;
mod unfinished;

pub mod conformance;
pub mod fakes;

pub use clock::ManualClock;
pub use entropy::{SeededEntropy, random_bytes};
pub use faults::{Call, Fault, FaultDestination, FaultPlan, Operation};
pub use inventory::Inventory;
pub use logged::logged;
pub use memory_snapshot::MemorySnapshot;
pub use memory_source::MemorySource;
pub use memory_target::{MemoryNode, MemoryTarget};
pub use pause::PausePoint;
pub use scratch::ScratchTuning;
pub use source_faults::{FaultSource, SourceFaults};
pub use store_hook::{HookedStore, StoreHook};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// SHA-256 of each message, in order; a message is the bytes of its parts. Several are hashed at a time
/// on this thread, as the engine does.
pub fn hash_side_by_side(messages: Vec<Vec<bytes::Bytes>>) -> Vec<[u8; 32]> {
    crate::hashing::hash_side_by_side(messages)
}

/// A panicking test says more than a poisoned lock does.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn healthy(step: &str) -> crate::Probe {
    crate::Probe {
        steps: vec![crate::ProbeStep {
            name: step.to_owned(),
            outcome: crate::ProbeOutcome::Ok,
            took: std::time::Duration::ZERO,
            hint: None,
        }],
    }
}
