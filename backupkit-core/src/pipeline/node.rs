//! Finished entries become nodes, encoded for each lane that differs.

use std::sync::Arc;

use super::lane::Lane;
use super::per_lane::PerLane;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlobId, Entry, EntryKind, EntryPath, Metadata};
use crate::repo::node::{Node, encode_node};
use crate::repo::pack_header::BlobKind;

/// A node as its directory keeps it: the name to sort by, and the encoded node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FinishedNode {
    pub(crate) name: Box<[u8]>,
    pub(crate) json: PerLane<Box<[u8]>>,
}

impl FinishedNode {
    /// About how many bytes it takes in memory.
    pub(crate) fn size_bytes(&self) -> u64 {
        let values = match &self.json {
            PerLane::Same(json) => json.len(),
            PerLane::Each(values) => {
                values.iter().map(|json| json.len() + size_of::<Box<[u8]>>()).sum()
            }
        };
        (size_of::<Self>() + self.name.len() + values) as u64
    }
}

/// The blobs of a file, per lane.
pub(crate) type LaneContent = PerLane<Arc<[BlobId]>>;

/// Makes the node of an entry. `content` is `None` for what is no file.
///
/// # Errors
/// `Internal` if a live lane lacks a blob of it: no tree names a blob that its repository lacks.
pub(crate) fn finish_entry(
    entry: &Entry,
    content: Option<&LaneContent>,
    size_bytes: u64,
    lanes: &[Arc<Lane>],
) -> Result<FinishedNode> {
    let name = name_of(&entry.path)?;
    let node = Node {
        name: name.clone().into(),
        kind: entry.kind.clone(),
        metadata: entry.metadata.clone(),
        size_bytes: if entry.kind == EntryKind::File { size_bytes } else { 0 },
        content: None,
        subtree: None,
        error: String::new(),
    };
    let Some(content) = content else {
        return Ok(FinishedNode { name, json: PerLane::Same(encode(&node)) });
    };
    for lane in lanes.iter().filter(|lane| lane.is_live()) {
        let ids = content.get(lane.number());
        if let Some(missing) = ids.iter().find(|id| !lane.knows(BlobKind::Data, id)) {
            return Err(lacks(lane, missing));
        }
    }
    let json = content.map(|ids| encode(&Node { content: Some(Arc::clone(ids)), ..node.clone() }));
    Ok(FinishedNode { name, json })
}

/// Makes the node of a directory whose trees are stored.
pub(crate) fn finish_directory(
    path: &EntryPath,
    metadata: &Metadata,
    subtree: &PerLane<BlobId>,
    lanes: &[Arc<Lane>],
) -> Result<FinishedNode> {
    let name = name_of(path)?;
    for lane in lanes.iter().filter(|lane| lane.is_live()) {
        let id = subtree.get(lane.number());
        if !lane.knows(BlobKind::Tree, id) {
            return Err(lacks(lane, id));
        }
    }
    let json =
        subtree.map(|subtree| encode(&Node::directory(name.to_vec(), metadata.clone(), *subtree)));
    Ok(FinishedNode { name, json })
}

fn name_of(path: &EntryPath) -> Result<Box<[u8]>> {
    match path.name() {
        Some(name) if !name.is_empty() => Ok(name.into()),
        _ => Err(Error::new(ErrorKind::Internal, "the source listed an entry without a name")),
    }
}

pub(crate) fn encode(node: &Node) -> Box<[u8]> {
    let mut json = Vec::with_capacity(400);
    encode_node(node, &mut json);
    json.into()
}

fn lacks(lane: &Lane, id: &BlobId) -> Error {
    let location = lane.repository().location();
    Error::new(ErrorKind::Internal, format!("blob {id} was not stored in {location}"))
}
