//! The kinds of sources, destinations and targets that come with the engine, one feature each.

#[cfg(any(feature = "fs", feature = "s3"))]
mod decisions;
#[cfg(feature = "fs")]
pub mod fs;
#[cfg(feature = "s3")]
pub mod s3;
