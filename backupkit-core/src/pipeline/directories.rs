//! Directories that are still being filled.
//!
//! Entries finish in any order. A directory closes when the source has said that it is complete and
//! nothing in it is outstanding; then its tree is stored and it joins its parent.

use std::collections::HashMap;
use std::sync::Arc;

use super::node::FinishedNode;
use super::per_lane::PerLane;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlobId, EntryPath, FileMode, FileTime, Metadata};
use crate::repo::tree::TreeEncoder;

/// All open directories of a run.
#[derive(Debug, Default)]
pub(crate) struct Directories {
    open: HashMap<EntryPath, OpenDirectory>,
}

/// One directory that is being filled or stored.
#[derive(Debug, Default)]
pub(crate) struct OpenDirectory {
    /// What is finished in it.
    pub(crate) nodes: Arc<Vec<FinishedNode>>,
    /// How many of `nodes`, from the front, lie in stored parts.
    pub(crate) saved: usize,
    /// Trees that hold the saved nodes, for checkpoints.
    pub(crate) parts: Vec<PerLane<BlobId>>,
    /// Its metadata, once the source has said that everything in it was listed.
    pub(crate) done: Option<Metadata>,
    outstanding: usize,
    closing: bool,
}

/// A directory of which everything is finished, to be stored.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) path: EntryPath,
    pub(crate) metadata: Metadata,
    pub(crate) nodes: Arc<Vec<FinishedNode>>,
}

impl Directories {
    /// Returns the directories at the start: the root, empty.
    pub(crate) fn new() -> Self {
        let mut directories = Self::default();
        directories.open.insert(EntryPath::root(), OpenDirectory::default());
        directories
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
            Arc::make_mut(&mut directory.nodes).push(node);
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

    /// Forgets a directory whose tree is stored.
    pub(crate) fn stored(&mut self, path: &EntryPath) {
        self.open.remove(path);
    }

    /// All open directories, for checkpoints.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&EntryPath, &mut OpenDirectory)> {
        self.open.iter_mut()
    }

    /// Puts back a directory from a checkpoint. Its parents open with it.
    pub(crate) fn restore(&mut self, path: &EntryPath, restored: OpenDirectory) {
        let directory = self.open_directory(path);
        let outstanding = directory.outstanding;
        *directory = restored;
        directory.outstanding = outstanding;
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
        Some(Closing { path, metadata, nodes: Arc::clone(&directory.nodes) })
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

/// Encodes the tree of a directory, once for all lanes where that is the same. Sorts by name.
///
/// # Errors
/// `Internal` if the source listed a name twice.
pub(crate) fn encode_tree(nodes: &[FinishedNode], lanes: usize) -> Result<PerLane<Vec<u8>>> {
    let mut sorted: Vec<&FinishedNode> = nodes.iter().collect();
    sorted.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0].name == pair[1].name) {
        let name = String::from_utf8_lossy(&twice[0].name);
        return Err(Error::new(
            ErrorKind::Internal,
            format!("the source listed {name:?} twice in one directory"),
        ));
    }
    let encode = |lane: usize| -> Result<Vec<u8>> {
        let mut tree = TreeEncoder::new();
        for node in &sorted {
            tree.push_encoded(&node.name, node.json.get(lane))?;
        }
        Ok(tree.finish())
    };
    let same = sorted.iter().all(|node| matches!(node.json, PerLane::Same(_)));
    if same {
        return Ok(PerLane::Same(encode(0)?));
    }
    Ok(PerLane::collect((0..lanes).map(encode).collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::from_slashed(text.as_bytes())
    }

    fn node(name: &str) -> FinishedNode {
        FinishedNode {
            name: name.as_bytes().into(),
            json: PerLane::Same(format!("{{\"name\":\"{name}\"}}").into_bytes().into()),
        }
    }

    fn metadata() -> Metadata {
        Metadata::new(FileMode::DIRECTORY, FileTime::EPOCH)
    }

    #[test]
    fn a_directory_closes_when_it_is_listed_and_everything_in_it_is_finished() {
        let mut directories = Directories::new();
        directories.expect(&path("a/x")).unwrap();
        directories.expect(&path("a/y")).unwrap();
        let closing = directories.complete(path("a"), metadata()).unwrap();
        assert!(closing.is_none());
        assert!(directories.finish(&path("a/y"), Some(node("y"))).unwrap().is_none());
        let closing = directories.finish(&path("a/x"), None).unwrap().unwrap();
        assert_eq!((closing.path.clone(), closing.nodes.len()), (path("a"), 1));
        // Its parent waits for its tree.
        assert!(directories.complete_all().is_empty());
        directories.stored(&path("a"));
        let root = directories.finish(&path("a"), Some(node("a"))).unwrap().unwrap();
        assert!(root.path.is_empty());
    }

    #[test]
    fn an_entry_below_a_complete_directory_is_refused() {
        let mut directories = Directories::new();
        directories.expect(&path("a/x")).unwrap();
        directories.complete(path("a"), metadata()).unwrap();
        assert!(directories.expect(&path("a/y")).is_err());
        assert!(directories.expect(&path("a/b/y")).is_err());
        assert!(directories.complete(path("a/b"), metadata()).is_err());
        assert!(directories.complete(path("a"), metadata()).is_err());
        directories.finish(&path("a/x"), None).unwrap();
        directories.stored(&path("a"));
        assert!(directories.finish(&path("a/z"), None).is_err());
    }

    #[test]
    fn trees_are_sorted_and_names_are_unique() {
        let sorted = encode_tree(&[node("b"), node("a")], 1).unwrap();
        let tree = br#"{"nodes":[{"name":"a"},{"name":"b"}]}"#;
        assert_eq!(sorted.get(0).trim_ascii_end(), tree);
        assert!(encode_tree(&[node("a"), node("a")], 1).is_err());
    }
}
