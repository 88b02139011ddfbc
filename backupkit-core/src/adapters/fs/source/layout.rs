//! Where roots stand in a snapshot, and which directories are made up above them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;

use rustix::fs::{Mode, OFlags};

use super::super::lexical;
use super::name_list::NameList;
use super::shown;
use crate::error::{Error, ErrorKind, Result};
use crate::model::EntryPath;

/// The directories above the roots, as a tree whose leaves are the roots.
#[derive(Debug)]
pub(super) struct Layout {
    nodes: Vec<Node>,
    working_directory: Vec<u8>,
}

/// A root, or a directory above roots. One that is both is listed from its directory, with the roots
/// below it in their places.
#[derive(Debug, Default)]
pub(super) struct Node {
    children: BTreeMap<Vec<u8>, usize>,
    /// The directory that holds the first name, at the top level: tells `x` from `../x`.
    origin: Vec<u8>,
    /// Where the root is, if this is one.
    path: Option<Vec<u8>>,
    /// Which directory's metadata a directory above roots has.
    described_by: Option<Vec<u8>>,
}

/// Where an entry is to be read.
#[derive(Debug)]
pub(super) struct Place {
    /// The path of a root, or of a directory above roots that is a root too.
    pub(super) base: Vec<u8>,
    /// How many names of the entry's path lead to `base`; the others lead on from there.
    pub(super) n_names: usize,
}

/// The node that stands for the root of the snapshot.
pub(super) const TOP: usize = 0;

impl Layout {
    /// # Errors
    /// `InvalidConfig` if two roots claim one place; those of listing a root without names.
    pub(super) fn new(roots: &[Vec<u8>], working_directory: &[u8]) -> Result<Self> {
        let mut layout =
            Self { nodes: vec![Node::default()], working_directory: working_directory.to_vec() };
        let mut added = BTreeSet::new();
        for root in roots {
            let root = lexical::clean(root);
            if !lexical::names_in_snapshot(&root).is_empty() {
                layout.add_once(&mut added, root)?;
            } else if roots.len() == 1 {
                layout.nodes[TOP].path = Some(layout.absolute(&root));
            } else {
                let names = layout.names_in(&root)?;
                for name in (0..).map_while(|index| names.get(index)) {
                    layout.add_once(&mut added, lexical::join(&root, name))?;
                }
            }
        }
        Ok(layout)
    }

    pub(super) fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// Finds where the bytes of an entry are.
    pub(super) fn place(&self, path: &EntryPath) -> Option<Place> {
        let mut node = self.node(TOP);
        let mut base = node.path.clone();
        for (n_names, name) in path.names().enumerate() {
            let Some(child) = node.child(name) else {
                return base.map(|base| Place { base, n_names });
            };
            node = self.node(child);
            base = node.path_below(base.as_deref(), name);
            if node.is_root() {
                let n_names = n_names + 1;
                return base.map(|base| Place { base, n_names });
            }
        }
        None
    }

    fn add_once(&mut self, added: &mut BTreeSet<Vec<u8>>, root: Vec<u8>) -> Result<()> {
        if added.contains(&root) {
            return Ok(());
        }
        self.add(&root)?;
        added.insert(root);
        Ok(())
    }

    fn add(&mut self, root: &[u8]) -> Result<()> {
        let names = lexical::names_in_snapshot(root);
        let Some((first, below)) = names.split_first() else {
            return Ok(());
        };
        let origin = lexical::root_of(root);
        let mut at = self.top_level(first, &origin);
        let mut above = lexical::join(&origin, first);
        for name in below {
            self.nodes[at].described_by = Some(self.absolute(&above));
            above = lexical::join(&above, name);
            at = self.child_or_new(at, name);
        }
        let path = self.absolute(root);
        match self.nodes[at].path.replace(path) {
            Some(other) if !below.is_empty() => Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "cannot back up {} and {} together: they have one place in the snapshot",
                    shown(&other),
                    shown(root)
                ),
            )),
            _ => Ok(()),
        }
    }

    /// The node of a first name. A name that means another place already gets a number.
    fn top_level(&mut self, first: &[u8], origin: &[u8]) -> usize {
        let mut name = first.to_vec();
        let mut number = 0;
        while let Some(&node) = self.nodes[TOP].children.get(&name) {
            if self.nodes[node].origin == origin {
                return node;
            }
            number += 1;
            name = [first, format!("-{number}").as_bytes()].concat();
        }
        let node = self.child_or_new(TOP, &name);
        self.nodes[node].origin = origin.to_vec();
        node
    }

    fn child_or_new(&mut self, parent: usize, name: &[u8]) -> usize {
        if let Some(child) = self.nodes[parent].child(name) {
            return child;
        }
        let child = self.nodes.len();
        self.nodes.push(Node::default());
        self.nodes[parent].children.insert(name.to_vec(), child);
        child
    }

    fn names_in(&self, root: &[u8]) -> Result<NameList> {
        let failed =
            |error: rustix::io::Errno| Error::io(format!("list {}", shown(root)), error.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            rustix::fs::open(self.absolute(root), flags, Mode::empty()).map_err(failed)?;
        let mut buffer = Vec::with_capacity(32 << 10);
        match NameList::read(directory.as_fd(), buffer.spare_capacity_mut()) {
            (names, None) => Ok(names),
            (_, Some(error)) => Err(failed(error)),
        }
    }

    fn absolute(&self, path: &[u8]) -> Vec<u8> {
        lexical::append(&self.working_directory, path)
    }
}

impl Node {
    pub(super) fn child(&self, name: &[u8]) -> Option<usize> {
        self.children.get(name).copied()
    }

    pub(super) fn child_names(&self) -> impl Iterator<Item = &[u8]> {
        self.children.keys().map(Vec::as_slice)
    }

    /// Whether nothing but the file system decides what stands below.
    pub(super) fn is_root(&self) -> bool {
        self.children.is_empty()
    }

    pub(super) fn described_by(&self) -> Option<&[u8]> {
        self.described_by.as_deref()
    }

    pub(super) fn path(&self) -> Option<&[u8]> {
        self.path.as_deref()
    }

    /// The directory that this node also is: its own, or the one of this name below a parent that is a
    /// root.
    pub(super) fn path_below(&self, parent: Option<&[u8]>, name: &[u8]) -> Option<Vec<u8>> {
        self.path.clone().or_else(|| parent.map(|parent| lexical::append(parent, name)))
    }
}
