//! One repository's part of the pipeline: what it knows, what it lacks, what is under way to it.

mod body;
mod packer;
mod upload;

use std::collections::{BTreeSet, HashSet};
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::guard::Guard;
use crate::activity::Activity;
use crate::buffers::Segments;
use crate::env::within;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlobId, IndexId, PackId};
use crate::pool::Pool;
use crate::repo::index::{BlobLocation, Index};
use crate::repo::index_file::IndexedPack;
use crate::repo::layout::FileKind;
use crate::repo::pack_header::{BlobKind, PackedBlob};
use crate::repo::repository::Repository;
use crate::scratch::Scratch;
use crate::state::RunJournal;
pub(crate) use body::SEGMENT_BYTES;
use packer::Packers;

/// How long packs on their way to a lane that failed are waited for.
const UPLOADS_TIME: Duration = Duration::from_secs(10);

/// Names one blob under way. Tickets grow, so "all tickets below n are durable" is one number.
pub(crate) type Ticket = u64;

/// What a lane answers when a blob is offered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It has the blob, or it is under way.
    Known,
    /// It lacks the blob; whoever asked brings it.
    Needed(Ticket),
}

/// Blobs of one kind, sealed for one lane.
#[derive(Debug)]
pub(crate) struct SealedBatch {
    pub(crate) kind: BlobKind,
    /// The sealed bytes of small blobs, one behind the other.
    pub(crate) shared: Segments,
    pub(crate) blobs: Vec<SealedBlob>,
}

/// A blob of a batch.
#[derive(Debug)]
pub(crate) struct SealedBlob {
    pub(crate) id: BlobId,
    pub(crate) ticket: Ticket,
    pub(crate) bytes: SealedBytes,
    /// The plain size if the blob is compressed.
    pub(crate) compressed_from: Option<u32>,
    /// The plain size.
    pub(crate) plain_bytes: u64,
}

/// The sealed bytes of a blob.
#[derive(Debug)]
pub(crate) enum SealedBytes {
    /// Those of the batch in this range.
    Shared(Range<usize>),
    /// Its own.
    Own(Segments),
}

impl SealedBytes {
    fn len_bytes(&self) -> usize {
        match self {
            Self::Shared(range) => range.len(),
            Self::Own(segments) => segments.len_bytes(),
        }
    }
}

/// What a lane stored.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LaneCounters {
    pub(crate) data_blobs: u64,
    pub(crate) tree_blobs: u64,
    pub(crate) plain_bytes: u64,
    pub(crate) packed_bytes: u64,
}

/// One repository during a backup.
#[derive(Debug)]
pub(crate) struct Lane {
    number: usize,
    repository: Repository,
    guard: Guard,
    pool: Pool,
    journal: Arc<dyn RunJournal>,
    /// What the repository had when the run started.
    base: Arc<Index>,
    state: Mutex<State>,
    packers: Packers,
    /// Packs that are closed and not yet durable.
    uploading: Arc<Semaphore>,
    uploads: Mutex<JoinSet<()>>,
    live: AtomicBool,
    /// Ends the calls that wait for the repository.
    gone: CancellationToken,
    activity: Activity,
}

#[derive(Debug)]
struct State {
    /// What this run added.
    added: Index,
    in_flight: HashSet<(BlobKind, BlobId)>,
    outstanding: BTreeSet<Ticket>,
    next_ticket: Ticket,
    /// Packs of which nobody knows whether they arrived.
    uncertain: Vec<UncertainPack>,
    unindexed: Vec<IndexedPack>,
    unindexed_blobs: usize,
    unindexed_since: Duration,
    index_files: Vec<IndexId>,
    counters: LaneCounters,
    failure: Option<Error>,
}

/// A pack whose upload did not succeed.
#[derive(Debug)]
struct UncertainPack {
    id: PackId,
    stored: StoredPack,
    /// Whether the repository answered. If not, the pack may still arrive.
    is_answered: bool,
}

/// What a new lane needs.
#[derive(Debug)]
pub(crate) struct LaneParts {
    pub(crate) number: usize,
    pub(crate) repository: Repository,
    pub(crate) index: Arc<Index>,
    /// The files that it was loaded from.
    pub(crate) index_files: Vec<IndexId>,
    pub(crate) guard: Guard,
    pub(crate) pool: Pool,
    pub(crate) journal: Arc<dyn RunJournal>,
    /// Where large packs are built.
    pub(crate) scratch: Option<Scratch>,
}

/// A pack that is durable.
#[derive(Debug)]
struct StoredPack {
    plain_bytes: u64,
    blobs: Vec<PackedBlob>,
    tickets: Vec<Ticket>,
}

impl Lane {
    pub(crate) fn new(parts: LaneParts) -> Arc<Self> {
        let clock = parts.repository.env().clock();
        let (now, activity) = (clock.elapsed_since_boot(), Activity::new(clock));
        Arc::new(Self {
            number: parts.number,
            packers: Packers::new(&parts.repository, parts.scratch),
            repository: parts.repository,
            guard: parts.guard,
            pool: parts.pool,
            journal: parts.journal,
            base: parts.index,
            state: Mutex::new(State {
                added: Index::empty(),
                in_flight: HashSet::new(),
                outstanding: BTreeSet::new(),
                next_ticket: 0,
                uncertain: Vec::new(),
                unindexed: Vec::new(),
                unindexed_blobs: 0,
                unindexed_since: now,
                index_files: parts.index_files,
                counters: LaneCounters::default(),
                failure: None,
            }),
            uploading: Arc::new(Semaphore::new(upload::MAX_UPLOADS)),
            uploads: Mutex::new(JoinSet::new()),
            live: AtomicBool::new(true),
            gone: CancellationToken::new(),
            activity,
        })
    }

    /// The place of the lane in the run.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    pub(crate) fn repository(&self) -> &Repository {
        &self.repository
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Whether the lane takes part: it has not failed.
    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    /// Takes the lane out of the run. The first reason counts. Packs on their way may still arrive:
    /// many a repository cannot take back what it was given.
    pub(crate) fn set_aside(&self, reason: Error) {
        let mut state = self.state();
        if state.failure.is_none() {
            state.failure = Some(reason);
        }
        drop(state);
        self.live.store(false, Ordering::Release);
        // Wakes whoever waits for room; they see that the lane is gone.
        self.uploading.close();
        self.gone.cancel();
    }

    /// Ends all that is under way to the repository.
    pub(crate) fn stop(&self) {
        self.live.store(false, Ordering::Release);
        self.uploading.close();
        self.gone.cancel();
        self.uploads().abort_all();
    }

    /// Makes a call to the repository. It ends when the lane is set aside, and while it lasts the
    /// lane is expected to get on.
    pub(crate) async fn call<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let _call = self.activity.begin();
        self.unless_gone(call).await
    }

    async fn unless_gone<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.gone.cancelled() => {
                Err(self.failure().unwrap_or_else(Error::cancelled))
            }
            result = work => result,
        }
    }

    /// Why the lane is out of the run.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.state().failure.as_ref().map(Error::duplicate)
    }

    /// Asks whether the lane lacks a blob. A lane that was set aside lacks nothing.
    pub(crate) fn claim(&self, kind: BlobKind, id: &BlobId) -> Claim {
        if !self.is_live() {
            return Claim::Known;
        }
        if self.base.contains(kind, id) {
            return Claim::Known;
        }
        let mut state = self.state();
        if state.added.contains(kind, id) || !state.in_flight.insert((kind, *id)) {
            return Claim::Known;
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.outstanding.insert(ticket);
        Claim::Needed(ticket)
    }

    /// Whether a blob is stored or under way.
    pub(crate) fn knows(&self, kind: BlobKind, id: &BlobId) -> bool {
        if self.base.contains(kind, id) {
            return true;
        }
        let state = self.state();
        state.added.contains(kind, id) || state.in_flight.contains(&(kind, *id))
    }

    /// Whether a blob is stored.
    pub(crate) fn locate(&self, kind: BlobKind, id: &BlobId) -> Option<BlobLocation> {
        self.base.get(kind, id).or_else(|| self.state().added.get(kind, id))
    }

    /// Takes sealed blobs into packs; waits while too many packs are under way. Errors set the lane
    /// aside and are not the caller's.
    pub(crate) async fn add(self: &Arc<Self>, batch: SealedBatch) {
        let SealedBatch { kind, shared, blobs } = batch;
        for blob in blobs {
            if !self.is_live() {
                return;
            }
            if let Err(error) = self.packers.add(self, kind, blob, &shared).await {
                self.set_aside(error);
                return;
            }
        }
    }

    /// The number below which all tickets are durable.
    pub(crate) fn durable_below(&self) -> Ticket {
        let state = self.state();
        state.outstanding.first().copied().unwrap_or(state.next_ticket)
    }

    /// The number of the next ticket: everything claimed until now has a smaller one.
    pub(crate) fn next_ticket(&self) -> Ticket {
        self.state().next_ticket
    }

    /// Closes what is open, waits until all is durable, and writes the index.
    pub(crate) async fn flush(self: &Arc<Self>) -> Result<()> {
        self.packers.close_all(self).await?;
        self.unless_gone(self.finish_uploads()).await?;
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        self.refuse_lost_blobs()?;
        upload::save_index(self).await
    }

    /// After a run that failed: what is durable stays of use, so it is indexed if that is still
    /// possible. What is not durable yet is stored if the lane is well.
    pub(crate) async fn salvage(self: &Arc<Self>) -> Result<()> {
        match self.failure() {
            None => {
                // Chunks may still be on their way here. Nobody waits for them any more.
                self.packers.refuse_more();
                self.packers.close_all(self).await?;
                self.finish_uploads().await?;
            }
            // It does not answer.
            Some(failure) if failure.is(ErrorKind::Timeout) => return Ok(()),
            Some(_) => {
                let clock = self.repository.env().clock();
                if within(clock, UPLOADS_TIME, self.finish_uploads()).await.is_err() {
                    self.uploads().abort_all();
                    self.finish_uploads().await?;
                }
                upload::find_arrived(self).await?;
            }
        }
        upload::save_index_now(self).await
    }

    /// Whether packs are in the repository, or may come to be, that no index names. Then the lock has
    /// to stay, as after a crash: it leads the next backup to them.
    pub(crate) fn leaves_unindexed_packs(&self) -> bool {
        let is_uploading = !self.uploads().is_empty();
        let state = self.state();
        is_uploading || !state.uncertain.is_empty() || !state.unindexed.is_empty()
    }

    /// Closes packs that have been open for long, so that not much is lost in a crash.
    pub(crate) fn close_old_packs(self: &Arc<Self>) {
        self.close_packs_opened_before(self.now().saturating_sub(packer::MAX_OPEN));
    }

    /// Closes packs that were opened before a time since boot, as far as there is room for uploads.
    pub(crate) fn close_packs_opened_before(self: &Arc<Self>, deadline: Duration) {
        self.packers.close_older(self, deadline);
    }

    /// Whether the lane has work and has stored nothing for `limit`, although nobody asked it to wait.
    pub(crate) fn is_stuck(&self, limit: Duration) -> bool {
        self.activity.is_stuck(limit) && !self.repository.destination().is_slowed_down()
    }

    pub(crate) fn counters(&self) -> LaneCounters {
        self.state().counters
    }

    /// The index files that name what the lane has: those that were loaded, and those written since.
    pub(crate) fn index_files(&self) -> Vec<IndexId> {
        self.state().index_files.clone()
    }

    /// Whether all these index files are in the repository, so that nothing they name was removed.
    pub(crate) async fn has_index_files(&self, files: &[IndexId]) -> Result<bool> {
        let there: HashSet<[u8; 32]> =
            self.call(self.repository.list(FileKind::Index)).await?.into_iter().collect();
        Ok(files.iter().all(|id| there.contains(id.as_bytes())))
    }

    /// Takes packs that an earlier, crashed run stored without an index, and indexes them.
    pub(crate) async fn adopt(self: &Arc<Self>, packs: Vec<IndexedPack>) -> Result<()> {
        {
            let mut state = self.state();
            for pack in packs {
                state.added.insert_pack(pack.id, &pack.blobs);
                state.unindexed_blobs += pack.blobs.len();
                state.unindexed.push(pack);
            }
        }
        upload::save_index(self).await
    }

    /// Waits for the packs under way. How each ended, it told the lane itself.
    async fn finish_uploads(&self) -> Result<()> {
        // No lock is held while waiting, so that the lane can be set aside meanwhile.
        while poll_fn(|cx| self.uploads().poll_join_next(cx)).await.is_some() {}
        Ok(())
    }

    /// With nothing under way any more, a blob that was promised and is not durable is lost. Trees may
    /// name it.
    fn refuse_lost_blobs(&self) -> Result<()> {
        let lost = self.state().in_flight.len();
        if lost == 0 {
            return Ok(());
        }
        let location = self.repository.location();
        Err(Error::new(ErrorKind::Internal, format!("{lost} blobs were not stored in {location}")))
    }

    fn pack_is_durable(&self, pack: PackId, stored: StoredPack) {
        let now = self.now();
        let mut state = self.state();
        state.added.insert_pack(pack, &stored.blobs);
        for blob in &stored.blobs {
            state.in_flight.remove(&(blob.kind, blob.id));
            match blob.kind {
                BlobKind::Data => state.counters.data_blobs += 1,
                BlobKind::Tree => state.counters.tree_blobs += 1,
            }
            state.counters.packed_bytes += u64::from(blob.sealed_bytes);
        }
        state.counters.plain_bytes += stored.plain_bytes;
        for ticket in &stored.tickets {
            state.outstanding.remove(ticket);
        }
        if state.unindexed.is_empty() {
            state.unindexed_since = now;
        }
        state.unindexed_blobs += stored.blobs.len();
        state.unindexed.push(IndexedPack { id: pack, blobs: stored.blobs });
    }

    fn now(&self) -> Duration {
        self.repository.env().clock().elapsed_since_boot()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uploads(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error of a lane that stores nothing while others do.
pub(crate) fn stalled(repository: &Repository) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!("{} stored nothing for minutes while others did", repository.location()),
    )
    .with_code("repository-stalled")
}
