//! Whether a repository has everything that some trees name.

use std::collections::HashSet;

use super::lane::Lane;
use crate::error::{ErrorKind, Result};
use crate::model::BlobId;
use crate::repo::blobs::read_blob;
use crate::repo::pack_header::BlobKind;
use crate::repo::tree::decode_tree;

/// Walks the trees below `roots` and tells whether every blob is in the index of the lane. Trees that
/// several directories share are walked once.
pub(crate) async fn is_closed(lane: &Lane, roots: &[BlobId]) -> Result<bool> {
    let mut seen: HashSet<BlobId> = HashSet::new();
    let mut waiting: Vec<BlobId> = roots.to_vec();
    while let Some(id) = waiting.pop() {
        if !seen.insert(id) {
            continue;
        }
        let Some(location) = lane.locate(BlobKind::Tree, &id) else {
            return Ok(false);
        };
        let json = match read_blob(lane.repository(), BlobKind::Tree, &id, &location).await {
            Ok(json) => json,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let Ok(nodes) = decode_tree(&json) else {
            return Ok(false);
        };
        for node in nodes {
            let content = node.content.iter().flat_map(|content| content.iter());
            for blob in content {
                if lane.locate(BlobKind::Data, blob).is_none() {
                    return Ok(false);
                }
            }
            waiting.extend(node.subtree);
        }
    }
    Ok(true)
}
