//! The folders of a target, opened so that none leads out of it.

use std::collections::{HashMap, HashSet};
use std::fs::DirBuilder;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::super::contained::open_beneath;
use super::super::stat::file_type;
use super::place::Place;
use crate::error::{Error, ErrorKind, Result};
use crate::model::EntryPath;

/// Folders held open.
const OPEN_FOLDERS: usize = 64;

/// Opens and makes folders below the root. All calls block.
#[derive(Debug)]
pub(super) struct Folders {
    root_path: Arc<Path>,
    open: Mutex<Open>,
    /// Folders for which something else makes room. Steps run side by side, so whoever needs such a
    /// folder first makes it.
    replacing: Mutex<HashSet<EntryPath>>,
}

#[derive(Debug, Default)]
struct Open {
    root: Option<Arc<OwnedFd>>,
    folders: HashMap<EntryPath, Arc<OwnedFd>>,
}

impl Folders {
    pub(super) fn new(root_path: &Arc<Path>) -> Self {
        Self {
            root_path: Arc::clone(root_path),
            open: Mutex::default(),
            replacing: Mutex::default(),
        }
    }

    /// Allows a folder to take the place of what is no folder.
    pub(super) fn allow_replacing(&self, path: EntryPath) {
        self.replacing().insert(path);
    }

    /// The root; `None` if it does not exist.
    pub(super) fn root(&self) -> Result<Option<Arc<OwnedFd>>> {
        if let Some(root) = &self.open().root {
            return Ok(Some(Arc::clone(root)));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(&*self.root_path, flags, Mode::empty()) {
            Ok(root) => {
                let mut open = self.open();
                let root = open.root.get_or_insert_with(|| Arc::new(root));
                Ok(Some(Arc::clone(root)))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR) => Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("cannot restore into {}: it is not a folder", self.root_path.display()),
            )),
            Err(error) => {
                let doing = format!("open {}", self.root_path.display());
                Err(Error::io(doing, error.into()))
            }
        }
    }

    /// Opens a folder that exists. The descriptor serves to reach what is in it only.
    pub(super) fn existing(&self, path: &EntryPath) -> Result<Arc<OwnedFd>> {
        let root = self.root()?.ok_or_else(|| failure(path, Errno::NOENT))?;
        self.find(&root, path).map_err(|error| failure(path, error))
    }

    /// Opens a folder, and makes it and those above it where they are missing, private for now.
    pub(super) fn ensure(&self, path: &EntryPath) -> Result<Arc<OwnedFd>> {
        let root = self.ensure_root()?;
        let mut above = path.clone();
        let mut folder = loop {
            match self.find(&root, &above) {
                Ok(folder) => break folder,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if above.pop() => {}
                Err(error) => return Err(failure(&above, error)),
            }
        };
        for name in path.names().skip(above.len()) {
            above.push(name);
            self.make(&folder, name, &above)?;
            folder = self.find(&root, &above).map_err(|error| failure(&above, error))?;
        }
        Ok(folder)
    }

    fn make(&self, folder: &Arc<OwnedFd>, name: &[u8], path: &EntryPath) -> Result<()> {
        let make = || rustix::fs::mkdirat(folder, name, Mode::RWXU);
        match make() {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(failure(path, error)),
        }
        // Held until the folder stands, so that two steps do not replace each other's.
        let replacing = self.replacing();
        if !replacing.contains(path) {
            // Another step was faster, or opening it will fail.
            return Ok(());
        }
        let place = Place::new(Arc::clone(folder), path)?;
        match place.stat()? {
            Some(stat) if file_type(&stat) == FileType::Directory => return Ok(()),
            _ => place.clear()?,
        }
        match make() {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(failure(path, error)),
        }
    }

    fn ensure_root(&self) -> Result<Arc<OwnedFd>> {
        if let Some(root) = self.root()? {
            return Ok(root);
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.root_path);
        made.map_err(|error| Error::io(format!("make {}", self.root_path.display()), error))?;
        self.root()?.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("cannot open {}: it vanished", self.root_path.display()),
            )
        })
    }

    fn find(&self, root: &Arc<OwnedFd>, path: &EntryPath) -> Result<Arc<OwnedFd>, Errno> {
        if path.is_empty() {
            return Ok(Arc::clone(root));
        }
        if let Some(folder) = self.open().folders.get(path) {
            return Ok(Arc::clone(folder));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let folder = Arc::new(open_beneath(root.as_fd(), path.names(), flags)?);
        let mut open = self.open();
        if open.folders.len() >= OPEN_FOLDERS {
            open.folders.clear();
        }
        open.folders.insert(path.clone(), Arc::clone(&folder));
        Ok(folder)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replacing(&self) -> MutexGuard<'_, HashSet<EntryPath>> {
        self.replacing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failure(path: &EntryPath, error: Errno) -> Error {
    match error {
        Errno::LOOP | Errno::NOTDIR => Error::new(
            ErrorKind::Conflict,
            format!("cannot restore into {path}: a link or file stands where a folder belongs"),
        ),
        Errno::INVAL => Error::new(
            ErrorKind::InvalidInput,
            format!("cannot restore into {path}: this is no path of folders"),
        ),
        error => Error::io(format!("open {path}"), error.into()),
    }
}
