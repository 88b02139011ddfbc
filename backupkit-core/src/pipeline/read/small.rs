//! Small files travel in batches: one permit, one job of the pool, one message.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;

use super::{ReadEntry, ReadOutcome, Reading};
use crate::error::{ErrorKind, Result};
use crate::model::Entry;
use crate::repo::chunker::MIN_CHUNK_BYTES;
use crate::repo::pack_header::BlobKind;
use crate::source::{Body, BodyContent, BodyEnd};

/// An entry of up to this size is one chunk, whatever its bytes.
pub(crate) const SMALL_BYTES: u64 = MIN_CHUNK_BYTES as u64;
/// A batch is full with so many entries.
pub(crate) const BATCH_ENTRIES: usize = 64;
/// Or with so many bytes.
pub(crate) const BATCH_BYTES: u64 = 4 << 20;
/// The least memory that is set apart for an entry.
const MIN_ROOM_BYTES: u64 = 16 << 10;

/// Bodies of one batch that are read at the same time.
const CONCURRENCY: usize = 4;

/// Reads and stores a batch. One outcome per entry, in order.
pub(crate) async fn read_batch(
    reading: Arc<Reading>,
    entries: Vec<Entry>,
) -> Result<Vec<ReadOutcome>> {
    let bytes: u64 = entries.iter().map(room_bytes).sum();
    let permit = reading.budget.take(bytes).await?;
    if reading.control.is_pausing() {
        return Ok(entries.iter().map(|_| ReadOutcome::Paused).collect());
    }
    let opened = reading.view.bodies(&entries).await.unwrap_or_default();
    let opened = opened.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
    let read: Vec<Result<Small>> = futures::stream::iter(entries.into_iter().zip(opened))
        .map(|(entry, opened)| read_whole(&reading, entry, opened))
        .buffered(CONCURRENCY)
        .collect()
        .await;
    let mut outcomes = Vec::with_capacity(read.len());
    let mut blobs = Vec::new();
    for small in read {
        outcomes.push(match small {
            Ok(Small::Whole { entry, bytes, changed_while_read }) => {
                let size_bytes = bytes.len() as u64;
                reading.counters.add_read(size_bytes);
                if !bytes.is_empty() {
                    blobs.push(bytes);
                }
                // The content is filled in below.
                let content = Vec::new();
                ReadOutcome::Done(Box::new(ReadEntry {
                    entry: *entry,
                    content,
                    size_bytes,
                    changed_while_read,
                }))
            }
            Ok(Small::Grown) => ReadOutcome::Grown,
            Err(error) if reading.concerns_all(&error) => return Err(error),
            Err(error) => ReadOutcome::Failed(error),
        });
    }
    for group in &reading.groups {
        let chunks = blobs.iter().cloned().map(Into::into).collect();
        let ids = reading.store.put(BlobKind::Data, chunks, Arc::clone(&group.lanes)).await?;
        let mut ids = ids.into_iter();
        for outcome in &mut outcomes {
            if let ReadOutcome::Done(done) = outcome {
                let blob = if done.size_bytes == 0 { None } else { ids.next() };
                done.content.push(blob.into_iter().collect());
            }
        }
    }
    // In this order: the next batch may begin with the permit.
    drop(blobs);
    drop(permit);
    Ok(outcomes)
}

/// Memory that is set apart for an entry. A source may not know sizes beforehand, so there is some for
/// an entry that is listed as empty too; one that needs more is read as a large one.
pub(crate) fn room_bytes(entry: &Entry) -> u64 {
    entry.size_bytes.clamp(MIN_ROOM_BYTES, SMALL_BYTES)
}

enum Small {
    Whole { entry: Box<Entry>, bytes: Bytes, changed_while_read: bool },
    Grown,
}

/// Reads one entry whole. If it changes meanwhile, once more; the second time counts.
async fn read_whole(
    reading: &Reading,
    entry: Entry,
    mut opened: Option<Result<Body>>,
) -> Result<Small> {
    let room = room_bytes(&entry);
    let mut retried = false;
    loop {
        let body = match opened.take() {
            Some(body) => body,
            None => reading.view.body(&entry, None).await,
        };
        let attempt = match body {
            Ok(body) => take(body, &entry, room).await,
            Err(error) => Err(error),
        };
        match attempt {
            Ok(Small::Whole { changed_while_read: true, .. }) if !retried => {}
            Err(error) if error.is(ErrorKind::SourceChanged) && !retried => {}
            other => return other,
        }
        retried = true;
    }
}

async fn take(body: Body, entry: &Entry, room: u64) -> Result<Small> {
    let Body { refreshed, content } = body;
    let entry = refreshed.unwrap_or_else(|| Box::new(entry.clone()));
    match content {
        BodyContent::Ranged(body) => {
            if body.len_bytes() > room {
                return Ok(Small::Grown);
            }
            let bytes = body.read_at(0..body.len_bytes()).await?;
            let changed_while_read = body.finish().await? == BodyEnd::Changed;
            Ok(Small::Whole { entry, bytes, changed_while_read })
        }
        BodyContent::Stream(body) => {
            let mut pieces = body.pieces(None);
            let mut all = Vec::new();
            while let Some(piece) = pieces.next().await {
                all.extend_from_slice(&piece?.bytes);
                if all.len() as u64 > room {
                    return Ok(Small::Grown);
                }
            }
            Ok(Small::Whole { entry, bytes: all.into(), changed_while_read: false })
        }
    }
}
