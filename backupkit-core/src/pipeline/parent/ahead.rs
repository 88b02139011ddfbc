//! Trees of a parent that will be asked for soon are read and decoded ahead, several at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Tree;
use crate::error::{ErrorKind, Result};
use crate::model::BlobId;
use crate::pipeline::lane::Lane;
use crate::pipeline::task::{self, OwnedTask};
use crate::repo::blobs::StoredBlob;
use crate::repo::pack_header::BlobKind;
use crate::repo::tree::decode_tree;

/// Trees that are read ahead at the same time.
const TREES: usize = 6;
/// Larger ones are read when they are asked for: decoded they take several times that.
const MAX_TREE_BYTES: u32 = 1 << 20;
/// So many that should have come earlier may be passed by: a folder that is gone, or unchanged copies.
const PASSED_BY: usize = 1024;
/// Ids that are known to follow. More than that are in one directory, and found again as they come.
const MAX_UPCOMING: usize = 65_536;

/// A tree that is being read.
pub(super) type Reading = OwnedTask<Option<Arc<Tree>>>;

/// A guess what is asked for next: what is in a directory, in its order, before what is beside it. A
/// wrong guess costs time only.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Not begun yet, the next one last.
    upcoming: Vec<BlobId>,
    /// Under way or read, in the order in which they should be asked for.
    reading: VecDeque<(BlobId, Reading)>,
}

impl Ahead {
    /// Notes the trees in a directory, whose turn comes now.
    pub(super) fn expect(&mut self, trees: impl Iterator<Item = BlobId>) {
        let known = self.upcoming.len();
        self.upcoming.extend(trees);
        self.upcoming[known..].reverse();
        let excess = self.upcoming.len().saturating_sub(MAX_UPCOMING);
        self.upcoming.drain(..excess);
    }

    /// Gives the tree that is asked for, if it was begun. What should have come before it was passed by.
    pub(super) fn take(&mut self, id: &BlobId) -> Option<Reading> {
        if let Some(place) = self.reading.iter().position(|(known, _)| known == id) {
            self.reading.drain(..place);
            return self.reading.pop_front().map(|(_, reading)| reading);
        }
        let near = self.upcoming.len().saturating_sub(PASSED_BY);
        if let Some(place) = self.upcoming[near..].iter().rposition(|known| known == id) {
            self.upcoming.truncate(near + place);
            self.reading.clear();
        }
        None
    }

    /// Begins as many as are worth it, leaving out those that are at hand.
    pub(super) fn start(&mut self, lane: &Arc<Lane>, is_at_hand: impl Fn(&BlobId) -> bool) {
        while self.reading.len() < TREES
            && let Some(id) = self.upcoming.pop()
        {
            if is_at_hand(&id) || self.reading.iter().any(|(known, _)| *known == id) {
                continue;
            }
            let location = lane.locate(BlobKind::Tree, &id);
            if location.is_some_and(|found| found.content_bytes() <= MAX_TREE_BYTES) {
                self.reading.push_back((id, task::start(read(Arc::clone(lane), id))));
            }
        }
    }
}

/// Reads a tree; `None` if it is missing or damaged.
///
/// # Errors
/// Those of the repository.
pub(super) async fn read(lane: Arc<Lane>, id: BlobId) -> Result<Option<Arc<Tree>>> {
    let Some(location) = lane.locate(BlobKind::Tree, &id) else {
        return Ok(None);
    };
    let repository = lane.repository().clone();
    let reading = async {
        let blob = StoredBlob { kind: BlobKind::Tree, id, location };
        let sealed = blob.read_sealed(&repository).await?;
        let repository = repository.clone();
        let open = move |worker: &mut crate::pool::Worker| {
            let json = blob.open(repository.key(), &mut worker.decompressor, &sealed)?;
            Ok(decode_tree(&json).ok().map(|nodes| Arc::new(Tree(nodes))))
        };
        lane.pool().run(open).await
    };
    match lane.call(reading).await {
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => Ok(None),
        read => read,
    }
}
