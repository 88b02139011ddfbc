//! Blobs that were read lately, within a fixed amount of memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::pack_header::BlobKind;
use crate::model::BlobId;

/// A blob larger than this share of the room is not kept: it would push out all others.
const MAX_SHARE: usize = 2;

type Key = (BlobKind, BlobId);

/// Keeps blobs, and forgets those that were not asked for the longest.
#[derive(Debug)]
pub(crate) struct RecentBlobs {
    max_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    blobs: HashMap<Key, (u64, Bytes)>,
    /// Keys by the time of their last use.
    order: BTreeMap<u64, Key>,
    now: u64,
    bytes: usize,
}

impl RecentBlobs {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, state: Mutex::default() }
    }

    /// Returns a blob if it is at hand.
    pub(crate) fn get(&self, kind: BlobKind, id: &BlobId) -> Option<Bytes> {
        let mut guard = self.state();
        let state = &mut *guard;
        state.now += 1;
        let (used, bytes) = state.blobs.get_mut(&(kind, *id))?;
        state.order.remove(used);
        *used = state.now;
        state.order.insert(state.now, (kind, *id));
        Some(bytes.clone())
    }

    pub(crate) fn contains(&self, kind: BlobKind, id: &BlobId) -> bool {
        self.state().blobs.contains_key(&(kind, *id))
    }

    /// Keeps a blob for a while.
    pub(crate) fn insert(&self, kind: BlobKind, id: BlobId, bytes: Bytes) {
        if bytes.len() > self.max_bytes / MAX_SHARE {
            return;
        }
        let mut guard = self.state();
        let state = &mut *guard;
        if state.blobs.contains_key(&(kind, id)) {
            return;
        }
        state.now += 1;
        state.bytes += bytes.len();
        state.blobs.insert((kind, id), (state.now, bytes));
        state.order.insert(state.now, (kind, id));
        while state.bytes > self.max_bytes {
            let Some((_, oldest)) = state.order.pop_first() else {
                break;
            };
            if let Some((_, bytes)) = state.blobs.remove(&oldest) {
                state.bytes -= bytes.len();
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(number: u8) -> (BlobId, Bytes) {
        let bytes = Bytes::from(vec![number; 10]);
        (BlobId::of(&bytes), bytes)
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let recent = RecentBlobs::new(40);
        let blobs: Vec<_> = (0..5).map(blob).collect();
        for (id, bytes) in &blobs[..4] {
            recent.insert(BlobKind::Data, *id, bytes.clone());
        }
        assert!(recent.get(BlobKind::Data, &blobs[0].0).is_some());
        recent.insert(BlobKind::Data, blobs[4].0, blobs[4].1.clone());
        let kept: Vec<bool> =
            blobs.iter().map(|(id, _)| recent.contains(BlobKind::Data, id)).collect();
        assert_eq!(kept, [true, false, true, true, true]);
        assert!(!recent.contains(BlobKind::Tree, &blobs[0].0));
    }

    #[test]
    fn a_blob_that_would_push_out_the_others_is_not_kept() {
        let recent = RecentBlobs::new(19);
        let (id, bytes) = blob(0);
        recent.insert(BlobKind::Data, id, bytes);
        assert!(recent.get(BlobKind::Data, &id).is_none());
    }
}
