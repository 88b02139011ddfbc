//! Back up S3, MongoDB, Google Drive and folders into restic-format repositories, and put them back,
//! verified. This crate re-exports [`backupkit_core`].

pub use backupkit_core::*;
