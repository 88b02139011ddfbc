//! Old files in a folder of this machine.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use crate::destination::Leftovers;
use crate::error::{Error, Result};

/// Which files are meant.
pub(super) struct OldFiles {
    pub(super) now: Timestamp,
    /// They were not written to for so long.
    pub(super) age: Duration,
    /// Told by the name.
    pub(super) is_one: fn(&str) -> bool,
}

/// Removes old files from a folder, but not from those below it. A dry run counts them. Blocks.
pub(super) fn remove_old_files(folder: &Path, old: &OldFiles, dry_run: bool) -> Result<Leftovers> {
    let mut found = Leftovers::default();
    let failed = |error| Error::io(format!("list {}", folder.display()), error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().to_str().is_some_and(old.is_one) {
            continue;
        }
        // What vanished meanwhile is no concern.
        let Some(metadata) = entry.metadata().ok().filter(fs::Metadata::is_file) else { continue };
        let modified = metadata.modified().ok().and_then(|at| Timestamp::try_from(at).ok());
        let age = modified.and_then(|at| Duration::try_from(old.now.duration_since(at)).ok());
        if age.is_none_or(|age| age < old.age) {
            continue;
        }
        if !dry_run {
            let path = entry.path();
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io(format!("delete {}", path.display()), error));
                }
                _ => {}
            }
        }
        found.add(metadata.len());
    }
    Ok(found)
}
