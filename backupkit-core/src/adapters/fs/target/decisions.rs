//! Decisions about conflicts, kept so that a resumed restore follows them.
//!
//! They are taken once for the whole snapshot, before the first step is written, and stored as a log in
//! the order of the walk: a restore over a million existing files needs a dozen writes to the store and
//! no memory that grows.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::model::EntryPath;
use crate::store::AdapterStore;

/// A stored part of the log is about this long at most; the store takes 1 MiB.
const PART_BYTES: usize = 256 << 10;

/// What is to be done with an entry, if not to make it anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Decision {
    /// Replace what is there; of a folder, only its metadata.
    Overwrite,
    /// Replace what is there, which is no folder, by a folder.
    ReplaceByFolder,
    /// Keep what is there.
    Skip,
    /// Restore it under this path.
    Rename(EntryPath),
    /// Do not restore it, for this reason.
    Refuse(String),
}

/// A decision about the entry of this number in the walk.
type Record = (u64, Decision);

/// Where decisions are kept.
#[derive(Debug, Clone)]
pub(super) struct Decisions {
    store: Arc<dyn AdapterStore>,
    prefix: String,
}

impl Decisions {
    /// `restore` tells this restore from others in the same store.
    pub(super) fn new(store: Arc<dyn AdapterStore>, restore: &str) -> Self {
        let prefix = format!("restore/{restore}/");
        Self { store, prefix }
    }

    /// Whether all decisions were taken and something was written after that.
    pub(super) async fn are_binding(&self) -> Result<bool> {
        Ok(self.store.get(&self.key("started")).await?.is_some()
            && self.store.get(&self.key("planned")).await?.is_some())
    }

    /// Says that all decisions have been taken.
    pub(super) async fn set_planned(&self) -> Result<()> {
        self.store.put(&self.key("planned"), Bytes::new(), false).await
    }

    /// Says that something is about to be written.
    pub(super) async fn set_started(&self) -> Result<()> {
        self.store.put(&self.key("started"), Bytes::new(), false).await
    }

    /// Forgets all.
    pub(super) async fn clear(&self) -> Result<()> {
        loop {
            let found = self.store.scan(&self.prefix, None, 64).await?;
            if found.is_empty() {
                return Ok(());
            }
            for (key, _) in found {
                self.store.delete(&key).await?;
            }
        }
    }

    pub(super) fn writer(&self) -> LogWriter {
        LogWriter { decisions: self.clone(), n_parts: 0, text: Vec::new() }
    }

    pub(super) fn reader(&self) -> LogReader {
        LogReader {
            decisions: self.clone(),
            after: None,
            records: Vec::new().into_iter().peekable(),
            is_complete: false,
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// Writes the log.
pub(super) struct LogWriter {
    decisions: Decisions,
    n_parts: u64,
    /// JSON records, one a line.
    text: Vec<u8>,
}

impl LogWriter {
    pub(super) async fn push(&mut self, record: &Record) -> Result<()> {
        serde_json::to_writer(&mut self.text, record)
            .map_err(|error| broken().with_source(error))?;
        self.text.push(b'\n');
        if self.text.len() >= PART_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    pub(super) async fn flush(&mut self) -> Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        // Of fixed width, so that keys sort as they were written.
        let key = self.decisions.key(&format!("log/{:016x}", self.n_parts));
        let text = std::mem::take(&mut self.text);
        self.decisions.store.put(&key, text.into(), false).await?;
        self.n_parts += 1;
        Ok(())
    }
}

/// Reads the log along with a walk.
pub(super) struct LogReader {
    decisions: Decisions,
    after: Option<String>,
    records: std::iter::Peekable<std::vec::IntoIter<Record>>,
    is_complete: bool,
}

impl LogReader {
    /// The decision about an entry. Entries must be asked for in the order of the walk.
    pub(super) async fn about(&mut self, number: u64) -> Result<Option<Decision>> {
        loop {
            if let Some((found, _)) = self.records.peek() {
                if *found < number {
                    self.records.next();
                    continue;
                }
                return Ok(self
                    .records
                    .next_if(|(found, _)| *found == number)
                    .map(|(_, decision)| decision));
            }
            if self.is_complete {
                return Ok(None);
            }
            self.load().await?;
        }
    }

    async fn load(&mut self) -> Result<()> {
        let prefix = self.decisions.key("log/");
        let store = &self.decisions.store;
        let mut found = store.scan(&prefix, self.after.as_deref(), 1).await?;
        let Some((key, text)) = found.pop() else {
            self.is_complete = true;
            return Ok(());
        };
        let records = text
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(serde_json::from_slice)
            .collect::<Result<Vec<Record>, _>>()
            .map_err(|error| broken().with_source(error))?;
        self.records = records.into_iter().peekable();
        self.after = Some(key);
        Ok(())
    }
}

fn broken() -> Error {
    Error::new(ErrorKind::Internal, "cannot follow the decisions of this restore: start a new one")
}
