//! Sorted nodes in a scratch file.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::node::FinishedNode;
use crate::pipeline::per_lane::PerLane;
use crate::scratch::{self, ScratchFile};

/// Written at once.
const WRITE_BYTES: usize = 256 << 10;
/// Read at once, of each run that is merged.
const READ_BYTES: usize = 64 << 10;

/// Nodes in ascending order of their names, in a stretch of a scratch file. Clones are the same
/// stretch.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    file: Arc<ScratchFile>,
    start: u64,
    len_bytes: u64,
    digest: [u8; 32],
    /// How often its nodes were merged.
    level: u8,
}

impl Run {
    pub(super) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    pub(super) fn level(&self) -> u8 {
        self.level
    }

    /// Reads the nodes from the start.
    pub(crate) fn reader(&self) -> RunReader {
        let stretch = Stretch { run: self.clone(), at: 0, hash: Some(Sha256::new()) };
        RunReader {
            left_bytes: self.len_bytes,
            source: BufReader::with_capacity(READ_BYTES, stretch),
        }
    }
}

/// Writes one run behind what a file has. Nobody else writes to the file meanwhile.
#[derive(Debug)]
pub(super) struct RunWriter {
    file: Arc<ScratchFile>,
    start: u64,
    at: u64,
    buffer: Vec<u8>,
    hash: Sha256,
}

impl RunWriter {
    pub(super) fn new(file: &Arc<ScratchFile>) -> Self {
        let start = file.end();
        Self {
            file: Arc::clone(file),
            start,
            at: start,
            buffer: Vec::with_capacity(WRITE_BYTES),
            hash: Sha256::new(),
        }
    }

    /// Adds a node; its name is not smaller than that before. Blocks.
    pub(super) fn push(&mut self, node: &FinishedNode) -> Result<()> {
        self.push_bytes(&node.name);
        match &node.json {
            PerLane::Same(json) => {
                self.push_number(0);
                self.push_bytes(json);
            }
            PerLane::Each(values) => {
                self.push_number(values.len() as u64);
                for json in values {
                    self.push_bytes(json);
                }
            }
        }
        if self.buffer.len() >= WRITE_BYTES { self.write() } else { Ok(()) }
    }

    /// Writes the rest. Blocks.
    pub(super) fn finish(mut self, level: u8) -> Result<Run> {
        self.write()?;
        let gauges = &self.file.scratch().tuning().gauges;
        gauges.runs.fetch_add(1, Ordering::Relaxed);
        Ok(Run {
            start: self.start,
            len_bytes: self.at - self.start,
            digest: self.hash.finalize().into(),
            level,
            file: self.file,
        })
    }

    fn push_number(&mut self, number: u64) {
        self.buffer.extend_from_slice(&number.to_le_bytes());
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        self.push_number(bytes.len() as u64);
        self.buffer.extend_from_slice(bytes);
    }

    fn write(&mut self) -> Result<()> {
        self.hash.update(&self.buffer);
        self.file.write_at(&self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Gives the nodes of a run, in their order. Blocks.
///
/// Only after the last one is it proved that they are those that were written: nothing may be made
/// of them before.
#[derive(Debug)]
pub(crate) struct RunReader {
    source: BufReader<Stretch>,
    left_bytes: u64,
}

#[derive(Debug)]
struct Stretch {
    run: Run,
    at: u64,
    /// `None` once it was compared.
    hash: Option<Sha256>,
}

impl RunReader {
    /// The next node; `None` behind the last.
    pub(crate) fn next_node(&mut self) -> Result<Option<FinishedNode>> {
        if self.left_bytes == 0 {
            return self.prove().map(|()| None);
        }
        let name = self.bytes()?;
        let json = match self.number()? {
            0 => PerLane::Same(self.bytes()?),
            // Each value has a length of eight bytes.
            count if count <= self.left_bytes / 8 => {
                PerLane::Each((0..count).map(|_| self.bytes()).collect::<Result<_>>()?)
            }
            _ => return Err(self.damaged()),
        };
        Ok(Some(FinishedNode { name, json }))
    }

    fn number(&mut self) -> Result<u64> {
        let mut number = [0; 8];
        self.fill(&mut number)?;
        Ok(u64::from_le_bytes(number))
    }

    fn bytes(&mut self) -> Result<Box<[u8]>> {
        let length = self.number()?;
        let length = usize::try_from(length).ok().filter(|_| length <= self.left_bytes);
        let mut bytes = vec![0; length.ok_or_else(|| self.damaged())?];
        self.fill(&mut bytes)?;
        Ok(bytes.into())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        let left = self.left_bytes.checked_sub(buffer.len() as u64);
        self.left_bytes = left.ok_or_else(|| self.damaged())?;
        let filled = self.source.read_exact(buffer);
        filled.map_err(|error| self.source.get_ref().run.file.scratch().failed(error))
    }

    fn prove(&mut self) -> Result<()> {
        let stretch = self.source.get_mut();
        let Some(hash) = stretch.hash.take() else {
            return Ok(());
        };
        if <[u8; 32]>::from(hash.finalize()) == stretch.run.digest {
            return Ok(());
        }
        Err(self.damaged())
    }

    fn damaged(&self) -> Error {
        let scratch = self.source.get_ref().run.file.scratch();
        let detail = io::Error::other("it gave back other bytes than were written");
        let error = scratch.failed(detail);
        Error::new(ErrorKind::Corrupt, error.to_string())
            .with_code(scratch::CODE)
            .with_hint("test that disk, or use a scratch folder on another one")
    }
}

impl Read for Stretch {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.run.len_bytes - self.at).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let buffer = &mut buffer[..length];
        self.run.file.read_at(buffer, self.run.start + self.at)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&*buffer);
        }
        self.at += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;
    use crate::scratch::{Scratch, Tuning};

    fn nodes() -> Vec<FinishedNode> {
        let each = vec![Box::from(*b"{1}"), Box::from(*b"{}")];
        vec![
            FinishedNode { name: b"a".as_slice().into(), json: PerLane::Same(Box::default()) },
            FinishedNode { name: b"b".as_slice().into(), json: PerLane::Each(each) },
            FinishedNode {
                name: vec![b'c'; 300_000].into(),
                json: PerLane::Same(vec![b'x'; 700_000].into()),
            },
        ]
    }

    fn file() -> (tempfile::TempDir, Arc<ScratchFile>) {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(folder.path(), &Env::system(), Tuning::default()).unwrap();
        (folder, Arc::new(scratch.create().unwrap()))
    }

    fn write(file: &Arc<ScratchFile>) -> Run {
        let mut writer = RunWriter::new(file);
        for node in nodes() {
            writer.push(&node).unwrap();
        }
        writer.finish(0).unwrap()
    }

    fn read(run: &Run) -> Result<Vec<FinishedNode>> {
        let mut reader = run.reader();
        std::iter::from_fn(|| reader.next_node().transpose()).collect()
    }

    #[test]
    fn runs_in_one_file_give_what_was_written() {
        let (_folder, file) = file();
        let runs = [write(&file), write(&file)];
        for run in &runs {
            assert_eq!(read(run).unwrap(), nodes());
            assert_eq!(read(run).unwrap(), nodes());
        }
    }

    #[test]
    fn a_byte_that_changed_is_found_and_never_believed() {
        let (_folder, file) = file();
        let run = write(&file);
        let places = [0, 7, 8, 9, 16, 30, 40, 300_100, run.len_bytes() - 1];
        for place in places {
            let mut byte = [0];
            file.read_at(&mut byte, place).unwrap();
            file.write_at(&[byte[0] ^ 0x40], place).unwrap();
            let error = read(&run).unwrap_err();
            assert!(error.is(ErrorKind::Corrupt), "at {place}: {error}");
            file.write_at(&byte, place).unwrap();
        }
        assert_eq!(read(&run).unwrap(), nodes());
    }
}
