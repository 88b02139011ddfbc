//! The reference: what the traits say, in the fewest lines. Gone with the process.

mod catalogue;
mod checkpoints;
mod leases;
mod logs;
mod runs;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::actor::Scope;
use super::journal::SealedOutput;
use super::leases::LeaseRef;
use super::logs::LogLine;
use super::refusal;
use super::runs::RunId;
use super::stored::{Dropped, StoredRun};
use crate::env::Env;
use crate::error::Result;
use crate::model::PackId;
use crate::secret::MasterKeyId;

/// A state store in memory, for tests and for hosts that keep such things elsewhere.
#[derive(Debug)]
pub struct InMemoryStore {
    env: Env,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// One more with each change.
    version: u64,
    shelves: BTreeMap<Scope, catalogue::Shelf>,
    /// In the order of their creation, over all scopes.
    runs: BTreeMap<u64, Folder>,
    created: u64,
    /// The last number of each scope.
    numbers: BTreeMap<Scope, u64>,
    settings: BTreeMap<String, String>,
    sealing_key: Option<MasterKeyId>,
}

/// A run, and all that belongs to it.
#[derive(Debug)]
struct Folder {
    stored: StoredRun,
    parts: BTreeMap<u32, Part>,
    log: Vec<LogLine>,
}

#[derive(Debug, Default)]
struct Part {
    checkpoint: Option<Bytes>,
    reach: u64,
    packs: BTreeMap<String, BTreeSet<PackId>>,
    outputs: Vec<SealedOutput>,
    adapter_values: BTreeMap<String, Bytes>,
}

impl InMemoryStore {
    /// Returns an empty one. Times and chance come from `env`.
    pub fn new(env: &Env) -> Self {
        Self { env: env.clone(), kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn find(&self, id: RunId) -> Option<&Folder> {
        self.runs.values().find(|folder| folder.stored.run.new.id == id)
    }

    fn find_in(&mut self, scope: &Scope, id: RunId) -> Result<&mut Folder> {
        let is_it = |folder: &&mut Folder| {
            folder.stored.run.new.id == id && folder.stored.run.scope == *scope
        };
        self.runs.values_mut().find(is_it).ok_or_else(|| refusal::run_missing(id))
    }

    /// The run of a lease that is alive.
    fn held(&self, lease: &LeaseRef) -> Result<&Folder> {
        let held = self.find(lease.run()).filter(|folder| folder.stored.is_held_by(lease));
        held.ok_or_else(|| refusal::lease_lost(lease.run()))
    }

    fn held_mut(&mut self, lease: &LeaseRef) -> Result<&mut Folder> {
        let held = self.runs.values_mut().find(|folder| folder.stored.is_held_by(lease));
        held.ok_or_else(|| refusal::lease_lost(lease.run()))
    }
}

impl Folder {
    fn drop_parts(&mut self, dropped: Dropped) {
        match dropped {
            Dropped::Nothing => {}
            Dropped::Outputs => self.parts.values_mut().for_each(|part| part.outputs.clear()),
            Dropped::All => self.parts.clear(),
        }
    }
}
