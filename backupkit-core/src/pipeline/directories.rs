//! Directories that are still being filled.
//!
//! Entries finish in any order. A directory closes when the source has said that it is complete and
//! nothing in it is outstanding; then its tree is stored and it joins its parent.
//!
//! Nodes that are more than a run may hold in memory go to the scratch folder as sorted runs. The tree
//! is encoded by merging these.

mod memory;
mod merge;
mod run;
mod spill;
mod tree;

use std::collections::HashMap;
use std::sync::Arc;

use super::node::FinishedNode;
use super::per_lane::PerLane;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlobId, EntryPath, FileMode, FileTime, Metadata};

pub(crate) use memory::NodeMemory;
pub(crate) use run::{Run, RunReader};
pub(crate) use tree::encode_tree;

/// All open directories of a run.
#[derive(Debug)]
pub(crate) struct Directories {
    open: HashMap<EntryPath, OpenDirectory>,
    memory: NodeMemory,
}

/// One directory that is being filled or stored.
#[derive(Debug, Default)]
pub(crate) struct OpenDirectory {
    /// What is finished in it and in memory.
    pub(crate) nodes: Arc<Vec<FinishedNode>>,
    /// How many of `nodes`, from the front, lie in stored parts.
    pub(crate) saved: usize,
    /// What is finished in it, not in memory, and in no stored part.
    pub(crate) runs: Vec<Run>,
    /// What is finished in it, not in memory, and in stored parts.
    pub(crate) saved_runs: Vec<Run>,
    /// Trees that hold the saved nodes, for checkpoints.
    pub(crate) parts: Vec<PerLane<BlobId>>,
    /// Its metadata, once the source has said that everything in it was listed.
    pub(crate) done: Option<Metadata>,
    outstanding: usize,
    node_bytes: u64,
    closing: bool,
}

/// A directory of which everything is finished, to be stored.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) path: EntryPath,
    pub(crate) metadata: Metadata,
    nodes: Arc<Vec<FinishedNode>>,
    runs: Vec<Run>,
}

impl Directories {
    /// Returns the directories at the start: the root, empty.
    pub(crate) fn new(memory: NodeMemory) -> Self {
        let open = HashMap::from([(EntryPath::root(), OpenDirectory::default())]);
        Self { open, memory }
    }

    /// Notes an entry that will be finished or dropped later.
    ///
    /// # Errors
    /// `Internal` if the source had called the directory complete.
    pub(crate) fn expect(&mut self, path: &EntryPath) -> Result<()> {
        self.refuse_complete(path)?;
        self.expect_restored(path);
        Ok(())
    }

    /// As [`Self::expect`], for what was listed before its directory was complete.
    pub(crate) fn expect_restored(&mut self, path: &EntryPath) {
        let parent = path.parent().unwrap_or_default();
        self.open_directory(&parent).outstanding += 1;
    }

    /// Takes the node of an expected entry or stored directory; `None` if there is none to keep.
    /// Gives the parent if that was the last it waited for.
    pub(crate) fn finish(
        &mut self,
        path: &EntryPath,
        node: Option<FinishedNode>,
    ) -> Result<Option<Closing>> {
        let parent = path.parent().unwrap_or_default();
        let Some(directory) = self.open.get_mut(&parent) else {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("the source listed {path} in a directory that it had called complete"),
            ));
        };
        if let Some(node) = node {
            self.memory.add(directory.push(node));
        }
        directory.outstanding = directory.outstanding.saturating_sub(1);
        Ok(self.close_if_complete(parent))
    }

    /// Notes that a directory has been listed completely.
    ///
    /// # Errors
    /// `Internal` if the source said so before, of this directory or one above it.
    pub(crate) fn complete(
        &mut self,
        path: EntryPath,
        metadata: Metadata,
    ) -> Result<Option<Closing>> {
        self.refuse_complete(&path)?;
        let directory = self.open_directory(&path);
        if directory.done.is_some() {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("the source said twice that it has listed all of {path}"),
            ));
        }
        directory.done = Some(metadata);
        Ok(self.close_if_complete(path))
    }

    /// Notes that nothing more will be listed: the directories above the roots, and the root, are
    /// complete too.
    pub(crate) fn complete_all(&mut self) -> Vec<Closing> {
        let mut paths: Vec<EntryPath> = self.open.keys().cloned().collect();
        paths.sort_by_key(|path| std::cmp::Reverse(path.len()));
        let mut closing = Vec::new();
        for path in paths {
            if let Some(directory) = self.open.get_mut(&path) {
                let made_up = || Metadata::new(FileMode::DIRECTORY, FileTime::EPOCH);
                directory.done.get_or_insert_with(made_up);
                closing.extend(self.close_if_complete(path));
            }
        }
        closing
    }

    /// Forgets a directory whose tree is stored. Gives its runs: to drop them closes files, which may
    /// take a while.
    pub(crate) fn stored(&mut self, path: &EntryPath) -> Vec<Run> {
        let Some(mut directory) = self.open.remove(path) else {
            return Vec::new();
        };
        self.memory.forget(directory.node_bytes, directory.text_bytes());
        directory.runs.append(&mut directory.saved_runs);
        directory.runs
    }

    /// All open directories, for checkpoints.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&EntryPath, &mut OpenDirectory)> {
        self.open.iter_mut()
    }

    /// Puts back a directory from a checkpoint, without its nodes. Its parents open with it.
    pub(crate) fn restore(
        &mut self,
        path: &EntryPath,
        parts: Vec<PerLane<BlobId>>,
        done: Option<Metadata>,
    ) {
        let directory = self.open_directory(path);
        directory.parts = parts;
        directory.done = done;
    }

    /// Puts back nodes that lie in stored parts of a directory, before it gets others.
    pub(crate) fn restore_nodes(&mut self, path: &EntryPath, nodes: Vec<FinishedNode>) {
        let directory = self.open_directory(path);
        directory.saved += nodes.len();
        let bytes = nodes.into_iter().map(|node| directory.push(node)).sum();
        self.memory.add(bytes);
    }

    /// Closes what a checkpoint left complete but not stored.
    pub(crate) fn close_complete(&mut self) -> Vec<Closing> {
        let paths: Vec<EntryPath> = self.open.keys().cloned().collect();
        paths.into_iter().filter_map(|path| self.close_if_complete(path)).collect()
    }

    fn close_if_complete(&mut self, path: EntryPath) -> Option<Closing> {
        let directory = self.open.get_mut(&path)?;
        if directory.outstanding > 0 || directory.closing {
            return None;
        }
        let metadata = directory.done.clone()?;
        directory.closing = true;
        self.memory.close(directory.node_bytes, directory.text_bytes());
        let runs = directory.saved_runs.iter().chain(&directory.runs).cloned().collect();
        Some(Closing { path, metadata, nodes: Arc::clone(&directory.nodes), runs })
    }

    /// Nothing may be listed below what was listed completely. Directories that are stored and gone
    /// are not seen here; their names then come twice in the tree above, which is refused there.
    fn refuse_complete(&self, path: &EntryPath) -> Result<()> {
        let mut above = path.parent();
        while let Some(directory) = above {
            if let Some(open) = self.open.get(&directory) {
                if open.done.is_none() {
                    return Ok(());
                }
                return Err(Error::new(
                    ErrorKind::Internal,
                    format!(
                        "the source listed {path} after it said that it had listed all of {directory}"
                    ),
                ));
            }
            above = directory.parent();
        }
        Ok(())
    }

    /// The open directory at `path`. It and its parents are opened, each expected by its own parent.
    fn open_directory(&mut self, path: &EntryPath) -> &mut OpenDirectory {
        if !self.open.contains_key(path) {
            if !path.is_empty() {
                self.expect_restored(path);
            }
            self.open.insert(path.clone(), OpenDirectory::default());
        }
        self.open.entry(path.clone()).or_default()
    }
}

impl OpenDirectory {
    /// Adds a node; gives the bytes that it takes in memory.
    fn push(&mut self, node: FinishedNode) -> u64 {
        let bytes = node.size_bytes();
        self.node_bytes += bytes;
        Arc::make_mut(&mut self.nodes).push(node);
        bytes
    }

    /// About how long the text of the tree is.
    fn text_bytes(&self) -> u64 {
        let runs = self.runs.iter().chain(&self.saved_runs);
        self.node_bytes + runs.map(Run::len_bytes).sum::<u64>()
    }
}

#[cfg(test)]
mod tests;
