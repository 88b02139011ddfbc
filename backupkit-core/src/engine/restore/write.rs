//! Writing windows: many small steps side by side, one large one at a time.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use tokio::sync::mpsc;

use super::Tools;
use super::outcome::{Outcome, Outcomes};
use super::window::{Item, Window};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EventKind, Level};
use crate::pipeline::task::{self, OwnedTask};
use crate::repo::fetch::Fetched;
use crate::target::{BodyPiece, BodyReader, RestoreSession, RestoreTarget, Step, Written};

/// Pieces of a large file that wait for the target, beside those of the window.
const WAITING_PIECES: usize = 1;

/// Writes steps into the target.
pub(super) struct Writer {
    session: Arc<dyn RestoreSession>,
    target: Arc<dyn RestoreTarget>,
    tools: Tools,
    outcomes: Arc<Outcomes>,
    concurrency: usize,
    large: Option<LargeFile>,
}

/// A step that spans windows.
struct LargeFile {
    pieces: mpsc::Sender<Result<BodyPiece>>,
    writing: OwnedTask<Written>,
}

impl Writer {
    pub(super) fn new(
        session: &Arc<dyn RestoreSession>,
        target: &Arc<dyn RestoreTarget>,
        tools: &Tools,
        outcomes: &Arc<Outcomes>,
    ) -> Self {
        Self {
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
    pub(super) async fn write(&mut self, window: Option<(Window, Fetched)>) -> Result<()> {
        let Some((window, fetched)) = window else { return Ok(()) };
        let result = self.write_window(window.items, &fetched).await;
        if let (Err(error), Some(large)) = (&result, self.large.take()) {
            // The target learns that there is no more, and removes what is incomplete.
            drop(large.pieces.send(Err(error.duplicate())).await);
            drop(large.pieces);
            drop(large.writing.await);
        }
        result
    }

    async fn write_window(&mut self, items: Vec<Item>, fetched: &Fetched) -> Result<()> {
        let (large, small): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| !(item.is_first && item.is_last));
        let (begins, goes_on): (Vec<_>, Vec<_>) = large.into_iter().partition(|item| item.is_first);
        // In this order there is never more than one large file: it comes first or last in a window.
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
        let writes = items.into_iter().map(|item| async move {
            self.tools.cancel.check()?;
            let written = match pieces_of(&item, fetched) {
                Ok(pieces) => {
                    let body = BodyReader::new(stream::iter(pieces.into_iter().map(Ok)).boxed());
                    let (session, step) = (Arc::clone(&self.session), Arc::clone(&item.step));
                    task::start(async move { session.write(&step, body, None).await }).await
                }
                Err(damage) => Err(damage),
            };
            self.settle(&item, written).await
        });
        let mut writes = stream::iter(writes).buffer_unordered(self.concurrency);
        let mut failure = None;
        // After a failure the ones that were begun end by themselves.
        while let Some(result) = writes.next().await {
            if let Err(error) = result {
                failure = Some(error);
                break;
            }
        }
        drop(writes);
        failure.map_or(Ok(()), Err)
    }

    /// Hands the bytes of a part on. The last part waits for the end of the step.
    async fn write_part(&mut self, item: &Item, fetched: &Fetched) -> Result<()> {
        if item.is_first {
            let (session, step) = (Arc::clone(&self.session), Arc::clone(&item.step));
            let (pieces, waiting) = mpsc::channel(WAITING_PIECES);
            let body = BodyReader::new(
                stream::unfold(waiting, |mut waiting| async move {
                    waiting.recv().await.map(|piece| (piece, waiting))
                })
                .boxed(),
            );
            let writing = task::start(async move { session.write(&step, body, None).await });
            self.large = Some(LargeFile { pieces, writing });
        }
        // Nothing: an earlier part failed.
        let Some(large) = &self.large else { return Ok(()) };
        let mut ended = item.is_last;
        let mut damage = None;
        for piece in lazy_pieces(item, fetched) {
            self.tools.cancel.check()?;
            let piece = match piece {
                Ok(piece) => Ok(piece),
                Err(error) => {
                    damage = Some(error.duplicate());
                    Err(error)
                }
            };
            let sent = large.pieces.send(piece).await;
            // The target may have given up.
            if sent.is_err() || damage.is_some() {
                ended = true;
                break;
            }
        }
        if !ended {
            return Ok(());
        }
        let Some(LargeFile { pieces, writing }) = self.large.take() else { return Ok(()) };
        drop(pieces);
        let written = writing.await;
        // What the target says of it tells less than what is damaged.
        let written = damage.map_or(written, Err);
        self.settle(item, written).await
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
                return Err(error.while_doing(format!("restore {}", step.entry.path)));
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

/// The bytes of a step, all of which must be whole: a file with a damaged blob is not begun.
fn pieces_of(item: &Item, fetched: &Fetched) -> Result<Vec<BodyPiece>> {
    lazy_pieces(item, fetched).collect()
}

fn lazy_pieces<'a>(
    item: &'a Item,
    fetched: &'a Fetched,
) -> impl Iterator<Item = Result<BodyPiece>> + Send + 'a {
    let mut offset = item.offset;
    item.blob_ids().map(move |id| {
        let bytes: Bytes = fetched.get(&id)?;
        let piece = BodyPiece { offset, bytes };
        offset += piece.bytes.len() as u64;
        Ok(piece)
    })
}
