//! Creating objects: written beside their place, synchronised, then put there without replacing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, IoSlice, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rustix::fs::{Advice, CWD, RenameFlags};
use rustix::io::Errno;

use super::TEMPORARY_MARK;
use super::read::{is_missing, open_object};
use crate::destination::{ObjectKey, Payload, PayloadFile};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

/// How much of a file is copied at a time.
const COPY_BYTES: usize = 256 << 10;
/// How much of two files is compared at a time.
const COMPARE_BYTES: usize = 256 << 10;

/// Objects of this size and more do not stay in the system's cache: nobody reads a pack soon, and a
/// backup that fills the cache pushes out what the machine works with.
const UNCACHED_BYTES: u64 = 8 << 20;

/// Tells blocking work that its caller has gone. A payload's file is the caller's to change from then
/// on, so the work must not publish what it copies.
#[derive(Debug, Default)]
pub(super) struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    pub(super) fn watch(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Creates an object. What stands there already is fine if it has the same bytes.
pub(super) fn create_object(
    root: &Path,
    env: &Env,
    key: &ObjectKey,
    payload: Payload,
    abandoned: &AtomicBool,
) -> Result<()> {
    let path = root.join(key.as_str());
    let folder = path.parent().unwrap_or(root);
    if occupied(&path)? {
        return settle(&path, folder, key, &payload);
    }
    let temporary = Temporary::create(&path, folder, env)?;
    let failed = |error| Error::io(format!("write {}", path.display()), error);
    let len_bytes = payload.len_bytes();
    write_payload(&temporary.file, &payload).map_err(failed)?;
    // While the disk works, the memory of a pack is of better use elsewhere.
    drop(payload);
    temporary.file.sync_all().map_err(failed)?;
    if len_bytes >= UNCACHED_BYTES {
        // A failure costs memory of the system only.
        let _ = rustix::fs::fadvise(&temporary.file, 0, None, Advice::DontNeed);
    }
    if abandoned.load(Ordering::Relaxed) {
        return Err(Error::cancelled());
    }
    match publish(&temporary.path, &path) {
        Ok(()) => {
            temporary.keep();
            synchronise_folder(folder)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let written = temporary.file.try_clone().map_err(failed)?;
            let payload = PayloadFile::new(written, len_bytes, temporary.path.to_string_lossy());
            settle(&path, folder, key, &payload.into())
        }
        Err(error) => Err(Error::io(format!("create {}", path.display()), error)),
    }
}

/// An unfinished file. It goes with this value unless it was published.
struct Temporary {
    path: PathBuf,
    file: File,
    published: bool,
}

impl Temporary {
    fn create(path: &Path, folder: &Path, env: &Env) -> Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(TEMPORARY_MARK);
        name.push(hex::encode(env.random::<8>()?));
        let name = PathBuf::from(name);
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(0o600).open(&name)
        };
        let opened = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_folders(folder)?;
                open()
            }
            opened => opened,
        };
        let file =
            opened.map_err(|error| Error::io(format!("create {}", name.display()), error))?;
        Ok(Self { path: name, file, published: false })
    }

    fn keep(mut self) {
        self.published = true;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.published {
            // Nothing better can be done about a failure here; the name tells what the file is.
            drop(fs::remove_file(&self.path));
        }
    }
}

fn write_payload(mut file: &File, payload: &Payload) -> io::Result<()> {
    match payload {
        Payload::Bytes(parts) => write_parts(file, parts),
        Payload::File(payload) => {
            let mut bytes = BufReader::with_capacity(COPY_BYTES, payload.reader());
            io::copy(&mut bytes, &mut file).map(drop)
        }
    }
}

/// Writes the parts with as few calls as the system allows: a pack may have thousands.
fn write_parts(mut file: &File, parts: &[Bytes]) -> io::Result<()> {
    for group in parts.chunks(1024) {
        let mut slices: Vec<_> = group.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = &mut slices[..];
        // Skips empty slices, so that zero bytes written always means failure.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match file.write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut left, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Gives the file its name. Fails with `AlreadyExists` if the name is taken.
fn publish(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // What a file system says that cannot rename without replacing.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        result => return Ok(result?),
    }
    match fs::hard_link(from, to) {
        Ok(()) => return fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
        // Nor link.
        Err(_) => {}
    }
    match fs::symlink_metadata(to) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
        Err(error) => Err(error),
    }
}

fn occupied(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(Error::io(format!("look at {}", path.display()), error)),
    }
}

/// Decides about a key that is taken. Another writer may not have synchronised it yet.
fn settle(path: &Path, folder: &Path, key: &ObjectKey, payload: &Payload) -> Result<()> {
    let doing = || format!("compare {}", path.display());
    let taken = || {
        Error::new(
            ErrorKind::AlreadyExists,
            format!("cannot create {key}: it exists with other content"),
        )
    };
    let file = open_object(path)?.ok_or_else(taken)?;
    let same = same_content(&file, payload).map_err(|error| Error::io(doing(), error))?;
    if !same {
        return Err(taken());
    }
    file.sync_all().map_err(|error| Error::io(doing(), error))?;
    synchronise_folder(folder)
}

fn same_content(mut file: &File, payload: &Payload) -> io::Result<bool> {
    if file.metadata()?.len() != payload.len_bytes() {
        return Ok(false);
    }
    match payload {
        Payload::Bytes(parts) => {
            for part in parts.iter() {
                if !same_bytes(&mut file, &mut &part[..])? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Payload::File(payload) => same_bytes(&mut file, &mut payload.reader()),
    }
}

/// Whether `left` goes on with all bytes of `right`.
fn same_bytes(left: &mut impl Read, right: &mut impl Read) -> io::Result<bool> {
    let mut ours = vec![0; COMPARE_BYTES];
    let mut theirs = vec![0; COMPARE_BYTES];
    loop {
        let length = right.read(&mut theirs)?;
        if length == 0 {
            return Ok(true);
        }
        match left.read_exact(&mut ours[..length]) {
            Ok(()) if ours[..length] == theirs[..length] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Makes a folder and those above it, durably.
fn create_folders(folder: &Path) -> Result<()> {
    let mut missing = Vec::new();
    for path in folder.ancestors() {
        if path.as_os_str().is_empty() || path.is_dir() {
            break;
        }
        missing.push(path);
    }
    for path in missing.into_iter().rev() {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            // Another writer was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io(format!("make {}", path.display()), error)),
        }
        if let Some(parent) = path.parent() {
            synchronise_folder(parent)?;
        }
    }
    Ok(())
}

fn synchronise_folder(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    match File::open(folder).and_then(|file| file.sync_all()) {
        // Some network file systems cannot, and need not.
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            let doing = format!("synchronise {}", folder.display());
            Err(Error::io(doing, error))
        }
        _ => Ok(()),
    }
}
