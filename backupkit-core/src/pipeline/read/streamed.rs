//! Parts that come in order: pieces are gathered, chunked, and marked where the source can go on.

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;

use super::large::{Failure, PartEnd};
use super::{Reading, SharedProgress};
use crate::error::{Error, ErrorKind};
use crate::pipeline::budget::Permit;
use crate::pipeline::progress::Resume;
use crate::pipeline::sequence::{Mark, Sequence};
use crate::source::{Piece, RANGE_BYTES, StreamBody};
use crate::token::ReadToken;

/// Pieces are gathered to about this size before they are chunked.
const GATHER_BYTES: usize = 1 << 20;

pub(super) async fn read(
    reading: &Reading,
    body: &dyn StreamBody,
    progress: &SharedProgress,
    part: usize,
) -> Result<PartEnd, Failure> {
    let mut sequence = Sequence::resume(reading, progress, part);
    let mut from = None;
    let resume = progress.with(|progress| progress.parts[part].resume.clone());
    if let Resume::BehindToken { token, tail } = resume {
        // The chunker gets back what followed the last cut, so cuts are the same with and without
        // the pause.
        sequence.feed(tail, Permit::none()).await.map_err(Failure::Run)?;
        sequence.mark(Mark::Token(token.clone()));
        from = Some(token);
    } else {
        progress.with(|progress| {
            // Without a token the stream starts over.
            if progress.parts[part].stored_bytes > 0 {
                progress.parts[part].restart();
            }
        });
        sequence = Sequence::resume(reading, progress, part);
    }
    let mut pieces = body.pieces(from.as_ref());
    let mut gathered = Gathered::default();
    loop {
        let piece = tokio::select! {
            biased;
            () = reading.control.pausing() => {
                // Up to the last token; what came behind it is dropped.
                gathered.feed_into(reading, &mut sequence).await?;
                sequence.settle().await.map_err(Failure::Run)?;
                return Ok(PartEnd::Paused);
            }
            piece = pieces.next() => piece,
        };
        let Some(piece) = piece else { break };
        let Piece { bytes, token } = piece.map_err(Failure::Entry)?;
        if bytes.len() as u64 > RANGE_BYTES {
            let error = Error::new(ErrorKind::Internal, "the source gave a piece above 8 MiB");
            return Err(Failure::Entry(error));
        }
        reading.counters.add_read(bytes.len() as u64);
        // No more than a range is ever taken from the budget at once: it may hold no more.
        if (gathered.bytes.len() + bytes.len()) as u64 > RANGE_BYTES {
            gathered.feed_into(reading, &mut sequence).await?;
        }
        gathered.push(&bytes, token);
        // Rather at a token, so that it can be marked; but memory has an end.
        let full = gathered.bytes.len() >= GATHER_BYTES && gathered.ends_at_token;
        if full || gathered.bytes.len() as u64 >= RANGE_BYTES / 2 {
            gathered.feed_into(reading, &mut sequence).await?;
        }
    }
    gathered.feed_into(reading, &mut sequence).await?;
    sequence.finish().await.map_err(Failure::Run)?;
    Ok(PartEnd::Done)
}

/// Pieces that wait to be chunked together.
#[derive(Default)]
struct Gathered {
    bytes: BytesMut,
    /// The last token and how many of the bytes it covers.
    token: Option<(ReadToken, usize)>,
    ends_at_token: bool,
}

impl Gathered {
    fn push(&mut self, bytes: &Bytes, token: Option<ReadToken>) {
        self.bytes.extend_from_slice(bytes);
        self.ends_at_token = token.is_some();
        if let Some(token) = token {
            self.token = Some((token, self.bytes.len()));
        }
    }

    /// Chunks what is gathered: up to the last token, then the mark, then the rest.
    async fn feed_into(
        &mut self,
        reading: &Reading,
        sequence: &mut Sequence<'_>,
    ) -> Result<(), Failure> {
        let mut bytes = std::mem::take(&mut self.bytes).freeze();
        self.ends_at_token = false;
        if let Some((token, covered)) = self.token.take() {
            feed(reading, sequence, bytes.split_to(covered)).await?;
            sequence.mark(Mark::Token(token));
        }
        feed(reading, sequence, bytes).await
    }
}

async fn feed(reading: &Reading, sequence: &mut Sequence<'_>, bytes: Bytes) -> Result<(), Failure> {
    if bytes.is_empty() {
        return Ok(());
    }
    // Taken here and not per piece: nobody waits for the budget while holding a part of it.
    let permit = reading.budget.take(bytes.len() as u64).await.map_err(Failure::Run)?;
    sequence.feed(bytes, permit).await.map_err(Failure::Run)
}
