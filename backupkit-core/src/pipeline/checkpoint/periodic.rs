//! Checkpoints while a run reads. They flush nothing: a row waits until all it names is durable. Only packs
//! that keep it waiting for long are closed before they are full.

use std::sync::Arc;
use std::time::Duration;

use super::{Row, collect};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Events;
use crate::model::{FileTime, IndexId, Level};
use crate::pipeline::driver::Driver;
use crate::pipeline::lane::{Lane, Ticket};
use crate::state::{CheckpointInterval, RunJournal, refusal};

/// Packs that keep a row waiting for so many intervals of time are closed, however little is in them. If
/// as much was read as in an interval of bytes, they are not what that goes into, and are closed as well.
const PATIENCE: u32 = 5;

/// Takes checkpoints at the interval of the journal.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    journal: Arc<dyn RunJournal>,
    started: FileTime,
    pace: Pace,
    pending: Option<Pending>,
}

/// Tells when the next checkpoint is due.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last_at: Option<Duration>,
    last_read_bytes: u64,
}

impl Pace {
    fn since(now: Duration, read_bytes: u64) -> Self {
        Self { last_at: Some(now), last_read_bytes: read_bytes }
    }

    /// Whether one is due, of which the caller then takes care. Time counts from the first call.
    pub(crate) fn is_due(
        &mut self,
        interval: CheckpointInterval,
        now: Duration,
        read_bytes: u64,
    ) -> bool {
        let last = *self.last_at.get_or_insert(now);
        let due = now.saturating_sub(last) >= interval.time
            || read_bytes.saturating_sub(self.last_read_bytes) >= interval.bytes;
        if due {
            self.last_at = Some(now);
            self.last_read_bytes = read_bytes;
        }
        due
    }
}

/// A row that is not durable yet, and the tickets of each lane that it waits for.
#[derive(Debug)]
struct Pending {
    row: Row,
    below: Vec<Ticket>,
    patience: Pace,
}

impl Checkpoints {
    pub(crate) fn new(journal: Arc<dyn RunJournal>, started: FileTime) -> Self {
        Self { journal, started, pace: Pace::default(), pending: None }
    }

    /// How often to look whether one is due or durable.
    pub(crate) fn tend_interval(&self) -> Duration {
        let interval = self.journal.checkpoint_interval();
        interval.map_or(Duration::MAX, |interval| interval.time / 4)
    }

    /// Saves a row that has become durable, and collects a new one if it is time.
    pub(crate) async fn tend(&mut self, driver: &mut Driver) -> Result<()> {
        let Some(interval) = self.journal.checkpoint_interval() else {
            return Ok(());
        };
        let now = driver.clock().elapsed_since_boot();
        let read_bytes = driver.reading.counters.read_bytes();
        if let Some(pending) = &mut self.pending {
            let lanes = driver.reading.store.lanes().iter().zip(&pending.below);
            let durable = |(lane, below): (&Arc<Lane>, &Ticket)| {
                !lane.is_live() || lane.durable_below() >= *below
            };
            if !lanes.into_iter().all(durable) {
                let time = interval.time.saturating_mul(PATIENCE);
                let patience = CheckpointInterval { time, ..interval };
                if pending.patience.is_due(patience, now, read_bytes) {
                    // Also those opened since: they may hold what was under way then.
                    for lane in driver.reading.store.lanes().iter().filter(|lane| lane.is_live()) {
                        lane.close_packs_opened_before(now);
                    }
                }
                return Ok(());
            }
            pending.row.index_files = index_files(driver.reading.store.lanes());
            save(&*self.journal, &mut pending.row, &driver.events).await?;
            self.pending = None;
        }
        if self.pace.is_due(interval, now, read_bytes) {
            let row = collect(driver, self.started).await?;
            // Taken after the row: all that it names has been offered by now.
            let lanes = driver.reading.store.lanes();
            let below = lanes.iter().map(|lane| lane.next_ticket()).collect();
            let patience = Pace::since(now, read_bytes);
            self.pending = Some(Pending { row, below, patience });
        }
        Ok(())
    }
}

/// The index files that name what each live lane has.
pub(crate) fn index_files(lanes: &[Arc<Lane>]) -> Vec<Option<Vec<IndexId>>> {
    lanes.iter().map(|lane| lane.is_live().then(|| lane.index_files())).collect()
}

/// Saves a row whose blobs are durable. Where the journal has no room for all of it, the largest entries
/// start over. Where there is none for what is left, the former row stays: to go on from that costs more,
/// and nothing else.
pub(crate) async fn save(journal: &dyn RunJournal, row: &mut Row, events: &Events) -> Result<()> {
    loop {
        match journal.save_checkpoint(encode(row)?.into(), row.reach()).await {
            Err(error) if error.code() == refusal::CHECKPOINT_TOO_LONG => {
                if !row.shrink() {
                    events.note(Level::Info, error.report());
                    return Ok(());
                }
            }
            saved => return saved,
        }
    }
}

/// The row as JSON.
pub(crate) fn encode(row: &Row) -> Result<Vec<u8>> {
    serde_json::to_vec(row).map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot write the checkpoint").with_source(error)
    })
}
