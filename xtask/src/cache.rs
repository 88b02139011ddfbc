//! Where downloaded and built tools are kept: outside the checkout, shared by all checkouts.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;

/// The folder of this project in the user's cache, created where it is missing.
pub(crate) fn folder(name: &str) -> Outcome<PathBuf> {
    let folder = root()?.join("backupkit").join(name);
    create(&folder)?;
    Ok(folder)
}

pub(crate) fn create(folder: &Path) -> Outcome {
    fs::create_dir_all(folder).map_err(|error| format!("create {}: {error}", folder.display()))
}

/// Removes a folder and everything in it; one that is not there is fine.
pub(crate) fn remove(folder: &Path) -> Outcome {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("remove {}: {error}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn root() -> Outcome<PathBuf> {
    // The XDG specification says that a relative value is to be ignored.
    let named = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    named("XDG_CACHE_HOME")
        .or_else(|| named("HOME").map(|home| home.join(".cache")))
        .ok_or_else(|| "neither XDG_CACHE_HOME nor HOME names a folder; set one of them".to_owned())
}
