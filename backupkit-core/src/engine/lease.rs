//! A run that is held by lease: kept while it goes on, and recorded in the state store.

mod execute;
mod journal;
mod keeper;
mod recorder;

pub use execute::{HeldRun, HeldRunOptions};
