//! The nodes of a directory in the order of their names, from runs and from memory.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::run::{Run, RunReader};
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::node::FinishedNode;

/// Merges sorted runs and unsorted nodes. Holds one node of each run. Blocks if there are runs.
#[derive(Debug)]
pub(crate) struct Merge<'a> {
    /// Sorted, last first.
    memory: Vec<&'a FinishedNode>,
    runs: Vec<RunReader>,
    /// The next node of each run that has one.
    heads: BinaryHeap<Reverse<Head>>,
    last_name: Option<Box<[u8]>>,
}

/// A node by name, and the run it comes from.
#[derive(Debug)]
struct Head {
    node: FinishedNode,
    run: usize,
}

impl<'a> Merge<'a> {
    pub(crate) fn new(memory: &'a [FinishedNode], runs: &[Run]) -> Result<Self> {
        let mut memory: Vec<&FinishedNode> = memory.iter().collect();
        memory.sort_unstable_by(|a, b| b.name.cmp(&a.name));
        let runs: Vec<RunReader> = runs.iter().map(Run::reader).collect();
        let heads = BinaryHeap::with_capacity(runs.len());
        let mut merge = Self { memory, runs, heads, last_name: None };
        for run in 0..merge.runs.len() {
            merge.advance(run)?;
        }
        Ok(merge)
    }

    /// The next node; `None` behind the last. Only then is it proved that those from runs are right.
    ///
    /// # Errors
    /// `Internal` if two have the same name.
    pub(crate) fn next_node(&mut self) -> Result<Option<Cow<'a, FinishedNode>>> {
        let node = match (self.memory.last(), self.heads.peek()) {
            (Some(memory), Some(Reverse(head))) if memory.name > head.node.name => {
                self.pop_head()?.map(Cow::Owned)
            }
            (Some(_), _) => self.memory.pop().map(Cow::Borrowed),
            (None, _) => self.pop_head()?.map(Cow::Owned),
        };
        let Some(node) = node else {
            return Ok(None);
        };
        if self.last_name.as_ref() == Some(&node.name) {
            return Err(listed_twice(&node.name));
        }
        self.last_name = Some(node.name.clone());
        Ok(Some(node))
    }

    fn pop_head(&mut self) -> Result<Option<FinishedNode>> {
        let Some(Reverse(head)) = self.heads.pop() else {
            return Ok(None);
        };
        self.advance(head.run)?;
        Ok(Some(head.node))
    }

    fn advance(&mut self, run: usize) -> Result<()> {
        if let Some(node) = self.runs[run].next_node()? {
            self.heads.push(Reverse(Head { node, run }));
        }
        Ok(())
    }
}

fn listed_twice(name: &[u8]) -> Error {
    let name = String::from_utf8_lossy(name);
    Error::new(ErrorKind::Internal, format!("the source listed {name:?} twice in one directory"))
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.node.name, self.run).cmp(&(&other.node.name, other.run))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}
