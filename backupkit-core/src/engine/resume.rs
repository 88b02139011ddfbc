//! A pause survives as a checkpoint snapshot: the next backup of the origin goes on from it.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;

use super::commit::{flush, refuse_none};
use super::origin::{self, find_checkpoints};
use super::reading::under_guard;
use super::{BackupRequest, RunContext};
use crate::error::{Error, Result};
use crate::model::{BlobId, EntryKind, FileMode, FileTime, Level, Metadata, Origin, SnapshotId};
use crate::pipeline::checkpoint::{self, Row, encode_row, unusable};
use crate::pipeline::guard::{Guard, Liveness};
use crate::pipeline::lane::Lane;
use crate::pipeline::store::{Chunk, Store};
use crate::repo::blobs::read_blob;
use crate::repo::checkpoint_tags::{
    CHECKPOINT, NOTICE_NAME, ROW_NAME, RUN_TAG, is_checkpoint, origin_tag, saved_tag,
};
use crate::repo::layout::FileKind;
use crate::repo::node::Node;
use crate::repo::pack_header::BlobKind;
use crate::repo::repository::Repository;
use crate::repo::snapshot_file::Snapshot;
use crate::repo::tree::{TreeEncoder, decode_tree};
use crate::state::RunJournal;

/// Content ids in one node, at most: readers hold a node in memory.
const NODE_IDS: usize = 16_384;
/// The row is stored in blobs of this size.
const ROW_BLOB_BYTES: usize = 4 << 20;

const NOTICE: &str = "This is not a backup. It keeps what a paused backup has stored, so that\n\
     the next run of the same backup goes on from here. It goes away when that run\n\
     is finished.\n";

/// Reads the checkpoint that the journal keeps; `None` if there is none.
///
/// # Errors
/// `Conflict` if it cannot be used; those of the journal.
pub(super) async fn load(journal: &dyn RunJournal) -> Result<Option<Row>> {
    let Some(json) = journal.load_checkpoint().await? else { return Ok(None) };
    checkpoint::decode_row(&json).map(Some)
}

/// Returns the checkpoint that a backup goes on from, as it is for these lanes: the saved one, or else the
/// newest checkpoint snapshot of the origin; `None` if there is none. One that a finished backup has
/// overtaken is none: nothing says that it was not made from it.
///
/// # Errors
/// `Conflict` if there is one that cannot be used.
pub(super) async fn find(
    saved: Option<Row>,
    lanes: &[Arc<Lane>],
    snapshots: &[Vec<(SnapshotId, Snapshot)>],
    origin: Option<&Origin>,
) -> Result<Option<Row>> {
    let row = match (saved, origin) {
        (None, Some(origin)) => find_snapshot(lanes, snapshots, origin).await?,
        (saved, _) => saved,
    };
    let Some(row) = row else { return Ok(None) };
    let repositories: Vec<&str> = lanes.iter().map(|lane| lane.repository().id()).collect();
    let row = row.only(&repositories);
    row.map(Some).ok_or_else(|| unusable("it belongs to another set of repositories"))
}

async fn find_snapshot(
    lanes: &[Arc<Lane>],
    snapshots: &[Vec<(SnapshotId, Snapshot)>],
    origin: &Origin,
) -> Result<Option<Row>> {
    let finished = snapshots.iter().filter_map(|known| origin::find_parent(known, origin));
    let finished = finished.map(|(_, snapshot)| snapshot.time.timestamp()).max();
    let mut newest: Option<Row> = None;
    for (lane, known) in lanes.iter().zip(snapshots) {
        for (_, snapshot) in find_checkpoints(known, origin) {
            let row = read_row(lane, snapshot).await?;
            // A backup that goes on from it has its time.
            if finished.is_some_and(|finished| finished >= row.started.timestamp()) {
                continue;
            }
            if newest.as_ref().is_none_or(|kept| row.started.timestamp() > kept.started.timestamp())
            {
                newest = Some(row);
            }
        }
    }
    Ok(newest)
}

async fn read_row(lane: &Lane, snapshot: &Snapshot) -> Result<Row> {
    let damaged = || unusable("its row is damaged");
    let root = load_blob(lane, BlobKind::Tree, &snapshot.tree).await?;
    let nodes = decode_tree(&root).map_err(|_| damaged())?;
    let node = nodes.iter().find(|node| node.name == ROW_NAME.as_bytes()).ok_or_else(damaged)?;
    let mut json = Vec::new();
    for id in node.content.iter().flat_map(|content| content.iter()) {
        json.extend(load_blob(lane, BlobKind::Data, id).await?);
    }
    checkpoint::decode_row(&json)
}

async fn load_blob(lane: &Lane, kind: BlobKind, id: &BlobId) -> Result<Vec<u8>> {
    let location = lane.locate(kind, id).ok_or_else(|| unusable("a blob of it is gone"))?;
    read_blob(lane.repository(), kind, id, &location).await
}

/// Writes the checkpoint snapshot of each live lane. All blobs become durable first.
pub(super) async fn save(
    run: &RunContext,
    request: &BackupRequest,
    store: &Store,
    row: &mut Row,
) -> Result<Vec<Option<SnapshotId>>> {
    // What the row names must be durable before its sizes and index files can be told.
    flush(store.lanes()).await;
    row.index_files = checkpoint::index_files(store.lanes());
    let json = encode_row(row)?;
    let row = &*row;
    // Side by side: a lane that hangs does not hold up the others.
    let saving = store.lanes().iter().map(async |lane| {
        if !lane.is_live() {
            return None;
        }
        let saved = save_lane(run, request, store, lane, row, &json).await;
        saved.map_err(|error| lane.set_aside(error)).ok()
    });
    let saved = join_all(saving).await;
    refuse_none(store.lanes())?;
    Ok(saved)
}

async fn save_lane(
    run: &RunContext,
    request: &BackupRequest,
    store: &Store,
    lane: &Arc<Lane>,
    row: &Row,
    json: &[u8],
) -> Result<SnapshotId> {
    let writer = TreeWriter { store, lane: lane.number() };
    let mut row_ids = Vec::new();
    for blob in json.chunks(ROW_BLOB_BYTES) {
        row_ids.push(writer.put(BlobKind::Data, blob.to_vec()).await?);
    }
    let notice = writer.put(BlobKind::Data, NOTICE.as_bytes().to_vec()).await?;
    let parts = writer.parts(row).await?;
    let unfinished = writer.unfinished(lane, row).await?;
    let mut root = vec![
        file(NOTICE_NAME, NOTICE.len() as u64, vec![notice]),
        file(ROW_NAME, json.len() as u64, row_ids),
        directory("parts", parts),
        directory("unfinished", unfinished),
    ];
    let tree = writer.tree(&mut root).await?;
    lane.flush().await?;
    let engine = run.engine.parts();
    let mut snapshot = Snapshot::new(FileTime::EPOCH, tree);
    let tag = origin_tag(&request.source.origin());
    snapshot.paths = vec![format!("/{CHECKPOINT}/{}", &tag["origin=".len()..][..16])];
    CHECKPOINT.clone_into(&mut snapshot.hostname);
    snapshot.username.clone_from(&engine.identity.username);
    let (instance, saved) =
        (format!("instance={}", engine.instance.id()), saved_tag(engine.env.now()));
    snapshot.tags = vec![CHECKPOINT.to_owned(), instance, tag, saved];
    snapshot.tags.extend(request.tags.iter().filter(|tag| tag.starts_with(RUN_TAG)).cloned());
    snapshot.program_version.clone_from(&engine.settings.program_version);
    let sealed = lane.repository().seal_file(&snapshot.encode())?;
    let id = lane
        .call(async {
            lane.guard().check().await?;
            let repository = lane.repository();
            repository.create_sealed(FileKind::Snapshot, [sealed.into()]).await
        })
        .await?;
    Ok(SnapshotId::from_bytes(id))
}

/// Removes checkpoints that a newer one or the final snapshot replaces. One that cannot be removed is a
/// warning.
pub(super) async fn remove(run: &RunContext, lane: &Lane, checkpoints: &[SnapshotId]) {
    let removing = async {
        for id in checkpoints {
            lane.guard().check().await?;
            lane.repository().delete(FileKind::Snapshot, id.as_bytes()).await?;
        }
        Ok(())
    };
    if let Err(error) = run.control.cancel_token().unless_cancelled(removing).await {
        run.events.note(Level::Warning, format!("an old checkpoint stays: {}", error.report()));
    }
}

/// Removes the checkpoints with a tag. A repository that cannot be reached, and one that refuses to
/// delete, is a warning: they stay until the next backup of their origin is finished.
pub(super) async fn remove_tagged(
    run: RunContext,
    repositories: Vec<Repository>,
    tag: String,
    liveness: Arc<dyn Liveness>,
) -> Result<()> {
    for repository in &repositories {
        let removing = async |guard: &Guard| {
            for (id, snapshot) in repository.readable_snapshots().await?.0 {
                if is_checkpoint(&snapshot) && snapshot.tags.contains(&tag) {
                    guard.check().await?;
                    repository.delete(FileKind::Snapshot, id.as_bytes()).await?;
                }
            }
            Ok(())
        };
        let removed = under_guard(&run, repository, Arc::clone(&liveness), removing).await;
        if let Err(error) = removed {
            let (place, error) = (repository.location(), error.report());
            run.events.note(Level::Warning, format!("a checkpoint stays in {place}: {error}"));
        }
    }
    Ok(())
}

/// Writes small trees into one lane.
struct TreeWriter<'a> {
    store: &'a Store,
    lane: usize,
}

impl TreeWriter<'_> {
    async fn put(&self, kind: BlobKind, bytes: Vec<u8>) -> Result<BlobId> {
        let chunk = Chunk::from(Bytes::from(bytes));
        let mut ids = self.store.put(kind, vec![chunk], [self.lane].into()).await?;
        let lost = || Error::new(crate::ErrorKind::Internal, "a blob was stored without an id");
        ids.pop().ok_or_else(lost)
    }

    async fn tree(&self, nodes: &mut [Node]) -> Result<BlobId> {
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let mut tree = TreeEncoder::new();
        for node in nodes {
            tree.push(node)?;
        }
        self.put(BlobKind::Tree, tree.finish()).await
    }

    /// The parts of the open directories, so that their blobs are referred to.
    async fn parts(&self, row: &Row) -> Result<BlobId> {
        let mut nodes = Vec::new();
        let parts = row.directories.iter().flat_map(|directory| &directory.parts);
        for ids in parts.chain(&row.root) {
            let id = ids.get(self.lane).or(ids.first());
            let name = format!("{:08}", nodes.len());
            nodes.extend(id.map(|id| directory(&name, *id)));
        }
        self.tree(&mut nodes).await
    }

    /// What is stored of unfinished entries, likewise.
    async fn unfinished(&self, lane: &Lane, row: &Row) -> Result<BlobId> {
        let mut nodes = Vec::new();
        for part in row.unfinished.iter().flat_map(|entry| &entry.parts) {
            let contents = part.groups.iter().flat_map(|group| &group.parts);
            for id in contents.filter(|id| lane.locate(BlobKind::Tree, id).is_some()) {
                nodes.push(directory(&format!("{:08}", nodes.len()), *id));
            }
            let groups = part.groups.iter().flat_map(|group| &group.content);
            // A group of another lane has blobs that this one does not know.
            let ids: Vec<BlobId> = groups
                .chain(part.tail.as_ref().map(|tail| &tail.blob))
                .filter(|id| lane.locate(BlobKind::Data, id).is_some())
                .copied()
                .collect();
            for ids in ids.chunks(NODE_IDS) {
                let size = ids.iter().filter_map(|id| lane.locate(BlobKind::Data, id));
                let size = size.map(|location| u64::from(location.content_bytes())).sum();
                nodes.push(file(&format!("{:08}", nodes.len()), size, ids.to_vec()));
            }
        }
        self.tree(&mut nodes).await
    }
}

fn file(name: &str, size_bytes: u64, content: Vec<BlobId>) -> Node {
    Node {
        name: name.as_bytes().to_vec(),
        kind: EntryKind::File,
        metadata: Metadata::new(FileMode::from_raw(0o600), FileTime::EPOCH),
        size_bytes,
        content: Some(content.into()),
        subtree: None,
        error: String::new(),
    }
}

fn directory(name: &str, subtree: BlobId) -> Node {
    let metadata = Metadata::new(FileMode::from_unix(0o040_700), FileTime::EPOCH);
    Node::directory(name.as_bytes().to_vec(), metadata, subtree)
}
