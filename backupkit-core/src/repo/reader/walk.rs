//! Walking through trees, with no more in memory than the directories above the present place.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::stream::{self, BoxStream};

use super::snapshot::{entry_of, read_directory};
use super::{RepositoryReader, can_go_on};
use crate::error::Result;
use crate::model::{BlobId, EntryPath};
use crate::repo::node::Node;
use crate::repo::tree::{TreeNodes, TreePosition};
use crate::snapshot::SnapshotEntry;

/// Nodes are decoded so many at once: a text is a fraction of what its nodes take.
const BATCH_NODES: usize = 256;

/// How deep to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// What stands directly in the directory.
    Children,
    /// Everything below it.
    All,
}

struct Walker {
    reader: RepositoryReader,
    depth: Depth,
    /// A directory to enter before anything else: it was given, what it holds was not.
    enter: Option<(EntryPath, BlobId)>,
    open: Vec<OpenTree>,
}

/// A directory of which some nodes were given.
struct OpenTree {
    path: EntryPath,
    /// The rest of the text; nothing once all nodes are decoded.
    rest: Option<(Bytes, TreePosition)>,
    decoded: VecDeque<Result<Node>>,
}

/// Gives what is in and below a tree, which stands at `path`.
///
/// A directory that is damaged is an error in its place, and what stands beside it follows. After an
/// error of the destination nothing follows.
pub(super) fn walk(
    reader: RepositoryReader,
    path: EntryPath,
    tree: BlobId,
    depth: Depth,
) -> BoxStream<'static, Result<SnapshotEntry>> {
    let walker = Walker { reader, depth, enter: Some((path, tree)), open: Vec::new() };
    Box::pin(stream::unfold(Some(walker), |walker| async move {
        let mut walker = walker?;
        let item = walker.next().await?;
        let ends = item.as_ref().is_err_and(|error| !can_go_on(error));
        Some((item, (!ends).then_some(walker)))
    }))
}

impl Walker {
    async fn next(&mut self) -> Option<Result<SnapshotEntry>> {
        if let Some((path, tree)) = self.enter.take() {
            let next = self.open.last().map(OpenTree::next_trees).unwrap_or_default();
            match read_directory(&self.reader, &path, &tree, next).await.and_then(|text| {
                let position = TreeNodes::new(&text)?.position();
                Ok((text, position))
            }) {
                Ok(rest) => {
                    self.open.push(OpenTree { path, rest: Some(rest), decoded: VecDeque::new() });
                }
                Err(error) => return Some(Err(error)),
            }
        }
        loop {
            let directory = self.open.last_mut()?;
            let node = match directory.next() {
                Some(Ok(node)) => node,
                Some(Err(error)) => {
                    let doing = format!("read directory {}", directory.path);
                    return Some(Err(error.while_doing(doing)));
                }
                None => {
                    self.open.pop();
                    continue;
                }
            };
            let path = directory.path.join(&node.name);
            if self.depth == Depth::All
                && let Some(subtree) = node.subtree
            {
                self.enter = Some((path.clone(), subtree));
            }
            return Some(Ok(entry_of(node, path)));
        }
    }
}

impl OpenTree {
    fn next(&mut self) -> Option<Result<Node>> {
        if self.decoded.is_empty()
            && let Some((text, position)) = self.rest.take()
        {
            let mut nodes = TreeNodes::resume(&text, position);
            self.decoded.extend(nodes.by_ref().take(BATCH_NODES));
            if self.decoded.len() == BATCH_NODES {
                let position = nodes.position();
                self.rest = Some((text, position));
            }
        }
        self.decoded.pop_front()
    }

    /// The directories that come next.
    fn next_trees(&self) -> Vec<BlobId> {
        self.decoded.iter().flatten().filter_map(|node| node.subtree).collect()
    }
}
