//! A folder that keeps repositories.

mod abandoned;
mod create;
mod list;
mod read;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use self::create::{Abandoned, create_object};
use self::list::ObjectWalk;
use super::blocking::{blocking, stream_batches};
use super::folder_probe::probe_writable;
use crate::BufferPool;
use crate::destination::{
    Destination, DestinationCapabilities, Leftovers, ObjectKey, ObjectMeta, Payload,
};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::probe::Probe;

/// A destination in a local folder: the object `a/b` is the file `b` in the folder `a`, which is how
/// restic lays out its repositories.
///
/// Objects have mode 0600, folders 0700. An object is written beside its place, synchronised, and put
/// there by a rename that does not replace, so a crash leaves nothing or a whole object. On file
/// systems that can neither rename without replacing nor link, two writers of one key could replace
/// each other's object between look and rename.
///
/// What a crash leaves of unfinished objects has `-tmp-` in its name and is never listed;
/// [`remove_abandoned`](Destination::remove_abandoned) clears it. Keys with `-tmp-` are therefore refused.
///
/// A deletion is not synchronised: after a power cut the object may be there again.
#[derive(Clone)]
pub struct FsDestination {
    root: Arc<Path>,
    env: Env,
    /// For large parts of objects.
    buffers: BufferPool,
}

/// Marks names of objects that are still being written.
const TEMPORARY_MARK: &str = "-tmp-";

/// Local disks rarely gain from more writers, and network mounts not much.
const CONCURRENCY: usize = 4;
/// Packs are rarely larger. What is not used of a buffer takes no memory.
const BUFFER_BYTES: usize = 32 << 20;

impl FsDestination {
    /// Returns a destination in the folder `path`, which is made with the first object.
    pub fn new(path: impl Into<PathBuf>, env: Env) -> Self {
        let buffers = BufferPool::new(BUFFER_BYTES, CONCURRENCY);
        Self { root: path.into().into(), env, buffers }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    fn path_of(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(key.as_str())
    }
}

impl fmt::Debug for FsDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FsDestination").field("root", &self.root).finish_non_exhaustive()
    }
}

#[async_trait]
impl Destination for FsDestination {
    fn capabilities(&self) -> DestinationCapabilities {
        DestinationCapabilities::new(CONCURRENCY)
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }

    async fn check(&self) -> Result<Probe> {
        let (root, env) = (Arc::clone(&self.root), self.env.clone());
        blocking(move || Ok(probe_writable(&root, &env))).await
    }

    async fn create(&self, key: &ObjectKey, payload: Payload) -> Result<()> {
        if key.as_str().contains(TEMPORARY_MARK) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "cannot create {key}: names with {TEMPORARY_MARK} are for unfinished files"
                ),
            ));
        }
        let (root, env, key) = (Arc::clone(&self.root), self.env.clone(), key.clone());
        let abandoned = Abandoned::default();
        let seen_by_work = abandoned.watch();
        blocking(move || create_object(&root, &env, &key, payload, &seen_by_work)).await
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes> {
        let (path, key, buffers) = (self.path_of(key), key.clone(), self.buffers.clone());
        blocking(move || read::read_object(&path, &key, range, &buffers)).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let (path, key) = (self.path_of(key), key.clone());
        blocking(move || read::stat_object(&path, key)).await
    }

    fn list(&self, prefix: &ObjectKey) -> BoxStream<'static, Result<ObjectMeta>> {
        stream_batches(ObjectWalk::new(Arc::clone(&self.root), prefix.clone()))
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let path = self.path_of(key);
        blocking(move || match std::fs::remove_file(&path) {
            Err(error) if !read::is_missing(&error) => {
                Err(Error::io(format!("delete {}", path.display()), error))
            }
            _ => Ok(()),
        })
        .await
    }

    async fn remove_abandoned(
        &self,
        prefix: &ObjectKey,
        unchanged_for: Duration,
        dry_run: bool,
    ) -> Result<Leftovers> {
        let (path, now) = (self.path_of(prefix), self.env.now());
        blocking(move || abandoned::remove(&path, now, unchanged_for, dry_run)).await
    }
}
