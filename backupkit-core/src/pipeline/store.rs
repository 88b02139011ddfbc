//! Chunks and trees become blobs: hashed, offered to each lane, compressed once, sealed per lane.

mod under_way;

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

pub(crate) use self::under_way::Answer;
use self::under_way::UnderWay;
use super::lane::{Claim, Lane, SEGMENT_BYTES, SealedBatch, SealedBlob, SealedBytes, Ticket};
use crate::buffers::{BufferPool, Segments};
use crate::error::{Error, ErrorKind, Result};
use crate::model::BlobId;
use crate::pool::{Pool, Worker};
use crate::repo::compress::saves_enough;
use crate::repo::crypto::Iv;
use crate::repo::pack_header::BlobKind;

/// Segments that may lie idle for each lane, those of a pack; the others go back to the system.
const IDLE_SEGMENTS: usize = 64;
/// Sealed blobs of this size and more go into packs as they are, smaller ones are copied together.
const OWN_SEGMENTS_BYTES: usize = 2 * SEGMENT_BYTES;

/// The end of the pipeline that all lanes share.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    parts: Parts,
    under_way: UnderWay,
}

/// What the work under way needs. It must not hold the handle of that work: it ends when the last
/// handle is dropped.
#[derive(Debug, Clone)]
struct Parts {
    lanes: Arc<[Arc<Lane>]>,
    pool: Pool,
    /// For compressed and sealed blobs.
    segments: BufferPool,
    /// Bounds how many puts hold such blobs. The others still hold the plain ones, which the budget
    /// counts.
    sealing: Arc<Semaphore>,
}

impl Store {
    pub(crate) fn new(lanes: Arc<[Arc<Lane>]>, pool: Pool) -> Self {
        let at_once = pool.threads().max(2);
        let segments = BufferPool::new(SEGMENT_BYTES, IDLE_SEGMENTS * lanes.len());
        let sealing = Arc::new(Semaphore::new(at_once));
        Self { parts: Parts { lanes, pool, segments, sealing }, under_way: UnderWay::default() }
    }

    pub(crate) fn lanes(&self) -> &[Arc<Lane>] {
        &self.parts.lanes
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.parts.pool
    }

    /// The lanes that still take part.
    pub(crate) fn live_lanes(&self) -> impl Iterator<Item = &Arc<Lane>> {
        self.parts.lanes.iter().filter(|lane| lane.is_live())
    }

    /// Stores blobs in `targets` (numbers of lanes) and returns their ids in order. One job of the
    /// pool seals all of them. On return each lane has the blobs in a pack buffer or behind it. A put
    /// whose future is dropped goes on.
    pub(crate) async fn put(
        &self,
        kind: BlobKind,
        blobs: Vec<Chunk>,
        targets: Arc<[usize]>,
    ) -> Result<Vec<BlobId>> {
        self.start_put(kind, blobs, targets, ()).await
    }

    /// As [`Self::put`], but at once and beside the caller. `held` is dropped when the blobs are out
    /// of the caller's memory.
    pub(crate) fn start_put<H: Send + 'static>(
        &self,
        kind: BlobKind,
        blobs: Vec<Chunk>,
        targets: Arc<[usize]>,
        held: H,
    ) -> Answer<Vec<BlobId>> {
        let parts = self.parts.clone();
        self.under_way.start(async move {
            let ids = put(parts, kind, blobs, targets).await;
            drop(held);
            ids
        })
    }

    /// Waits until all puts are done, also those that nobody waits for.
    ///
    /// # Errors
    /// The first failure of a put that nobody waited for: a lane may lack its blobs.
    pub(crate) async fn settle(&self) -> Result<()> {
        self.under_way.settle().await
    }
}

async fn put(
    parts: Parts,
    kind: BlobKind,
    blobs: Vec<Chunk>,
    targets: Arc<[usize]>,
) -> Result<Vec<BlobId>> {
    let pool = parts.pool.clone();
    let messages = blobs.iter().map(|blob| blob.0.clone()).collect();
    let digests = parts.pool.hash(messages).await?;
    let ids: Vec<BlobId> = digests.into_iter().map(BlobId::from_bytes).collect();
    let missing: Vec<Missing> = ids
        .iter()
        .zip(blobs)
        .filter_map(|(id, blob)| parts.claim(kind, *id, blob, &targets))
        .collect();
    if missing.is_empty() {
        return Ok(ids);
    }
    let turn = Arc::clone(&parts.sealing).acquire_owned().await;
    let _turn = turn.map_err(|_| Error::new(ErrorKind::Internal, "the store was closed"))?;
    let seal = move |worker: &mut Worker| {
        let mut sealer = Sealer { parts: &parts, kind, batches: Vec::new() };
        for blob in missing {
            sealer.seal(worker, blob)?;
        }
        let batches = sealer.batches;
        Ok((parts, batches))
    };
    let (parts, batches) = pool.run(seal).await?;
    for (lane, batch) in batches {
        parts.lanes[lane].add(batch).await;
    }
    Ok(ids)
}

/// A blob that lanes lack.
struct Missing {
    id: BlobId,
    blob: Chunk,
    /// Their numbers.
    lanes: Vec<(usize, Ticket)>,
}

impl Parts {
    /// Offers a blob to lanes. Nothing comes of it if all of them know it.
    fn claim(&self, kind: BlobKind, id: BlobId, blob: Chunk, targets: &[usize]) -> Option<Missing> {
        let claims = targets.iter().filter_map(|&lane| match self.lanes[lane].claim(kind, &id) {
            Claim::Known => None,
            Claim::Needed(ticket) => Some((lane, ticket)),
        });
        let lanes: Vec<_> = claims.collect();
        (!lanes.is_empty()).then_some(Missing { id, blob, lanes })
    }
}

/// The bytes of one blob, in parts that follow each other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chunk(Vec<Bytes>);

impl Chunk {
    pub(crate) fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.0.push(part);
        }
    }

    pub(crate) fn len_bytes(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn parts(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.0.iter().map(|part| &part[..])
    }

    /// One stretch of memory; copies only what arrived in several parts.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        if self.0.len() == 1 {
            return self.0.swap_remove(0);
        }
        self.0.concat().into()
    }
}

impl From<Bytes> for Chunk {
    fn from(bytes: Bytes) -> Self {
        let mut chunk = Self::default();
        chunk.push(bytes);
        chunk
    }
}

/// Compresses and seals the blobs of one put.
struct Sealer<'a> {
    parts: &'a Parts,
    kind: BlobKind,
    /// What each lane lacks, by its number.
    batches: Vec<(usize, SealedBatch)>,
}

impl Sealer<'_> {
    fn seal(&mut self, worker: &mut Worker, missing: Missing) -> Result<()> {
        let Missing { id, blob, lanes } = missing;
        let plain_bytes = blob.len_bytes();
        let narrow = u32::try_from(plain_bytes)
            .map_err(|_| Error::new(ErrorKind::Unsupported, "a blob of 4 GiB or more"))?;
        let mut packed = Segments::new(&self.parts.segments);
        worker.compressor.compress_parts(blob.parts(), plain_bytes as u64, &mut packed)?;
        let is_compressed = match self.kind {
            BlobKind::Data => saves_enough(plain_bytes, packed.len_bytes()),
            // restic repacks plain trees on every prune.
            BlobKind::Tree => true,
        };
        if is_compressed {
            let mut hash = Sha256::new();
            worker.decompressor.decompress_parts(packed.all(), |piece| hash.update(piece))?;
            if BlobId::from_bytes(hash.finalize().into()) != id {
                return Err(broken(&id, "it does not decompress to what was compressed"));
            }
        }
        for (lane, ticket) in lanes {
            let bytes = if is_compressed {
                self.seal_for(lane, &id, packed.all())?
            } else {
                self.seal_for(lane, &id, blob.parts())?
            };
            self.batch(lane).blobs.push(SealedBlob {
                id,
                ticket,
                bytes,
                compressed_from: is_compressed.then_some(narrow),
                plain_bytes: u64::from(narrow),
            });
        }
        Ok(())
    }

    /// Seals a blob for one lane, and proves that it can be opened.
    fn seal_for<'b>(
        &mut self,
        lane: usize,
        id: &BlobId,
        content: impl Iterator<Item = &'b [u8]> + Clone,
    ) -> Result<SealedBytes> {
        let repository = self.parts.lanes[lane].repository();
        let (key, iv) = (repository.key(), Iv::random(repository.env())?);
        let proved = |opens: bool| {
            let why = "it does not decrypt to what was encrypted";
            if opens { Ok(()) } else { Err(broken(id, why)) }
        };
        let content_bytes: usize = content.clone().map(<[u8]>::len).sum();
        if content_bytes >= OWN_SEGMENTS_BYTES {
            let mut sealed = Segments::new(&self.parts.segments);
            key.seal_parts(iv, content.clone(), &mut sealed)?;
            proved(key.opens_to(sealed.all(), content))?;
            return Ok(SealedBytes::Own(sealed));
        }
        let shared = &mut self.batch(lane).shared;
        let start = shared.len_bytes();
        let range = start..start + key.seal_parts(iv, content.clone(), shared)?;
        proved(key.opens_to(shared.parts(range.clone()), content))?;
        Ok(SealedBytes::Shared(range))
    }

    fn batch(&mut self, lane: usize) -> &mut SealedBatch {
        let known = self.batches.iter().position(|(of, _)| *of == lane);
        let at = known.unwrap_or(self.batches.len());
        if known.is_none() {
            let shared = Segments::new(&self.parts.segments);
            self.batches.push((lane, SealedBatch { kind: self.kind, shared, blobs: Vec::new() }));
        }
        &mut self.batches[at].1
    }
}

/// Memory or processor faults: the only way to get here.
fn broken(id: &BlobId, why: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("blob {id} was not stored: {why}"))
        .with_hint("test the memory of this machine")
}
