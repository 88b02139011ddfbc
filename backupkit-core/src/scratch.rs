//! Files without a name, for what does not fit into memory.
//!
//! The system gives their space back when they are closed, also by a crash.

mod tuning;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::env::Env;
use crate::error::{Error, Result};

pub(crate) use tuning::Tuning;

/// The code of errors of the scratch folder.
pub(crate) const CODE: &str = "scratch-failed";

/// A folder for such files. Clones are the same folder.
#[derive(Debug, Clone)]
pub(crate) struct Scratch {
    folder: Arc<Path>,
    env: Env,
    tuning: Tuning,
}

/// A file without a name, that goes when the last of its owners does. All its calls block.
#[derive(Debug)]
pub(crate) struct ScratchFile {
    scratch: Scratch,
    file: Arc<File>,
    end: AtomicU64,
}

impl Scratch {
    /// Uses a folder, and makes it if it is missing.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn new(folder: &Path, env: &Env, tuning: Tuning) -> Result<Self> {
        let scratch = Self { folder: folder.into(), env: env.clone(), tuning };
        make_folder(folder).map_err(|error| scratch.failed(error))?;
        Ok(scratch)
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a file of this name may be left by a process that died at the wrong moment.
    pub(crate) fn is_leftover(name: &str) -> bool {
        let is_hex = |name: &str| name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit());
        name.strip_suffix(".tmp").is_some_and(is_hex)
    }

    pub(crate) fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Creates a file that only this user can read. Blocks.
    pub(crate) fn create(&self) -> Result<ScratchFile> {
        let created = match self.create_unnamed() {
            // Somebody cleaned up.
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_folder(&self.folder)
                .map_err(|error| self.failed(error))
                .and_then(|()| self.create_unnamed().map_err(|error| self.failed(error))),
            created => created.map_err(|error| self.failed(error)),
        };
        Ok(ScratchFile { scratch: self.clone(), file: Arc::new(created?), end: AtomicU64::new(0) })
    }

    /// The error of a folder that does not do what it should.
    pub(crate) fn failed(&self, error: io::Error) -> Error {
        Error::io(format!("use the scratch folder {}", self.folder.display()), error)
            .with_code(CODE)
            .with_hint("make room there, or use a scratch folder on another disk")
    }

    fn create_unnamed(&self) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::TMPFILE | OFlags::EXCL;
        match rustix::fs::open(&*self.folder, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(file.into()),
            // What file systems and kernels say that have no such files.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => self.create_and_unlink(),
            Err(error) => Err(error.into()),
        }
    }

    fn create_and_unlink(&self) -> io::Result<File> {
        let name = self.env.random::<16>().map_err(io::Error::other)?;
        let path = self.folder.join(format!("{}.tmp", hex::encode(name)));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }
}

impl ScratchFile {
    /// Writes all bytes at a place.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let length = bytes.len() as u64;
        let written = self.scratch.tuning.admit(length);
        let written = written.and_then(|()| self.file.write_all_at(bytes, offset));
        written.map_err(|error| self.scratch.failed(error))?;
        self.end.fetch_max(offset.saturating_add(length), Ordering::Relaxed);
        Ok(())
    }

    /// Fills the buffer from a place.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    /// The place behind the last byte that was written.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    /// The file, for those who only read.
    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }

    pub(crate) fn scratch(&self) -> &Scratch {
        &self.scratch
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::error::ErrorKind;

    fn scratch(folder: &Path) -> Scratch {
        Scratch::new(folder, &Env::system(), Tuning::default()).unwrap()
    }

    #[test]
    fn a_file_has_no_name_and_is_for_its_user_only() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a/scratch");
        let scratch = scratch(&folder);
        let unlinked = scratch.create_and_unlink().unwrap();
        for file in [&*scratch.create().unwrap().file, &unlinked] {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        }
    }

    #[test]
    fn what_is_written_can_be_read_at_any_place() {
        let home = tempfile::tempdir().unwrap();
        let file = scratch(home.path()).create().unwrap();
        file.write_at(b"world", 6).unwrap();
        file.write_at(b"hello ", 0).unwrap();
        assert_eq!(file.end(), 11);
        let mut bytes = [0; 5];
        file.read_at(&mut bytes, 4).unwrap();
        assert_eq!(&bytes, b"o wor");
        assert!(file.read_at(&mut bytes, 7).is_err());
    }

    #[test]
    fn a_folder_that_was_cleaned_away_is_made_again() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("scratch");
        let scratch = scratch(&folder);
        std::fs::remove_dir(&folder).unwrap();
        scratch.create().unwrap();
    }

    #[test]
    fn an_error_names_the_folder_and_what_to_do() {
        let home = tempfile::tempdir().unwrap();
        let tuning = Tuning { capacity_bytes: Some(4), ..Tuning::default() };
        let scratch = Scratch::new(home.path(), &Env::system(), tuning).unwrap();
        let error = scratch.create().unwrap().write_at(b"hello", 0).unwrap_err();
        assert!(error.is(ErrorKind::StorageFull));
        assert_eq!(error.code(), CODE);
        assert!(error.report().contains(&home.path().display().to_string()), "{error}");
        assert!(error.hint().is_some());
    }
}
