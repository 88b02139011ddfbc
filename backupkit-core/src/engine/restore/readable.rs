//! What of a snapshot can be read.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::Tools;
use super::outcome::Outcomes;
use crate::error::{Error, Result};
use crate::model::{EntryPath, FileTime, Level};
use crate::repo::fetch::is_of_stored_bytes;
use crate::snapshot::{SnapshotEntry, SnapshotReader, Stretch};

/// So many damaged directories are told; the rest are left out all the same.
const MAX_TOLD: usize = 100_000;

/// A snapshot whose damaged directories are told, counted and left out, so that no target needs to
/// care, and all else is restored.
#[derive(Debug)]
pub(super) struct ReadableSnapshot {
    snapshot: Arc<dyn SnapshotReader>,
    damage: Arc<Damage>,
}

#[derive(Debug)]
struct Damage {
    tools: Tools,
    outcomes: Arc<Outcomes>,
    /// Targets walk more than once.
    told: Mutex<HashSet<String>>,
}

impl ReadableSnapshot {
    pub(super) fn new(
        snapshot: Arc<dyn SnapshotReader>,
        tools: &Tools,
        outcomes: &Arc<Outcomes>,
    ) -> Self {
        let damage =
            Damage { tools: tools.clone(), outcomes: Arc::clone(outcomes), told: Mutex::default() };
        Self { snapshot, damage: Arc::new(damage) }
    }

    fn readable(
        &self,
        entries: BoxStream<'static, Result<SnapshotEntry>>,
    ) -> BoxStream<'static, Result<SnapshotEntry>> {
        let damage = Arc::clone(&self.damage);
        let readable = entries.filter_map(move |entry| {
            let entry = match entry {
                Err(error) if is_of_stored_bytes(&error) => {
                    damage.tell(&error);
                    None
                }
                entry => Some(entry),
            };
            std::future::ready(entry)
        });
        readable.boxed()
    }
}

impl Damage {
    fn tell(&self, error: &Error) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < MAX_TOLD && told.insert(error.to_string()) {
            self.outcomes.add_failure();
            let text = format!("not restored: {}", error.report());
            self.tools.events.note(Level::Error, text);
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl SnapshotReader for ReadableSnapshot {
    fn paths(&self) -> &[String] {
        self.snapshot.paths()
    }

    fn time(&self) -> FileTime {
        self.snapshot.time()
    }

    async fn find(&self, path: &EntryPath) -> Result<Option<SnapshotEntry>> {
        self.snapshot.find(path).await
    }

    fn walk(&self, path: &EntryPath) -> BoxStream<'static, Result<SnapshotEntry>> {
        self.readable(self.snapshot.walk(path))
    }

    fn children(&self, path: &EntryPath) -> BoxStream<'static, Result<SnapshotEntry>> {
        self.readable(self.snapshot.children(path))
    }

    async fn read(&self, entry: &SnapshotEntry, range: Range<u64>) -> Result<Bytes> {
        self.snapshot.read(entry, range).await
    }

    fn stretches(&self, entry: &SnapshotEntry) -> Result<Option<Vec<Stretch>>> {
        self.snapshot.stretches(entry)
    }
}
