//! Folders and files as a source.

mod body;
mod contents;
mod excluded;
mod layout;
mod name_list;
mod notes;
mod walk;

#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use rustix::fs::{Access, CWD, FileType};

use self::body::Opener;
use self::excluded::Excluded;
use self::layout::Layout;
use self::notes::Notes;
use self::walk::Walk;
use super::blocking::{blocking, stream_batches};
use super::lexical;
use super::stat::{MetadataMaker, file_type};
use super::users;
use crate::BufferPool;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Entry, EntryPath, Origin};
use crate::probe::{Probe, Probing};
use crate::source::{
    Body, ListError, Listed, OpenContext, Outcome, Segment, Source, SourceCapabilities,
    SourceNotes, SourceView,
};
use crate::token::{CancelToken, ListToken, ViewToken};

/// Bodies at the same time. Small files are bound by the latency of opening them.
const CONCURRENCY: usize = 8;

/// How much of a large file is read at a time. More would gain nothing and hold more memory.
const RANGE_BYTES: usize = 2 << 20;
/// Buffers for such ranges that may lie idle.
const IDLE_BUFFERS: usize = 4;
/// Room for the contents of many small files, and for at least one.
const SMALL_BUFFER_BYTES: usize = 1 << 20;
/// So many of them are kept for the next batches.
const IDLE_SMALL_BUFFERS: usize = 8;

/// The first byte of a list token.
const TOKEN_VERSION: u8 = 1;
/// All views of folders are alike.
const VIEW_TOKEN: &[u8; 2] = b"fs";

/// Local folders and files as a source.
///
/// What a root is called in the snapshot follows restic: an absolute root keeps its whole path, the
/// directories above it with their metadata; a relative one keeps what was written, without `..`; of a
/// root without names, such as `.` or `/`, the content is taken. Two roots of one name get `-1`, `-2`
/// behind it. No link is followed, but for those above a root.
///
/// Regular files, directories, links, devices and pipes are listed; sockets are left out, as restic
/// does. Entries have the fingerprint `Stat`. A directory that cannot be read is an error with its path
/// and still gets its `DirDone`; an entry that vanishes while the directory is listed is a `NotFound`
/// error with its path.
#[derive(Clone)]
pub struct FsSource {
    roots: Arc<[Vec<u8>]>,
    working_directory: Arc<[u8]>,
    excluded: Arc<[PathBuf]>,
    host: Arc<str>,
    env: Env,
}

impl FsSource {
    /// Returns a source of these folders and files on `host`. Relative ones are found from the working
    /// directory of this process, unless [`Self::with_working_directory`] names another.
    ///
    /// # Errors
    /// `InvalidConfig` without roots, or if a root is empty or has a NUL in it.
    pub fn new(roots: Vec<PathBuf>, env: Env, host: impl Into<Arc<str>>) -> Result<Self> {
        let roots: Vec<_> =
            roots.into_iter().map(|root| root.into_os_string().into_vec()).collect();
        if roots.is_empty() || roots.iter().any(|root| root.is_empty() || root.contains(&0)) {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "cannot back up folders: name at least one, and none that is empty",
            ));
        }
        let working_directory = std::path::absolute(".")
            .map_err(|error| Error::io("find the working directory", error))?;
        Ok(Self {
            roots: roots.into(),
            working_directory: working_directory.into_os_string().into_vec().into(),
            excluded: Arc::from([]),
            host: host.into(),
            env,
        })
    }

    /// Sets the absolute path from which relative roots are found.
    #[must_use]
    pub fn with_working_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.working_directory = path.into().into_os_string().into_vec().into();
        self
    }

    /// Leaves these files and folders out, by path and by identity, wherever they turn up: a repository
    /// inside a root. Each is named in the notes of the view.
    #[must_use]
    pub fn with_excluded_paths(mut self, paths: Vec<PathBuf>) -> Self {
        self.excluded = paths.into();
        self
    }

    fn open_view(&self, cancel: CancelToken) -> Result<FsView> {
        let exists = |root: &Vec<u8>| {
            let path = lexical::append(&self.working_directory, root);
            rustix::fs::statat(CWD, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
        };
        if !self.roots.iter().any(exists) {
            return Err(Error::new(
                ErrorKind::NotFound,
                "cannot back up: none of the folders exists or can be reached",
            )
            .with_context("folders", self.origin().paths.join(", ")));
        }
        Ok(FsView {
            shared: Arc::new(Shared {
                layout: Layout::new(&self.roots, &self.working_directory)?,
                maker: MetadataMaker {
                    names: users::Names::load(),
                    time_zone: self.env.time_zone().clone(),
                },
                excluded: Excluded::new(&self.excluded, &self.working_directory),
                notes: Notes::default(),
                buffers: BufferPool::new(RANGE_BYTES, IDLE_BUFFERS),
                small_buffers: BufferPool::new(SMALL_BUFFER_BYTES, IDLE_SMALL_BUFFERS),
                cancel,
            }),
        })
    }

    fn probe(&self) -> Probe {
        let mut probing = Probing::new(&self.env);
        for (root, shown) in self.roots.iter().zip(self.origin().paths) {
            let path = lexical::append(&self.working_directory, root);
            let hint = "check that it exists and that this user may read it";
            let kind = probing.step(format!("open {shown}"), hint, || {
                let doing = format!("open {shown}");
                let failed = |error: rustix::io::Errno| Error::io(&doing, error.into());
                let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
                let stat = rustix::fs::statat(CWD, &path[..], flags).map_err(failed)?;
                let kind = file_type(&stat);
                let access = match kind {
                    FileType::Directory => Access::READ_OK | Access::EXEC_OK,
                    FileType::RegularFile => Access::READ_OK,
                    _ => return Ok(kind),
                };
                rustix::fs::access(&path[..], access).map_err(failed)?;
                Ok(kind)
            });
            let list = format!("list {shown}");
            match kind {
                None => probing.skip(list, "it cannot be opened"),
                Some(FileType::Directory) => drop(probing.step(&list, hint, || {
                    let listed = std::fs::read_dir(OsStr::from_bytes(&path));
                    let first = listed.and_then(|mut entries| entries.next().transpose());
                    first.map(drop).map_err(|error| Error::io(&list, error))
                })),
                Some(_) => {}
            }
        }
        probing.finish()
    }
}

impl fmt::Debug for FsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FsSource").field("origin", &self.origin()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Source for FsSource {
    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities::new(CONCURRENCY).with_range_bytes(RANGE_BYTES as u64)
    }

    fn origin(&self) -> Origin {
        let absolute = |root: &Vec<u8>| {
            let path = lexical::clean(&lexical::append(&self.working_directory, root));
            String::from_utf8_lossy(&path).into_owned()
        };
        Origin {
            scheme: String::from("fs"),
            host: self.host.to_string(),
            paths: self.roots.iter().map(absolute).collect(),
        }
    }

    async fn check(&self) -> Result<Probe> {
        let source = self.clone();
        blocking(move || Ok(source.probe())).await
    }

    async fn open(&self, cx: OpenContext) -> Result<Arc<dyn SourceView>> {
        if cx.resume.is_some_and(|resume| resume.as_bytes() != VIEW_TOKEN) {
            return Err(Error::new(ErrorKind::SourceChanged, "another source was read before"));
        }
        let source = self.clone();
        // A folder has no versions: a view to resume is the folder as it is now.
        let view = blocking(move || source.open_view(cx.cancel)).await?;
        Ok(Arc::new(view))
    }
}

/// What a view and its walks share.
#[derive(Debug)]
struct Shared {
    layout: Layout,
    maker: MetadataMaker,
    excluded: Excluded,
    notes: Notes,
    /// For ranges of large files.
    buffers: BufferPool,
    /// For contents of small files.
    small_buffers: BufferPool,
    cancel: CancelToken,
}

#[derive(Debug)]
struct FsView {
    shared: Arc<Shared>,
}

#[async_trait]
impl SourceView for FsView {
    fn token(&self) -> ViewToken {
        ViewToken::new(*VIEW_TOKEN)
    }

    fn list(&self, after: Option<&ListToken>) -> BoxStream<'static, Result<Listed, ListError>> {
        let after = match after.map(decode_token) {
            None => None,
            Some(Some(path)) => Some(path),
            Some(None) => {
                let error = Error::new(
                    ErrorKind::InvalidInput,
                    "cannot continue the listing: this token is not from a local folder",
                );
                return stream::iter([Err(error.into())]).boxed();
            }
        };
        stream_batches(Walk::new(Arc::clone(&self.shared), after))
    }

    async fn body(&self, entry: &Entry, _segment: Option<&Segment>) -> Result<Body> {
        let (shared, path) = (Arc::clone(&self.shared), entry.path.clone());
        let opened = blocking(move || Ok(Opener::new(&shared).open_all(vec![path]))).await?;
        let lost = || Err(Error::new(ErrorKind::Internal, "cannot open one file: none came back"));
        opened.into_iter().next().unwrap_or_else(lost)
    }

    async fn bodies(&self, entries: &[Entry]) -> Option<Vec<Result<Body>>> {
        let shared = Arc::clone(&self.shared);
        let paths: Vec<EntryPath> = entries.iter().map(|entry| entry.path.clone()).collect();
        blocking(move || Ok(Opener::new(&shared).open_all(paths))).await.ok()
    }

    fn untold_warnings(&self) -> u64 {
        self.shared.notes.sentences().warnings.len() as u64
    }

    async fn close(&self, _outcome: Outcome) -> Result<SourceNotes> {
        Ok(self.shared.notes.sentences())
    }
}

/// All up to and including this path has been listed.
fn encode_token(path: &EntryPath) -> ListToken {
    let mut token = path.to_token();
    token.insert(0, TOKEN_VERSION);
    ListToken::new(token)
}

fn decode_token(token: &ListToken) -> Option<EntryPath> {
    match token.as_bytes() {
        [TOKEN_VERSION, path @ ..] => EntryPath::from_token(path),
        _ => None,
    }
}

fn shown(path: &[u8]) -> std::path::Display<'_> {
    std::path::Path::new(std::ffi::OsStr::from_bytes(path)).display()
}
