//! The restic repository format, version 2.

pub mod chunker;
pub mod compress;
pub mod config;
pub mod crypto;
pub mod index;
pub mod index_file;
pub mod key_file;
pub mod pack_header;
pub mod polynomial;

#[cfg(any(test, feature = "testing"))]
pub mod fuzz_bodies;
#[cfg(test)]
mod interop_tests;
