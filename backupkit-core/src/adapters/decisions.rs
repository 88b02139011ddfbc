//! Decisions about conflicts, kept so that a resumed restore follows them.
//!
//! They are taken once for the whole snapshot, before the first step is written, and stored as a log in
//! the order of the walk: a restore over a million existing files needs a dozen writes to the store and
//! no memory that grows.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::store::AdapterStore;

/// A stored part of the log is about this long at most; the store takes 1 MiB.
const PART_BYTES: usize = 256 << 10;

/// Where decisions are kept.
#[derive(Debug, Clone)]
pub(in crate::adapters) struct Decisions {
    store: Arc<dyn AdapterStore>,
    prefix: String,
}

impl Decisions {
    /// `restore` tells this restore from others in the same store.
    pub(in crate::adapters) fn new(store: Arc<dyn AdapterStore>, restore: &str) -> Self {
        let prefix = format!("restore/{restore}/");
        Self { store, prefix }
    }

    /// Whether all decisions were taken and something was written after that.
    pub(in crate::adapters) async fn are_binding(&self) -> Result<bool> {
        Ok(self.store.get(&self.key("started")).await?.is_some()
            && self.store.get(&self.key("planned")).await?.is_some())
    }

    /// Says that all decisions have been taken.
    pub(in crate::adapters) async fn set_planned(&self) -> Result<()> {
        self.store.put(&self.key("planned"), Bytes::new(), false).await
    }

    /// Says that something is about to be written.
    pub(in crate::adapters) async fn set_started(&self) -> Result<()> {
        self.store.put(&self.key("started"), Bytes::new(), false).await
    }

    /// Forgets all.
    pub(in crate::adapters) async fn clear(&self) -> Result<()> {
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

    pub(in crate::adapters) fn writer(&self) -> LogWriter {
        LogWriter { decisions: self.clone(), n_parts: 0, text: Vec::new() }
    }

    /// Reads decisions of a type.
    pub(in crate::adapters) fn reader<D: DeserializeOwned>(&self) -> LogReader<D> {
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
pub(in crate::adapters) struct LogWriter {
    decisions: Decisions,
    n_parts: u64,
    /// JSON records, one a line.
    text: Vec<u8>,
}

impl LogWriter {
    /// Adds a decision about the entry of this number in the walk.
    pub(in crate::adapters) async fn push(
        &mut self,
        number: u64,
        decision: &impl Serialize,
    ) -> Result<()> {
        serde_json::to_writer(&mut self.text, &(number, decision))
            .map_err(|error| broken().with_source(error))?;
        self.text.push(b'\n');
        if self.text.len() >= PART_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    pub(in crate::adapters) async fn flush(&mut self) -> Result<()> {
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
pub(in crate::adapters) struct LogReader<D> {
    decisions: Decisions,
    after: Option<String>,
    records: std::iter::Peekable<std::vec::IntoIter<(u64, D)>>,
    is_complete: bool,
}

impl<D: DeserializeOwned> LogReader<D> {
    /// The decision about an entry. Entries must be asked for in the order of the walk.
    pub(in crate::adapters) async fn about(&mut self, number: u64) -> Result<Option<D>> {
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
            .collect::<Result<Vec<(u64, D)>, _>>()
            .map_err(|error| broken().with_source(error))?;
        self.records = records.into_iter().peekable();
        self.after = Some(key);
        Ok(())
    }
}

fn broken() -> Error {
    Error::new(ErrorKind::Internal, "cannot follow the decisions of this restore: start a new one")
}
