//! What one name turns out to be.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::super::super::lexical;
use super::super::super::stat::{Identity, file_type, plain_kind, size_bytes};
use super::super::super::xattr::{Holder, Reader};
use super::super::name_list::NameList;
use super::super::{Shared, encode_token, shown};
use super::frame::Frame;
use super::{Item, directory_done};
use crate::error::{Error, ErrorKind};
use crate::model::{Entry, EntryKind, EntryPath, ExtendedAttribute, Fingerprint};
use crate::source::{ListError, Listed, ListedItem};

/// Room for what the kernel gives of a directory at a time.
const DIRECTORY_BUFFER_BYTES: usize = 64 << 10;

/// Looks at names. What it finds goes to the items; a directory to descend into is returned.
pub(super) struct Visitor {
    shared: Arc<Shared>,
    attributes: Reader,
    buffer: Vec<u8>,
}

/// A name to look at.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    /// The open directory it is in, or none for a path.
    folder: BorrowedFd<'a>,
    name: &'a [u8],
    holder: Holder<'a>,
    /// Its path in the snapshot.
    path: &'a EntryPath,
    /// The path of the directory it is in, where that matters.
    place: &'a [u8],
}

impl Visitor {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            attributes: Reader::default(),
            buffer: Vec::with_capacity(DIRECTORY_BUFFER_BYTES),
        }
    }

    /// Looks at a name in a directory.
    pub(super) fn below(
        &mut self,
        frame: &Frame,
        name: &[u8],
        path: &EntryPath,
        items: &mut Vec<Item>,
    ) -> Option<Frame> {
        let folder = Arc::clone(frame.directory.as_ref()?);
        if frame.has_excluded && self.shared.excluded.has_path(&lexical::append(&frame.place, name))
        {
            self.shared.notes.left_out(path);
            return None;
        }
        let candidate = Candidate {
            folder: folder.as_fd(),
            name,
            holder: Holder::Named(folder.as_fd(), name),
            path,
            place: &frame.place,
        };
        self.visit(candidate, items)
    }

    /// Looks at a root.
    pub(super) fn root(
        &mut self,
        path: &EntryPath,
        root: &[u8],
        items: &mut Vec<Item>,
    ) -> Option<Frame> {
        if self.shared.excluded.has_path(&lexical::clean(root)) {
            self.shared.notes.left_out(path);
            return None;
        }
        let candidate =
            Candidate { folder: CWD, name: root, holder: Holder::Path(root), path, place: b"/" };
        self.visit(candidate, items)
    }

    /// Makes up a directory above roots. Links are followed here: the user named the way.
    pub(super) fn above_roots(
        &mut self,
        path: &EntryPath,
        node: usize,
        overlay: Option<Vec<u8>>,
        described_by: Option<&[u8]>,
        items: &mut Vec<Item>,
    ) -> Option<Frame> {
        let metadata = match described_by {
            None => None,
            Some(folder) => match rustix::fs::stat(folder) {
                Ok(stat) if file_type(&stat) == FileType::Directory => {
                    let mut metadata = self.shared.maker.metadata(&stat);
                    let holder = Holder::Path(folder);
                    metadata.extended_attributes = Some(self.attributes(holder, path, true));
                    Some(Box::new(metadata))
                }
                Ok(_) => {
                    items.push(Err(failure(path, folder, Errno::NOTDIR)));
                    return None;
                }
                Err(error) => {
                    items.push(Err(failure(path, folder, error)));
                    return None;
                }
            },
        };
        let mut names = NameList::default();
        let mut directory = None;
        if let Some(folder) = &overlay {
            match open_directory(CWD, folder, OFlags::empty()) {
                Ok(opened) => {
                    names = self.names(&opened, path, folder, items);
                    directory = Some(Arc::new(opened));
                }
                Err(error) => items.push(Err(failure(path, folder, error))),
            }
        }
        names.extend(self.shared.layout.node(node).child_names());
        let place = overlay.as_deref().map(lexical::clean).unwrap_or_default();
        Some(Frame {
            directory,
            identity: None,
            names,
            next: 0,
            metadata,
            node: Some(node),
            has_excluded: self.shared.excluded.has_below(&place),
            overlay,
            place,
        })
    }

    fn visit(&mut self, name: Candidate<'_>, items: &mut Vec<Item>) -> Option<Frame> {
        let stat = match rustix::fs::statat(name.folder, name.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(error) => {
                items.push(Err(failure(name.path, name.name, error)));
                return None;
            }
        };
        if self.shared.excluded.has_identity(&stat) {
            self.shared.notes.left_out(name.path);
            return None;
        }
        let kind = match file_type(&stat) {
            FileType::Directory => return self.directory(name, &stat, items),
            FileType::Socket => {
                self.shared.notes.socket(name.path);
                return None;
            }
            FileType::Symlink => match rustix::fs::readlinkat(name.folder, name.name, Vec::new()) {
                Ok(target) => EntryKind::Symlink { target: target.into_bytes() },
                Err(error) => {
                    items.push(Err(failure(name.path, name.name, error)));
                    return None;
                }
            },
            _ => {
                let Some(kind) = plain_kind(&stat) else {
                    items.push(Err(failure(name.path, name.name, Errno::OPNOTSUPP)));
                    return None;
                };
                kind
            }
        };
        items.push(Ok(self.entry(name, &stat, kind)));
        None
    }

    fn entry(&mut self, name: Candidate<'_>, stat: &Stat, kind: EntryKind) -> Listed {
        let mut metadata = self.shared.maker.metadata(stat);
        let is_file = kind == EntryKind::File;
        if !is_file {
            metadata.extended_attributes = Some(self.attributes(name.holder, name.path, false));
        }
        Listed {
            token: encode_token(name.path),
            item: ListedItem::Entry(Box::new(Entry {
                path: name.path.clone(),
                handle: None,
                kind,
                metadata,
                size_bytes: if is_file { size_bytes(stat) } else { 0 },
                fingerprint: if is_file { Fingerprint::Stat } else { Fingerprint::None },
            })),
        }
    }

    fn directory(
        &mut self,
        name: Candidate<'_>,
        stat: &Stat,
        items: &mut Vec<Item>,
    ) -> Option<Frame> {
        let opened = open_directory(name.folder, name.name, OFlags::NOFOLLOW)
            .and_then(|directory| Ok((rustix::fs::fstat(&directory)?, directory)));
        let (stat, directory) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                items.push(Err(failure(name.path, name.name, error)));
                if matches!(error, Errno::ACCESS | Errno::PERM | Errno::IO | Errno::MFILE) {
                    // It is there, and what is known of it is worth keeping.
                    let mut metadata = Box::new(self.shared.maker.metadata(stat));
                    let attributes = self.attributes(name.holder, name.path, true);
                    metadata.extended_attributes = Some(attributes);
                    items.push(Ok(directory_done(name.path, metadata)));
                }
                return None;
            }
        };
        let mut metadata = Box::new(self.shared.maker.metadata(&stat));
        let holder = Holder::Open(directory.as_fd());
        metadata.extended_attributes = Some(self.attributes(holder, name.path, false));
        let place = lexical::clean(&lexical::append(name.place, name.name));
        Some(Frame {
            names: self.names(&directory, name.path, &place, items),
            directory: Some(Arc::new(directory)),
            identity: Some(Identity::of(&stat)),
            next: 0,
            metadata: Some(metadata),
            node: None,
            overlay: None,
            has_excluded: self.shared.excluded.has_below(&place),
            place,
        })
    }

    fn names(
        &mut self,
        directory: &OwnedFd,
        path: &EntryPath,
        place: &[u8],
        items: &mut Vec<Item>,
    ) -> NameList {
        let room: &mut [MaybeUninit<u8>] = self.buffer.spare_capacity_mut();
        let (names, failed) = NameList::read(directory.as_fd(), room);
        if let Some(error) = failed {
            items.push(Err(failure(path, place, error)));
        }
        names
    }

    /// Attributes that cannot be read do not keep an entry out of the backup.
    fn attributes(
        &mut self,
        holder: Holder<'_>,
        path: &EntryPath,
        tolerant: bool,
    ) -> Vec<ExtendedAttribute> {
        self.attributes.read(holder).unwrap_or_else(|error| {
            if !tolerant || error.kind() != std::io::ErrorKind::PermissionDenied {
                self.shared.notes.attributes(path, &error);
            }
            Vec::new()
        })
    }
}

/// Opens a directory for listing, if possible without a trace in its access time.
fn open_directory(at: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(at, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(at, name, flags, Mode::empty()),
        opened => opened,
    }
}

fn failure(path: &EntryPath, name: &[u8], error: Errno) -> ListError {
    let error = match error {
        Errno::LOOP | Errno::NOTDIR => Error::new(
            ErrorKind::SourceChanged,
            format!("cannot list {path}: it is no longer a directory"),
        ),
        Errno::OPNOTSUPP => Error::new(
            ErrorKind::Unsupported,
            format!("cannot back up {path}: it is of no known type"),
        ),
        error => {
            Error::io(format!("look at {path}"), error.into()).with_context("name", shown(name))
        }
    };
    ListError { path: Some(path.clone()), error }
}
