//! The checkpoint row: its fields and how entries and metadata go into JSON.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::unusable;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlobId, Entry, EntryKind, EntryPath, FileTime, Fingerprint, IndexId, Metadata};
use crate::pipeline::driver::{Stage, Tally};
use crate::pipeline::node::encode;
use crate::pipeline::per_lane::PerLane;
use crate::pipeline::progress::{EntryProgress, GroupProgress, PartProgress, SavedContent};
use crate::repo::node::Node;
use crate::repo::tree::decode_tree;
use crate::source::Segment;
use crate::token::{ListToken, ReadToken, ViewToken};

/// Rows of another version are not used.
pub(crate) const VERSION: u32 = 4;

/// All that a backup needs to go on, besides what lies in the repositories.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) version: u32,
    /// Ids, in the order of the lanes.
    pub(crate) repositories: Vec<String>,
    /// In the same order the chunk groups that they belong to.
    pub(crate) groups: Vec<usize>,
    pub(crate) view: ViewToken,
    pub(crate) list: Option<ListToken>,
    pub(crate) stage: Stage,
    pub(crate) main_listed: bool,
    pub(crate) late_seen: Vec<EntryPath>,
    /// When the backup started; the snapshot gets this time.
    pub(crate) started: FileTime,
    pub(crate) tally: Tally,
    /// How many warnings and errors there were.
    pub(crate) problems: u64,
    pub(crate) directories: Vec<SavedDirectory>,
    pub(crate) unfinished: Vec<SavedEntry>,
    /// The trees of a backup that was to rest when all was read: only its snapshots are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) root: Option<Vec<BlobId>>,
    /// Per lane the index files that name all of this. If all are still there, so are the blobs. `None`:
    /// the lane had failed, and may lack some.
    pub(crate) index_files: Vec<Option<Vec<IndexId>>>,
}

/// A directory that was open.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedDirectory {
    pub(crate) path: EntryPath,
    /// Trees with its finished nodes: one id for all lanes, or one a lane.
    pub(crate) parts: Vec<Vec<BlobId>>,
    /// Its metadata as a node, if it was listed completely.
    pub(crate) done: Option<Box<RawValue>>,
}

/// An entry that was listed and not finished.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedEntry {
    path: EntryPath,
    handle: Option<String>,
    size_bytes: u64,
    fingerprint: SavedFingerprint,
    /// Its metadata as a node.
    node: Box<RawValue>,
    /// Extended attributes were not read at listing.
    attributes_deferred: bool,
    changed: bool,
    planned: bool,
    /// The version that was read in part.
    version: Option<SavedVersion>,
    pub(crate) parts: Vec<SavedPart>,
}

/// An entry as the handle that gave its bytes saw it.
#[derive(Debug, Serialize, Deserialize)]
struct SavedVersion {
    size_bytes: u64,
    fingerprint: SavedFingerprint,
    node: Box<RawValue>,
}

/// How far a part of an entry was.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedPart {
    pub(crate) segment: Option<Segment>,
    pub(crate) groups: Vec<SavedGroup>,
    pub(crate) token: Option<ReadToken>,
    /// The bytes between the earliest of the last cuts and the token.
    pub(crate) tail: Option<SavedTail>,
    pub(crate) done: bool,
    pub(crate) stored_bytes: u64,
}

/// Bytes that were read and belong to no chunk yet.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedTail {
    pub(crate) blob: BlobId,
    /// The position of the first one. A row for fewer chunk groups may need only what is behind it.
    pub(crate) at: u64,
}

/// What is stored of a part for one chunk group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SavedGroup {
    /// Trees of one node, whose content is what comes first.
    pub(crate) parts: Vec<BlobId>,
    /// What comes behind that.
    pub(crate) content: Vec<BlobId>,
    /// The position of the last cut.
    pub(crate) cut_at: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SavedFingerprint {
    None,
    Stat,
    Attribute { attribute: String, value: String },
}

/// A part whose stream goes on behind a token: its number, the token and its tail.
pub(crate) type Tail = (usize, ReadToken, Option<SavedTail>);

/// An entry that was listed and not finished, as it is put back.
pub(crate) struct SavedProgress {
    pub(crate) entry: Entry,
    pub(crate) changed: bool,
    pub(crate) progress: EntryProgress,
    /// Of each part and group the trees with what comes before its content.
    pub(crate) contents: Vec<Vec<Vec<BlobId>>>,
    pub(crate) tails: Vec<Tail>,
}

impl Row {
    /// How far the backup is: entries that are finished, and bytes that are stored.
    pub(crate) fn reach(&self) -> u64 {
        let Tally { files_new, files_changed, files_unmodified, bytes_processed, .. } = self.tally;
        let parts = self.unfinished.iter().flat_map(|entry| &entry.parts);
        let open_bytes = parts.map(|part| part.stored_bytes);
        [files_new, files_changed, files_unmodified, bytes_processed]
            .into_iter()
            .chain(open_bytes)
            .fold(0, u64::saturating_add)
    }

    /// Forgets how far the entry with the most content was, so that it starts over; `false` if there is
    /// none left. What is stored of it stays, and is found again.
    pub(crate) fn shrink(&mut self) -> bool {
        let ids = |entry: &SavedEntry| -> usize {
            let groups = entry.parts.iter().flat_map(|part| &part.groups);
            groups.map(|group| group.parts.len() + group.content.len()).sum()
        };
        let largest = self.unfinished.iter_mut().max_by_key(|entry| ids(entry));
        let Some(largest) = largest.filter(|entry| ids(entry) > 0) else { return false };
        (largest.planned, largest.version, largest.parts) = (false, None, Vec::new());
        true
    }
}

impl SavedGroup {
    fn split(self) -> (Vec<BlobId>, GroupProgress) {
        let saved = SavedContent::new(self.parts.clone());
        (self.parts, GroupProgress { content: self.content, cut_at: self.cut_at, saved })
    }
}

impl SavedPart {
    /// The ids of a part of a directory, as the row keeps them.
    pub(crate) fn ids(part: &PerLane<BlobId>) -> Vec<BlobId> {
        match part {
            PerLane::Same(id) => vec![*id],
            PerLane::Each(ids) => ids.clone(),
        }
    }
}

impl SavedEntry {
    pub(crate) fn new(
        entry: &Entry,
        changed: bool,
        planned: bool,
        version: Option<&Entry>,
        parts: Vec<SavedPart>,
    ) -> Result<Self> {
        let version = version.map(|version| {
            Ok::<_, Error>(SavedVersion {
                size_bytes: version.size_bytes,
                fingerprint: (&version.fingerprint).into(),
                node: node_to_json(EntryKind::File, &version.metadata)?,
            })
        });
        Ok(Self {
            path: entry.path.clone(),
            handle: entry.handle.clone(),
            size_bytes: entry.size_bytes,
            fingerprint: (&entry.fingerprint).into(),
            node: node_to_json(EntryKind::File, &entry.metadata)?,
            attributes_deferred: entry.metadata.extended_attributes.is_none(),
            changed,
            planned,
            version: version.transpose()?,
            parts,
        })
    }

    /// The entry and whether it counts as changed, how far it was but for the contents that lie in parts,
    /// those, and the parts whose streams go on behind a token.
    pub(crate) fn into_progress(self) -> Result<SavedProgress> {
        let mut metadata = metadata_from_json(&self.node)?;
        if self.attributes_deferred {
            metadata.extended_attributes = None;
        }
        let mut entry = Entry::file(self.path, metadata, self.size_bytes);
        entry.handle = self.handle;
        entry.fingerprint = self.fingerprint.into();
        let version = self.version.map(|version| {
            let mut seen = entry.clone();
            seen.size_bytes = version.size_bytes;
            seen.fingerprint = version.fingerprint.into();
            seen.metadata = metadata_from_json(&version.node)?;
            Ok::<_, Error>(Box::new(seen))
        });
        let (mut tails, mut contents) = (Vec::new(), Vec::new());
        let mut parts = Vec::with_capacity(self.parts.len());
        for (number, part) in self.parts.into_iter().enumerate() {
            if let Some(token) = part.token {
                tails.push((number, token, part.tail));
            }
            let (saved, groups) = part.groups.into_iter().map(SavedGroup::split).unzip();
            contents.push(saved);
            parts.push(PartProgress {
                segment: part.segment,
                groups,
                done: part.done,
                stored_bytes: part.stored_bytes,
                ..PartProgress::default()
            });
        }
        let version = version.transpose()?;
        let progress = EntryProgress { planned: self.planned, parts, version };
        Ok(SavedProgress { entry, changed: self.changed, progress, contents, tails })
    }
}

impl From<&Fingerprint> for SavedFingerprint {
    fn from(fingerprint: &Fingerprint) -> Self {
        match fingerprint {
            Fingerprint::None => Self::None,
            Fingerprint::Stat => Self::Stat,
            // Whatever is saved here is read, and compared with nothing any more.
            Fingerprint::Attribute { attribute, value, others: _ } => {
                Self::Attribute { attribute: attribute.clone(), value: value.clone() }
            }
        }
    }
}

impl From<SavedFingerprint> for Fingerprint {
    fn from(saved: SavedFingerprint) -> Self {
        match saved {
            SavedFingerprint::None => Self::None,
            SavedFingerprint::Stat => Self::Stat,
            SavedFingerprint::Attribute { attribute, value } => {
                Self::Attribute { attribute, value, others: Vec::new() }
            }
        }
    }
}

/// Reads a row.
///
/// # Errors
/// `Conflict` if it is damaged, or of another version.
pub(crate) fn decode(json: &[u8]) -> Result<Row> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let damaged = |_| unusable("its row is damaged");
    let Versioned { version } = serde_json::from_slice(json).map_err(damaged)?;
    if version != VERSION {
        return Err(unusable("another version of this program wrote it"));
    }
    serde_json::from_slice(json).map_err(damaged)
}

/// Metadata as the JSON of a node without a name of its own.
pub(crate) fn metadata_to_json(metadata: &Metadata) -> Result<Box<RawValue>> {
    node_to_json(EntryKind::Directory, metadata)
}

fn node_to_json(kind: EntryKind, metadata: &Metadata) -> Result<Box<RawValue>> {
    let node = Node {
        name: b"-".to_vec(),
        kind,
        metadata: metadata.clone(),
        size_bytes: 0,
        content: None,
        subtree: None,
        error: String::new(),
    };
    let failed = || Error::new(ErrorKind::Internal, "metadata cannot be written as JSON");
    let json = String::from_utf8(encode(&node).into_vec()).map_err(|_| failed())?;
    RawValue::from_string(json).map_err(|_| failed())
}

/// Reads metadata back from the JSON of a node.
pub(crate) fn metadata_from_json(json: &RawValue) -> Result<Metadata> {
    let tree = format!("{{\"nodes\":[{}]}}", json.get());
    let mut nodes = decode_tree(tree.as_bytes()).map_err(|_| unusable("its row is damaged"))?;
    nodes.pop().map(|node| node.metadata).ok_or_else(|| unusable("its row is damaged"))
}
