//! Tests whether a folder can be opened, written and has space.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::probe::{Probe, Probing};

/// Probes a folder that is to be written. A missing one is fine where it can be made.
pub(super) fn probe_writable(folder: &Path, env: &Env) -> Probe {
    let mut probing = Probing::new(env);
    let opened = probing.step(
        "open the folder",
        "create the folder, or name one whose parent may be written",
        || open_or_nearest(folder),
    );
    let write = "write, read back and delete a file";
    match &opened {
        Some(nearest) if nearest == folder => {
            probing.step(write, "let this user write into the folder", || write_probe(folder, env));
        }
        Some(_) => probing.skip(write, "the folder does not exist yet and will be made"),
        None => probing.skip(write, "the folder cannot be opened"),
    }
    let Some(nearest) = opened else {
        probing.skip("find free space", "the folder cannot be opened");
        return probing.finish();
    };
    probing.step("find free space", "make space on this disk", || match free_bytes(&nearest)? {
        0 => Err(Error::new(ErrorKind::StorageFull, "no space is left")),
        bytes => Ok(bytes),
    });
    probing.finish()
}

/// How many bytes this user can still write in the file system of `folder`.
pub(super) fn free_bytes(folder: &Path) -> Result<u64> {
    let space = rustix::fs::statvfs(folder).map_err(|error| {
        let doing = format!("find the free space of {}", folder.display());
        Error::io(doing, error.into())
    })?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// The folder, or the nearest one above it that exists, provided a folder can be made in it.
fn open_or_nearest(folder: &Path) -> Result<PathBuf> {
    let doing = |path: &Path| format!("open {}", path.display());
    for path in folder.ancestors() {
        // The last ancestor of a relative path is empty and stands for the working directory.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        match fs::metadata(path) {
            Ok(metadata) if !metadata.is_dir() => {
                let error = Error::new(
                    ErrorKind::InvalidConfig,
                    format!("{} is not a folder", path.display()),
                );
                return Err(error);
            }
            Ok(_) if path == folder => {
                File::open(path).map_err(|error| Error::io(doing(path), error))?;
                return Ok(path.to_owned());
            }
            Ok(_) => {
                return match rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK) {
                    Ok(()) => Ok(path.to_owned()),
                    Err(error) => {
                        let doing = format!("make a folder in {}", path.display());
                        Err(Error::io(doing, error.into()))
                    }
                };
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(doing(path), error)),
        }
    }
    Err(Error::new(
        ErrorKind::NotFound,
        format!("cannot open {}: nothing above it exists", folder.display()),
    ))
}

fn write_probe(folder: &Path, env: &Env) -> Result<()> {
    let random = env.random::<8>()?;
    let path = folder.join(format!("probe-tmp-{}", hex::encode(random)));
    let result = write_and_read_back(&path, &random);
    let removed = fs::remove_file(&path);
    result?;
    removed.map_err(|error| Error::io(format!("delete {}", path.display()), error))
}

fn write_and_read_back(path: &Path, content: &[u8]) -> Result<()> {
    let doing = |verb: &str| format!("{verb} {}", path.display());
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Error::io(doing("create"), error))?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(|error| Error::io(doing("write"), error))?;
    let mut found = Vec::new();
    File::open(path)
        .and_then(|file| {
            let limit = content.len() as u64 + 1;
            file.take(limit).read_to_end(&mut found)
        })
        .map_err(|error| Error::io(doing("read"), error))?;
    if found == content {
        Ok(())
    } else {
        Err(Error::corrupt(path.display(), "it does not hold what was written"))
    }
}
