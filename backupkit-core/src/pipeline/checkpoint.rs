//! What a paused or crashed backup needs to go on: the checkpoint row, and the parts it names.
//!
//! The row is small. What grows lies in the repository: the nodes of open directories as trees of at
//! most [`PART_NODES`] nodes, written once and only added to, and the unfinished ends of streams as
//! data blobs.

mod periodic;
mod row;
mod subset;

use std::sync::Arc;

use super::chunk::ChunkGroup;
use super::closure::is_closed;
use super::directories::{OpenDirectory, Run, RunReader, encode_tree};
use super::driver::Driver;
use super::lane::Lane;
use super::node::{FinishedNode, encode};
use super::per_lane::PerLane;
use super::progress::{GroupProgress, PartProgress, Resume, SavedContent};
use super::store::{Chunk, Store};
use crate::blocking::blocking;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlobId, FileMode, FileTime, Metadata};
use crate::repo::blobs::read_blob;
use crate::repo::node::Node;
use crate::repo::pack_header::BlobKind;
use crate::repo::tree::{TreeEncoder, decode_tree};

pub(crate) use periodic::{Checkpoints, Pace, encode as encode_row, index_files, save as save_row};
use row::VERSION;
pub(crate) use row::{Row, decode as decode_row};
use row::{SavedDirectory, SavedEntry, SavedGroup, SavedPart, SavedProgress, SavedTail};

/// The most nodes in one part.
pub(crate) const PART_NODES: usize = 4096;
/// Content ids of an unfinished entry that lie in one part. Fewer stand in the row itself.
const CONTENT_IDS: usize = 256;
/// A part of so many bytes takes no more nodes: those of large files are large.
const PART_BYTES: u64 = 4 << 20;
/// Nodes of a part that are put back before it is asked whether there are too many.
const RESTORED_NODES: usize = 64;

/// Collects the row of a driver at rest and stores the parts that are new. They are durable after the
/// next flush.
pub(crate) async fn collect(driver: &mut Driver, started: FileTime) -> Result<Row> {
    let store = driver.reading.store.clone();
    let mut directories = Vec::new();
    for (path, directory) in driver.directories.iter_mut() {
        save_new_nodes(&store, directory).await?;
        directories.push(SavedDirectory {
            path: path.clone(),
            parts: directory.parts.iter().map(SavedPart::ids).collect(),
            done: directory.done.as_ref().map(row::metadata_to_json).transpose()?,
        });
    }
    directories.sort_by(|a, b| a.path.cmp(&b.path));
    let mut unfinished = Vec::new();
    for waiting in driver.unfinished.values() {
        let (planned, version, now) = waiting.progress.with(|progress| {
            let parts = progress.parts.iter().map(PartNow::of).collect::<Vec<_>>();
            (progress.planned, progress.version.clone(), parts)
        });
        let mut parts = Vec::with_capacity(now.len());
        for PartNow { mut part, resume, groups } in now {
            if let Resume::BehindToken { token, tail } = resume {
                part.token = Some(token);
                let at = groups.iter().map(|group| group.cut_at).min().unwrap_or_default();
                part.tail = save_tail(&store, tail).await?.map(|blob| SavedTail { blob, at });
            }
            for (group, chunking) in groups.into_iter().zip(&driver.reading.groups) {
                part.groups.push(save_content(&store, group, &chunking.lanes).await?);
            }
            parts.push(part);
        }
        let (entry, changed) = (&waiting.entry, waiting.changed);
        unfinished.push(SavedEntry::new(entry, changed, planned, version.as_deref(), parts)?);
    }
    let lanes = store.lanes();
    Ok(Row {
        version: VERSION,
        repositories: lanes.iter().map(|lane| lane.repository().id().to_owned()).collect(),
        groups: group_numbers(&driver.reading.groups, lanes.len()),
        view: driver.reading.view.token(),
        list: driver.list_token.clone(),
        stage: driver.stage,
        main_listed: driver.main_listed,
        late_seen: driver.late_seen.iter().cloned().collect(),
        started,
        tally: driver.tally,
        problems: driver
            .events
            .problem_count()
            .saturating_add(driver.reading.view.untold_warnings()),
        directories,
        unfinished,
        root: driver.root.as_ref().map(SavedPart::ids),
        index_files: index_files(lanes),
    })
}

/// Puts a row back into a fresh driver.
///
/// # Errors
/// `Conflict` if something that the row names is no longer in a repository: the backup then starts
/// from the beginning.
pub(crate) async fn restore(driver: &mut Driver, row: Row) -> Result<()> {
    let lanes: Vec<Arc<Lane>> = driver.reading.store.lanes().to_vec();
    let groups = driver.reading.groups.len();
    for (lane, files) in lanes.iter().zip(&row.index_files) {
        let is_known = match files {
            Some(files) => lane.has_index_files(files).await?,
            None => false,
        };
        if !is_known {
            // It failed, or somebody rewrote the index: what is deeper in the trees may be missing.
            let parts = row.directories.iter().flat_map(|directory| &directory.parts);
            let parts = parts.chain(&row.root);
            let parts = parts.filter_map(|ids| ids.get(lane.number()).or(ids.first()).copied());
            if !is_closed(lane, &parts.collect::<Vec<_>>()).await? {
                return Err(unusable("a blob that it names is gone"));
            }
        }
    }
    for saved in row.directories {
        let parts: Vec<PerLane<BlobId>> =
            saved.parts.into_iter().map(|ids| per_lane(ids, lanes.len())).collect::<Result<_>>()?;
        let done = saved.done.map(|json| row::metadata_from_json(&json)).transpose()?;
        driver.directories.restore(&saved.path, parts.clone(), done);
        for part in &parts {
            let mut nodes = load_part(&lanes, part).await?;
            loop {
                let some: Vec<FinishedNode> = nodes.by_ref().take(RESTORED_NODES).collect();
                if some.is_empty() {
                    break;
                }
                driver.directories.restore_nodes(&saved.path, some);
                driver.directories.spill().await?;
            }
        }
    }
    for saved in row.unfinished {
        let SavedProgress { entry, changed, mut progress, contents, tails } =
            saved.into_progress()?;
        for (part, contents) in progress.parts.iter_mut().zip(contents) {
            if part.groups.len() != groups {
                return Err(unusable("its repositories cut chunks in other places"));
            }
            for (number, (group, saved)) in part.groups.iter_mut().zip(contents).enumerate() {
                let lane = driver.reading.groups[number].lanes.first();
                let lane =
                    lane.map(|lane| &lanes[*lane]).ok_or_else(|| unusable("it has no lane"))?;
                let mut content = Vec::new();
                for id in &saved {
                    content.extend(load_content(lane, id).await?);
                }
                content.append(&mut group.content);
                group.content = content;
            }
            for (group, content) in driver.reading.groups.iter().zip(&part.groups) {
                for &lane in &*group.lanes {
                    let lacks = |id: &&BlobId| !lanes[lane].knows(BlobKind::Data, id);
                    if let Some(id) = content.content.iter().find(lacks) {
                        return Err(missing(&lanes[lane], id));
                    }
                }
            }
        }
        for (part, token, tail) in tails {
            let part = &mut progress.parts[part];
            let tail = match tail {
                Some(tail) => load_tail(&lanes[0], tail, part.cut_at()).await?,
                None => bytes::Bytes::new(),
            };
            part.resume = Resume::BehindToken { token, tail };
        }
        driver.restore_unfinished(entry, progress, changed);
    }
    driver.root = row.root.map(|ids| per_lane(ids, lanes.len())).transpose()?;
    driver.list_token = row.list;
    driver.stage = row.stage;
    driver.main_listed = row.main_listed;
    driver.late_seen = row.late_seen.into_iter().collect();
    driver.tally = row.tally;
    driver.events.add_earlier_problems(row.problems);
    Ok(())
}

/// Of each lane the chunk group that it belongs to.
fn group_numbers(groups: &[ChunkGroup], lanes: usize) -> Vec<usize> {
    let group_of =
        |lane: usize| groups.iter().position(|group| group.lanes.contains(&lane)).unwrap_or(0);
    (0..lanes).map(group_of).collect()
}

async fn save_new_nodes(store: &Store, directory: &mut OpenDirectory) -> Result<()> {
    let lanes = store.lanes().len();
    for run in std::mem::take(&mut directory.runs) {
        save_run(store, &run, &mut directory.parts).await?;
        directory.saved_runs.push(run);
    }
    while directory.saved < directory.nodes.len() {
        let (nodes, start) = (Arc::clone(&directory.nodes), directory.saved);
        let (trees, count) = store
            .pool()
            .run(move |_| {
                let new = &nodes[start..];
                let mut bytes = 0;
                let fits = |node: &&FinishedNode| {
                    bytes += node.size_bytes();
                    bytes <= PART_BYTES
                };
                let count = new.iter().take(PART_NODES).take_while(fits).count().max(1);
                Ok((encode_tree(&new[..count], &[], lanes)?, count))
            })
            .await?;
        directory.parts.push(store_trees(store, trees).await?);
        directory.saved += count;
    }
    Ok(())
}

/// Stores the nodes of a run as parts. If it fails in between, so does the run of the backup: nothing
/// is said to lie in parts that does not.
async fn save_run(store: &Store, run: &Run, parts: &mut Vec<PerLane<BlobId>>) -> Result<()> {
    let lanes = store.lanes().len();
    let mut reader = run.reader();
    loop {
        let (read, trees) = blocking(move || {
            let nodes = read_part(&mut reader)?;
            Ok((reader, (!nodes.is_empty()).then(|| encode_tree(&nodes, &[], lanes)).transpose()?))
        })
        .await?;
        reader = read;
        match trees {
            Some(trees) => parts.push(store_trees(store, trees).await?),
            None => return Ok(()),
        }
    }
}

fn read_part(reader: &mut RunReader) -> Result<Vec<FinishedNode>> {
    let (mut nodes, mut bytes) = (Vec::new(), 0);
    while nodes.len() < PART_NODES && bytes < PART_BYTES {
        let Some(node) = reader.next_node()? else {
            break;
        };
        bytes += node.size_bytes();
        nodes.push(node);
    }
    Ok(nodes)
}

/// Stores a tree that may differ between lanes.
pub(crate) async fn store_trees(store: &Store, trees: PerLane<Vec<u8>>) -> Result<PerLane<BlobId>> {
    let lanes = store.lanes().len();
    let mut ids = Vec::new();
    for (tree, targets) in trees.distinct(lanes) {
        let chunk = Chunk::from(bytes::Bytes::from(tree.clone()));
        ids.extend(store.put(BlobKind::Tree, vec![chunk], targets.into()).await?);
    }
    let lost = || Error::new(ErrorKind::Internal, "a tree was stored without an id");
    match trees {
        PerLane::Same(_) => ids.pop().map(PerLane::Same).ok_or_else(lost),
        PerLane::Each(_) => Ok(PerLane::collect(ids)),
    }
}

/// A part of an entry as it is now, and what of it is not stored yet.
struct PartNow {
    /// Without groups, token and tail.
    part: SavedPart,
    resume: Resume,
    groups: Vec<GroupNow>,
}

struct GroupNow {
    saved: SavedContent,
    /// What lies in no tree yet.
    rest: Vec<BlobId>,
    cut_at: u64,
}

impl PartNow {
    fn of(part: &PartProgress) -> Self {
        let group = |group: &GroupProgress| {
            let saved_ids = group.saved.trees().len() * CONTENT_IDS;
            let rest = group.content.get(saved_ids..).unwrap_or_default().to_vec();
            GroupNow { saved: group.saved.clone(), rest, cut_at: group.cut_at }
        };
        let groups = part.groups.iter().map(group).collect();
        let (done, stored_bytes) = (part.done, part.stored_bytes);
        let segment = part.segment.clone();
        let saved =
            SavedPart { segment, groups: Vec::new(), token: None, tail: None, done, stored_bytes };
        Self { part: saved, resume: part.resume.clone(), groups }
    }
}

/// Stores the ids of a content in trees, but for the last, as far as earlier checkpoints have not.
async fn save_content(store: &Store, group: GroupNow, lanes: &Arc<[usize]>) -> Result<SavedGroup> {
    let GroupNow { saved, mut rest, cut_at } = group;
    while rest.len() >= CONTENT_IDS {
        let ids: Vec<BlobId> = rest.drain(..CONTENT_IDS).collect();
        let tree = store.pool().run(move |_| {
            let metadata = Metadata::new(FileMode::from_raw(0o600), FileTime::EPOCH);
            let mut tree = TreeEncoder::new();
            tree.push(&Node::file(b"content".to_vec(), metadata, 0, ids))?;
            Ok(tree.finish())
        });
        let chunk = Chunk::from(bytes::Bytes::from(tree.await?));
        let stored = store.put(BlobKind::Tree, vec![chunk], Arc::clone(lanes)).await?;
        saved.trees().extend(stored);
    }
    let parts = saved.trees().clone();
    Ok(SavedGroup { parts, content: rest, cut_at })
}

async fn load_content(lane: &Lane, id: &BlobId) -> Result<Vec<BlobId>> {
    let json = load(lane, BlobKind::Tree, id).await?;
    let nodes = decode_tree(&json).map_err(|_| unusable("a part of it is damaged"))?;
    let content = nodes.into_iter().find_map(|node| node.content);
    Ok(content.ok_or_else(|| unusable("a part of it is damaged"))?.to_vec())
}

async fn save_tail(store: &Store, tail: bytes::Bytes) -> Result<Option<BlobId>> {
    if tail.is_empty() {
        return Ok(None);
    }
    let all: Vec<usize> = (0..store.lanes().len()).collect();
    Ok(store.put(BlobKind::Data, vec![tail.into()], all.into()).await?.pop())
}

/// The bytes of a tail from a position on.
async fn load_tail(lane: &Lane, tail: SavedTail, from: u64) -> Result<bytes::Bytes> {
    let bytes = bytes::Bytes::from(load(lane, BlobKind::Data, &tail.blob).await?);
    let skipped = from.checked_sub(tail.at).and_then(|skipped| usize::try_from(skipped).ok());
    let skipped = skipped.filter(|skipped| *skipped <= bytes.len());
    Ok(bytes.slice(skipped.ok_or_else(|| unusable("a part of it is damaged"))?..))
}

fn per_lane(mut ids: Vec<BlobId>, lanes: usize) -> Result<PerLane<BlobId>> {
    match ids.len() {
        1 => Ok(PerLane::Same(ids.swap_remove(0))),
        count if count == lanes => Ok(PerLane::Each(ids)),
        _ => Err(unusable("its parts do not fit its repositories")),
    }
}

/// Loads the nodes of a part, and proves that each lane has what they name.
async fn load_part(
    lanes: &[Arc<Lane>],
    part: &PerLane<BlobId>,
) -> Result<impl Iterator<Item = FinishedNode> + use<>> {
    let mut per_lane_nodes: Vec<Vec<Node>> = Vec::new();
    for (id, targets) in part.distinct(lanes.len()) {
        let json = load(&lanes[targets[0]], BlobKind::Tree, id).await?;
        let nodes = decode_tree(&json).map_err(|_| unusable("a part of it is damaged"))?;
        for lane in targets {
            require(&lanes[lane], id, &nodes)?;
        }
        per_lane_nodes.push(nodes);
    }
    let count = per_lane_nodes.first().map_or(0, Vec::len);
    if per_lane_nodes.iter().any(|nodes| nodes.len() != count) {
        return Err(unusable("its parts do not fit each other"));
    }
    // One after the other, so that not all are there twice.
    Ok((0..count).map(move |at| {
        let json = match &per_lane_nodes[..] {
            [only] => PerLane::Same(encode(&only[at])),
            all => PerLane::collect(all.iter().map(|nodes| encode(&nodes[at])).collect()),
        };
        FinishedNode { name: per_lane_nodes[0][at].name.clone().into(), json }
    }))
}

fn require(lane: &Lane, part: &BlobId, nodes: &[Node]) -> Result<()> {
    if !lane.knows(BlobKind::Tree, part) {
        return Err(missing(lane, part));
    }
    for node in nodes {
        let content = node.content.iter().flat_map(|content| content.iter());
        if let Some(id) = content.into_iter().find(|id| !lane.knows(BlobKind::Data, id)) {
            return Err(missing(lane, id));
        }
        if let Some(id) = node.subtree.as_ref().filter(|id| !lane.knows(BlobKind::Tree, id)) {
            return Err(missing(lane, id));
        }
    }
    Ok(())
}

async fn load(lane: &Lane, kind: BlobKind, id: &BlobId) -> Result<Vec<u8>> {
    let location = lane.locate(kind, id).ok_or_else(|| missing(lane, id))?;
    read_blob(lane.repository(), kind, id, &location).await
}

fn missing(lane: &Lane, id: &BlobId) -> Error {
    unusable(&format!("blob {} is no longer in {}", id.short(), lane.repository().location()))
}

/// The error of a checkpoint that does not fit any more.
pub(crate) fn unusable(why: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("the checkpoint cannot be used: {why}"))
}
