//! Nodes leave memory as sorted runs in scratch files.

use std::sync::Arc;

use super::memory::NodeMemory;
use super::merge::Merge;
use super::run::{Run, RunWriter};
use super::{Directories, OpenDirectory};
use crate::blocking::blocking;
use crate::error::Result;
use crate::model::EntryPath;
use crate::pipeline::node::FinishedNode;
use crate::scratch::{Scratch, ScratchFile};

/// So many runs of a level become one of the next. Each that is merged needs a buffer.
const MERGED_RUNS: usize = 16;

/// What one directory writes, or has written.
#[derive(Debug)]
struct Spill<T> {
    path: EntryPath,
    bytes: u64,
    /// What lies in stored parts.
    saved: T,
    /// What does not.
    fresh: T,
}

/// A file, and what was written to it.
#[derive(Debug)]
struct Written {
    file: Arc<ScratchFile>,
    runs: Vec<Spill<Option<Run>>>,
}

impl Directories {
    /// Writes nodes of the largest directories to the scratch folder if there are too many. Whoever
    /// adds nodes waits for it, so that none come faster than they can be written.
    ///
    /// # Errors
    /// The scratch folder's. Nodes are lost then, and with them the run. The same if the call is
    /// dropped.
    pub(crate) async fn spill(&mut self) -> Result<()> {
        let Some((excess, scratch)) = self.memory.excess() else {
            return Ok(());
        };
        let taken = self.take_largest(excess);
        let shared = self.memory.shared_file();
        let own = scratch.clone();
        let written = blocking(move || write_all(&own, shared, taken)).await?;
        self.memory.used_file(&written.file);
        for Spill { path, bytes, saved, fresh } in written.runs {
            self.memory.spilled(bytes);
            // It cannot have closed: whoever closes directories waits for this.
            if let Some(directory) = self.open.get_mut(&path) {
                directory.saved_runs.extend(saved);
                directory.runs.extend(fresh);
                merge_many(&mut self.memory, &scratch, &mut directory.saved_runs).await?;
                merge_many(&mut self.memory, &scratch, &mut directory.runs).await?;
            }
        }
        Ok(())
    }

    /// Whether nothing more should be listed for now.
    pub(crate) fn is_full(&self) -> bool {
        self.memory.is_full()
    }

    fn take_largest(&mut self, mut excess: u64) -> Vec<Spill<Vec<FinishedNode>>> {
        let candidates = self.open.iter_mut().filter(|(_, directory)| directory.can_spill());
        let mut candidates: Vec<(&EntryPath, &mut OpenDirectory)> = candidates.collect();
        candidates.sort_unstable_by_key(|(_, directory)| std::cmp::Reverse(directory.node_bytes));
        let mut taken = Vec::new();
        for (path, directory) in candidates {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(directory.node_bytes);
            taken.push(directory.take_nodes(path.clone()));
        }
        taken
    }
}

impl OpenDirectory {
    fn can_spill(&self) -> bool {
        !self.closing && !self.nodes.is_empty()
    }

    fn take_nodes(&mut self, path: EntryPath) -> Spill<Vec<FinishedNode>> {
        let mut saved = Arc::unwrap_or_clone(std::mem::take(&mut self.nodes));
        let fresh = saved.split_off(std::mem::take(&mut self.saved).min(saved.len()));
        Spill { path, bytes: std::mem::take(&mut self.node_bytes), saved, fresh }
    }
}

fn write_all(
    scratch: &Scratch,
    shared: Option<Arc<ScratchFile>>,
    taken: Vec<Spill<Vec<FinishedNode>>>,
) -> Result<Written> {
    let file = open_file(scratch, shared)?;
    let written = taken.into_iter().map(|spill| {
        let saved = write(&file, spill.saved)?;
        let fresh = write(&file, spill.fresh)?;
        Ok(Spill { path: spill.path, bytes: spill.bytes, saved, fresh })
    });
    Ok(Written { runs: written.collect::<Result<_>>()?, file })
}

fn write(file: &Arc<ScratchFile>, mut nodes: Vec<FinishedNode>) -> Result<Option<Run>> {
    if nodes.is_empty() {
        return Ok(None);
    }
    nodes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let mut writer = RunWriter::new(file);
    for node in nodes {
        writer.push(&node)?;
    }
    writer.finish(0).map(Some)
}

/// Keeps runs few, at a logarithmic cost: merges those of a level once there are many.
async fn merge_many(memory: &mut NodeMemory, scratch: &Scratch, runs: &mut Vec<Run>) -> Result<()> {
    while let Some(level) = crowded_level(runs) {
        let merged = runs.extract_if(.., |run| run.level() == level).collect::<Vec<_>>();
        let (shared, own) = (memory.shared_file(), scratch.clone());
        let (file, run) = blocking(move || {
            let file = open_file(&own, shared)?;
            let mut writer = RunWriter::new(&file);
            let mut merge = Merge::new(&[], &merged)?;
            while let Some(node) = merge.next_node()? {
                writer.push(&node)?;
            }
            let run = writer.finish(level.saturating_add(1))?;
            Ok((file, run))
        })
        .await?;
        memory.used_file(&file);
        runs.push(run);
    }
    Ok(())
}

fn crowded_level(runs: &[Run]) -> Option<u8> {
    let mut counts = [0; 256];
    for run in runs {
        counts[usize::from(run.level())] += 1;
    }
    let level = counts.iter().position(|count| *count >= MERGED_RUNS)?;
    u8::try_from(level).ok()
}

fn open_file(scratch: &Scratch, shared: Option<Arc<ScratchFile>>) -> Result<Arc<ScratchFile>> {
    shared.map_or_else(|| scratch.create().map(Arc::new), Ok)
}
