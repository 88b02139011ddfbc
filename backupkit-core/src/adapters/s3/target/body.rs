//! Takes the bytes of a step in order.

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::target::BodyReader;

/// The bytes of a step, some at a time.
#[derive(Debug)]
pub(super) struct Pieces {
    body: BodyReader,
    /// Where the next byte of the body stands that was not gathered.
    offset: u64,
    end: u64,
    rest: Bytes,
    gathered: Vec<Bytes>,
    gathered_bytes: u64,
}

impl Pieces {
    /// Those behind `offset`, up to `end`.
    pub(super) fn new(body: BodyReader, offset: u64, end: u64) -> Self {
        let (rest, gathered) = (Bytes::new(), Vec::new());
        Self { body, offset, end, rest, gathered, gathered_bytes: 0 }
    }

    pub(super) fn reader(&self) -> &BodyReader {
        &self.body
    }

    /// How many bytes the body has left.
    fn left(&self) -> u64 {
        self.end.saturating_sub(self.offset)
    }

    /// Gathers just so many bytes, or all that are left. Cancel safe: what was gathered stays.
    ///
    /// # Errors
    /// Those of the body; `Corrupt` if it has other bytes than the step needs.
    pub(super) async fn gather(&mut self, count: u64) -> Result<()> {
        while self.gathered_bytes < count && self.left() > 0 {
            if self.rest.is_empty() {
                let Some(piece) = self.body.next().await else { return Err(other_bytes()) };
                let piece = piece?;
                if piece.offset != self.offset {
                    return Err(other_bytes());
                }
                self.rest = piece.bytes;
                continue;
            }
            let wanted = (count - self.gathered_bytes).min(self.left());
            let most = usize::try_from(wanted).unwrap_or(usize::MAX).min(self.rest.len());
            let part = self.rest.split_to(most);
            self.gathered_bytes += part.len() as u64;
            self.offset += part.len() as u64;
            self.gathered.push(part);
        }
        Ok(())
    }

    /// Takes what was gathered.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        self.gathered_bytes = 0;
        std::mem::take(&mut self.gathered)
    }

    /// Makes sure that there is nothing more, and that the body ends well.
    ///
    /// # Errors
    /// As for [`Self::take`].
    pub(super) async fn end(&mut self) -> Result<()> {
        if !self.rest.is_empty() || self.left() > 0 {
            return Err(other_bytes());
        }
        while let Some(piece) = self.body.next().await {
            if !piece?.bytes.is_empty() {
                return Err(other_bytes());
            }
        }
        Ok(())
    }
}

fn other_bytes() -> Error {
    Error::new(ErrorKind::Corrupt, "the bytes to restore are not as many as the snapshot says")
}
