//! The course of a backup.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::gather::gather;
use super::prepare::Prepared;
use super::{BackupReport, BackupRequest, OutputReport, Participant, RunStatus, Summary};
use crate::engine::commit::{self, Commit};
use crate::engine::{RunContext, origin, resume};
use crate::env::within;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EventKind, FileTime, Level, Refusal, SnapshotId};
use crate::pipeline::attend::Attendant;
use crate::pipeline::budget::{self, Budget};
use crate::pipeline::checkpoint::{self, Checkpoints, Row, save_row};
use crate::pipeline::chunk::ChunkGroup;
use crate::pipeline::directories::NodeMemory;
use crate::pipeline::driver::{Driver, DriverEnd};
use crate::pipeline::lane::Lane;
use crate::pipeline::parent::{ParentStart, Parents};
use crate::pipeline::read::Reading;
use crate::pipeline::store::Store;
use crate::repo::chunker::ChunkerTables;
use crate::scratch;
use crate::source::{OpenContext, Outcome, RANGE_BYTES, SourceView};

/// Large entries that are read at the same time.
const READERS: usize = 2;

/// How long a run that failed still tries to make use of what it stored.
const SALVAGE_TIME: Duration = Duration::from_secs(30);

/// Runs a backup. Locks are given up however it ends, except by a crash and where packs lack an index.
pub(in crate::engine) async fn run(
    run: RunContext,
    request: BackupRequest,
) -> Result<BackupReport> {
    let started = run.engine.env().clock().elapsed_since_boot();
    refuse_nonsense(&request)?;
    let mut outputs: Vec<OutputReport> =
        request.participants.iter().map(OutputReport::of).collect();
    let mut row = load_row(&run, &request).await?;
    let prepared = gather(&run, &request, row.as_ref(), &mut outputs).await?;
    if prepared.is_empty() {
        let seconds = run.engine.env().clock().elapsed_since_boot().saturating_sub(started);
        return Ok(report(&run, outputs, &[], &Ended::default(), seconds));
    }
    let result = back_up(&run, &request, row.take(), &prepared).await;
    let lanes: Vec<Arc<Lane>> = prepared.iter().map(|ready| Arc::clone(&ready.lane)).collect();
    join_all(prepared.iter().map(|ready| give_up_lock(&run, ready))).await;
    let ended = result?;
    let seconds = run.engine.env().clock().elapsed_since_boot().saturating_sub(started);
    Ok(report(&run, outputs, &lanes, &ended, seconds))
}

/// Releases the lock, unless it has to lead the next backup to packs that no index names.
async fn give_up_lock(run: &RunContext, ready: &Prepared) {
    if ready.lane.leaves_unindexed_packs() {
        let place = ready.lane.repository().location();
        let text =
            format!("packs without an index are left in {place}; the next backup finds them");
        run.events.note(Level::Info, text);
    } else if let Err(error) = ready.lock.release().await {
        // It costs others a wait, not this run its result.
        run.events.note(Level::Warning, format!("a lock stays behind: {}", error.report()));
    }
}

/// What came of the part between locking and unlocking.
#[derive(Default)]
struct Ended {
    paused: bool,
    snapshots: Vec<Option<SnapshotId>>,
    parents: Vec<Option<SnapshotId>>,
    summary: Summary,
}

async fn back_up(
    run: &RunContext,
    request: &BackupRequest,
    saved: Option<Row>,
    prepared: &[Prepared],
) -> Result<Ended> {
    let env = run.engine.env();
    let origin = request.source.origin();
    let lanes: Vec<Arc<Lane>> = prepared.iter().map(|ready| Arc::clone(&ready.lane)).collect();
    let snapshots: Vec<_> = prepared.iter().map(|ready| ready.snapshots.clone()).collect();
    let parents: Vec<_> =
        snapshots.iter().map(|known| origin::find_parent(known, &origin).cloned()).collect();
    for (lane, parent) in lanes.iter().zip(&parents) {
        if let Some((snapshot, _)) = parent {
            let (repository, snapshot) = (lane.repository().location(), *snapshot);
            run.events.tell(Level::Info, EventKind::ParentFound { repository, snapshot });
        }
    }
    let checkpoints: Vec<Vec<SnapshotId>> = snapshots
        .iter()
        .map(|known| origin::find_checkpoints(known, &origin).iter().map(|(id, _)| *id).collect())
        .collect();
    let mut row = find_row(run, request, saved, &lanes, &snapshots).await?;
    let starts: Vec<Option<ParentStart>> = parents
        .iter()
        .map(|parent| {
            parent
                .as_ref()
                .map(|(_, snapshot)| ParentStart { tree: snapshot.tree, time: snapshot.time })
        })
        .collect();
    let now = || FileTime::from_timestamp(env.now(), env.time_zone());
    let mut now = request.time.unwrap_or_else(now);
    let capabilities = request.source.capabilities();
    let range_bytes = capabilities.range_bytes.clamp(1, RANGE_BYTES);
    let divided = capabilities.transparent_directories;
    let memory_bytes = run.engine.parts().settings.memory_bytes;
    let memory_bytes = memory_bytes.unwrap_or_else(|| budget::default_bytes(range_bytes, READERS));
    let budget = Budget::new(memory_bytes, READERS)?;
    let store = Store::new(lanes.clone().into(), run.engine.parts().pool.clone());
    let groups = chunk_groups(&lanes);
    let (clock, cancel) = (env.clock(), run.control.cancel_token());
    let stall_after = run.engine.parts().settings.stall_after;
    let attendant = Attendant::new(&store, &run.events, &run.counters, stall_after);
    // A source may list only what changed since: a repository without a parent would lack the rest.
    let all_have_parents = parents.iter().all(Option::is_some);
    let (mut driver, resumed) = loop {
        let cx = OpenContext {
            resume: row.as_ref().map(|row| row.view.clone()),
            parent: parents[0]
                .as_ref()
                .filter(|_| all_have_parents)
                .map(|(_, snapshot)| prepared[0].reader.open_snapshot(snapshot)),
            store: Arc::clone(&request.store),
            cancel: cancel.child(),
        };
        let view = match cancel.unless_cancelled(request.source.open(cx)).await {
            Err(error) if error.is(ErrorKind::SourceChanged) && row.is_some() => {
                drop_row(run, &mut row, &error);
                continue;
            }
            Err(error) if error.is(ErrorKind::Cancelled) => return Err(error),
            opened => opened.map_err(|error| error.while_doing("open the source"))?,
        };
        attendant.watch_source(&view, origin.paths.join(", "));
        let reading = Arc::new(Reading {
            view,
            range_bytes,
            budget: budget.clone(),
            store: store.clone(),
            groups: groups.clone(),
            control: run.control.clone(),
            counters: Arc::clone(&run.counters),
        });
        let known = Parents::new(&lanes, starts.clone(), divided);
        let memory = NodeMemory::new(run.engine.parts().scratch.clone());
        let mut driver = Driver::new(reading, known, run.events.clone(), memory);
        let Some(saved) = row.take() else {
            break (driver, false);
        };
        let started = saved.started;
        let restoring = cancel.unless_cancelled(checkpoint::restore(&mut driver, saved));
        match attendant.beside(restoring).await {
            Ok(()) => {
                now = started;
                break (driver, true);
            }
            // To begin again would not help, and lose what the checkpoint has.
            Err(error) if error.code() == scratch::CODE => {
                close(&driver.reading.view, Outcome::Abandoned, run).await;
                return Err(error.while_doing("read the checkpoint"));
            }
            Err(error) if error.is(ErrorKind::Cancelled) => {
                close(&driver.reading.view, Outcome::Abandoned, run).await;
                return Err(error);
            }
            Err(error) => {
                close(&driver.reading.view, Outcome::Abandoned, run).await;
                drop_row(run, &mut row, &error);
            }
        }
    };
    if resumed {
        let tally = driver.tally;
        let entries = tally.files_new + tally.files_changed + tally.files_unmodified;
        run.counters.add_finished(entries);
        run.counters.add_listed(entries);
        run.counters.add_finished_bytes(tally.bytes_processed);
        run.counters.add_listed_bytes(tally.bytes_processed);
        let bytes = tally.bytes_processed;
        run.events.tell(Level::Info, EventKind::Resumed { entries, bytes });
    }
    let view = Arc::clone(&driver.reading.view);
    let mut checkpoints_taken = Checkpoints::new(Arc::clone(&request.journal), now);
    let reading = driver.run(&mut checkpoints_taken);
    let end = attendant.beside(reading).await;
    let parents: Vec<_> = parents.iter().map(|parent| parent.as_ref().map(|(id, _)| *id)).collect();
    let mut created = None;
    if let Ok(DriverEnd::Complete(root)) = &end {
        let plan = Commit {
            root: root.clone(),
            origin,
            tags: request.tags.clone(),
            excludes: request.excludes.clone(),
            parents: parents.clone(),
            started: now,
            tally: driver.tally,
            untold_warnings: view.untold_warnings(),
        };
        let committing = commit::commit(run, &lanes, &request.journal, &plan);
        created = Some(attendant.beside(committing).await);
    }
    let ended = match (end, created) {
        (Err(error), _) => {
            close(&view, Outcome::Abandoned, run).await;
            Err(error)
        }
        (Ok(_), Some(created)) if !is_refused(&created) => {
            // Only now: a source that is told that all is stored goes on from there.
            close(&view, outcome_of(&created, Outcome::Completed), run).await;
            created.map(|snapshots| (false, snapshots))
        }
        // It was asked to rest, at the latest while the last of it was stored.
        (Ok(_), _) => {
            let pausing = pause(run, request, &mut driver, &store, now);
            let pausing = cancel.unless_cancelled(pausing);
            let saved = attendant.beside(pausing).await;
            close(&view, outcome_of(&saved, Outcome::Paused), run).await;
            saved
        }
    };
    // What failed lanes have stored stays of use: the next run finds it in the index.
    let failed = lanes.iter().filter(|lane| ended.is_err() || !lane.is_live());
    join_all(failed.map(|lane| within(clock, SALVAGE_TIME, lane.salvage()))).await;
    let (paused, snapshots) = ended?;
    for lane in &lanes {
        // Only once something newer is durable in that repository.
        if snapshots[lane.number()].is_some() {
            resume::remove(run, lane, &checkpoints[lane.number()]).await;
        }
    }
    Ok(Ended { paused, snapshots, parents, summary: summary(run, &driver) })
}

/// Whether a run may no longer commit, since it is to come to rest.
fn is_refused<T>(committed: &Result<T>) -> bool {
    committed.as_ref().is_err_and(|error| error.code() == Refusal::CODE)
}

async fn pause(
    run: &RunContext,
    request: &BackupRequest,
    driver: &mut Driver,
    store: &Store,
    started: FileTime,
) -> Result<(bool, Vec<Option<SnapshotId>>)> {
    let mut row = checkpoint::collect(driver, started).await?;
    let saved = resume::save(run, request, store, &mut row).await?;
    // A lane may have failed meanwhile.
    row.index_files = checkpoint::index_files(store.lanes());
    save_row(&*request.journal, &mut row, &run.events).await?;
    for (lane, snapshot) in store.lanes().iter().zip(&saved) {
        if let Some(snapshot) = *snapshot {
            let repository = lane.repository().location();
            run.events.tell(Level::Info, EventKind::Paused { repository, snapshot });
        }
    }
    Ok((true, saved))
}

/// The checkpoint that the journal keeps.
async fn load_row(run: &RunContext, request: &BackupRequest) -> Result<Option<Row>> {
    if request.skip_checkpoint {
        return Ok(None);
    }
    let loading = resume::load(&*request.journal);
    usable(run, run.control.cancel_token().unless_cancelled(loading).await)
}

async fn find_row(
    run: &RunContext,
    request: &BackupRequest,
    saved: Option<Row>,
    lanes: &[Arc<Lane>],
    snapshots: &[Vec<(SnapshotId, crate::repo::snapshot_file::Snapshot)>],
) -> Result<Option<Row>> {
    if request.skip_checkpoint {
        return Ok(None);
    }
    // What another run left may be of one that was cancelled, and older than this one was asked for.
    let may_search = !request.journal.outlives_process();
    let origin = may_search.then(|| request.source.origin());
    let finding = resume::find(saved, lanes, snapshots, origin.as_ref());
    usable(run, run.control.cancel_token().unless_cancelled(finding).await)
}

/// A checkpoint, unless it cannot be used.
fn usable(run: &RunContext, found: Result<Option<Row>>) -> Result<Option<Row>> {
    match found {
        Ok(row) => Ok(row),
        Err(error) if error.is(ErrorKind::Cancelled) => Err(error),
        // Whatever keeps it from being read, the backup can do without.
        Err(error) => {
            drop_row(run, &mut None, &error);
            Ok(None)
        }
    }
}

fn drop_row(run: &RunContext, row: &mut Option<Row>, error: &Error) {
    *row = None;
    // No warning: it takes longer, but nothing is missing.
    run.events.tell(Level::Info, EventKind::CheckpointDropped { reason: error.report() });
}

/// Lanes that cut at the same places share one chunking.
fn chunk_groups(lanes: &[Arc<Lane>]) -> Vec<ChunkGroup> {
    let mut groups: Vec<(crate::repo::polynomial::Polynomial, Vec<usize>)> = Vec::new();
    for lane in lanes {
        let polynomial = lane.repository().config().chunker_polynomial;
        match groups.iter_mut().find(|(known, _)| *known == polynomial) {
            Some((_, members)) => members.push(lane.number()),
            None => groups.push((polynomial, vec![lane.number()])),
        }
    }
    groups
        .into_iter()
        .map(|(polynomial, lanes)| ChunkGroup {
            tables: Arc::new(ChunkerTables::new(polynomial)),
            lanes: lanes.into(),
        })
        .collect()
}

/// What a view is told: `outcome` only if it came to that.
fn outcome_of<T>(result: &Result<T>, outcome: Outcome) -> Outcome {
    if result.is_ok() { outcome } else { Outcome::Abandoned }
}

/// Closes a view and tells what it has to say. An error here changes nothing that is stored.
async fn close(view: &Arc<dyn SourceView>, outcome: Outcome, run: &RunContext) {
    match view.close(outcome).await {
        Ok(notes) => {
            for text in notes.remarks {
                run.events.note(Level::Info, text);
            }
            for text in notes.warnings {
                run.events.note(Level::Warning, text);
            }
        }
        Err(error) => {
            run.events.note(Level::Warning, format!("close the source: {}", error.report()));
        }
    }
}

fn refuse_nonsense(request: &BackupRequest) -> Result<()> {
    let invalid = |text: &str| Err(Error::new(ErrorKind::InvalidInput, text.to_owned()));
    if request.participants.is_empty() {
        return invalid("a backup needs a repository");
    }
    for (number, repository) in request.participants.iter().enumerate() {
        if request.participants[..number].iter().any(|other| other.id() == repository.id()) {
            return invalid("the same repository is named twice");
        }
    }
    Ok(())
}

fn summary(run: &RunContext, driver: &Driver) -> Summary {
    let tally = driver.tally;
    Summary {
        files_new: tally.files_new,
        files_changed: tally.files_changed,
        files_unmodified: tally.files_unmodified,
        files_failed: tally.files_failed,
        dirs_new: tally.dirs_new,
        dirs_changed: tally.dirs_changed,
        dirs_unmodified: tally.dirs_unmodified,
        total_bytes: tally.bytes_processed,
        read_bytes: run.counters.read_bytes(),
        seconds: 0.0,
    }
}

fn report(
    run: &RunContext,
    mut outputs: Vec<OutputReport>,
    lanes: &[Arc<Lane>],
    ended: &Ended,
    took: Duration,
) -> BackupReport {
    for lane in lanes {
        let id = lane.repository().id();
        let Some(output) = outputs.iter_mut().find(|output| output.repository_id == id) else {
            continue;
        };
        let counters = lane.counters();
        output.snapshot = ended.snapshots[lane.number()];
        output.parent = ended.parents[lane.number()];
        output.added_bytes = counters.plain_bytes;
        output.stored_bytes = counters.packed_bytes;
        output.data_blobs = counters.data_blobs;
        output.tree_blobs = counters.tree_blobs;
        // A snapshot that stands is no failure, whatever came after it.
        output.error = lane.failure().filter(|_| output.snapshot.is_none());
        if let Some(error) = &output.error {
            let (repository, reason) = (output.repository.clone(), error.report());
            run.events.tell(Level::Error, EventKind::RepositorySetAside { repository, reason });
        }
    }
    let partial = outputs.iter().any(|output| output.snapshot.is_none());
    let problem_count = run.events.problem_count();
    let status = match (ended.paused, partial, problem_count) {
        (true, ..) => RunStatus::Paused,
        (_, true, _) => RunStatus::Partial,
        (.., 0) => RunStatus::Succeeded,
        _ => RunStatus::Warnings,
    };
    BackupReport {
        status,
        outputs,
        summary: Summary { seconds: took.as_secs_f64(), ..ended.summary },
        problems: run.events.problems(),
        problem_count,
    }
}

impl OutputReport {
    fn of(participant: &Participant) -> Self {
        Self {
            repository: participant.location(),
            repository_id: participant.id().to_owned(),
            snapshot: None,
            parent: None,
            error: None,
            added_bytes: 0,
            stored_bytes: 0,
            data_blobs: 0,
            tree_blobs: 0,
        }
    }
}
