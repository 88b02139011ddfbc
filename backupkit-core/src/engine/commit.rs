//! The end of a backup: everything durable, then one snapshot per repository.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;

use super::RunContext;
use crate::error::{Error, Result};
use crate::model::{BlobId, EventKind, FileTime, Level, Origin, SnapshotId};
use crate::pipeline::closure::is_closed;
use crate::pipeline::driver::Tally;
use crate::pipeline::lane::Lane;
use crate::pipeline::per_lane::PerLane;
use crate::repo::layout::FileKind;
use crate::repo::pack_header::BlobKind;
use crate::repo::repository::{exists, sha256};
use crate::repo::snapshot_file::{Snapshot, SnapshotSummary};
use crate::state::{RunJournal, SealedOutput};

/// What goes into the snapshots.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) root: PerLane<BlobId>,
    pub(super) origin: Origin,
    pub(super) tags: Vec<String>,
    pub(super) excludes: Vec<String>,
    pub(super) parents: Vec<Option<SnapshotId>>,
    pub(super) started: FileTime,
    pub(super) tally: Tally,
    /// Warnings of the source that are told later than the snapshots are sealed.
    pub(super) untold_warnings: u64,
}

/// Makes all live lanes durable and creates their snapshots. A lane that fails is set aside. Returns
/// the snapshot of each lane that has one.
pub(super) async fn commit(
    run: &RunContext,
    lanes: &[Arc<Lane>],
    journal: &Arc<dyn RunJournal>,
    commit: &Commit,
) -> Result<Vec<Option<SnapshotId>>> {
    let cancel = run.control.cancel_token();
    tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Error::cancelled()),
        () = flush(lanes) => {}
    }
    refuse_none(lanes)?;
    let mut outputs = Vec::new();
    for lane in lanes.iter().filter(|lane| lane.is_live()) {
        let json = snapshot(run, lane, commit).encode();
        let sealed = lane.repository().seal_file(&json)?;
        outputs.push(SealedOutput {
            repository_id: lane.repository().id().to_owned(),
            snapshot: SnapshotId::from_bytes(sha256(&sealed)),
            sealed: Bytes::from(sealed),
            tree: *commit.root.get(lane.number()),
            lock: lane.guard().lock().id(),
            index_files: lane.index_files(),
            problems: run.events.problem_count().saturating_add(commit.untold_warnings),
        });
    }
    // From here on, whoever finishes this run creates these bytes and no others.
    journal.begin_commit(&outputs).await?;
    let mut created = vec![None; lanes.len()];
    for lane in lanes.iter().filter(|lane| lane.is_live()) {
        let id = lane.repository().id();
        let Some(output) = outputs.iter().find(|output| output.repository_id == id) else {
            continue;
        };
        match publish(lane, output).await {
            Ok(()) => {
                created[lane.number()] = Some(output.snapshot);
                let (repository, snapshot) = (lane.repository().location(), output.snapshot);
                run.events.tell(Level::Info, EventKind::SnapshotCreated { repository, snapshot });
            }
            Err(error) => lane.set_aside(error),
        }
    }
    if created.iter().all(Option::is_none) {
        refuse_none(lanes)?;
    }
    Ok(created)
}

/// Makes all durable, side by side: a lane that hangs does not hold up the others.
pub(super) async fn flush(lanes: &[Arc<Lane>]) {
    let live = lanes.iter().filter(|lane| lane.is_live());
    let flushes = live.map(|lane| async move {
        if let Err(error) = lane.flush().await {
            lane.set_aside(error);
        }
    });
    join_all(flushes).await;
}

/// Nothing can come of a run without lanes; the first failure says why.
pub(super) fn refuse_none(lanes: &[Arc<Lane>]) -> Result<()> {
    if lanes.iter().any(|lane| lane.is_live()) {
        return Ok(());
    }
    let failure = lanes.iter().find_map(|lane| lane.failure());
    Err(failure.unwrap_or_else(Error::cancelled))
}

/// Finishes the commit of an output that an earlier attempt of the run began. Returns its snapshot, or
/// `None` if something that it names is gone: then its bytes are of no use any more.
pub(super) async fn finish(lane: &Lane, output: &SealedOutput) -> Result<Option<SnapshotId>> {
    let key = FileKind::Snapshot.key(output.snapshot.as_bytes())?;
    if exists(&**lane.repository().destination(), &key).await? {
        return Ok(Some(output.snapshot));
    }
    // Under another lock, a prune may have come between.
    let whole = lane.guard().lock().id() == output.lock
        || lane.has_index_files(&output.index_files).await?
            && lane.locate(BlobKind::Tree, &output.tree).is_some()
        || is_closed(lane, &[output.tree]).await?;
    if !whole {
        return Ok(None);
    }
    publish(lane, output).await?;
    Ok(Some(output.snapshot))
}

/// Creates a sealed snapshot. The very last write of an output.
async fn publish(lane: &Lane, output: &SealedOutput) -> Result<()> {
    lane.call(async {
        lane.guard().check().await?;
        let sealed = output.sealed.clone();
        let snapshot = lane.repository();
        snapshot.create_sealed(FileKind::Snapshot, [sealed]).await
    })
    .await?;
    Ok(())
}

fn snapshot(run: &RunContext, lane: &Lane, commit: &Commit) -> Snapshot {
    let engine = run.engine.parts();
    let counters = lane.counters();
    let tally = commit.tally;
    let mut snapshot = Snapshot::new(commit.started, *commit.root.get(lane.number()));
    snapshot.parent = commit.parents[lane.number()];
    snapshot.paths.clone_from(&commit.origin.paths);
    snapshot.hostname.clone_from(&commit.origin.host);
    snapshot.username.clone_from(&engine.identity.username);
    snapshot.uid = engine.identity.uid;
    snapshot.gid = engine.identity.gid;
    snapshot.tags.clone_from(&commit.tags);
    snapshot.excludes.clone_from(&commit.excludes);
    snapshot.program_version.clone_from(&engine.settings.program_version);
    snapshot.summary = Some(SnapshotSummary {
        backup_start: commit.started,
        backup_end: FileTime::from_timestamp(engine.env.now(), engine.env.time_zone()),
        files_new: tally.files_new,
        files_changed: tally.files_changed,
        files_unmodified: tally.files_unmodified,
        dirs_new: tally.dirs_new,
        dirs_changed: tally.dirs_changed,
        dirs_unmodified: tally.dirs_unmodified,
        data_blobs: counters.data_blobs,
        tree_blobs: counters.tree_blobs,
        data_added_bytes: counters.plain_bytes,
        data_added_packed_bytes: counters.packed_bytes,
        total_files_processed: tally.files_new + tally.files_changed + tally.files_unmodified,
        total_bytes_processed: tally.bytes_processed,
    });
    snapshot
}
