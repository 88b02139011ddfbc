//! The heart of a backup: lists, hands entries to readers, and puts finished ones into directories.
//!
//! One task owns all state and does no I/O of its own beyond looking at parents; everything slow runs
//! in tasks that answer with a [`Message`]. Listing is ordered, completion is not.

mod listing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::task::JoinSet;

use super::checkpoint::{Checkpoints, store_trees};
use super::directories::{Closing, Directories, NodeMemory};
use super::node::{LaneContent, finish_directory, finish_entry};
use super::parent::Parents;
use super::per_lane::PerLane;
use super::progress::EntryProgress;
use super::read::{
    BATCH_BYTES, BATCH_ENTRIES, ReadEntry, ReadOutcome, Reading, SharedProgress, read_batch,
    read_large, room_bytes,
};
use crate::env::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Events;
use crate::model::{BlobId, Entry, EntryPath, EventKind, Level, Metadata};
use crate::source::{ListError, Listed, VANISHED};
use crate::token::ListToken;

/// Entries that may be listed but unfinished; then listing waits.
const MAX_UNFINISHED: usize = 4096;
/// Directories whose trees may be under way; then listing waits.
const MAX_TREES: usize = 64;
/// How often checkpoints are looked after at least: a fast source reads much in a second, and it costs
/// next to nothing to see that none is due.
const TEND_INTERVAL: Duration = Duration::from_millis(250);

/// Which listing is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    /// The source lists.
    Main,
    /// All is read; the source lists what comes late.
    Late,
    /// Nothing more is listed.
    Ended,
}

/// An entry that is listed and not finished.
#[derive(Debug, Clone)]
pub(crate) struct Unfinished {
    pub(crate) entry: Entry,
    pub(crate) progress: SharedProgress,
    /// The summary counts it as changed and not as new.
    pub(crate) changed: bool,
}

/// What the summary of a snapshot counts.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Tally {
    pub(crate) files_new: u64,
    pub(crate) files_changed: u64,
    pub(crate) files_unmodified: u64,
    pub(crate) dirs_new: u64,
    pub(crate) dirs_changed: u64,
    pub(crate) dirs_unmodified: u64,
    pub(crate) bytes_processed: u64,
    pub(crate) files_failed: u64,
}

/// How the pipeline ended.
#[derive(Debug)]
pub(crate) enum DriverEnd {
    /// Everything is stored; these are the root trees.
    Complete(PerLane<BlobId>),
    /// The gate was closed; the driver holds what a checkpoint needs.
    Paused,
}

/// The state of a backup between its source and its directories.
pub(crate) struct Driver {
    pub(crate) reading: Arc<Reading>,
    pub(crate) directories: Directories,
    pub(crate) unfinished: BTreeMap<u64, Unfinished>,
    pub(crate) list_token: Option<ListToken>,
    pub(crate) stage: Stage,
    pub(crate) tally: Tally,
    parents: Parents,
    pub(crate) events: Events,
    listing: Option<BoxStream<'static, Result<Listed, ListError>>>,
    pub(crate) main_listed: bool,
    pub(crate) late_listed: bool,
    /// What the late listing gave. Few: an operation log, a manifest.
    pub(crate) late_seen: BTreeSet<EntryPath>,
    next_number: u64,
    small: VecDeque<u64>,
    small_bytes: u64,
    large: VecDeque<u64>,
    running_batches: usize,
    running_large: usize,
    running_trees: usize,
    tasks: JoinSet<Result<Message>>,
    /// Once everything is stored.
    pub(crate) root: Option<PerLane<BlobId>>,
}

/// What a task answers.
enum Message {
    Batch(Vec<(u64, ReadOutcome)>),
    Large(u64, ReadOutcome),
    Tree {
        path: EntryPath,
        metadata: Box<Metadata>,
        tree: PerLane<BlobId>,
    },
    /// Files are closed.
    Closed,
}

/// How many of each may run.
#[derive(Debug, Clone, Copy)]
struct Limits {
    batches: usize,
    large: usize,
}

impl Driver {
    pub(crate) fn new(
        reading: Arc<Reading>,
        parents: Parents,
        events: Events,
        memory: NodeMemory,
    ) -> Self {
        Self {
            reading,
            directories: Directories::new(memory),
            unfinished: BTreeMap::new(),
            list_token: None,
            stage: Stage::Main,
            tally: Tally::default(),
            parents,
            events,
            listing: None,
            main_listed: false,
            late_listed: false,
            late_seen: BTreeSet::new(),
            next_number: 0,
            small: VecDeque::new(),
            small_bytes: 0,
            large: VecDeque::new(),
            running_batches: 0,
            running_large: 0,
            running_trees: 0,
            tasks: JoinSet::new(),
            root: None,
        }
    }

    /// Runs until everything is stored or the gate is closed.
    ///
    /// # Errors
    /// What is fatal to the run: the source is gone, no lane is left, it was cancelled. Dropping the
    /// driver ends all its tasks.
    pub(crate) async fn run(&mut self, checkpoints: &mut Checkpoints) -> Result<DriverEnd> {
        let (cancel, store) =
            (self.reading.control.cancel_token().clone(), self.reading.store.clone());
        // Whatever it waits for, a lane, a parent or the source: it can be cancelled.
        let driving = async {
            let end = self.drive(checkpoints).await?;
            store.settle().await.map(|()| end)
        };
        let end = cancel.unless_cancelled(driving).await;
        if end.is_err() {
            self.tasks.abort_all();
        }
        end
    }

    async fn drive(&mut self, checkpoints: &mut Checkpoints) -> Result<DriverEnd> {
        let control = self.reading.control.clone();
        let limits = self.limits();
        let clock = self.clock();
        let mut tending = clock.sleep(checkpoints.tend_interval().min(TEND_INTERVAL));
        for closing in self.directories.close_complete() {
            self.store_tree(closing);
        }
        loop {
            self.refuse_without_lanes()?;
            self.directories.spill().await?;
            let pausing = control.is_pausing();
            if !pausing {
                self.open_listing();
                self.start_readers(limits);
            }
            if let Some(root) = &self.root {
                return Ok(DriverEnd::Complete(root.clone()));
            }
            if self.tasks.is_empty() {
                if pausing {
                    return Ok(DriverEnd::Paused);
                }
                if self.listing.is_none() && self.unfinished.is_empty() {
                    self.end_stage()?;
                    continue;
                }
            }
            let may_list = !pausing
                && self.listing.is_some()
                && self.unfinished.len() < MAX_UNFINISHED
                && self.running_trees < MAX_TREES
                && !self.directories.is_full();
            tokio::select! {
                biased;
                Some(joined) = self.tasks.join_next() => {
                    let message = joined.map_err(|_| {
                        Error::new(ErrorKind::Internal, "a task of the run panicked")
                    })??;
                    self.receive(message)?;
                }
                () = &mut tending => {
                    checkpoints.tend(self).await?;
                    tending = clock.sleep(checkpoints.tend_interval().min(TEND_INTERVAL));
                }
                () = control.pausing(), if !pausing => {}
                listed = next(&mut self.listing), if may_list => self.take_listed(listed).await?,
            }
        }
    }

    /// Puts an entry back that a checkpoint left unfinished.
    pub(crate) fn restore_unfinished(
        &mut self,
        entry: Entry,
        progress: EntryProgress,
        changed: bool,
    ) {
        self.directories.expect_restored(&entry.path);
        self.reading.counters.add_listed(1);
        self.reading.counters.add_listed_bytes(entry.size_bytes);
        self.enqueue(entry, SharedProgress::new(progress), changed);
    }

    fn enqueue(&mut self, entry: Entry, progress: SharedProgress, changed: bool) {
        let number = self.next_number;
        self.next_number += 1;
        let small = entry.size_bytes <= super::read::SMALL_BYTES
            && !progress.with(|progress| progress.has_content());
        if small {
            self.small_bytes += room_bytes(&entry);
            self.small.push_back(number);
        } else {
            self.large.push_back(number);
        }
        self.unfinished.insert(number, Unfinished { entry, progress, changed });
    }

    fn limits(&self) -> Limits {
        let threads = self.reading.store.pool().threads();
        Limits { batches: threads + 2, large: threads.max(2) }
    }

    fn start_readers(&mut self, limits: Limits) {
        while self.running_batches < limits.batches && !self.small.is_empty() {
            let full = self.small.len() >= BATCH_ENTRIES || self.small_bytes >= BATCH_BYTES;
            // Nothing else to do: better a small batch than none.
            if !full && self.running_batches > 0 {
                break;
            }
            self.start_batch();
        }
        while self.running_large < limits.large {
            let Some(number) = self.large.pop_front() else {
                break;
            };
            let Some(unfinished) = self.unfinished.get(&number) else {
                continue;
            };
            let (reading, entry) = (Arc::clone(&self.reading), unfinished.entry.clone());
            let progress = unfinished.progress.clone();
            self.running_large += 1;
            self.tasks.spawn(async move {
                Ok(Message::Large(number, read_large(reading, entry, progress).await?))
            });
        }
    }

    /// Starts the next batch. While all readers are busy more entries wait than fit into one, and
    /// more than fit into the memory.
    fn start_batch(&mut self) {
        let (mut numbers, mut entries, mut bytes) = (Vec::new(), Vec::new(), 0);
        while numbers.len() < BATCH_ENTRIES && bytes < BATCH_BYTES {
            let Some(number) = self.small.pop_front() else {
                break;
            };
            if let Some(unfinished) = self.unfinished.get(&number) {
                bytes += room_bytes(&unfinished.entry);
                entries.push(unfinished.entry.clone());
                numbers.push(number);
            }
        }
        self.small_bytes = self.small_bytes.saturating_sub(bytes);
        let reading = Arc::clone(&self.reading);
        self.running_batches += 1;
        self.tasks.spawn(async move {
            let outcomes = read_batch(reading, entries).await?;
            Ok(Message::Batch(numbers.into_iter().zip(outcomes).collect()))
        });
    }

    fn receive(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Batch(outcomes) => {
                self.running_batches -= 1;
                for (number, outcome) in outcomes {
                    self.receive_outcome(number, outcome)?;
                }
            }
            Message::Large(number, outcome) => {
                self.running_large -= 1;
                self.receive_outcome(number, outcome)?;
            }
            Message::Tree { path, metadata, tree } => {
                self.running_trees -= 1;
                self.receive_tree(&path, &metadata, tree)?;
            }
            Message::Closed => {}
        }
        Ok(())
    }

    fn receive_outcome(&mut self, number: u64, outcome: ReadOutcome) -> Result<()> {
        match outcome {
            // It stays unfinished, for the checkpoint.
            ReadOutcome::Paused => Ok(()),
            ReadOutcome::Grown => {
                self.large.push_back(number);
                Ok(())
            }
            ReadOutcome::Failed(error) => {
                let Some(unfinished) = self.unfinished.remove(&number) else {
                    return Ok(());
                };
                self.fail_entry(&unfinished.entry.path, &error)
            }
            ReadOutcome::Done(read) => {
                let Some(unfinished) = self.unfinished.remove(&number) else {
                    return Ok(());
                };
                if unfinished.changed {
                    self.tally.files_changed += 1;
                } else {
                    self.tally.files_new += 1;
                }
                self.finish_read(&unfinished.entry.path, *read)
            }
        }
    }

    fn finish_read(&mut self, path: &EntryPath, read: ReadEntry) -> Result<()> {
        let ReadEntry { mut entry, content, size_bytes, changed_while_read } = read;
        entry.path = path.clone();
        if changed_while_read {
            self.events.tell(Level::Warning, EventKind::EntryChanged { path: entry.path.clone() });
        }
        let lanes = self.reading.store.lanes().len();
        let mut per_lane: Vec<Arc<[BlobId]>> = vec![Arc::default(); lanes];
        for (group, content) in self.reading.groups.iter().zip(&content) {
            for &lane in &*group.lanes {
                per_lane[lane] = Arc::clone(content);
            }
        }
        self.finish_file(&entry, &PerLane::collect(per_lane), size_bytes)
    }

    fn finish_file(&mut self, entry: &Entry, content: &LaneContent, size_bytes: u64) -> Result<()> {
        self.tally.bytes_processed += size_bytes;
        self.reading.counters.add_finished(1);
        self.reading.counters.add_finished_bytes(size_bytes);
        let node = finish_entry(entry, Some(content), size_bytes, self.reading.store.lanes())?;
        let closing = self.directories.finish(&entry.path, Some(node))?;
        self.store_closing(closing);
        Ok(())
    }

    fn fail_entry(&mut self, path: &EntryPath, error: &Error) -> Result<()> {
        self.reading.counters.add_finished(1);
        if !(error.is(ErrorKind::NotFound) && error.code() == VANISHED) {
            self.tally.files_failed += 1;
            self.events.entry_failed(path, error);
        }
        let closing = self.directories.finish(path, None)?;
        self.store_closing(closing);
        Ok(())
    }

    fn store_closing(&mut self, closing: Option<Closing>) {
        if let Some(closing) = closing {
            self.store_tree(closing);
        }
    }

    /// Starts storing the tree of a complete directory.
    fn store_tree(&mut self, closing: Closing) {
        self.parents.forget(&closing.path);
        let store = self.reading.store.clone();
        self.running_trees += 1;
        self.tasks.spawn(async move {
            let trees = closing.encode(store.pool(), store.lanes().len()).await;
            let Closing { path, metadata, .. } = closing;
            let trees = trees.map_err(|error| error.while_doing(format!("store {path}")))?;
            let tree = store_trees(&store, trees).await?;
            Ok(Message::Tree { path, metadata: Box::new(metadata), tree })
        });
    }

    fn receive_tree(
        &mut self,
        path: &EntryPath,
        metadata: &Metadata,
        tree: PerLane<BlobId>,
    ) -> Result<()> {
        let runs = self.directories.stored(path);
        if !runs.is_empty() {
            self.tasks.spawn_blocking(move || {
                drop(runs);
                Ok(Message::Closed)
            });
        }
        if path.is_empty() {
            self.root = Some(tree);
            return Ok(());
        }
        match self.parents.subtree(0, path) {
            None => self.tally.dirs_new += 1,
            Some(before) if before == *tree.get(0) => self.tally.dirs_unmodified += 1,
            Some(_) => self.tally.dirs_changed += 1,
        }
        let node = finish_directory(path, metadata, &tree, self.reading.store.lanes())?;
        let closing = self.directories.finish(path, Some(node))?;
        self.store_closing(closing);
        Ok(())
    }

    fn refuse_without_lanes(&self) -> Result<()> {
        let lanes = self.reading.store.lanes();
        if lanes.iter().any(|lane| lane.is_live()) {
            return Ok(());
        }
        Err(lanes.iter().find_map(|lane| lane.failure()).unwrap_or_else(Error::cancelled))
    }

    /// The clock of the run.
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(self.events.env().clock())
    }
}

async fn next(
    listing: &mut Option<BoxStream<'static, Result<Listed, ListError>>>,
) -> Option<Result<Listed, ListError>> {
    match listing {
        Some(listing) => listing.next().await,
        None => None,
    }
}
