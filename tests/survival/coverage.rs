//! What was read of which entry.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// The number of no entry: marks that a run was claimed.
pub(crate) const CLAIMED: u64 = u64::MAX;

/// One read: an entry by its number, and the bytes from one place to another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read {
    pub(crate) entry: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Since boot.
    pub(crate) at_nanos: u64,
}

impl Read {
    pub(crate) const BYTES: usize = 32;

    pub(crate) fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let fields = [self.entry, self.start, self.end, self.at_nanos];
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8; Self::BYTES]) -> Self {
        let (fields, _) = bytes.as_chunks::<8>();
        let field = |number: usize| u64::from_le_bytes(fields[number]);
        Self { entry: field(0), start: field(1), end: field(2), at_nanos: field(3) }
    }
}

/// A log that is still being written, as far as it was looked at.
#[derive(Debug)]
pub(crate) struct Tail {
    log: PathBuf,
    seen: u64,
    bytes: u64,
    /// When the last read was.
    pub(crate) last_nanos: u64,
}

impl Tail {
    pub(crate) fn of(log: PathBuf) -> Self {
        Self { log, seen: 0, bytes: 0, last_nanos: 0 }
    }

    /// How many bytes were read by now.
    pub(crate) fn read_bytes(&mut self) -> u64 {
        // It may not be there yet.
        let Ok(mut log) = File::open(&self.log) else { return 0 };
        log.seek(SeekFrom::Start(self.seen)).unwrap();
        let mut more = Vec::new();
        log.read_to_end(&mut more).unwrap();
        for read in more.as_chunks().0.iter().map(Read::decode) {
            self.seen += Read::BYTES as u64;
            self.bytes += read.end - read.start;
            self.last_nanos = self.last_nanos.max(read.at_nanos);
        }
        self.bytes
    }
}

/// The reads that a process has logged, also one that was killed, of each run that it has claimed.
pub(crate) fn load(log: &Path) -> Vec<Vec<Read>> {
    let bytes = fs::read(log).unwrap_or_default();
    let reads: Vec<Read> = bytes.as_chunks().0.iter().map(Read::decode).collect();
    let claims = reads.split(|read| read.entry == CLAIMED).skip(1);
    claims.map(<[Read]>::to_vec).collect()
}

/// The bytes that were read at least once.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    /// By entry: starts and ends that do not touch.
    entries: BTreeMap<u64, BTreeMap<u64, u64>>,
    bytes: u64,
}

impl Coverage {
    /// How many bytes were read.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a read, and returns how many of its bytes had been read before.
    pub(crate) fn add(&mut self, read: &Read) -> u64 {
        let stretches = self.entries.entry(read.entry).or_default();
        let (mut start, mut end, mut before) = (read.start, read.end, 0);
        let touching: Vec<(u64, u64)> = stretches
            .range(..=read.end)
            .rev()
            .take_while(|(_, known)| **known >= read.start)
            .map(|(start, end)| (*start, *end))
            .collect();
        for (known, known_end) in touching {
            before += known_end.min(read.end).saturating_sub(known.max(read.start));
            stretches.remove(&known);
            (start, end) = (start.min(known), end.max(known_end));
        }
        stretches.insert(start, end);
        let length = read.end - read.start;
        self.bytes += length - before;
        before
    }
}

#[test]
fn what_was_read_twice_is_counted_once() {
    let mut coverage = Coverage::default();
    let mut add = |start, end| coverage.add(&Read { entry: 1, start, end, at_nanos: 0 });
    assert_eq!([add(0, 10), add(20, 30), add(5, 25), add(0, 30), add(40, 41)], [0, 0, 10, 30, 0]);
    assert_eq!(coverage.bytes(), 31);
}
