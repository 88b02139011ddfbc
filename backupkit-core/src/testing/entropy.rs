//! Randomness that repeats.

use std::sync::Mutex;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::lock;
use crate::env::Entropy;
use crate::error::Result;

/// An [`Entropy`] that gives the same bytes for the same seed. Not fit for keys.
#[derive(Debug)]
pub struct SeededEntropy {
    seed: u64,
    calls: Mutex<u64>,
}

impl SeededEntropy {
    /// Returns the bytes of this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, calls: Mutex::new(0) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        let mut calls = lock(&self.calls);
        for block in bytes.chunks_mut(32) {
            *calls += 1;
            let mut hasher = Sha256::new();
            hasher.update(self.seed.to_le_bytes());
            hasher.update(calls.to_le_bytes());
            block.copy_from_slice(&hasher.finalize()[..block.len()]);
        }
        Ok(())
    }
}

/// Returns `len_bytes` bytes that look random and are the same for the same seed.
pub fn random_bytes(seed: u64, len_bytes: usize) -> Bytes {
    let mut random = Random::new(seed);
    let mut bytes = Vec::with_capacity(len_bytes + 8);
    while bytes.len() < len_bytes {
        bytes.extend_from_slice(&random.next_u64().to_le_bytes());
    }
    bytes.truncate(len_bytes);
    bytes.into()
}

/// `SplitMix64`: small, and good enough to choose test cases.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `end`, or 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next_u64().checked_rem(end).unwrap_or_default()
    }
}
