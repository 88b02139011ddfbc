//! The bytes of packs: file hash, header, and every blob.

use std::collections::HashMap;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};

use super::CheckRun;
use super::findings::Findings;
use super::packs::{PackFacts, hash_blobs};
use crate::error::{Error, ErrorKind, Result};
use crate::model::PackId;
use crate::pool::Worker;
use crate::repo::blobs::{MAX_BLOB_BYTES, StoredBlob};
use crate::repo::fetch::{is_of_stored_bytes, read_pack_range};
use crate::repo::index::BlobLocation;
use crate::repo::pack_header::{PackedBlob, TRAILER_BYTES, parse_header, parse_trailer};

/// Packs in memory at the same time. Their blobs are opened side by side, so more gain little.
const PACKS_IN_FLIGHT: usize = 2;
/// Larger packs, as other programs may make them, are read in stretches of about this length.
const STRETCH_BYTES: u64 = 32 << 20;
/// Blobs of so many sealed bytes are one job of the pool.
const JOB_BYTES: u64 = 2 << 20;
/// Memory that each thread keeps between jobs.
const KEPT_BYTES: usize = 8 << 20;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) packs: u64,
    pub(super) bytes: u64,
}

/// Reads the packs that were chosen.
pub(super) async fn check(
    run: &CheckRun,
    packs: HashMap<PackId, PackFacts>,
    findings: &Findings,
) -> Result<Read> {
    let mut chosen: Vec<_> = packs.into_iter().filter(|(_, facts)| facts.read).collect();
    chosen.sort_unstable_by_key(|(id, _)| *id);
    let mut checks = futures::stream::iter(chosen)
        .map(|(id, facts)| async move {
            let mut problems = check_pack(run, id, &facts).await?;
            if !problems.is_empty() {
                // The bytes may have been damaged on their way.
                problems = check_pack(run, id, &facts).await?;
            }
            Ok::<_, Error>((id, facts.bytes, problems))
        })
        .buffer_unordered(PACKS_IN_FLIGHT);
    let mut read = Read::default();
    while let Some((id, bytes, problems)) = checks.try_next().await? {
        for problem in problems {
            findings.add(format!("pack {id}"), &problem, None);
        }
        read.packs += 1;
        read.bytes = read.bytes.saturating_add(bytes);
        run.counters.add_finished(1);
        run.counters.add_finished_bytes(bytes);
    }
    Ok(read)
}

/// Returns what is wrong with a pack.
async fn check_pack(run: &CheckRun, id: PackId, facts: &PackFacts) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    match read_and_check(run, id, facts, &mut problems).await {
        Err(error) if is_of_stored_bytes(&error) => problems.push(error.to_string()),
        result => result?,
    }
    Ok(problems)
}

async fn read_and_check(
    run: &CheckRun,
    id: PackId,
    facts: &PackFacts,
    problems: &mut Vec<String>,
) -> Result<()> {
    let length = facts.bytes;
    let pack = PackReader { run, id, length };
    // A pack of usual size is read once; the header of others is read ahead of the rest.
    let whole = if length <= STRETCH_BYTES { Some(pack.read(0, length).await?) } else { None };
    let blobs = match pack.header(whole.as_ref()).await {
        Ok(blobs) => {
            if hash_blobs(&blobs) != facts.blobs_hash {
                problems.push("its header does not list what its index says".to_owned());
            }
            blobs
        }
        Err(error) if is_of_stored_bytes(&error) => {
            problems.push(error.to_string());
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    for blob in blobs.iter().filter(|blob| is_too_large(blob)) {
        problems.push(format!("blob {} is larger than blobs can be", blob.id));
    }
    let mut hasher = Sha256::new();
    for stretch in stretches(length, &blobs) {
        let Stretch { start, end, blobs } = stretch;
        let bytes = match &whole {
            Some(bytes) => bytes.clone(),
            None => pack.read(start, end).await?,
        };
        run.counters.add_read(end - start);
        let copy = bytes.clone();
        let hashing = run.pool.run(move |_| {
            hasher.update(&copy);
            Ok(hasher)
        });
        let (updated, damaged) =
            futures::future::try_join(hashing, pack.open(start, &bytes, blobs)).await?;
        hasher = updated;
        problems.extend(damaged);
    }
    if PackId::from_bytes(hasher.finalize().into()) != id {
        problems.push("its bytes do not fit its name".to_owned());
    }
    Ok(())
}

struct PackReader<'a> {
    run: &'a CheckRun,
    id: PackId,
    length: u64,
}

impl PackReader<'_> {
    async fn read(&self, start: u64, end: u64) -> Result<Bytes> {
        let what = || format!("pack {}", self.id);
        read_pack_range(&self.run.repository, &self.id, start..end, what).await
    }

    /// Reads the list of blobs at the end of the pack.
    async fn header(&self, whole: Option<&Bytes>) -> Result<Vec<PackedBlob>> {
        let short = || Error::corrupt(format!("pack {}", self.id), "it is too short for a header");
        let trailer_at = self.length.checked_sub(TRAILER_BYTES as u64).ok_or_else(short)?;
        let part = async |start: u64, end: u64| match whole {
            Some(bytes) => slice(bytes, start, end).ok_or_else(short),
            None => self.read(start, end).await,
        };
        let trailer = part(trailer_at, self.length).await?;
        let trailer = trailer.first_chunk::<TRAILER_BYTES>().ok_or_else(short)?;
        let header_bytes = parse_trailer(*trailer, self.length)?;
        let header_at = trailer_at.checked_sub(u64::from(header_bytes)).ok_or_else(short)?;
        let sealed = part(header_at, trailer_at).await?;
        let damaged = |why: &str| Error::corrupt(format!("pack {}", self.id), why);
        let header = self.run.repository.key().open(&sealed);
        let header = header.map_err(|error| damaged(&format!("its header: {error}")))?;
        let blobs = parse_header(&header)?;
        if blobs.last().map_or(0, PackedBlob::end) != header_at {
            return Err(damaged("its blobs do not end where its header begins"));
        }
        Ok(blobs)
    }

    /// Opens blobs of a stretch that begins at `start`, and returns what is wrong with them.
    async fn open(&self, start: u64, bytes: &Bytes, blobs: &[PackedBlob]) -> Result<Vec<String>> {
        let mut jobs = Vec::new();
        let mut rest = blobs;
        while let Some(first) = rest.first() {
            let end = first.end() + JOB_BYTES;
            let count = rest.iter().take_while(|blob| blob.end() <= end).count().max(1);
            let (job, others) = rest.split_at(count);
            rest = others;
            let (repository, pack) = (self.run.repository.clone(), self.id);
            let (job, bytes) = (job.to_vec(), bytes.clone());
            jobs.push(self.run.pool.run(move |worker| {
                let Worker { decompressor, opening, .. } = worker;
                let mut open = |blob: &PackedBlob| {
                    let sealed = slice_of(&bytes, start, blob)?;
                    let location = location(pack, blob);
                    let stored = StoredBlob { kind: blob.kind, id: blob.id, location };
                    stored.check(repository.key(), decompressor, opening, &sealed)
                };
                let problems = job.iter().filter_map(|blob| open(blob).err());
                let problems = problems.map(|error| error.to_string()).collect::<Vec<_>>();
                opening.shrink(KEPT_BYTES);
                Ok(problems)
            }));
        }
        Ok(futures::future::try_join_all(jobs).await?.concat())
    }
}

fn location(pack: PackId, blob: &PackedBlob) -> BlobLocation {
    BlobLocation {
        pack,
        offset: blob.offset,
        sealed_bytes: blob.sealed_bytes,
        plain_bytes: blob.plain_bytes,
    }
}

/// The sealed bytes of a blob in a stretch that begins at `start`.
fn slice_of(bytes: &Bytes, start: u64, blob: &PackedBlob) -> Result<Bytes> {
    let from = u64::from(blob.offset).checked_sub(start);
    let to = blob.end().checked_sub(start);
    from.zip(to).and_then(|(from, to)| slice(bytes, from, to)).ok_or_else(|| {
        Error::new(ErrorKind::Internal, format!("blob {} was not in its stretch", blob.id))
    })
}

fn slice(bytes: &Bytes, start: u64, end: u64) -> Option<Bytes> {
    let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
    (start <= end && end <= bytes.len()).then(|| bytes.slice(start..end))
}

/// A part of a pack, and the blobs that lie in it.
#[derive(Debug, PartialEq, Eq)]
struct Stretch<'b> {
    start: u64,
    end: u64,
    blobs: &'b [PackedBlob],
}

/// Cuts a pack between blobs. One stretch for a pack of usual size; what lies behind the blobs comes
/// in stretches of its own.
fn stretches(length: u64, blobs: &[PackedBlob]) -> Vec<Stretch<'_>> {
    if length <= STRETCH_BYTES {
        return vec![Stretch { start: 0, end: length, blobs }];
    }
    let mut stretches = Vec::new();
    let (mut start, mut rest) = (0, blobs);
    while let Some(first) = rest.first() {
        if is_too_large(first) {
            push_plain(&mut stretches, start, first.end());
            (start, rest) = (first.end(), &rest[1..]);
            continue;
        }
        let limit = start + STRETCH_BYTES;
        let fits = |blob: &&PackedBlob| blob.end() <= limit && !is_too_large(blob);
        let count = rest.iter().take_while(fits).count().max(1);
        let (inside, others) = rest.split_at(count);
        let end = inside.last().unwrap_or(first).end();
        stretches.push(Stretch { start, end, blobs: inside });
        (start, rest) = (end, others);
    }
    push_plain(&mut stretches, start, length);
    stretches
}

fn push_plain(stretches: &mut Vec<Stretch<'_>>, mut start: u64, stop: u64) {
    while start < stop {
        let end = stop.min(start + STRETCH_BYTES);
        stretches.push(Stretch { start, end, blobs: &[] });
        start = end;
    }
}

/// Whether no reader would hold such a blob in memory.
fn is_too_large(blob: &PackedBlob) -> bool {
    blob.sealed_bytes as usize > MAX_BLOB_BYTES
}
