//! Many blobs at once: grouped by pack, read in few requests, opened side by side, each verified.

mod plan;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::Semaphore;

use super::blobs::{MAX_BLOB_BYTES, noun};
use super::index::{BlobLocation, Index};
use super::layout::pack_key;
use super::pack_header::BlobKind;
use super::recent_blobs::RecentBlobs;
use super::repository::Repository;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlobId, PackId};
use crate::pool::Pool;
use plan::{Request, Wanted, jobs, plan_requests};

/// Sealed bytes in memory at the same time, over all requests.
const MAX_IN_FLIGHT_BYTES: u32 = 24 << 20;

const PACK_MISSING: &str = "pack-missing";

/// Reads blobs of one repository. Clones share what was read lately and the limit on memory.
#[derive(Clone)]
pub(crate) struct BlobFetcher(Arc<Inner>);

struct Inner {
    repository: Repository,
    index: Arc<Index>,
    pool: Pool,
    recent: RecentBlobs,
    in_flight: Semaphore,
}

/// What came of a fetch.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    blobs: HashMap<BlobId, Result<Bytes>>,
    /// Bytes that were read from the destination.
    pub(crate) read_bytes: u64,
}

impl Fetched {
    /// Returns a blob, or why it cannot be read: it is damaged or missing.
    pub(crate) fn get(&self, id: &BlobId) -> Result<Bytes> {
        match self.blobs.get(id) {
            Some(Ok(bytes)) => Ok(bytes.clone()),
            Some(Err(error)) => Err(error.duplicate()),
            None => Err(Error::new(ErrorKind::Internal, format!("blob {id} was not asked for"))),
        }
    }
}

impl BlobFetcher {
    /// Returns a fetcher that keeps `recent_bytes` of what it read.
    pub(crate) fn new(
        repository: Repository,
        index: Arc<Index>,
        pool: Pool,
        recent_bytes: usize,
    ) -> Self {
        Self(Arc::new(Inner {
            repository,
            index,
            pool,
            recent: RecentBlobs::new(recent_bytes),
            in_flight: Semaphore::new(MAX_IN_FLIGHT_BYTES as usize),
        }))
    }

    pub(crate) fn repository(&self) -> &Repository {
        &self.0.repository
    }

    pub(crate) fn shared_index(&self) -> Arc<Index> {
        Arc::clone(&self.0.index)
    }

    pub(crate) fn index(&self) -> &Index {
        &self.0.index
    }

    /// Where a blob lies.
    ///
    /// # Errors
    /// `Corrupt` naming the blob if no index knows it, or it cannot be that large.
    pub(crate) fn locate(&self, kind: BlobKind, id: &BlobId) -> Result<BlobLocation> {
        let damaged = |why: &str| Error::corrupt(format!("{} {id}", noun(kind)), why);
        let location = self.0.index.get(kind, id).ok_or_else(|| damaged("it is in no index"))?;
        if location.sealed_bytes as usize > MAX_BLOB_BYTES {
            return Err(damaged("it is larger than blobs can be"));
        }
        Ok(location)
    }

    /// Whether a blob is at hand without reading.
    pub(crate) fn is_at_hand(&self, kind: BlobKind, id: &BlobId) -> bool {
        self.0.recent.contains(kind, id)
    }

    /// Reads blobs, each once however often it is named. The caller bounds how many bytes they are.
    ///
    /// A blob that is damaged or missing is an error in its place. Cancel safe.
    ///
    /// # Errors
    /// Those that are not of one blob: the destination cannot be reached or refuses.
    pub(crate) async fn fetch(
        &self,
        kind: BlobKind,
        ids: impl IntoIterator<Item = BlobId>,
    ) -> Result<Fetched> {
        let mut fetched = Fetched::default();
        let mut wanted = Vec::new();
        let mut ids: Vec<BlobId> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            if let Some(bytes) = self.0.recent.get(kind, &id) {
                fetched.blobs.insert(id, Ok(bytes));
                continue;
            }
            match self.locate(kind, &id) {
                Ok(location) => wanted.push(Wanted { id, location }),
                Err(error) => drop(fetched.blobs.insert(id, Err(error))),
            }
        }
        let concurrency = self.0.repository.destination().capabilities().concurrency.max(1);
        let mut answers = futures::stream::iter(plan_requests(wanted))
            .map(|request| self.answer(kind, request))
            .buffer_unordered(concurrency);
        while let Some(answer) = answers.try_next().await? {
            fetched.read_bytes += answer.read_bytes;
            for (id, blob) in answer.blobs {
                if let Ok(bytes) = &blob {
                    self.0.recent.insert(kind, id, bytes.clone());
                }
                fetched.blobs.insert(id, blob);
            }
        }
        drop(answers);
        Ok(fetched)
    }

    async fn answer(&self, kind: BlobKind, request: Request) -> Result<Answer> {
        let mut answer = self.answer_once(kind, &request).await?;
        // Bytes may have been damaged on their way, and one blob beyond the end of a short pack
        // hides the others: what failed is asked for once more, by itself.
        let failed: Vec<Wanted> = request
            .blobs
            .iter()
            .zip(&answer.blobs)
            .filter(|(_, (_, blob))| blob.as_ref().is_err_and(|error| error.code() != PACK_MISSING))
            .map(|(wanted, _)| *wanted)
            .collect();
        for wanted in failed {
            let again = self.answer_once(kind, &Request::single(wanted)).await?;
            answer.read_bytes += again.read_bytes;
            for (id, blob) in again.blobs {
                if let Some(slot) = answer.blobs.iter_mut().find(|(other, _)| *other == id) {
                    slot.1 = blob;
                }
            }
        }
        Ok(answer)
    }

    /// The answer has the blobs in the order of the request.
    async fn answer_once(&self, kind: BlobKind, request: &Request) -> Result<Answer> {
        let bytes = request.range.end - request.range.start;
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX).min(MAX_IN_FLIGHT_BYTES);
        let _permit = self.0.in_flight.acquire_many(permits).await.map_err(|_| {
            Error::new(ErrorKind::Internal, "the limit on bytes in flight was closed")
        })?;
        match self.read(kind, request).await {
            Ok(sealed) => {
                let blobs = self.open(kind, request, &sealed).await?;
                Ok(Answer { blobs, read_bytes: bytes })
            }
            Err(error) if is_of_stored_bytes(&error) => {
                let ids = request.blobs.iter().map(|wanted| wanted.id);
                let blobs = ids.map(|id| (id, Err(error.duplicate()))).collect();
                Ok(Answer { blobs, read_bytes: 0 })
            }
            Err(error) => Err(error),
        }
    }

    async fn read(&self, kind: BlobKind, request: &Request) -> Result<Bytes> {
        let Request { pack, range, blobs } = request;
        let what = || match &blobs[..] {
            [wanted] => format!("{} {} in pack {pack}", noun(kind), wanted.id),
            _ => format!("pack {pack}"),
        };
        read_pack_range(&self.0.repository, pack, range.clone(), what).await
    }

    async fn open(
        &self,
        kind: BlobKind,
        request: &Request,
        sealed: &Bytes,
    ) -> Result<Vec<(BlobId, Result<Bytes>)>> {
        let start = request.range.start;
        let opening = jobs(&request.blobs).into_iter().map(|blobs| {
            let (repository, blobs, sealed) =
                (self.0.repository.clone(), blobs.to_vec(), sealed.clone());
            self.0.pool.run(move |worker| {
                let mut decode = |wanted: &Wanted| {
                    let at = wanted.range_from(start)?;
                    let sealed = sealed.get(at).ok_or_else(|| {
                        Error::new(ErrorKind::Internal, "a blob was not within its request")
                    })?;
                    let blob = wanted.blob(kind);
                    blob.decode(repository.key(), &mut worker.decompressor, sealed)
                };
                Ok(blobs.iter().map(|wanted| decode(wanted).map(Bytes::from)).collect::<Vec<_>>())
            })
        });
        let decoded = futures::future::try_join_all(opening).await?.into_iter().flatten();
        self.prove_all(kind, &request.blobs, decoded.collect()).await
    }

    /// Hashes blobs side by side. Those that are not what their ids say are errors from here on.
    async fn prove_all(
        &self,
        kind: BlobKind,
        wanted: &[Wanted],
        decoded: Vec<Result<Bytes>>,
    ) -> Result<Vec<(BlobId, Result<Bytes>)>> {
        let messages = decoded.iter().flatten().map(|blob| vec![blob.clone()]).collect();
        let mut digests = self.0.pool.hash(messages).await?.into_iter();
        let proved = wanted.iter().zip(decoded).map(|(wanted, bytes)| {
            let proved = bytes.and_then(|bytes| {
                let digest = digests.next().ok_or_else(|| {
                    Error::new(ErrorKind::Internal, format!("blob {} was not hashed", wanted.id))
                })?;
                wanted.blob(kind).prove(digest)?;
                Ok(bytes)
            });
            (wanted.id, proved)
        });
        Ok(proved.collect())
    }
}

/// Reads a stretch of a pack. `what` says for the error what was to be read.
///
/// # Errors
/// `Corrupt` if the pack is missing or shorter than that; the destination's otherwise.
pub(crate) async fn read_pack_range(
    repository: &Repository,
    pack: &PackId,
    range: Range<u64>,
    what: impl Fn() -> String,
) -> Result<Bytes> {
    let length = range.end.saturating_sub(range.start);
    let read = repository.destination().get(&pack_key(pack)?, Some(range)).await;
    match read {
        Ok(bytes) if bytes.len() as u64 == length => Ok(bytes),
        Ok(bytes) => {
            let detail = format!("{} bytes came instead of {length}", bytes.len());
            Err(Error::corrupt(what(), detail))
        }
        Err(error) if error.is(ErrorKind::NotFound) => {
            let missing = Error::corrupt(what(), "the pack is missing").with_source(error);
            Err(missing.with_code(PACK_MISSING))
        }
        Err(error) if error.is(ErrorKind::InvalidInput) => {
            let detail = "the pack is shorter than its index says";
            Err(Error::corrupt(what(), detail).with_source(error))
        }
        Err(error) => Err(error.while_doing(format!("read {}", what()))),
    }
}

/// Whether an error tells of stored bytes, so that others may still be read.
pub(crate) fn is_of_stored_bytes(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Unsupported)
}

struct Answer {
    blobs: Vec<(BlobId, Result<Bytes>)>,
    read_bytes: u64,
}

impl fmt::Debug for BlobFetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobFetcher")
            .field("repository", &self.0.repository)
            .finish_non_exhaustive()
    }
}
