//! Messages that come in parts of any length.

use poly1305::Poly1305;
use poly1305::universal_hash::UniversalHash as _;

use super::MAC_BYTES;

/// Computes an authentication code part by part.
pub(super) struct Authenticator {
    state: Poly1305,
    /// The last bytes, too few for a block.
    rest: [u8; MAC_BYTES],
    rest_bytes: usize,
}

impl Authenticator {
    pub(super) fn new(state: Poly1305) -> Self {
        Self { state, rest: [0; MAC_BYTES], rest_bytes: 0 }
    }

    pub(super) fn update(&mut self, mut part: &[u8]) {
        if self.rest_bytes > 0 {
            let missing = (MAC_BYTES - self.rest_bytes).min(part.len());
            let (now, later) = part.split_at(missing);
            self.rest[self.rest_bytes..self.rest_bytes + missing].copy_from_slice(now);
            self.rest_bytes += missing;
            part = later;
            if self.rest_bytes < MAC_BYTES {
                return;
            }
            self.state.update(&[self.rest.into()]);
        }
        let (blocks, rest) = poly1305::Block::slice_as_chunks(part);
        self.state.update(blocks);
        self.rest[..rest.len()].copy_from_slice(rest);
        self.rest_bytes = rest.len();
    }

    pub(super) fn finish(self) -> [u8; MAC_BYTES] {
        self.state.compute_unpadded(&self.rest[..self.rest_bytes]).into()
    }
}

/// Parts that are read piece by piece.
pub(super) struct Pieces<'a, I> {
    parts: I,
    current: &'a [u8],
}

impl<'a, I: Iterator<Item = &'a [u8]>> Pieces<'a, I> {
    pub(super) fn new(parts: I) -> Self {
        Self { parts, current: &[] }
    }

    /// The next bytes, at most `most` and as many as follow each other; none at the end.
    pub(super) fn next(&mut self, most: usize) -> &'a [u8] {
        while self.current.is_empty() {
            let Some(part) = self.parts.next() else {
                return &[];
            };
            self.current = part;
        }
        let (now, later) = self.current.split_at(most.min(self.current.len()));
        self.current = later;
        now
    }

    /// Whether these are the next bytes.
    pub(super) fn begins_with(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let piece = self.next(bytes.len());
            let (now, later) = bytes.split_at(piece.len());
            if piece.is_empty() || now != piece {
                return false;
            }
            bytes = later;
        }
        true
    }

    /// Whether there were enough bytes to fill `bytes`.
    pub(super) fn fill(&mut self, mut bytes: &mut [u8]) -> bool {
        while !bytes.is_empty() {
            let piece = self.next(bytes.len());
            if piece.is_empty() {
                return false;
            }
            let (now, later) = bytes.split_at_mut(piece.len());
            now.copy_from_slice(piece);
            bytes = later;
        }
        true
    }
}
