//! Every tree of every snapshot, each once.

use std::collections::HashSet;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};

use super::CheckRun;
use super::findings::Findings;
use crate::error::Result;
use crate::model::{BlobId, EntryKind, EntryPath, SnapshotId};
use crate::repo::fetch::BlobFetcher;
use crate::repo::index::Index;
use crate::repo::node::Node;
use crate::repo::pack_header::BlobKind;
use crate::repo::tree::TreeNodes;

/// Trees that are read at once.
const BATCH_TREES: usize = 128;
const BATCH_BYTES: u64 = 8 << 20;

/// A tree to look into.
#[derive(Debug, Clone)]
struct Pending {
    id: BlobId,
    path: EntryPath,
    snapshot: SnapshotId,
}

/// Which trees were met: one bit for each in the index.
struct Seen {
    bits: Vec<u64>,
    /// Those that are in no index. Each of them is a finding, so they are few.
    unknown: HashSet<BlobId>,
}

impl Seen {
    fn new(index: &Index) -> Self {
        let words = index.count(BlobKind::Tree).div_ceil(64);
        Self { bits: vec![0; words], unknown: HashSet::new() }
    }

    /// Returns whether the tree is met for the first time.
    fn insert(&mut self, index: &Index, id: BlobId) -> bool {
        let position = index.position(BlobKind::Tree, &id);
        let Some((word, bit)) = position
            .and_then(|position| Some((self.bits.get_mut(position / 64)?, 1 << (position % 64))))
        else {
            return self.unknown.insert(id);
        };
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

/// Returns how many trees were read.
pub(super) async fn check(
    run: &CheckRun,
    fetcher: &BlobFetcher,
    roots: Vec<(SnapshotId, BlobId)>,
    findings: &Findings,
) -> Result<u64> {
    let mut seen = Seen::new(fetcher.index());
    let mut pending = Vec::new();
    for (snapshot, id) in roots {
        if seen.insert(fetcher.index(), id) {
            pending.push(Pending { id, path: EntryPath::root(), snapshot });
        }
    }
    run.counters.add_listed(pending.len() as u64);
    let mut read = 0;
    while !pending.is_empty() {
        let batch = take_batch(fetcher, &mut pending);
        let texts = fetcher.fetch(BlobKind::Tree, batch.iter().map(|tree| tree.id)).await?;
        run.counters.add_read(texts.read_bytes);
        run.counters.add_finished(batch.len() as u64);
        let inspections = batch.into_iter().filter_map(|tree| match texts.get(&tree.id) {
            Ok(text) => Some((tree, text)),
            Err(error) => {
                findings.add(tree.name(), &error, Some(&tree.path));
                None
            }
        });
        let mut inspected = futures::stream::iter(inspections)
            .map(|(tree, text)| {
                let (findings, fetcher) = (findings.clone(), fetcher.clone());
                run.pool.run(move |_| {
                    let children = inspect(&tree, &text, fetcher.index(), &findings);
                    Ok((tree, children))
                })
            })
            .buffered(2 * run.pool.threads());
        while let Some((tree, children)) = inspected.try_next().await? {
            read += 1;
            for (name, id) in children {
                if seen.insert(fetcher.index(), id) {
                    run.counters.add_listed(1);
                    let path = tree.path.join(&name);
                    pending.push(Pending { id, path, snapshot: tree.snapshot });
                }
            }
        }
    }
    Ok(read)
}

/// Takes from the end, so that what is pending stays about as small as the tree is high.
fn take_batch(fetcher: &BlobFetcher, pending: &mut Vec<Pending>) -> Vec<Pending> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while batch.len() < BATCH_TREES
        && bytes < BATCH_BYTES
        && let Some(tree) = pending.pop()
    {
        let location = fetcher.index().get(BlobKind::Tree, &tree.id);
        bytes += location.map_or(0, |location| u64::from(location.content_bytes()));
        batch.push(tree);
    }
    batch
}

/// Looks at each node, and returns the directories.
fn inspect(
    tree: &Pending,
    text: &Bytes,
    index: &Index,
    findings: &Findings,
) -> Vec<(Vec<u8>, BlobId)> {
    let nodes = match TreeNodes::new(text) {
        Ok(nodes) => nodes,
        Err(error) => {
            findings.add(tree.name(), &error, Some(&tree.path));
            return Vec::new();
        }
    };
    let mut children = Vec::new();
    let mut last: Option<Vec<u8>> = None;
    for node in nodes {
        let node = match node {
            Ok(node) => node,
            Err(error) => {
                findings.add(tree.name(), &error, Some(&tree.path));
                continue;
            }
        };
        let path = tree.path.join(&node.name);
        let mut report = |problem: &str| findings.add(tree.name(), &problem, Some(&path));
        check_name(&node, last.as_deref(), &mut report);
        match node.kind {
            EntryKind::File => check_content(&node, index, &mut report),
            EntryKind::Directory => match node.subtree {
                Some(subtree) => children.push((node.name.clone(), subtree)),
                None => report("the directory has no tree"),
            },
            _ => {}
        }
        last = Some(node.name);
    }
    children
}

fn check_name(node: &Node, last: Option<&[u8]>, report: &mut dyn FnMut(&str)) {
    if !node.is_safe_name() {
        report("no file may have this name");
    }
    match last.map(|last| last.cmp(&node.name)) {
        Some(std::cmp::Ordering::Equal) => report("the name is there twice"),
        Some(std::cmp::Ordering::Greater) => report("the names are not in order"),
        _ => {}
    }
}

fn check_content(node: &Node, index: &Index, report: &mut dyn FnMut(&str)) {
    let Some(content) = &node.content else {
        return report("the file has no list of blobs");
    };
    let (mut bytes, mut missing, mut first_missing) = (0_u64, 0_usize, None);
    for id in content.iter() {
        if let Some(location) = index.get(BlobKind::Data, id) {
            bytes = bytes.saturating_add(u64::from(location.content_bytes()));
        } else {
            missing += 1;
            first_missing.get_or_insert(id);
        }
    }
    if let Some(id) = first_missing {
        let count = content.len();
        report(&format!("{missing} of its {count} blobs are in no index, such as {id}"));
    } else if bytes != node.size_bytes {
        let size = node.size_bytes;
        report(&format!("its size is {size}, but its blobs have {bytes} bytes"));
    }
}

impl Pending {
    fn name(&self) -> String {
        format!("tree {} in snapshot {}", self.id, self.snapshot.short())
    }
}
