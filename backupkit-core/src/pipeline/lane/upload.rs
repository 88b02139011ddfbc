//! Packs become durable, then known, then indexed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::packer::ClosedPack;
use super::{Lane, SEGMENT_BYTES, StoredPack, UncertainPack};
use crate::buffers::{BufferPool, Segments};
use crate::error::{Error, Result, Retry};
use crate::model::{IndexId, PackId};
use crate::repo::crypto::Iv;
use crate::repo::index_file::{self, IndexedPack};
use crate::repo::layout::{FileKind, pack_key};
use crate::repo::pack_header::encode_header;
use crate::repo::repository::exists;

/// Packs of a lane that may be under way at the same time, besides the open ones. A few more would
/// hide more latency, each for the memory of a pack.
pub(super) const MAX_UPLOADS: usize = 2;

/// An index is written when so many blobs wait for it, as restic does.
const INDEX_BLOBS: usize = 50_000;
/// Or when the oldest waits for so long.
const INDEX_AGE: Duration = Duration::from_mins(10);

/// Room for one more pack under way.
pub(super) type Room = OwnedSemaphorePermit;

/// Waits for room.
pub(super) async fn room(lane: &Lane) -> Result<Room> {
    let room = Arc::clone(&lane.uploading).acquire_owned().await;
    room.map_err(|_| lane.failure().unwrap_or_else(Error::cancelled))
}

/// Room, if there is some.
pub(super) fn try_room(lane: &Lane) -> Option<Room> {
    Arc::clone(&lane.uploading).try_acquire_owned().ok()
}

/// Starts storing a pack. The work goes on behind the caller's back and sets the lane aside if it
/// fails.
pub(super) fn start(lane: &Arc<Lane>, pack: ClosedPack, room: Room) {
    let uploader = Arc::clone(lane);
    let mut uploads = lane.uploads();
    while uploads.try_join_next().is_some() {}
    uploads.spawn(async move {
        if let Err(error) = store(&uploader, pack).await {
            uploader.set_aside(error);
        }
        // Only now: nobody starts another one in a lane that has failed.
        drop(room);
    });
}

async fn store(lane: &Arc<Lane>, pack: ClosedPack) -> Result<()> {
    let ClosedPack { body, plain_bytes, blobs, tickets } = pack;
    let blobs = Arc::new(blobs);
    let tail = {
        let (repository, blobs) = (lane.repository.clone(), Arc::clone(&blobs));
        let iv = Iv::random(repository.env())?;
        move || {
            let mut tail = repository.key().seal(iv, &encode_header(&blobs)?);
            let length = u32::try_from(tail.len()).unwrap_or(u32::MAX);
            tail.extend_from_slice(&length.to_le_bytes());
            Ok(tail)
        }
    };
    let (id, payload) = body.finish(&lane.pool, tail).await?;
    let blobs = Arc::unwrap_or_clone(blobs);
    let key = pack_key(&id)?;
    lane.call(lane.guard.check_lock()).await?;
    let stored = StoredPack { plain_bytes, blobs, tickets };
    let mut upload = Upload { lane, pack: Some((id, stored)), is_answered: false };
    let created = {
        // A lane that is set aside meanwhile does not end this: the pack may arrive all the same.
        let _call = lane.activity.begin();
        lane.repository.destination().create(&key, payload).await
    };
    // An error that may pass says nothing about what becomes of the pack.
    upload.is_answered =
        created.as_ref().map_or_else(|error| error.retry() == Retry::Never, |()| true);
    created?;
    // Durable: noted at once, so that a resume finds it before any index names it.
    let recorded = lane.journal.record_packs(lane.repository.id(), &[id]).await;
    upload.has_arrived();
    recorded?;
    let due = {
        let state = lane.state();
        state.unindexed_blobs >= INDEX_BLOBS
            || lane.now().saturating_sub(state.unindexed_since) >= INDEX_AGE
    };
    if due { save_index(lane).await } else { Ok(()) }
}

/// A pack on its way. One that was dropped there may have arrived all the same.
struct Upload<'a> {
    lane: &'a Lane,
    pack: Option<(PackId, StoredPack)>,
    is_answered: bool,
}

impl Upload<'_> {
    fn has_arrived(mut self) {
        if let Some((id, pack)) = self.pack.take() {
            self.lane.pack_is_durable(id, pack);
        }
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if let Some((id, stored)) = self.pack.take() {
            let is_answered = self.is_answered;
            self.lane.state().uncertain.push(UncertainPack { id, stored, is_answered });
        }
    }
}

/// Looks whether packs arrived whose upload was dropped or failed. Those that may still arrive stay
/// uncertain.
pub(super) async fn find_arrived(lane: &Lane) -> Result<()> {
    let ids: Vec<PackId> = lane.state().uncertain.iter().map(|pack| pack.id).collect();
    for id in ids {
        let is_there = exists(&**lane.repository.destination(), &pack_key(&id)?).await?;
        let mut state = lane.state();
        let is_decided = |pack: &mut UncertainPack| pack.id == id && (is_there || pack.is_answered);
        let decided: Vec<UncertainPack> = state.uncertain.extract_if(.., is_decided).collect();
        drop(state);
        for pack in decided.into_iter().filter(|_| is_there) {
            lane.pack_is_durable(id, pack.stored);
        }
    }
    Ok(())
}

/// Writes an index of all packs that have none. Nothing to do if there are none.
pub(super) async fn save_index(lane: &Arc<Lane>) -> Result<()> {
    lane.call(save_index_now(lane)).await
}

/// As [`save_index`], also for a lane that was set aside.
pub(super) async fn save_index_now(lane: &Arc<Lane>) -> Result<()> {
    let packs = {
        let mut state = lane.state();
        state.unindexed_blobs = 0;
        state.unindexed_since = lane.now();
        Unindexed { lane, packs: std::mem::take(&mut state.unindexed).into() }
    };
    if packs.packs.is_empty() {
        return Ok(());
    }
    let (repository, encoded) = (lane.repository.clone(), Arc::clone(&packs.packs));
    let seal = move || {
        let pool = BufferPool::new(SEGMENT_BYTES, 0);
        let mut json = Segments::new(&pool);
        index_file::encode_into(&encoded, &mut json)?;
        repository.seal_large_file(&json, &pool)
    };
    let sealed = lane.pool.run(move |_| seal()).await?;
    lane.guard.check().await?;
    let id = lane.repository.create_sealed(FileKind::Index, sealed.into_parts()).await?;
    packs.are_indexed();
    lane.state().index_files.push(IndexId::from_bytes(id));
    Ok(())
}

/// Packs that wait for an index under way. If it fails they wait for the next one.
struct Unindexed<'a> {
    lane: &'a Lane,
    packs: Arc<[IndexedPack]>,
}

impl Unindexed<'_> {
    fn are_indexed(mut self) {
        self.packs = Arc::default();
    }
}

impl Drop for Unindexed<'_> {
    fn drop(&mut self) {
        if !self.packs.is_empty() {
            let mut state = self.lane.state();
            state.unindexed_blobs += self.packs.iter().map(|pack| pack.blobs.len()).sum::<usize>();
            state.unindexed.extend(self.packs.iter().cloned());
        }
    }
}
