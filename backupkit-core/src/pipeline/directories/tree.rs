//! The text of the tree of a directory.

use std::sync::Arc;

use super::Closing;
use super::merge::Merge;
use super::run::Run;
use crate::blocking::blocking;
use crate::error::Result;
use crate::pipeline::node::FinishedNode;
use crate::pipeline::per_lane::PerLane;
use crate::pool::Pool;
use crate::repo::tree::TreeEncoder;

impl Closing {
    /// Encodes the tree. It is in memory as a whole, because it is one blob.
    pub(crate) async fn encode(&self, pool: &Pool, lanes: usize) -> Result<PerLane<Vec<u8>>> {
        let (nodes, runs) = (Arc::clone(&self.nodes), self.runs.clone());
        if runs.is_empty() {
            return pool.run(move |_| encode_tree(&nodes, &[], lanes)).await;
        }
        blocking(move || encode_tree(&nodes, &runs, lanes)).await
    }
}

/// Encodes a tree, once for all lanes where that is the same. Sorts by name. Blocks if there are runs.
///
/// # Errors
/// `Internal` if the source listed a name twice.
pub(crate) fn encode_tree(
    nodes: &[FinishedNode],
    runs: &[Run],
    lanes: usize,
) -> Result<PerLane<Vec<u8>>> {
    let mut merge = Merge::new(nodes, runs)?;
    let mut trees = PerLane::Same(TreeEncoder::new());
    while let Some(node) = merge.next_node()? {
        // The first node that differs: until here all lanes have the same text.
        if let (PerLane::Same(tree), PerLane::Each(_)) = (&trees, &node.json) {
            trees = PerLane::Each(vec![tree.clone(); lanes]);
        }
        match &mut trees {
            PerLane::Same(tree) => tree.push_encoded(&node.name, node.json.get(0))?,
            PerLane::Each(trees) => {
                for (lane, tree) in trees.iter_mut().enumerate() {
                    tree.push_encoded(&node.name, node.json.get(lane))?;
                }
            }
        }
    }
    Ok(match trees {
        PerLane::Same(tree) => PerLane::Same(tree.finish()),
        PerLane::Each(trees) => {
            PerLane::collect(trees.into_iter().map(TreeEncoder::finish).collect())
        }
    })
}
