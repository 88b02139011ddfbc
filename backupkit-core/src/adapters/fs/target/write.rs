//! Doing steps.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::super::blocking::blocking;
use super::super::stat::{Identity, file_type};
use super::content::{create_file, write_content, write_whole};
use super::judge::looks_like;
use super::metadata::{Receiver, apply};
use super::place::{Place, Replace, Temporary};
use super::plan::place_of;
use super::session::{Core, link_key};
use super::{ENTRIES, FOLDERS, HARD_LINKS};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EntryKind, EntryPath};
use crate::snapshot::SnapshotEntry;
use crate::target::{BodyReader, Phase, Step, StepAction, WholeStep, Written};
use crate::token::WriteToken;

/// Does a step.
pub(super) async fn write_step(
    core: &Arc<Core>,
    step: &Step,
    body: BodyReader,
    from: Option<WriteToken>,
) -> Result<Written> {
    if has_content(step) {
        return write_content(core, step, body, from).await;
    }
    let (core, step) = (Arc::clone(core), step.clone());
    blocking(move || do_step(&core, &step)).await
}

/// Does steps whose bytes are at hand, one after the other. Stops between two if the restore is
/// cancelled. Blocks.
pub(super) fn write_whole_steps(core: &Arc<Core>, steps: &[WholeStep]) -> Vec<Result<Written>> {
    let write = |whole: &WholeStep| {
        core.cancel.check()?;
        if has_content(&whole.step) { write_whole(core, whole) } else { do_step(core, &whole.step) }
    };
    steps.iter().map(write).collect()
}

fn has_content(step: &Step) -> bool {
    let is_refused = matches!(step.action, StepAction::Skip | StepAction::Refuse(_));
    step.phase == ENTRIES && step.entry.kind == EntryKind::File && !is_refused
}

fn do_step(core: &Core, step: &Step) -> Result<Written> {
    let entry = &step.entry;
    let warnings = match (&step.action, step.phase, &entry.kind) {
        (StepAction::Skip, ..) => Vec::new(),
        (StepAction::Refuse(why), ..) => {
            let message = format!("cannot restore {}: {why}", entry.path);
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        (_, ENTRIES, EntryKind::Directory) => make_folder(core, step)?,
        (_, ENTRIES, _) => make_leaf(core, step)?,
        (_, HARD_LINKS, _) => link(core, step)?,
        (_, FOLDERS, EntryKind::Directory) => describe_folder(core, step)?,
        (_, Phase(other), _) => {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("cannot do a step of phase {other}: there is no such phase"),
            ));
        }
    };
    Ok(Written { bytes: 0, warnings })
}

/// Opens a folder of the target for reading and changing its metadata. Blocks.
pub(super) fn open_folder(core: &Core, path: &EntryPath) -> Result<OwnedFd> {
    place(core, path, false)?.open(OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Finds the place of an entry, and makes the folder it is in if asked to. Blocks.
pub(super) fn place(core: &Core, path: &EntryPath, makes_folder: bool) -> Result<Place> {
    let parent = path.parent().unwrap_or_default();
    let folder = if makes_folder {
        core.folders.ensure(&parent)?
    } else {
        core.folders.existing(&parent)?
    };
    Place::new(folder, path)
}

/// What a step may replace.
pub(super) fn replace_of(step: &Step) -> Replace {
    match step.action {
        StepAction::Overwrite => Replace::Anything,
        _ => Replace::Own,
    }
}

fn make_folder(core: &Core, step: &Step) -> Result<Vec<Error>> {
    let path = place_of(step);
    core.folders.ensure(path)?;
    if step.action == StepAction::Overwrite
        && let Ok(folder) = open_folder(core, path)
        && let Ok(stat) = rustix::fs::fstat(&folder)
        && stat.st_mode & 0o700 != 0o700
    {
        // It was there and its owner may not write into it, which the restore must. A failure shows
        // where it does.
        let mode = Mode::from_raw_mode((stat.st_mode & 0o7777) | 0o700);
        let _ = rustix::fs::fchmod(&folder, mode);
    }
    Ok(Vec::new())
}

fn describe_folder(core: &Core, step: &Step) -> Result<Vec<Error>> {
    let path = place_of(step);
    let metadata = &step.entry.metadata;
    if core.is_closed_last(&step.entry) {
        return Ok(Vec::new());
    }
    let folder = open_folder(core, path)?;
    Ok(apply(Receiver::Open(folder.as_fd()), metadata, path))
}

/// Makes a link, pipe or device.
fn make_leaf(core: &Core, step: &Step) -> Result<Vec<Error>> {
    let entry = &step.entry;
    let path = place_of(step);
    let node = |kind: FileType, device: u64| (kind, device);
    let node = match &entry.kind {
        EntryKind::Symlink { .. } => None,
        EntryKind::Fifo => Some(node(FileType::Fifo, 0)),
        EntryKind::BlockDevice(device) => Some(node(FileType::BlockDevice, device.0)),
        EntryKind::CharacterDevice(device) => Some(node(FileType::CharacterDevice, device.0)),
        EntryKind::Socket | EntryKind::File | EntryKind::Directory => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("cannot restore {path}: it is of no type that can be made"),
            ));
        }
    };
    let place = place(core, path, true)?;
    let (temporary, ()) =
        Temporary::make(&place, &core.temporary_prefix, &core.env, |folder, name| {
            match (&entry.kind, node) {
                (EntryKind::Symlink { target }, _) => {
                    rustix::fs::symlinkat(&target[..], folder, name)
                }
                (_, Some((kind, device))) => {
                    let mode = Mode::RUSR | Mode::WUSR;
                    rustix::fs::mknodat(folder, name, kind, mode, device)
                }
                (_, None) => Err(Errno::INVAL),
            }
        })?;
    let receiver = match node {
        None => Receiver::Link(temporary.folder(), temporary.name()),
        Some(_) => Receiver::Node(temporary.folder(), temporary.name()),
    };
    let warnings = apply(receiver, &entry.metadata, path);
    temporary.publish(replace_of(step), |stat| looks_like(stat, entry))?;
    Ok(warnings)
}

/// Makes a further hard link of a file that was restored before.
fn link(core: &Core, step: &Step) -> Result<Vec<Error>> {
    let entry = &step.entry;
    let path = place_of(step);
    let key = link_key(&entry.kind, &entry.metadata);
    let first = key.and_then(|key| core.links().get(&key).cloned());
    let first = first.ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, format!("cannot link {path}: plan the restore first"))
    })?;
    let not_restored = || {
        Error::new(
            ErrorKind::NotFound,
            format!("cannot link {path}: {}, which it is a link of, was not restored", first.path),
        )
    };
    let first_place = self::place(core, &first.path, false)?;
    let first_stat = first_place.stat()?.ok_or_else(not_restored)?;
    if !looks_like(&first_stat, entry) {
        return Err(not_restored());
    }
    let place = self::place(core, path, true)?;
    let identity = Identity::of(&first_stat);
    if place.stat()?.is_some_and(|stat| Identity::of(&stat) == identity) {
        return Ok(Vec::new());
    }
    let made = Temporary::make(&place, &core.temporary_prefix, &core.env, |folder, name| {
        let from = &first_place.folder;
        match rustix::fs::linkat(from, &first_place.name[..], folder, name, AtFlags::empty()) {
            // File systems without links, or with no room for more of them.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::XDEV | Errno::MLINK) => Ok(false),
            result => result.map(|()| true),
        }
    })?;
    let (temporary, warnings) = match made {
        (temporary, true) => (temporary, Vec::new()),
        // Nothing was made under this name, so nothing is lost with it.
        (_, false) => copy(core, &place, &first_place, entry)?,
    };
    temporary.publish(replace_of(step), |stat| looks_like(stat, entry))?;
    Ok(warnings)
}

/// Copies a file that cannot be linked.
fn copy(
    core: &Core,
    place: &Place,
    first: &Place,
    entry: &SnapshotEntry,
) -> Result<(Temporary, Vec<Error>)> {
    let from = first.open(OFlags::RDONLY)?;
    let is_file = rustix::fs::fstat(&from).is_ok_and(|stat| file_type(&stat).is_file());
    if !is_file {
        return Err(first.failure("read", Errno::INVAL));
    }
    let (temporary, file) = create_file(core, place)?;
    let mut file = File::from(file);
    std::io::copy(&mut File::from(from), &mut file)
        .map_err(|error| Error::io(format!("copy {} to {}", first.path, place.path), error))?;
    let mut warnings = apply(Receiver::Open(file.as_fd()), &entry.metadata, &place.path);
    warnings.push(Error::new(
        ErrorKind::Unsupported,
        format!(
            "restored {} as a copy of {}: they cannot be links of one file here",
            place.path, first.path
        ),
    ));
    Ok((temporary, warnings))
}
