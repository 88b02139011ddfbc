//! Byte-addressable parts: ranges are read ahead and chunked in order.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesOrdered;

use super::large::{Failure, PartEnd};
use super::{Reading, SharedProgress};
use crate::pipeline::budget::Permit;
use crate::pipeline::sequence::{Mark, Sequence};
use crate::pipeline::task::{self, OwnedTask};
use crate::source::RangedBody;

/// Ranges of one part that are asked for before the first of them is chunked.
const READ_AHEAD: usize = 2;

/// A range that arrived.
struct Arrived {
    bytes: Bytes,
    permit: Permit,
    /// Fewer bytes came than asked for: the entry ends here.
    ended: bool,
}

pub(super) async fn read(
    reading: &Reading,
    body: &Arc<dyn RangedBody>,
    progress: &SharedProgress,
    part: usize,
) -> Result<PartEnd, Failure> {
    let mut sequence = Sequence::resume(reading, progress, part);
    let mut asked = progress.with(|progress| progress.parts[part].cut_at());
    let length = body.len_bytes();
    let mut ahead: FuturesOrdered<OwnedTask<Arrived>> = FuturesOrdered::new();
    loop {
        while ahead.len() < READ_AHEAD && asked < length && !reading.control.is_pausing() {
            let end = length.min(asked + reading.range_bytes);
            // Waits only while holding nothing; what is read ahead must be free at once.
            let permit = if ahead.is_empty() {
                reading.budget.take(end - asked).await.map_err(Failure::Run)?
            } else {
                let Some(permit) = reading.budget.try_take(end - asked) else {
                    break;
                };
                permit
            };
            let (body, range) = (Arc::clone(body), asked..end);
            asked = end;
            ahead.push_back(task::start(async move {
                let wanted = range.end - range.start;
                let bytes = body.read_at(range).await?;
                let ended = (bytes.len() as u64) < wanted;
                Ok(Arrived { bytes, permit, ended })
            }));
        }
        // At a pause, what has arrived without a gap is chunked and the rest dropped.
        let arrived = tokio::select! {
            biased;
            arrived = ahead.next() => arrived,
            () = reading.control.pausing() => {
                sequence.settle().await.map_err(Failure::Run)?;
                return Ok(PartEnd::Paused);
            }
        };
        let Some(arrived) = arrived else {
            if asked < length {
                sequence.settle().await.map_err(Failure::Run)?;
                return Ok(PartEnd::Paused);
            }
            break;
        };
        let Arrived { bytes, permit, ended } = arrived.map_err(Failure::Entry)?;
        reading.counters.add_read(bytes.len() as u64);
        sequence.feed(bytes, permit).await.map_err(Failure::Run)?;
        sequence.mark(Mark::AtCut);
        if ended {
            break;
        }
    }
    sequence.finish().await.map_err(Failure::Run)?;
    Ok(PartEnd::Done)
}
