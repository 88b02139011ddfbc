//! An embeddable backup engine: sources are copied into encrypted, deduplicated repositories in the
//! restic format, and put back, verified.

mod env;
mod error;
mod probe;
mod token;

pub mod adapters;
pub mod destination;
pub mod model;
pub mod repo;
pub mod snapshot;
pub mod source;
pub mod store;
pub mod target;
#[cfg(feature = "testing")]
pub mod testing;

pub use env::{Clock, Entropy, Env};
pub use error::{Error, ErrorKind, Result, Retry};
pub use probe::{Probe, ProbeOutcome, ProbeStep};
pub use token::{CancelToken, ListToken, ReadToken, ViewToken, WriteToken};
