//! The rolling hash: its tables, and the search for candidates in a slice.

use std::fmt;

use crate::repo::polynomial::{CHUNKER_DEGREE, Polynomial};

/// How many bytes the hash covers.
pub const WINDOW_BYTES: usize = 64;

/// A hash with these bits zero is a candidate: one in 2^20.
const CANDIDATE_MASK: u64 = (1 << 20) - 1;
/// The top eight bits of a hash begin here.
const TOP_SHIFT: u32 = CHUNKER_DEGREE - 8;
/// Places searched at once. One hash waits for its table look-up; four keep the CPU busy.
const LANES: usize = 4;
/// Bytes that each lane searches before the lanes are compared. Longer wastes more past the first
/// candidate, shorter more on starting each lane with a window of its own.
const LONG_LANE_BYTES: usize = 8 * 1024;
/// The same for what is left of a slice.
const SHORT_LANE_BYTES: usize = 1024;

/// Tables for one polynomial. 4 KiB; share them.
pub struct ChunkerTables {
    polynomial: Polynomial,
    /// What to add so that the top byte `b` of a hash shifted left by 8 is reduced.
    reduce: [u64; 256],
    /// What to add so that a byte `b` leaves the window while the next one enters.
    leave: [u64; 256],
}

impl ChunkerTables {
    /// Computes the tables for an irreducible polynomial of degree 53, as a decoded config has it.
    pub fn new(polynomial: Polynomial) -> Self {
        let modulo = |bits: u64| Polynomial::from_bits(bits).remainder(polynomial).bits();
        let mut reduce = [0; 256];
        let mut leave = [0; 256];
        for (byte, entry) in (0u64..).zip(&mut reduce) {
            // The part above the degree clears itself from the shifted hash.
            let high = byte << CHUNKER_DEGREE;
            *entry = modulo(high) ^ high;
        }
        for (byte, entry) in (0u64..).zip(&mut leave) {
            // A byte enters as itself and is multiplied by x^8 for each that follows; with the one
            // that pushes it out, as many as the window holds.
            *entry = (0..WINDOW_BYTES).fold(byte, |hash, _| modulo(hash << 8));
        }
        Self { polynomial, reduce, leave }
    }

    /// The polynomial.
    pub fn polynomial(&self) -> Polynomial {
        self.polynomial
    }

    /// Returns the first candidate: an `end` of at least `from`, so that the hash of the 64 bytes
    /// before `end` has its low bits zero.
    ///
    /// Candidates depend on nothing else, so parts of a file may be searched in any order and on any
    /// thread. Ends without 64 bytes before them in `data` are not found.
    pub fn find(&self, data: &[u8], from: usize) -> Option<usize> {
        let mut start = from.max(WINDOW_BYTES);
        // Candidates after `start` are found by sliding; the one at `start` by its hash alone.
        let mut hash = self.hash_before(data, start)?;
        if is_candidate(hash) {
            return Some(start);
        }
        while data.len() - start >= LANES * LONG_LANE_BYTES {
            match self.find_in_lanes::<LONG_LANE_BYTES>(data, start, &mut hash) {
                Some(end) => return Some(end),
                None => start += LANES * LONG_LANE_BYTES,
            }
        }
        while data.len() - start >= LANES * SHORT_LANE_BYTES {
            match self.find_in_lanes::<SHORT_LANE_BYTES>(data, start, &mut hash) {
                Some(end) => return Some(end),
                None => start += LANES * SHORT_LANE_BYTES,
            }
        }
        let entering = &data[start..];
        let leaving = &data[start - WINDOW_BYTES..];
        for ((at, enters), leaves) in (1..).zip(entering).zip(leaving) {
            hash = self.slide(hash, *leaves, *enters);
            if is_candidate(hash) {
                return Some(start + at);
            }
        }
        None
    }

    /// Searches the ends in `start + 1 ..= start + LANES * LANE_BYTES`. `hash` is that at `start`, and
    /// after finding nothing that at the last end.
    fn find_in_lanes<const LANE_BYTES: usize>(
        &self,
        data: &[u8],
        start: usize,
        hash: &mut u64,
    ) -> Option<usize> {
        let lane = |number: usize| {
            let at = start + number * LANE_BYTES;
            let entering = data.get(at..)?.first_chunk::<LANE_BYTES>()?;
            let leaving = data.get(at - WINDOW_BYTES..)?.first_chunk::<LANE_BYTES>()?;
            Some((entering, leaving))
        };
        let (enters0, leaves0) = lane(0)?;
        let (enters1, leaves1) = lane(1)?;
        let (enters2, leaves2) = lane(2)?;
        let (enters3, leaves3) = lane(3)?;
        let mut hash0 = *hash;
        let mut hash1 = self.hash_before(data, start + LANE_BYTES)?;
        let mut hash2 = self.hash_before(data, start + 2 * LANE_BYTES)?;
        let mut hash3 = self.hash_before(data, start + 3 * LANE_BYTES)?;
        // The last byte of a lane is the first end of the next: no end is left out.
        let mut first = [None; LANES];
        for at in 0..LANE_BYTES {
            hash0 = self.slide(hash0, leaves0[at], enters0[at]);
            hash1 = self.slide(hash1, leaves1[at], enters1[at]);
            hash2 = self.slide(hash2, leaves2[at], enters2[at]);
            hash3 = self.slide(hash3, leaves3[at], enters3[at]);
            let hashes = [hash0, hash1, hash2, hash3];
            // One branch for all lanes: it is almost never taken.
            if hashes.iter().any(|hash| is_candidate(*hash)) {
                if is_candidate(hash0) {
                    return Some(start + at + 1);
                }
                for (first, hash) in first.iter_mut().zip(hashes) {
                    if is_candidate(hash) {
                        first.get_or_insert(at + 1);
                    }
                }
            }
        }
        *hash = hash3;
        let (number, end) = (0..).zip(first).find_map(|(number, end)| Some((number, end?)))?;
        Some(start + number * LANE_BYTES + end)
    }

    /// The hash of the 64 bytes before `end`, if there are as many.
    fn hash_before(&self, data: &[u8], end: usize) -> Option<u64> {
        let window: &[u8; WINDOW_BYTES] = data.get(..end)?.last_chunk()?;
        // What leaves an empty window is zero, and zero adds nothing.
        Some(window.iter().fold(0, |hash, byte| self.slide(hash, 0, *byte)))
    }

    /// Moves the window by one byte.
    #[inline]
    fn slide(&self, hash: u64, leaves: u8, enters: u8) -> u64 {
        #[expect(clippy::cast_possible_truncation, reason = "a hash has 53 bits")]
        let top = (hash >> TOP_SHIFT) as u8;
        // The byte that leaves is looked up apart from the hash, so that the hash waits for one
        // look-up and not for two.
        let change = self.leave[usize::from(leaves)] ^ u64::from(enters);
        (hash << 8) ^ self.reduce[usize::from(top)] ^ change
    }
}

impl fmt::Debug for ChunkerTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkerTables")
            .field("polynomial", &self.polynomial)
            .finish_non_exhaustive()
    }
}

#[inline]
fn is_candidate(hash: u64) -> bool {
    hash & CANDIDATE_MASK == 0
}
