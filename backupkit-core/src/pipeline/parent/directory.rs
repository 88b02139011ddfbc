//! The nodes of a directory of a parent.

use std::sync::Arc;

use crate::model::BlobId;
use crate::repo::node::Node;

/// Trees of directories that divide another one, kept at hand: as many as an entry may be looked for in,
/// so that others near it, which are new too, cost no reading.
const MOST_DIVIDING: usize = 3;

/// The nodes of one tree, sorted by name.
#[derive(Debug)]
pub(super) struct Tree(pub(super) Vec<Node>);

/// A node in a tree.
#[derive(Debug)]
pub(super) struct Place {
    tree: Arc<Tree>,
    at: usize,
}

/// A directory, which others may divide.
#[derive(Debug)]
pub(super) struct Directory {
    tree: Arc<Tree>,
    is_divided: bool,
    /// What divides it and was asked for last, the latest one at the end.
    dividing: Vec<(BlobId, Arc<Tree>)>,
}

impl Tree {
    /// Where a name stands.
    pub(super) fn place(self: &Arc<Self>, name: &[u8]) -> Option<Place> {
        let at = self.position(name).ok()?;
        Some(Place { tree: Arc::clone(self), at })
    }

    /// The trees of all directories, in order.
    pub(super) fn subtrees(&self) -> impl Iterator<Item = BlobId> {
        self.0.iter().filter_map(|node| node.subtree)
    }

    fn find(&self, name: &[u8]) -> Option<&Node> {
        self.0.get(self.position(name).ok()?)
    }

    /// Where a name stands, or would.
    fn position(&self, name: &[u8]) -> Result<usize, usize> {
        self.0.binary_search_by(|node| node.name.as_slice().cmp(name))
    }
}

impl Place {
    /// The node.
    pub(super) fn node(&self) -> &Node {
        &self.tree.0[self.at]
    }
}

impl Directory {
    /// A directory with this tree. `divided`: how names begin that divide it.
    pub(super) fn new(tree: Arc<Tree>, divided: Option<&str>) -> Self {
        let begins = |prefix: &str| {
            let (Ok(at) | Err(at)) = tree.position(prefix.as_bytes());
            tree.0.get(at).is_some_and(|node| node.name.starts_with(prefix.as_bytes()))
        };
        Self { is_divided: divided.is_some_and(begins), tree, dividing: Vec::new() }
    }

    /// Where a name stands in the directory itself.
    pub(super) fn place(&self, name: &[u8]) -> Option<Place> {
        self.tree.place(name)
    }

    /// What has a name in it, as far as that is at hand.
    pub(super) fn known(&self, name: &[u8]) -> Option<&Node> {
        let dividing = self.dividing.iter().rev().map(|(_, tree)| tree);
        std::iter::once(&self.tree).chain(dividing).find_map(|tree| tree.find(name))
    }

    /// The trees in which an entry of this name may stand, if not in the directory itself: that of the
    /// same dividing directory as now, then those that come before it by name.
    pub(super) fn dividing(
        &self,
        prefix: &str,
        divided_by: Option<&[u8]>,
        name: &[u8],
    ) -> Vec<BlobId> {
        if !self.is_divided {
            return Vec::new();
        }
        let now = divided_by.and_then(|name| self.tree.find(name));
        let (Ok(first) | Err(first)) = self.tree.position(prefix.as_bytes());
        let wanted = [prefix.as_bytes(), name].concat();
        let (Ok(at) | Err(at)) = self.tree.position(&wanted);
        // It may be the first one in there; of a directory the name goes on with `%2F`.
        let is_first = self.tree.0.get(at).is_some_and(|node| node.name.starts_with(&wanted));
        let end = at + usize::from(is_first);
        let before = self.tree.0.get(first..end).unwrap_or_default().iter().rev();
        let mut ids: Vec<BlobId> = Vec::new();
        for id in now.into_iter().chain(before.take(2)).filter_map(|node| node.subtree) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }

    /// The tree of what divides the directory, if it is at hand.
    pub(super) fn dividing_tree(&mut self, id: &BlobId) -> Option<Arc<Tree>> {
        let at = self.dividing.iter().position(|(known, _)| known == id)?;
        let found = self.dividing.remove(at);
        let tree = Arc::clone(&found.1);
        self.dividing.push(found);
        Some(tree)
    }

    /// Keeps such a tree at hand.
    pub(super) fn keep(&mut self, id: BlobId, tree: Arc<Tree>) {
        if self.dividing.len() == MOST_DIVIDING {
            self.dividing.remove(0);
        }
        self.dividing.push((id, tree));
    }
}
