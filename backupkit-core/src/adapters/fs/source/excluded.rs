//! What is left out wherever it turns up.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::Stat;

use super::super::lexical;
use super::super::stat::Identity;

/// Files and folders by identity, and by path for those that do not exist yet.
#[derive(Debug, Default)]
pub(super) struct Excluded {
    identities: HashSet<Identity>,
    paths: HashSet<Vec<u8>>,
    parents: HashSet<Vec<u8>>,
}

impl Excluded {
    pub(super) fn new(excluded: &[PathBuf], working_directory: &[u8]) -> Self {
        let mut this = Self::default();
        for path in excluded {
            let path = lexical::append(working_directory, path.as_os_str().as_bytes());
            if let Ok(stat) = rustix::fs::stat(&path[..]) {
                this.identities.insert(Identity::of(&stat));
            }
            let path = lexical::clean(&path);
            this.parents.insert(lexical::join(&path, b".."));
            this.paths.insert(path);
        }
        this
    }

    /// Whether something in the folder of this path is excluded by path.
    pub(super) fn has_below(&self, folder: &[u8]) -> bool {
        self.parents.contains(folder)
    }

    pub(super) fn has_path(&self, path: &[u8]) -> bool {
        self.paths.contains(path)
    }

    pub(super) fn has_identity(&self, stat: &Stat) -> bool {
        !self.identities.is_empty() && self.identities.contains(&Identity::of(stat))
    }
}
