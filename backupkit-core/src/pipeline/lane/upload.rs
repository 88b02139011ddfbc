//! Packs become durable, then known, then indexed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::Lane;
use super::packer::ClosedPack;
use crate::destination::Payload;
use crate::error::{Error, Result};
use crate::model::{IndexId, PackId};
use crate::repo::crypto::Iv;
use crate::repo::index_file;
use crate::repo::layout::{FileKind, pack_key};
use crate::repo::pack_header::encode_header;

/// Packs of a lane that may be under way at the same time, besides the open ones. A few more would
/// hide more latency, each for the memory of a pack.
pub(super) const MAX_UPLOADS: usize = 2;

/// An index is written when so many blobs wait for it, as restic does.
const INDEX_BLOBS: usize = 50_000;
/// Or when the oldest waits for so long.
const INDEX_AGE: Duration = Duration::from_mins(10);

/// Starts storing a pack; waits for room. The work goes on behind the caller's back and sets the lane
/// aside if it fails.
pub(super) async fn start(lane: &Arc<Lane>, pack: ClosedPack) -> Result<()> {
    let Ok(room) = Arc::clone(&lane.uploading).acquire_owned().await else {
        return Err(lane.failure().unwrap_or_else(Error::cancelled));
    };
    let uploader = Arc::clone(lane);
    let mut uploads = lane.uploads();
    while uploads.try_join_next().is_some() {}
    uploads.spawn(async move {
        let result = store(&uploader, pack).await;
        drop(room);
        if let Err(error) = result {
            uploader.set_aside(error);
        }
    });
    Ok(())
}

async fn store(lane: &Arc<Lane>, mut pack: ClosedPack) -> Result<()> {
    let repository = lane.repository.clone();
    let iv = Iv::random(lane.repository.env())?;
    let (id, pack, payload) = lane
        .pool
        .run(move |_| {
            let header = repository.key().seal(iv, &encode_header(&pack.blobs)?);
            let length = u32::try_from(header.len()).unwrap_or(u32::MAX).to_le_bytes();
            let mut parts = std::mem::take(&mut pack.parts);
            parts.push(Bytes::from(header));
            parts.push(Bytes::copy_from_slice(&length));
            let mut hash = Sha256::new();
            for part in &parts {
                hash.update(part);
            }
            let id = PackId::from_bytes(hash.finalize().into());
            Ok((id, pack, Payload::from_parts(parts)))
        })
        .await?;
    lane.repository.destination().create(&pack_key(&id)?, payload).await?;
    // Durable: noted at once, so that a resume finds it before any index names it.
    lane.journal.record_packs(lane.repository.id(), &[id]).await?;
    lane.pack_is_durable(id, pack);
    let due = {
        let state = lane.state();
        state.unindexed_blobs >= INDEX_BLOBS
            || lane.now().saturating_sub(state.unindexed_since) >= INDEX_AGE
    };
    if due { save_index(lane).await } else { Ok(()) }
}

/// Writes an index of all packs that have none. Nothing to do if there are none.
pub(super) async fn save_index(lane: &Arc<Lane>) -> Result<()> {
    let packs = {
        let mut state = lane.state();
        state.unindexed_blobs = 0;
        state.unindexed_since = lane.now();
        std::mem::take(&mut state.unindexed)
    };
    if packs.is_empty() {
        return Ok(());
    }
    let repository = lane.repository.clone();
    let sealed = lane.pool.run(move |_| repository.seal_file(&index_file::encode(&packs)?)).await?;
    lane.guard.check().await?;
    let id = lane.repository.create_sealed(FileKind::Index, sealed.into()).await?;
    lane.state().index_files.push(IndexId::from_bytes(id));
    Ok(())
}
