//! Chunks and trees become blobs: hashed, offered to each lane, compressed once, sealed per lane.

mod under_way;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

pub(crate) use self::under_way::Answer;
use self::under_way::UnderWay;
use super::lane::{Claim, Lane, SealedBatch, SealedBlob, Ticket};
use crate::buffers::{Buffer, BufferPool};
use crate::error::{Error, ErrorKind, Result};
use crate::model::BlobId;
use crate::pool::{Pool, Worker};
use crate::repo::chunker::MAX_CHUNK_BYTES;
use crate::repo::compress::{max_compressed_bytes, saves_enough};
use crate::repo::crypto::{Iv, OVERHEAD};
use crate::repo::pack_header::BlobKind;

/// Most chunks are not larger, and batches of small ones are not.
const USUAL_BYTES: usize = 4 << 20;
/// Buffers that a put works with: a blob in one part, and the same compressed.
const WORKING_BUFFERS: usize = 2;

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
    /// For blobs in one part, compressed, and sealed on their way into packs.
    buffers: BufferPool,
    /// The same for large ones. Used again, not given back: what an allocator gets back and forth in
    /// such sizes it does not return to the system.
    large_buffers: BufferPool,
    /// Bounds how many puts hold such blobs, in turns: a large one takes all. The others still hold the
    /// plain ones, which the budget counts.
    sealing: Arc<Semaphore>,
    turns: u32,
}

impl Store {
    pub(crate) fn new(lanes: Arc<[Arc<Lane>]>, pool: Pool) -> Self {
        let at_once = pool.threads().max(2);
        let each = WORKING_BUFFERS + lanes.len();
        let buffers = BufferPool::new(max_compressed_bytes(USUAL_BYTES), at_once * each);
        let large_buffers = BufferPool::new(max_compressed_bytes(MAX_CHUNK_BYTES), each);
        let sealing = Arc::new(Semaphore::new(at_once));
        let turns = u32::try_from(at_once).unwrap_or(u32::MAX);
        let parts = Parts { lanes, pool, buffers, large_buffers, sealing, turns };
        Self { parts, under_way: UnderWay::default() }
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
    // The memory of a chunk plain, compressed and sealed: few are so large, and two are too much.
    let is_large = missing.iter().any(|missing| missing.blob.len_bytes() > USUAL_BYTES);
    let turns = if is_large { parts.turns } else { 1 };
    let turn = Arc::clone(&parts.sealing).acquire_many_owned(turns).await;
    let _turn = turn.map_err(|_| Error::new(ErrorKind::Internal, "the store was closed"))?;
    let seal = move |worker: &mut Worker| {
        let (mut plain, mut packed) = (parts.buffer(is_large)?, parts.buffer(is_large)?);
        let (mut plain, mut packed) = (plain.as_mut_vec(), packed.as_mut_vec());
        let batches = Batches { parts: &parts, kind, is_large, all: Vec::new() };
        let mut sealer = Sealer { plain: &mut plain, packed: &mut packed, batches };
        for blob in missing {
            sealer.seal(worker, blob)?;
        }
        let batches = sealer.batches.all;
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
    /// Takes a buffer. Those of large blobs lie idle while there are none, so they serve small ones too.
    fn buffer(&self, is_large: bool) -> Result<Buffer> {
        match self.large_buffers.take_idle() {
            Some(idle) => Ok(idle),
            None if is_large => self.large_buffers.take(),
            None => self.buffers.take(),
        }
    }

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

    /// The bytes, if they are in one stretch of memory; otherwise they are put into `plain`.
    fn in_one_part(mut self, plain: &mut Vec<u8>) -> Option<Bytes> {
        if self.0.len() == 1 {
            return self.0.pop();
        }
        plain.clear();
        for part in &self.0 {
            plain.extend_from_slice(part);
        }
        None
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
    /// Memory for a blob in one part.
    plain: &'a mut Vec<u8>,
    /// And for the same compressed.
    packed: &'a mut Vec<u8>,
    batches: Batches<'a>,
}

impl Sealer<'_> {
    fn seal(&mut self, worker: &mut Worker, missing: Missing) -> Result<()> {
        let Self { plain, packed, batches } = self;
        let Worker { compressor, decompressor, .. } = worker;
        let Missing { id, blob, lanes } = missing;
        let whole = blob.in_one_part(plain);
        let content = whole.as_deref().unwrap_or(plain);
        let plain_bytes = content.len();
        compressor.compress_into(content, packed)?;
        let is_compressed = match batches.kind {
            BlobKind::Data => saves_enough(plain_bytes, packed.len()),
            // restic repacks plain trees on every prune.
            BlobKind::Tree => true,
        };
        if is_compressed {
            // The plain bytes are not needed any more, so they may be overwritten.
            decompressor.decompress_into(packed, plain_bytes, plain_bytes, plain)?;
            if BlobId::of(plain) != id {
                return Err(broken(&id, "it does not decompress to what was compressed"));
            }
        }
        let content = match &whole {
            _ if is_compressed => &packed[..],
            Some(whole) => whole,
            None => &plain[..],
        };
        let narrow = u32::try_from(plain_bytes)
            .map_err(|_| Error::new(ErrorKind::Unsupported, "a blob of 4 GiB or more"))?;
        let compressed_from = is_compressed.then_some(narrow);
        let plain_bytes = plain_bytes as u64;
        for (lane, ticket) in lanes {
            let sealed_bytes = content.len() + OVERHEAD;
            let blob = SealedBlob { id, ticket, sealed_bytes, compressed_from, plain_bytes };
            batches.add(lane, blob, content)?;
        }
        Ok(())
    }
}

/// What each lane lacks.
struct Batches<'a> {
    parts: &'a Parts,
    kind: BlobKind,
    is_large: bool,
    /// By the number of the lane.
    all: Vec<(usize, SealedBatch)>,
}

impl Batches<'_> {
    fn of(&mut self, lane: usize) -> Result<&mut SealedBatch> {
        let known = self.all.iter().position(|(of, _)| *of == lane);
        let at = known.unwrap_or(self.all.len());
        if known.is_none() {
            let bytes = self.parts.buffer(self.is_large)?;
            self.all.push((lane, SealedBatch { kind: self.kind, bytes, blobs: Vec::new() }));
        }
        Ok(&mut self.all[at].1)
    }

    /// Seals a blob for one lane, and proves that it can be opened. The blob says how long that is.
    fn add(&mut self, lane: usize, blob: SealedBlob, content: &[u8]) -> Result<()> {
        let repository = self.parts.lanes[lane].repository();
        let iv = Iv::random(repository.env())?;
        let batch = self.of(lane)?;
        let mut sealed = batch.bytes.as_mut_vec();
        let start = sealed.len();
        repository.key().seal_into(iv, content, &mut sealed);
        let new = &sealed[start..];
        if !repository.key().opens_to(new, content) {
            return Err(broken(&blob.id, "it does not decrypt to what was encrypted"));
        }
        drop(sealed);
        batch.blobs.push(blob);
        Ok(())
    }
}

/// Memory or processor faults: the only way to get here.
fn broken(id: &BlobId, why: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("blob {id} was not stored: {why}"))
        .with_hint("test the memory of this machine")
}
