//! One message on its way through SHA-256: parts, and the padding behind them.

use bytes::Bytes;

use super::compress::{BLOCK_BYTES, INITIAL_STATE};

/// The number of bytes of a message, in its last bytes (FIPS 180-4, 5.1.1).
const LENGTH_BYTES: usize = 8;

/// What is left of a message, and the state after what went before.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) state: [u32; 8],
    /// The parts that are left, the next one last.
    parts: Vec<Bytes>,
    /// Where parts meet, and at the end, bytes are collected here.
    seam: [u8; BLOCK_BYTES],
    seam_bytes: usize,
    len_bytes: u64,
    padding: Padding,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Padding {
    /// Bytes of the message come first.
    Later,
    /// The mark behind the message is written, its length did not fit.
    Marked,
    /// All is in the seam or behind it.
    Done,
}

impl Message {
    pub(super) fn new(mut parts: Vec<Bytes>) -> Self {
        parts.reverse();
        Self {
            state: INITIAL_STATE,
            parts,
            seam: [0; BLOCK_BYTES],
            seam_bytes: 0,
            len_bytes: 0,
            padding: Padding::Later,
        }
    }

    /// The next blocks and the state that takes them; at least one block.
    pub(super) fn next_blocks(&mut self) -> (&mut [u32; 8], &[u8]) {
        let whole = self.whole_blocks();
        let blocks = match self.parts.last() {
            Some(part) if whole > 0 => &part[..whole],
            _ => &self.seam[..],
        };
        (&mut self.state, blocks)
    }

    /// Goes on behind so many bytes of the blocks last shown. Returns whether that was the end.
    pub(super) fn advance(&mut self, taken_bytes: usize) -> bool {
        if self.whole_blocks() > 0 {
            if let Some(part) = self.parts.last_mut() {
                drop(part.split_to(taken_bytes));
            }
            self.len_bytes += taken_bytes as u64;
        } else {
            self.seam_bytes = 0;
            if self.padding == Padding::Done {
                return true;
            }
        }
        self.prepare();
        false
    }

    /// Makes sure that there are blocks: whole ones in the next part, or one in the seam. To be called
    /// once at the start.
    pub(super) fn prepare(&mut self) {
        while self.whole_blocks() == 0 && self.seam_bytes < BLOCK_BYTES {
            let Some(part) = self.parts.last_mut() else {
                self.pad();
                return;
            };
            let taken = part.split_to(part.len().min(BLOCK_BYTES - self.seam_bytes));
            self.seam[self.seam_bytes..][..taken.len()].copy_from_slice(&taken);
            self.seam_bytes += taken.len();
            self.len_bytes += taken.len() as u64;
            if part.is_empty() {
                self.parts.pop();
            }
        }
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        let mut digest = [0; 32];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }

    /// How many bytes of whole blocks can be taken from the next part as it lies there.
    fn whole_blocks(&self) -> usize {
        if self.seam_bytes > 0 {
            return 0;
        }
        self.parts.last().map_or(0, |part| part.len() - part.len() % BLOCK_BYTES)
    }

    fn pad(&mut self) {
        self.seam[self.seam_bytes..].fill(0);
        if self.padding == Padding::Later {
            self.seam[self.seam_bytes] = 0x80;
            self.seam_bytes += 1;
            self.padding = Padding::Marked;
        }
        if self.seam_bytes + LENGTH_BYTES <= BLOCK_BYTES {
            let bits = (self.len_bytes * 8).to_be_bytes();
            self.seam[BLOCK_BYTES - LENGTH_BYTES..].copy_from_slice(&bits);
            self.padding = Padding::Done;
        }
        self.seam_bytes = BLOCK_BYTES;
    }
}
