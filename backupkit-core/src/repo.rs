//! The restic repository format, version 2.

pub mod crypto;
pub mod key_file;
