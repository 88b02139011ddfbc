//! A directory on the way of a walk.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::super::super::stat::Identity;
use super::super::name_list::NameList;
use crate::model::Metadata;

/// A directory that is being listed.
pub(super) struct Frame {
    /// Open unless the walk is far below, or the directory is made up.
    pub(super) directory: Option<Arc<OwnedFd>>,
    /// What the directory must be when it is opened again; `None` if it is never closed.
    pub(super) identity: Option<Identity>,
    pub(super) names: NameList,
    /// The index of the next name.
    pub(super) next: usize,
    /// `None` at the root of the snapshot, which has none.
    pub(super) metadata: Option<Box<Metadata>>,
    /// The node of the layout, if roots stand below.
    pub(super) node: Option<usize>,
    /// The directory that a directory above roots also is.
    pub(super) overlay: Option<Vec<u8>>,
    /// Where the directory is, for telling what is excluded.
    pub(super) place: Vec<u8>,
    /// Whether something in it is excluded by path.
    pub(super) has_excluded: bool,
}

impl Frame {
    /// Closes the directory if it can be opened again.
    pub(super) fn close(&mut self) {
        if self.identity.is_some() {
            self.directory = None;
        }
    }

    /// Opens a closed directory again: as the parent of `child`, or by its path if `child` was moved.
    /// However it is found, it must be the directory that it was.
    pub(super) fn reopen_from(&mut self, child: &Self) -> Result<(), Errno> {
        let (None, Some(identity)) = (&self.directory, self.identity) else {
            return Ok(());
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let same = |directory: OwnedFd| {
            let found = Identity::of(&rustix::fs::fstat(&directory)?);
            (found == identity).then_some(directory).ok_or(Errno::NOENT)
        };
        let above = match &child.directory {
            Some(child) => rustix::fs::openat(child, "..", flags, Mode::empty()).and_then(same),
            None => Err(Errno::NOENT),
        };
        let directory = match above {
            Ok(directory) => directory,
            Err(_) => same(rustix::fs::open(&self.place[..], flags, Mode::empty())?)?,
        };
        self.directory = Some(Arc::new(directory));
        Ok(())
    }
}
