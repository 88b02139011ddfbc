//! A folder to restore into.

mod content;
mod decisions;
mod descent;
mod folders;
mod judge;
mod metadata;
mod part;
mod place;
mod plan;
mod session;
mod verify;
mod write;

#[cfg(test)]
mod snapshot_fake;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use self::session::Session;
use super::blocking::blocking;
use super::folder_probe::probe_writable;
use crate::env::Env;
use crate::error::Result;
use crate::probe::Probe;
use crate::target::{Phase, RestoreContext, RestoreSession, RestoreTarget, TargetCapabilities};

/// Steps at the same time. Small files are bound by the latency of making them.
const CONCURRENCY: usize = 8;

/// Folders, files, links and other leaves.
const ENTRIES: Phase = Phase(1);
/// Further hard links to files of the first phase.
const HARD_LINKS: Phase = Phase(2);
/// Metadata of folders, the inner ones first.
const FOLDERS: Phase = Phase(3);

/// A local folder as the target of a restore.
///
/// Nothing is written outside the folder: no link is followed at any level below it, whatever the
/// snapshot and the folder hold or somebody swaps meanwhile. Names that are no file names, and what
/// would need to follow a link, are refused.
///
/// A file is written under a temporary name beside its place and renamed once its bytes and metadata
/// are complete. What was written is synchronised as a whole when the restore finishes, is paused or
/// saves a checkpoint, not file by file: a power cut before that can lose or truncate files; a crash of
/// the program cannot.
///
/// The temporary file of a large file stays when the restore is paused, so that it goes on there.
/// Before that, it must be the same file, of the same size, with one name. A cancelled restore removes
/// it.
///
/// Unless this user is root, folders that their owner may not enter get their metadata when the restore
/// finishes: until then it may have to go on in them, and their content is compared.
///
/// Owners are given back where this user may; to others than root their absence is no warning. Set-uid
/// and set-gid bits are dropped, with a warning, where the owner could not be given back. Device files
/// need root. Sockets are not restored.
#[derive(Clone)]
pub struct FsTarget {
    root: Arc<Path>,
    env: Env,
}

impl FsTarget {
    /// Returns a target in the folder `path`, which is made with the first step.
    pub fn new(path: impl Into<PathBuf>, env: Env) -> Self {
        Self { root: path.into().into(), env }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.root
    }
}

impl fmt::Debug for FsTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FsTarget").field("root", &self.root).finish_non_exhaustive()
    }
}

#[async_trait]
impl RestoreTarget for FsTarget {
    fn capabilities(&self) -> TargetCapabilities {
        TargetCapabilities::new(CONCURRENCY).with_random_writes()
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }

    async fn check(&self) -> Result<Probe> {
        let (root, env) = (Arc::clone(&self.root), self.env.clone());
        blocking(move || Ok(probe_writable(&root, &env))).await
    }

    async fn open(&self, cx: RestoreContext) -> Result<Arc<dyn RestoreSession>> {
        Ok(Arc::new(Session::new(&self.root, self.env.clone(), cx)))
    }
}
