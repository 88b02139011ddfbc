//! Sealed blobs become packs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use super::body::{PackBody, SEGMENT_BYTES};
use super::{Lane, SealedBlob, SealedBytes, Ticket, upload};
use crate::buffers::{BufferPool, Segments};
use crate::error::{Error, ErrorKind, Result};
use crate::repo::pack_header::{BlobKind, MAX_BLOBS, PackedBlob};
use crate::repo::repository::Repository;
use crate::scratch::Scratch;

/// restic's default; what is larger needs fewer files, what is smaller loses less in a crash.
const DEFAULT_PACK_BYTES: u64 = 16 << 20;
/// Packs are built in memory up to this size. Larger ones are files.
const MAX_MEMORY_BYTES: u64 = 32 << 20;
/// The largest pack that restic makes.
const MAX_PACK_BYTES: u64 = 128 << 20;
/// Buffers for small blobs that may wait for the next pack.
const IDLE_SEGMENTS: usize = 16;
/// A pack that waits for more blobs is closed after this, so that not much is lost in a crash.
pub(super) const MAX_OPEN: Duration = Duration::from_mins(5);
/// Blobs are spread at random over so many open packs: the sizes of consecutive chunks would tell
/// which known file a pack holds.
const OPEN_DATA_PACKS: usize = 2;

/// The open packs of a lane.
#[derive(Debug)]
pub(super) struct Packers {
    data: Mutex<Vec<OpenPack>>,
    tree: Mutex<Vec<OpenPack>>,
    /// Blobs that come now are dropped.
    refuses: AtomicBool,
    target_bytes: u64,
    buffers: BufferPool,
    /// Where packs are built that are too large for memory.
    scratch: Option<Scratch>,
}

#[derive(Debug)]
struct OpenPack {
    body: PackBody,
    bytes: u64,
    plain_bytes: u64,
    blobs: Vec<PackedBlob>,
    tickets: Vec<Ticket>,
    opened_at: Duration,
}

/// A pack that takes no more blobs.
#[derive(Debug)]
pub(super) struct ClosedPack {
    pub(super) body: PackBody,
    pub(super) plain_bytes: u64,
    pub(super) blobs: Vec<PackedBlob>,
    pub(super) tickets: Vec<Ticket>,
}

impl Packers {
    pub(super) fn new(repository: &Repository, scratch: Option<Scratch>) -> Self {
        let preferred = repository.destination().capabilities().preferred_pack_bytes;
        let most = if scratch.is_some() { MAX_PACK_BYTES } else { MAX_MEMORY_BYTES };
        let target_bytes = preferred.unwrap_or(DEFAULT_PACK_BYTES).clamp(4 << 20, most);
        Self {
            data: Mutex::default(),
            tree: Mutex::default(),
            refuses: AtomicBool::new(false),
            target_bytes,
            buffers: BufferPool::new(SEGMENT_BYTES, IDLE_SEGMENTS),
            scratch: scratch.filter(|_| target_bytes > MAX_MEMORY_BYTES),
        }
    }

    /// Adds a blob. The lock is held while a full pack waits for room, so that the lane takes nothing
    /// more meanwhile.
    pub(super) async fn add(
        &self,
        lane: &Arc<Lane>,
        kind: BlobKind,
        blob: SealedBlob,
        shared: &Segments,
    ) -> Result<()> {
        let mut open = self.of(kind).lock().await;
        // Under the lock: what is to be closed is closed behind this.
        if self.refuses.load(Ordering::Acquire) {
            return Ok(());
        }
        let wanted = match kind {
            BlobKind::Data => OPEN_DATA_PACKS,
            BlobKind::Tree => 1,
        };
        while open.len() < wanted {
            open.push(self.new_pack(lane));
        }
        let choice = usize::from(lane.repository.env().random::<1>()?[0]) % wanted;
        let pack = &mut open[choice];
        if !pack.blobs.is_empty() && !pack.has_room_for(&blob, self.target_bytes) {
            let room = upload::room(lane).await?;
            let full = std::mem::replace(pack, self.new_pack(lane));
            upload::start(lane, full.close(), room);
        }
        let pack = &mut open[choice];
        pack.push(kind, blob, shared)?;
        pack.body.write_if_due().await?;
        if pack.bytes >= self.target_bytes {
            let room = upload::room(lane).await?;
            let full = std::mem::replace(pack, self.new_pack(lane));
            upload::start(lane, full.close(), room);
        }
        Ok(())
    }

    /// Takes no more blobs from now on: nothing is opened once all is closed.
    pub(super) fn refuse_more(&self) {
        self.refuses.store(true, Ordering::Release);
    }

    /// Closes all packs. Two half-full ones become one.
    pub(super) async fn close_all(&self, lane: &Arc<Lane>) -> Result<()> {
        for packer in [&self.data, &self.tree] {
            let mut open = packer.lock().await;
            let mut rest: Vec<OpenPack> =
                open.drain(..).filter(|pack| !pack.blobs.is_empty()).collect();
            while let Some(mut pack) = rest.pop() {
                if let Some(other) = rest.pop_if(|other| pack.can_take(other, self.target_bytes)) {
                    pack.append(other).await?;
                }
                let room = upload::room(lane).await?;
                upload::start(lane, pack.close(), room);
            }
        }
        Ok(())
    }

    /// Closes packs that were opened before `deadline`, as far as there is room. Never waits: a lane
    /// without room is busy enough, and whoever asks has other lanes to look after.
    pub(super) fn close_older(&self, lane: &Arc<Lane>, deadline: Duration) {
        for packer in [&self.data, &self.tree] {
            let Ok(mut open) = packer.try_lock() else {
                continue;
            };
            for pack in open.iter_mut() {
                if pack.blobs.is_empty() || pack.opened_at >= deadline {
                    continue;
                }
                let Some(room) = upload::try_room(lane) else {
                    return;
                };
                let old = std::mem::replace(pack, self.new_pack(lane));
                upload::start(lane, old.close(), room);
            }
        }
    }

    fn new_pack(&self, lane: &Lane) -> OpenPack {
        let body = PackBody::new(self.buffers.clone(), self.scratch.clone());
        OpenPack::new(body, lane.now())
    }

    fn of(&self, kind: BlobKind) -> &Mutex<Vec<OpenPack>> {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.tree,
        }
    }
}

impl OpenPack {
    fn new(body: PackBody, now: Duration) -> Self {
        Self {
            body,
            bytes: 0,
            plain_bytes: 0,
            blobs: Vec::new(),
            tickets: Vec::new(),
            opened_at: now,
        }
    }

    /// A blob as large as a pack gets one of its own.
    fn has_room_for(&self, blob: &SealedBlob, target_bytes: u64) -> bool {
        self.blobs.len() < MAX_BLOBS && (blob.bytes.len_bytes() as u64) < target_bytes
    }

    fn can_take(&self, other: &Self, target_bytes: u64) -> bool {
        self.bytes + other.bytes <= target_bytes
            && self.blobs.len() + other.blobs.len() <= MAX_BLOBS
    }

    fn push(&mut self, kind: BlobKind, blob: SealedBlob, shared: &Segments) -> Result<()> {
        let blob_bytes = blob.bytes.len_bytes() as u64;
        let (offset, sealed_bytes) = (narrow(self.bytes)?, narrow(blob_bytes)?);
        match blob.bytes {
            SealedBytes::Own(segments) => self.body.push_segments(segments),
            SealedBytes::Shared(range) => {
                shared.parts(range).try_for_each(|part| self.body.push(part))?;
            }
        }
        self.blobs.push(PackedBlob {
            id: blob.id,
            kind,
            offset,
            sealed_bytes,
            plain_bytes: blob.compressed_from,
        });
        self.bytes += blob_bytes;
        self.plain_bytes += blob.plain_bytes;
        self.tickets.push(blob.ticket);
        Ok(())
    }

    async fn append(&mut self, other: Self) -> Result<()> {
        for mut blob in other.blobs {
            blob.offset = narrow(u64::from(blob.offset) + self.bytes)?;
            self.blobs.push(blob);
        }
        self.bytes += other.bytes;
        self.plain_bytes += other.plain_bytes;
        self.tickets.extend(other.tickets);
        self.body.append(other.body).await
    }

    fn close(self) -> ClosedPack {
        ClosedPack {
            body: self.body,
            plain_bytes: self.plain_bytes,
            blobs: self.blobs,
            tickets: self.tickets,
        }
    }
}

/// Offsets and lengths in packs have 32 bits.
fn narrow(bytes: u64) -> Result<u32> {
    u32::try_from(bytes)
        .map_err(|_| Error::new(ErrorKind::Unsupported, "a blob or pack of 4 GiB or more"))
}
