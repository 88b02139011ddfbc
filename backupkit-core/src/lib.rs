//! An embeddable backup engine: sources are copied into encrypted, deduplicated repositories in the
//! restic format, and put back, verified.

mod activity;
mod blocking;
mod buffers;
mod counters;
mod engine;
mod env;
mod error;
mod events;
mod fields;
mod hashing;
mod instance;
mod pipeline;
mod pool;
mod probe;
mod scratch;
mod token;

pub mod adapters;
pub mod destination;
pub mod manage;
pub mod model;
pub mod registry;
pub mod repo;
pub mod secret;
pub mod snapshot;
pub mod source;
pub mod state;
pub mod store;
pub mod target;
#[cfg(feature = "testing")]
pub mod testing;

pub use buffers::{Buffer, BufferPool};
pub use engine::{
    AbsentRepository, BackupRecord, BackupReport, BackupRequest, CheckRequest, DurableRun, Engine,
    EngineBuilder, ExtensionRequest, HeldRun, HeldRunOptions, Identity, OutputRecord, OutputReport,
    RestoreCounts, RestoreRecord, RestoreReport, RestoreRequest, RunControl, RunHandle, RunStatus,
    SnapshotSource, Summary, VerifyCounts,
};
pub use env::{Clock, Entropy, Env};
pub use error::{Error, ErrorKind, Result, Retry};
pub use fields::{FieldError, FieldErrors};
pub use instance::Instance;
pub use pipeline::guard::{AlwaysAlive, Liveness};
pub use probe::{Probe, ProbeOutcome, ProbeStep, Probing};
pub use token::{CancelToken, ListToken, ReadToken, ViewToken, WriteToken};
