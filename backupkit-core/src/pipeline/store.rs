//! Chunks and trees become blobs: hashed, offered to each lane, compressed once, sealed per lane.

mod under_way;

use std::sync::Arc;

use bytes::Bytes;

pub(crate) use self::under_way::Answer;
use self::under_way::UnderWay;
use super::lane::{Claim, Lane, SealedBlob, Ticket};
use crate::error::{Error, ErrorKind, Result};
use crate::model::BlobId;
use crate::pool::{Pool, Worker};
use crate::repo::crypto::Iv;
use crate::repo::pack_header::BlobKind;

/// Scratch memory above this is given back after use: chunks fit, only large trees do not.
const KEPT_SCRATCH_BYTES: usize = 16 << 20;

/// The end of the pipeline that all lanes share.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    lanes: Arc<[Arc<Lane>]>,
    pool: Pool,
    under_way: UnderWay,
}

impl Store {
    pub(crate) fn new(lanes: Arc<[Arc<Lane>]>, pool: Pool) -> Self {
        Self { lanes, pool, under_way: UnderWay::default() }
    }

    pub(crate) fn lanes(&self) -> &[Arc<Lane>] {
        &self.lanes
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The lanes that still take part.
    pub(crate) fn live_lanes(&self) -> impl Iterator<Item = &Arc<Lane>> {
        self.lanes.iter().filter(|lane| lane.is_live())
    }

    /// Stores blobs in `targets` (numbers of lanes) and returns their ids in order. One job of the
    /// pool for all of them. On return each lane has the blobs in a pack buffer or behind it. A put
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
        let (lanes, pool) = (Arc::clone(&self.lanes), self.pool.clone());
        self.under_way.start(async move {
            let ids = put(&lanes, &pool, kind, blobs, targets).await;
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
    lanes: &Arc<[Arc<Lane>]>,
    pool: &Pool,
    kind: BlobKind,
    blobs: Vec<Chunk>,
    targets: Arc<[usize]>,
) -> Result<Vec<BlobId>> {
    let (all, chosen) = (Arc::clone(lanes), Arc::clone(&targets));
    let (ids, sealed) = pool
        .run(move |worker| {
            let mut ids = Vec::with_capacity(blobs.len());
            let mut sealed: Vec<Vec<SealedBlob>> = chosen.iter().map(|_| Vec::new()).collect();
            for blob in blobs {
                ids.push(prepare(worker, &all, &chosen, kind, blob, &mut sealed)?);
            }
            Ok((ids, sealed))
        })
        .await?;
    for (&lane, blobs) in targets.iter().zip(sealed) {
        if !blobs.is_empty() {
            lanes[lane].add(blobs).await;
        }
    }
    Ok(ids)
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

fn prepare(
    worker: &mut Worker,
    lanes: &[Arc<Lane>],
    targets: &[usize],
    kind: BlobKind,
    blob: Chunk,
    sealed: &mut [Vec<SealedBlob>],
) -> Result<BlobId> {
    let plain = blob.into_bytes();
    let id = BlobId::of(&plain);
    let needed: Vec<(usize, usize, Ticket)> = targets
        .iter()
        .enumerate()
        .filter_map(|(slot, &lane)| match lanes[lane].claim(kind, &id) {
            Claim::Known => None,
            Claim::Needed(ticket) => Some((slot, lane, ticket)),
        })
        .collect();
    if needed.is_empty() {
        return Ok(id);
    }
    let Worker { compressor, decompressor, scratch } = worker;
    let packed = match kind {
        BlobKind::Data => compressor.compress(&plain)?,
        // restic repacks plain trees on every prune.
        BlobKind::Tree => Some(compressor.compress_always(&plain)?),
    };
    if let Some(packed) = packed {
        decompressor.decompress_into(packed, plain.len(), plain.len(), scratch)?;
        if BlobId::of(scratch) != id {
            return Err(broken(&id, "it does not decompress to what was compressed"));
        }
        if scratch.capacity() > KEPT_SCRATCH_BYTES {
            *scratch = Vec::new();
        }
    }
    let content = packed.unwrap_or(&plain);
    let plain_bytes = plain.len() as u64;
    let narrow = u32::try_from(plain.len())
        .map_err(|_| Error::new(ErrorKind::Unsupported, "a blob of 4 GiB or more"))?;
    for (slot, lane, ticket) in needed {
        let repository = lanes[lane].repository();
        let bytes = repository.key().seal(Iv::random(repository.env())?, content);
        if !repository.key().opens_to(&bytes, content) {
            return Err(broken(&id, "it does not decrypt to what was encrypted"));
        }
        sealed[slot].push(SealedBlob {
            kind,
            id,
            ticket,
            sealed: bytes,
            compressed_from: packed.is_some().then_some(narrow),
            plain_bytes,
        });
    }
    Ok(id)
}

/// Memory or processor faults: the only way to get here.
fn broken(id: &BlobId, why: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("blob {id} was not stored: {why}"))
        .with_hint("test the memory of this machine")
}
