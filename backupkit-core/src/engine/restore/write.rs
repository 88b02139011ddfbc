//! Writing windows: many small steps side by side, one large one at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::stream::{self, StreamExt as _};
use tokio::sync::mpsc;

use super::Tools;
use super::checkpoint::Row;
use super::outcome::{Outcome, Outcomes};
use super::window::{Item, Window};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EventKind, Level};
use crate::pipeline::task::{self, OwnedTask};
use crate::repo::fetch::Fetched;
use crate::target::{
    BodyPiece, BodyReader, RestoreSession, RestoreTarget, Step, WholeStep, WriteProgress, Written,
};
use crate::token::WriteToken;

/// Pieces of a large file that wait for the target, beside those of the window.
const WAITING_PIECES: usize = 1;

/// Small steps that are handed to the target in one go.
const BATCH_STEPS: usize = 64;
/// How many such batches at the same time. More would only wait for each other in one folder.
const BATCHES_AT_ONCE: usize = 2;

/// Writes steps into the target.
pub(super) struct Writer {
    session: Arc<dyn RestoreSession>,
    target: Arc<dyn RestoreTarget>,
    tools: Tools,
    outcomes: Arc<Outcomes>,
    concurrency: usize,
    /// Whether somebody keeps tokens.
    wants_tokens: bool,
    large: Option<LargeFile>,
    /// How far large files are that are not done.
    unfinished: BTreeMap<usize, WriteProgress>,
}

/// A step that spans windows.
struct LargeFile {
    parts: mpsc::Sender<Part>,
    task: OwnedTask<Written>,
}

/// What a large file is handed. One that breaks off without its end or a failure may be gone on with.
enum Part {
    Piece(BodyPiece),
    Failed(Error),
    End,
}

impl Writer {
    pub(super) fn new(
        session: &Arc<dyn RestoreSession>,
        target: &Arc<dyn RestoreTarget>,
        tools: &Tools,
        outcomes: &Arc<Outcomes>,
        earlier: Option<&Row>,
    ) -> Self {
        let tokens = earlier.into_iter().flat_map(Row::tokens);
        Self {
            unfinished: tokens
                .map(|(number, bytes, token)| (number, WriteProgress::told(bytes, token)))
                .collect(),
            wants_tokens: earlier.is_some(),
            session: Arc::clone(session),
            target: Arc::clone(target),
            tools: tools.clone(),
            outcomes: Arc::clone(outcomes),
            concurrency: target.capabilities().concurrency.max(1),
            large: None,
        }
    }

    /// Writes a window. All that was begun has ended on return, but a large file that goes on in the
    /// next window.
    ///
    /// # Errors
    /// What ends the restore.
    pub(super) async fn write(&mut self, window: Window, fetched: Fetched) -> Result<()> {
        let result = self.write_window(window.items, &fetched).await;
        if result.is_err() {
            self.rest().await;
        }
        result
    }

    /// Lets the target end a large file that is not done, and tell how far it is.
    pub(super) async fn rest(&mut self) {
        if let Some(LargeFile { parts, task }) = self.large.take() {
            // The target learns that there is no more for now.
            drop(parts);
            drop(task.await);
        }
    }

    /// How far large files are that are not done: the numbers of their steps, bytes and tokens.
    pub(super) fn tokens(&self) -> impl Iterator<Item = (usize, u64, WriteToken)> + '_ {
        self.unfinished.iter().filter_map(|(number, progress)| {
            let (bytes, token) = progress.last()?;
            Some((*number, bytes, token))
        })
    }

    async fn write_window(&mut self, items: Vec<Item>, fetched: &Fetched) -> Result<()> {
        let (large, small): (Vec<_>, Vec<_>) = items.into_iter().partition(Item::is_large);
        let (begins, goes_on): (Vec<_>, Vec<_>) = large.into_iter().partition(|item| item.is_first);
        // In this order there is never more than one large file: it comes first or last in a window, so
        // that no step overtakes one that it follows.
        for item in &goes_on {
            self.write_part(item, fetched).await?;
        }
        self.write_small(small, fetched).await?;
        for item in &begins {
            self.write_part(item, fetched).await?;
        }
        Ok(())
    }

    async fn write_small(&self, items: Vec<Item>, fetched: &Fetched) -> Result<()> {
        let mut batches: Vec<Vec<(Item, WholeStep)>> = Vec::new();
        for item in items {
            match pieces(&item, fetched).collect::<Result<Vec<_>>>() {
                Ok(pieces) => {
                    let is_full = |batch: &Vec<_>| batch.len() >= BATCH_STEPS && !item.step.follows;
                    if batches.last().is_none_or(is_full) {
                        batches.push(Vec::new());
                    }
                    let step = WholeStep { step: Arc::clone(&item.step), pieces };
                    if let Some(batch) = batches.last_mut() {
                        batch.push((item, step));
                    }
                }
                // A file with a damaged blob is not begun.
                Err(damage) => self.settle(&item, Err(damage)).await?,
            }
        }
        let is_stopped = AtomicBool::new(false);
        let is_stopped = &is_stopped;
        let batches = batches.into_iter().map(|batch| async move {
            if is_stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.tools.check_may_write().await?;
            let result = self.write_batch(batch).await;
            if result.is_err() {
                // No write is torn off: those that were begun end by themselves.
                is_stopped.store(true, Ordering::Relaxed);
            }
            result
        });
        let mut batches = stream::iter(batches).buffer_unordered(self.batches_at_once());
        let mut failure = None;
        while let Some(result) = batches.next().await {
            if let Err(error) = result {
                failure.get_or_insert(error);
            }
        }
        drop(batches);
        failure.map_or(Ok(()), Err)
    }

    fn batches_at_once(&self) -> usize {
        BATCHES_AT_ONCE.min(self.concurrency)
    }

    /// Writes whole steps: all in one go if the target can, else side by side.
    async fn write_batch(&self, batch: Vec<(Item, WholeStep)>) -> Result<()> {
        let session = Arc::clone(&self.session);
        let steps: Vec<WholeStep> = batch.iter().map(|(_, step)| step.clone()).collect();
        let written = task::start(async move { Ok(session.write_many(&steps).await) }).await?;
        let mut failure = None;
        if let Some(written) = written {
            let lost = || Err(Error::new(ErrorKind::Internal, "the target gave no answer"));
            let written = written.into_iter().chain(std::iter::repeat_with(lost));
            for ((item, _), written) in batch.iter().zip(written) {
                if let Err(error) = self.settle(item, written).await {
                    failure.get_or_insert(error);
                }
            }
            return failure.map_or(Ok(()), Err);
        }
        let is_stopped = AtomicBool::new(false);
        let is_stopped = &is_stopped;
        let writes = in_rows(batch).into_iter().map(|row| async move {
            for (item, step) in row {
                if is_stopped.load(Ordering::Relaxed) {
                    break;
                }
                self.tools.check_may_write().await?;
                let body = BodyReader::new(stream::iter(step.pieces.into_iter().map(Ok)).boxed());
                let written = self.start(&item, body, None).await;
                self.settle(&item, written).await?;
            }
            Ok(())
        });
        let at_once = self.concurrency / self.batches_at_once();
        let mut writes = stream::iter(writes).buffer_unordered(at_once.max(1));
        while let Some(result) = writes.next().await {
            if let Err(error) = result {
                is_stopped.store(true, Ordering::Relaxed);
                failure.get_or_insert(error);
            }
        }
        drop(writes);
        failure.map_or(Ok(()), Err)
    }

    /// Hands the bytes of a part on. The last part waits for the end of the step.
    async fn write_part(&mut self, item: &Item, fetched: &Fetched) -> Result<()> {
        if item.is_first {
            let (parts, received) = mpsc::channel(WAITING_PIECES);
            let mut body = body_of(received);
            if self.wants_tokens {
                let progress = self.unfinished.entry(item.number).or_default();
                if item.from.is_none() {
                    *progress = WriteProgress::new();
                }
                body = body.with_progress(progress);
            }
            let from = item.from.as_ref().map(|(_, token)| token.clone());
            let task = self.start(item, body, from);
            self.large = Some(LargeFile { parts, task });
        }
        // Nothing: an earlier part failed.
        let Some(large) = &self.large else {
            return Ok(());
        };
        let mut is_over = item.is_last;
        let mut damage = None;
        for piece in pieces(item, fetched) {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => {
                    damage = Some(error);
                    break;
                }
            };
            let sent = tokio::select! {
                biased;
                () = self.tools.cancel.cancelled() => return Err(Error::cancelled()),
                sent = large.parts.send(Part::Piece(piece)) => sent,
            };
            if sent.is_err() {
                // The target has given up, and says why.
                is_over = true;
                break;
            }
        }
        if !is_over && damage.is_none() {
            return Ok(());
        }
        if damage.is_none() {
            // With its last bytes the file appears under its name.
            self.tools.check_may_write().await?;
        }
        let Some(LargeFile { parts, task }) = self.large.take() else {
            return Ok(());
        };
        let last = damage.as_ref().map_or(Part::End, |error| Part::Failed(error.duplicate()));
        drop(parts.send(last).await);
        drop(parts);
        let written = task.await;
        // What the target says of it tells less than what is damaged.
        let written = damage.map_or(written, Err);
        self.settle(item, written).await?;
        self.unfinished.remove(&item.number);
        Ok(())
    }

    fn start(&self, item: &Item, body: BodyReader, from: Option<WriteToken>) -> OwnedTask<Written> {
        let (session, step) = (Arc::clone(&self.session), Arc::clone(&item.step));
        task::start(async move { session.write(&step, body, from).await })
    }

    /// Notes what became of a step.
    async fn settle(&self, item: &Item, written: Result<Written>) -> Result<()> {
        let step = &item.step;
        match written {
            Ok(written) => {
                self.tell_warnings(step, &written);
                self.outcomes.set(item.number, Outcome::of(&step.action), written.bytes);
            }
            Err(error) if self.ends_restore(&error).await => {
                let (path, target) = (&step.entry.path, self.target.location());
                return Err(error.while_doing(format!("restore {path} into {target}")));
            }
            Err(error) => {
                self.tools.entry_failed(step, &error);
                self.outcomes.set(item.number, Outcome::Failed, 0);
            }
        }
        self.tools.counters.add_finished(1);
        self.tools.counters.add_finished_bytes(step.bytes);
        Ok(())
    }

    fn tell_warnings(&self, step: &Step, written: &Written) {
        self.outcomes.add_warnings(written.warnings.len() as u64);
        for warning in &written.warnings {
            let (path, reason) = (step.entry.path.clone(), warning.report());
            self.tools.events.tell(Level::Warning, EventKind::EntryIncomplete { path, reason });
        }
    }

    /// Whether no other step can succeed either.
    async fn ends_restore(&self, error: &Error) -> bool {
        match error.kind() {
            ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::Unauthenticated
            | ErrorKind::Cancelled => true,
            // One odd file, or the whole target? Ask it.
            ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::RateLimited => {
                !self.target.check().await.is_ok_and(|probe| probe.is_healthy())
            }
            _ => false,
        }
    }
}

/// Divides steps into rows, in each of which all but the first follow the one before.
fn in_rows(batch: Vec<(Item, WholeStep)>) -> Vec<Vec<(Item, WholeStep)>> {
    let mut rows: Vec<Vec<_>> = Vec::new();
    for (item, step) in batch {
        match rows.last_mut() {
            Some(row) if item.step.follows => row.push((item, step)),
            _ => rows.push(vec![(item, step)]),
        }
    }
    rows
}

/// The bytes of a step or a part of one, in order.
fn pieces<'a>(
    item: &'a Item,
    fetched: &'a Fetched,
) -> impl Iterator<Item = Result<BodyPiece>> + Send + 'a {
    let mut offset = item.offset;
    let mut skip = item.skip;
    item.blob_ids().map(move |id| {
        let bytes = fetched.get(&id)?;
        let end = offset + bytes.len() as u64;
        let cut = usize::try_from(std::mem::take(&mut skip)).unwrap_or(usize::MAX);
        let bytes = bytes.slice(cut.min(bytes.len())..);
        let piece = BodyPiece { offset: end - bytes.len() as u64, bytes };
        offset = end;
        Ok(piece)
    })
}

fn body_of(parts: mpsc::Receiver<Part>) -> BodyReader {
    let pieces = stream::unfold(Some(parts), |parts| async move {
        let mut parts = parts?;
        match parts.recv().await {
            Some(Part::Piece(piece)) => Some((Ok(piece), Some(parts))),
            Some(Part::Failed(error)) => Some((Err(error), None)),
            Some(Part::End) => None,
            None => Some((Err(Error::cancelled()), None)),
        }
    });
    BodyReader::new(pieces.boxed())
}
