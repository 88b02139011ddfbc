//! Comparing what stands in the target with what a step should have made.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::super::blocking::blocking;
use super::super::stat::{Identity, file_type, mtime, size_bytes};
use super::super::{read_fully, stat};
use super::judge::same_time;
use super::plan::place_of;
use super::session::{Core, link_key};
use super::write::place;
use super::{FOLDERS, HARD_LINKS};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EntryKind, EntryPath, Metadata};
use crate::snapshot::Stretch;
use crate::target::{Step, StepAction, Verdict, VerifyLevel};

/// How much is read and compared at a time.
const COMPARED_BYTES: u64 = 4 << 20;

/// Reads back and compares.
pub(super) async fn verify_step(
    core: &Arc<Core>,
    step: &Step,
    level: VerifyLevel,
) -> Result<Verdict> {
    match &step.action {
        StepAction::Skip => return Ok(Verdict::Cannot(String::from("it was left alone"))),
        StepAction::Refuse(why) => return Ok(Verdict::Cannot(why.clone())),
        _ => {}
    }
    // What goes wrong when such a folder gets its metadata is told then.
    let level = if core.is_closed_last(&step.entry) { VerifyLevel::Count } else { level };
    let (shared, owned) = (Arc::clone(core), step.clone());
    let found = match blocking(move || look(&shared, &owned, level)).await {
        Err(error) if error.is(ErrorKind::NotFound) => Found::Other(String::from("it is missing")),
        Err(error) if error.is(ErrorKind::Conflict) => Found::Other(error.report()),
        found => found?,
    };
    match found {
        Found::Other(how) => Ok(Verdict::Differs(how)),
        Found::Same => Ok(Verdict::Same(level)),
        Found::File(file) => compare_content(core, step, file, level).await,
    }
}

enum Found {
    /// Nothing is left to compare.
    Same,
    /// It is something else, in this way.
    Other(String),
    /// The bytes are left to compare.
    File(OwnedFd),
}

fn look(core: &Core, step: &Step, level: VerifyLevel) -> Result<Found> {
    let path = place_of(step);
    let entry = &step.entry;
    let place = place(core, path, false)?;
    let Some(found) = place.stat()? else {
        return Ok(Found::Other(String::from("it is missing")));
    };
    if let Some(how) = other_kind(&found, &entry.kind) {
        return Ok(Found::Other(how));
    }
    if entry.kind == EntryKind::File && size_bytes(&found) != entry.size_bytes {
        let size = size_bytes(&found);
        let how = format!("it has {size} bytes and should have {}", entry.size_bytes);
        return Ok(Found::Other(how));
    }
    if level == VerifyLevel::Count {
        return Ok(Found::Same);
    }
    if let EntryKind::Symlink { target } = &entry.kind {
        let there = rustix::fs::readlinkat(&place.folder, &place.name[..], Vec::new())
            .map_err(|error| place.failure("read", error))?;
        if there.to_bytes() != target {
            return Ok(Found::Other(String::from("it points elsewhere")));
        }
    }
    // Folders get their metadata last, so only that phase can tell.
    let is_described = entry.kind != EntryKind::Directory || step.phase == FOLDERS;
    let has_mode = !matches!(entry.kind, EntryKind::Symlink { .. });
    if is_described && let Some(how) = other_metadata(&found, &entry.metadata, has_mode) {
        return Ok(Found::Other(how));
    }
    if entry.kind != EntryKind::File || is_linked(core, step, &found)? {
        return Ok(Found::Same);
    }
    let file = place.open(OFlags::RDONLY)?;
    let opened = rustix::fs::fstat(&file).map_err(|error| place.failure("read", error))?;
    if Identity::of(&opened) != Identity::of(&found) {
        return Err(place.failure("read", Errno::AGAIN));
    }
    Ok(Found::File(file))
}

/// Whether this is a further link of a file that has a step, and a verdict, of its own.
fn is_linked(core: &Core, step: &Step, found: &Stat) -> Result<bool> {
    if step.phase != HARD_LINKS {
        return Ok(false);
    }
    let key = link_key(&step.entry.kind, &step.entry.metadata);
    let first: Option<EntryPath> = key.and_then(|key| Some(core.links().get(&key)?.path.clone()));
    let Some(first) = first else {
        return Ok(false);
    };
    let first = place(core, &first, false)?.stat()?;
    Ok(first.is_some_and(|first| Identity::of(&first) == Identity::of(found)))
}

fn other_kind(found: &Stat, kind: &EntryKind) -> Option<String> {
    let is_same = match (file_type(found), kind) {
        (FileType::Directory, EntryKind::Directory)
        | (FileType::Symlink, EntryKind::Symlink { .. }) => true,
        _ => stat::plain_kind(found).as_ref() == Some(kind),
    };
    (!is_same).then(|| String::from("something else stands in its place"))
}

/// What of the metadata is not as it should be. Links have no mode of their own.
pub(super) fn other_metadata(found: &Stat, metadata: &Metadata, has_mode: bool) -> Option<String> {
    let mode = found.st_mode & 0o7777;
    let wanted = metadata.mode.unix_permissions();
    if has_mode && mode != wanted {
        return Some(format!("its mode is {mode:o} and should be {wanted:o}"));
    }
    if !same_time(mtime(found), metadata.mtime) {
        return Some(format!("its time is {} and should be {}", mtime(found), metadata.mtime));
    }
    None
}

async fn compare_content(
    core: &Arc<Core>,
    step: &Step,
    file: OwnedFd,
    level: VerifyLevel,
) -> Result<Verdict> {
    if let Some(stretches) = core.snapshot.stretches(&step.entry)? {
        return compare_hashes(core, step, file, stretches, level).await;
    }
    let file = Arc::new(file);
    let mut start = 0;
    while start < step.entry.size_bytes {
        core.cancel.check()?;
        let end = step.entry.size_bytes.min(start + COMPARED_BYTES);
        let there = {
            let (file, path) = (Arc::clone(&file), place_of(step).clone());
            blocking(move || {
                read_fully(&*file, start, end - start)
                    .map_err(|error| Error::io(format!("read {path}"), error))
            })
        };
        let recorded = core.snapshot.read(&step.entry, start..end);
        let (there, recorded) = futures::future::try_join(there, recorded).await?;
        if there != recorded {
            let how = format!("its content differs between bytes {start} and {end}");
            return Ok(Verdict::Differs(how));
        }
        start = end;
    }
    Ok(Verdict::Same(level))
}

/// Compares without reading the repository: equal SHA-256 values are equal bytes.
async fn compare_hashes(
    core: &Arc<Core>,
    step: &Step,
    file: OwnedFd,
    stretches: Vec<Stretch>,
    level: VerifyLevel,
) -> Result<Verdict> {
    let (core, path) = (Arc::clone(core), place_of(step).clone());
    let size_bytes = step.entry.size_bytes;
    blocking(move || {
        let mut start = 0;
        for stretch in stretches {
            let end = size_bytes.min(start + stretch.bytes);
            let mut hasher = Sha256::new();
            let mut position = start;
            while position < end {
                core.cancel.check()?;
                let length = COMPARED_BYTES.min(end - position);
                let bytes = read_fully(&file, position, length)
                    .map_err(|error| Error::io(format!("read {path}"), error))?;
                hasher.update(&bytes);
                position += length;
            }
            if <[u8; 32]>::from(hasher.finalize()) != stretch.sha256 {
                let how = format!("its content differs between bytes {start} and {end}");
                return Ok(Verdict::Differs(how));
            }
            start = end;
        }
        if start == size_bytes {
            return Ok(Verdict::Same(level));
        }
        Ok(Verdict::Cannot(String::from("the snapshot knows only a part of its content")))
    })
    .await
}
