//! Repeatable random numbers: the same seed gives the same data on every machine.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// `SplitMix64`: small, fast, and good enough that nothing compresses or repeats.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Says its seed, so that a failure can be repeated.
    pub fn new(seed: u64) -> Self {
        eprintln!("seed: {seed}");
        Self { state: seed }
    }

    /// One that goes its own way, so that a change in one place leaves the rest as it was.
    #[must_use]
    pub fn fork(&self, name: &str) -> Self {
        // FNV-1a: the standard hashers may change between versions of Rust.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self { state: self.state ^ hash }
    }

    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    pub fn pick<'items, T>(&mut self, items: &'items [T]) -> &'items T {
        let index = self.below(items.len() as u64);
        &items[usize::try_from(index).unwrap()]
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            let number = self.number().to_le_bytes();
            part.copy_from_slice(&number[..part.len()]);
        }
    }

    pub fn bytes(&mut self, size_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0; size_bytes];
        self.fill(&mut bytes);
        bytes
    }

    /// Words of a small vocabulary: compresses well, does not repeat as a whole.
    pub fn text(&mut self, size_bytes: usize) -> Vec<u8> {
        const WORDS: [&str; 8] = [
            "backup ",
            "restore ",
            "pack ",
            "index ",
            "tree\n",
            "blob ",
            "snapshot\n",
            "\u{e9}t\u{e9} ",
        ];
        let mut text = Vec::with_capacity(size_bytes + 16);
        while text.len() < size_bytes {
            text.extend_from_slice(self.pick(&WORDS).as_bytes());
        }
        text.truncate(size_bytes);
        text
    }

    /// Writes a new file of any size without holding it in memory.
    pub fn write_file(&mut self, path: &Path, size_bytes: u64) {
        let file = File::create_new(path)
            .unwrap_or_else(|error| panic!("create {}: {error}", path.display()));
        let mut writer = BufWriter::with_capacity(1 << 20, file);
        let mut buffer = vec![0; 1 << 16];
        let mut left = size_bytes;
        while left > 0 {
            let now = usize::try_from(left.min(buffer.len() as u64)).unwrap();
            self.fill(&mut buffer[..now]);
            writer
                .write_all(&buffer[..now])
                .unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
            left -= now as u64;
        }
        writer.flush().unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }
}
