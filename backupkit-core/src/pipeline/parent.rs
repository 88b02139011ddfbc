//! What the earlier snapshots of each lane say about an entry.

mod ahead;
mod directory;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use serde_json::value::RawValue;

use super::lane::Lane;
use super::node::LaneContent;
use super::per_lane::PerLane;
use crate::model::{BlobId, Entry, EntryKind, EntryPath, ExtendedAttribute, FileTime, Fingerprint};
use crate::repo::node::Node;
use crate::repo::pack_header::BlobKind;
use ahead::{Ahead, Reading};
use directory::{Directory, Place, Tree};

/// The parent snapshots of a run, one per lane that has one.
#[derive(Debug)]
pub(crate) struct Parents {
    lanes: Vec<LaneParent>,
    /// Lanes with equal trees share them.
    trees: HashMap<BlobId, Weak<Tree>>,
    /// How names of directories begin that only divide others.
    divided: Option<&'static str>,
}

#[derive(Debug)]
struct LaneParent {
    lane: Arc<Lane>,
    start: Option<ParentStart>,
    /// By their paths without directories that only divide others.
    directories: HashMap<EntryPath, Option<Directory>>,
    ahead: Ahead,
}

/// Where a parent begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ParentStart {
    pub(crate) tree: BlobId,
    pub(crate) time: FileTime,
}

/// What is known of an entry from the parents.
#[derive(Debug)]
pub(crate) enum Known {
    /// Every live lane has this entry unchanged, with all its blobs.
    Unchanged {
        content: LaneContent,
        extended_attributes: Option<Vec<ExtendedAttribute>>,
        /// The generic attribute that holds the fingerprint.
        attribute: Option<Box<RawValue>>,
        size_bytes: u64,
    },
    /// Some parent has an entry of this path, with other bytes.
    Changed,
    /// No parent has it.
    New,
}

/// What an unchanged entry takes over from the first node that is found.
struct FirstNode {
    extended_attributes: Option<Vec<ExtendedAttribute>>,
    attribute: Option<Box<RawValue>>,
    size_bytes: u64,
}

impl FirstNode {
    fn of(entry: &Entry, node: &Node) -> Self {
        let attribute = match &entry.fingerprint {
            Fingerprint::Attribute { attribute, .. } => node.metadata.attributes.get(attribute),
            Fingerprint::None | Fingerprint::Stat => None,
        };
        Self {
            extended_attributes: node.metadata.extended_attributes.clone(),
            attribute: attribute.cloned(),
            size_bytes: node.size_bytes,
        }
    }
}

impl Parents {
    /// The parents of these lanes. `divided`: how names of directories begin that only divide others.
    pub(crate) fn new(
        lanes: &[Arc<Lane>],
        starts: Vec<Option<ParentStart>>,
        divided: Option<&'static str>,
    ) -> Self {
        let lanes = lanes.iter().zip(starts).map(|(lane, start)| LaneParent {
            lane: Arc::clone(lane),
            start,
            directories: HashMap::new(),
            ahead: Ahead::default(),
        });
        Self { lanes: lanes.collect(), trees: HashMap::new(), divided }
    }

    /// Says what the parents know of an entry.
    pub(crate) async fn look_up(&mut self, entry: &Entry) -> Known {
        let mut contents: Vec<Arc<[BlobId]>> = Vec::with_capacity(self.lanes.len());
        let mut first: Option<FirstNode> = None;
        let (mut found, mut unchanged) = (false, true);
        for number in 0..self.lanes.len() {
            if !self.lanes[number].lane.is_live() {
                contents.push(Arc::default());
                continue;
            }
            let Some(place) = self.find(number, &entry.path).await else {
                unchanged = false;
                continue;
            };
            let node = place.node();
            found = true;
            let lane = &self.lanes[number];
            let content = node.content.clone().filter(|content| {
                lane.start.is_some_and(|start| is_same(entry, node, start.time))
                    && content.iter().all(|id| lane.lane.locate(BlobKind::Data, id).is_some())
            });
            match content {
                Some(content) => {
                    contents.push(content);
                    first.get_or_insert_with(|| FirstNode::of(entry, node));
                }
                None => unchanged = false,
            }
        }
        match first {
            Some(FirstNode { extended_attributes, attribute, size_bytes }) if unchanged => {
                // A lane that was set aside takes part in nothing: any content does.
                let any = contents.iter().find(|content| !content.is_empty()).cloned();
                for (content, lane) in contents.iter_mut().zip(&self.lanes) {
                    if !lane.lane.is_live() {
                        *content = any.clone().unwrap_or_default();
                    }
                }
                let content = PerLane::collect(contents);
                Known::Unchanged { content, extended_attributes, attribute, size_bytes }
            }
            _ if found => Known::Changed,
            _ => Known::New,
        }
    }

    /// Makes sure that the directory which holds `path` is known in the first lane.
    pub(crate) async fn visit(&mut self, path: &EntryPath) {
        self.find(0, path).await;
    }

    /// The subtree that a directory has in the parent of one lane. What holds it must be known.
    pub(crate) fn subtree(&self, lane: usize, path: &EntryPath) -> Option<BlobId> {
        let above = self.undivided(&path.parent()?);
        self.lanes[lane].directories.get(&above)?.as_ref()?.known(path.name()?)?.subtree
    }

    /// Forgets a directory: nothing more of it is listed.
    pub(crate) fn forget(&mut self, path: &EntryPath) {
        if path.name().is_some_and(|name| self.divides(name)) {
            return;
        }
        let path = self.undivided(path);
        for lane in &mut self.lanes {
            lane.directories.remove(&path);
        }
        if self.trees.len() > 10_000 {
            self.trees.retain(|_, tree| tree.strong_count() > 0);
        }
    }

    /// Whether a directory of this name only divides the one it stands in.
    fn divides(&self, name: &[u8]) -> bool {
        self.divided.is_some_and(|prefix| name.starts_with(prefix.as_bytes()))
    }

    fn undivided(&self, path: &EntryPath) -> EntryPath {
        if self.divided.is_none() {
            return path.clone();
        }
        EntryPath::from_names(path.names().filter(|name| !self.divides(name)))
    }

    /// What stands at `path` in the parent of a lane, however directories are divided there.
    async fn find(&mut self, lane: usize, path: &EntryPath) -> Option<Place> {
        let start = self.lanes[lane].start?;
        let (above, name) = (path.parent()?, path.name()?);
        let known = self.undivided(&above);
        if !self.lanes[lane].directories.contains_key(&known) {
            // From the root down to the directory, as far as it is known.
            let mut at = EntryPath::root();
            let mut divided_by = None;
            self.load(lane, &at, Some(start.tree)).await;
            for name in above.names() {
                if self.divides(name) {
                    divided_by = Some(name);
                    continue;
                }
                let inside = at.join(name);
                if !self.lanes[lane].directories.contains_key(&inside) {
                    let place = self.find_in(lane, &at, divided_by.take(), name).await;
                    self.load(lane, &inside, place.and_then(|place| place.node().subtree)).await;
                }
                at = inside;
                divided_by = None;
            }
        }
        let divided_by = above.name().filter(|name| self.divides(name));
        self.find_in(lane, &known, divided_by, name).await
    }

    /// What has a name in a directory that is known, or in one of those that divide it. That may be
    /// the one that now does.
    async fn find_in(
        &mut self,
        lane: usize,
        at: &EntryPath,
        divided_by: Option<&[u8]>,
        name: &[u8],
    ) -> Option<Place> {
        let directory = self.lanes[lane].directories.get(at)?.as_ref()?;
        if let Some(place) = directory.place(name) {
            return Some(place);
        }
        for id in directory.dividing(self.divided?, divided_by, name) {
            let known = self.lanes[lane].directories.get_mut(at)?.as_mut()?.dividing_tree(&id);
            let tree = if let Some(tree) = known {
                tree
            } else {
                let tree = self.read(lane, id).await?;
                let directory = self.lanes[lane].directories.get_mut(at)?.as_mut()?;
                directory.keep(id, Arc::clone(&tree));
                tree
            };
            if let Some(place) = tree.place(name) {
                return Some(place);
            }
        }
        None
    }

    async fn load(&mut self, lane: usize, path: &EntryPath, id: Option<BlobId>) {
        if self.lanes[lane].directories.contains_key(path) {
            return;
        }
        let tree = match id {
            None => None,
            Some(id) => self.read(lane, id).await,
        };
        let directory = tree.map(|tree| Directory::new(tree, self.divided));
        self.lanes[lane].directories.insert(path.clone(), directory);
    }

    async fn read(&mut self, lane: usize, id: BlobId) -> Option<Arc<Tree>> {
        let begun = self.lanes[lane].ahead.take(&id);
        let tree = match self.trees.get(&id).and_then(Weak::upgrade) {
            Some(tree) => tree,
            None => self.lanes[lane].read(id, begun).await?,
        };
        self.trees.insert(id, Arc::downgrade(&tree));
        let LaneParent { lane, ahead, .. } = &mut self.lanes[lane];
        ahead.expect(tree.subtrees());
        let is_alive = |tree: &Weak<Tree>| tree.strong_count() > 0;
        ahead.start(lane, |id| self.trees.get(id).is_some_and(is_alive));
        Some(tree)
    }
}

impl LaneParent {
    /// A tree that is missing or damaged only means that everything in it is read again. A repository
    /// that cannot be read takes no part any more, and the others go on.
    async fn read(&self, id: BlobId, begun: Option<Reading>) -> Option<Arc<Tree>> {
        let read = match begun {
            Some(begun) => begun.await,
            None => ahead::read(Arc::clone(&self.lane), id).await,
        };
        match read {
            Ok(tree) => tree,
            Err(error) => {
                self.lane.set_aside(error);
                None
            }
        }
    }
}

/// Whether the fingerprint of an entry is that of an earlier node.
fn is_same(entry: &Entry, node: &Node, parent_start: FileTime) -> bool {
    if entry.kind != EntryKind::File || node.kind != EntryKind::File {
        return false;
    }
    match &entry.fingerprint {
        Fingerprint::None => false,
        Fingerprint::Stat => {
            let (now, before) = (&entry.metadata, &node.metadata);
            entry.size_bytes == node.size_bytes
                && now.mtime.same_instant(&before.mtime)
                && now.ctime.same_instant(&before.ctime)
                && now.inode == before.inode
                // Written in the very moment the parent looked: the clock cannot tell.
                && now.ctime.timestamp() < parent_start.timestamp()
        }
        Fingerprint::Attribute { attribute, value, others } => {
            let fields = node.metadata.attributes.get(attribute).and_then(|json| {
                serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(json.get()).ok()
            });
            let kept = fields.as_ref().and_then(|fields| fields.get("fingerprint")?.as_str());
            let is_one_of_them =
                |kept: &str| kept == value || others.iter().any(|other| kept == other);
            kept.is_some_and(is_one_of_them) && entry.size_bytes == node.size_bytes
        }
    }
}
