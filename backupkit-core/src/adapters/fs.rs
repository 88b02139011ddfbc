//! Local folders as source, destination and target.
//!
//! - [`FsSource`] reads folders and files. Its trees equal those that restic makes of the same folders,
//!   byte for byte, so that both deduplicate against each other.
//! - [`FsDestination`] keeps repositories in a folder.
//! - [`FsTarget`] restores into a folder and never writes outside of it.
//!
//! Linux only for now: other platforms fail to compile with the feature `fs`.

#[cfg(not(target_os = "linux"))]
compile_error!("the feature `fs` of backupkit-core supports Linux only for now");

mod blocking;
mod contained;
mod destination;
mod folder_probe;
mod kind;
mod lexical;
mod read;
mod source;
mod stat;
mod target;
#[cfg(test)]
mod test_support;
mod users;
mod xattr;

use read::{read_fully, read_slice};

pub use destination::FsDestination;
pub use kind::FolderKind;
pub use source::FsSource;
pub use target::FsTarget;
