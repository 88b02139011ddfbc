//! Unfinished files of writers that are no more.

use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::TEMPORARY_MARK;
use super::read::is_missing;
use crate::destination::Leftovers;
use crate::error::{Error, Result};

/// So many digits make names of unfinished files differ.
const DIGITS: usize = 16;

/// Deletes unfinished files of the object at `path` and of those below it, if they were not written to
/// for `unchanged_for`. A dry run counts them.
pub(super) fn remove(
    path: &Path,
    now: Timestamp,
    unchanged_for: Duration,
    dry_run: bool,
) -> Result<Leftovers> {
    let is_abandoned = |entry: &DirEntry| is_old(entry, now, unchanged_for);
    let mut found = Leftovers::default();
    let (folder, name) = (path.parent().unwrap_or(path), path.file_name());
    for entry in entries(folder)? {
        let entry = entry?;
        // Beside the object may be anything, if the repository is not alone in its folder.
        if finished_name(&entry.file_name()).is_some_and(|whole| Some(OsStr::new(whole)) == name)
            && let Some(bytes) = is_abandoned(&entry)
        {
            take(&entry.path(), bytes, dry_run, &mut found)?;
        }
    }
    let mut folders: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in entries(&folder)? {
            let entry = entry?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else if finished_name(&entry.file_name()).is_some()
                && let Some(bytes) = is_abandoned(&entry)
            {
                take(&entry.path(), bytes, dry_run, &mut found)?;
            }
        }
    }
    Ok(found)
}

/// The name that an unfinished file was to get; nothing if it is none.
fn finished_name(name: &OsStr) -> Option<&str> {
    let (whole, digits) = name.to_str()?.rsplit_once(TEMPORARY_MARK)?;
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_ours = !whole.is_empty() && digits.len() == DIGITS && digits.bytes().all(is_digit);
    is_ours.then_some(whole)
}

/// What is in a folder; nothing if it is none.
fn entries(folder: &Path) -> Result<impl Iterator<Item = Result<DirEntry>>> {
    let failed = {
        let folder = folder.to_owned();
        move |error| Error::io(format!("list {}", folder.display()), error)
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => Some(entries),
        Err(error) if is_missing(&error) || error.kind() == io::ErrorKind::NotADirectory => None,
        Err(error) => return Err(failed(error)),
    };
    Ok(entries.into_iter().flatten().map(move |entry| entry.map_err(&failed)))
}

/// The bytes of a file that has not been written to for so long.
fn is_old(entry: &DirEntry, now: Timestamp, unchanged_for: Duration) -> Option<u64> {
    let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
    let modified = Timestamp::try_from(metadata.modified().ok()?).ok()?;
    let age = Duration::try_from(now.duration_since(modified)).ok()?;
    (age >= unchanged_for).then_some(metadata.len())
}

fn take(path: &Path, bytes: u64, dry_run: bool, found: &mut Leftovers) -> Result<()> {
    if !dry_run {
        match fs::remove_file(path) {
            Err(error) if !is_missing(&error) => {
                return Err(Error::io(format!("delete {}", path.display()), error));
            }
            _ => {}
        }
    }
    found.add(bytes);
    Ok(())
}
