//! The kinds of sources, destinations and targets that come with the engine, one feature each.

#[cfg(feature = "fs")]
pub mod fs;
