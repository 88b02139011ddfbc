//! Objects that are written in parts.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::body::Pieces;
use super::content::{COMPARED_BYTES, Content, hash};
use super::outgoing::{LeftOut, Outgoing};
use super::replacing::Replacing;
use super::session::Core;
use super::write::{check_protection, check_tags};
use crate::adapters::s3::bucket::UploadedPart;
use crate::adapters::s3::errors::REFUSED;
use crate::adapters::s3::object::{ObjectRecord, parts_of};
use crate::adapters::s3::payload::Parts;
use crate::error::{Error, ErrorKind, Result};
use crate::target::{BodyReader, Step};
use crate::token::WriteToken;

const MIB: u64 = 1 << 20;
/// Parts have from 5 MiB to 5 GiB, and there are 10,000 at most.
const LEAST_PART_BYTES: u64 = 5 * MIB;
const USUAL_PART_BYTES: u64 = 8 * MIB;
const MOST_PARTS: u64 = 9_500;
/// Larger parts are not made only to have the same entity tag again.
const MOST_SAME_PART_BYTES: u64 = 64 * MIB;
/// What programs make parts of, in MiB, the most usual first.
const USUAL_PARTS_MIB: [u64; 12] = [8, 5, 16, 10, 15, 64, 32, 50, 25, 20, 6, 12];
/// Parts of an object that are under way have so many bytes together, if they are not large.
const BYTES_AT_ONCE: u64 = 32 * MIB;
const PARTS_AT_ONCE: u64 = 3;

const TOKEN_VERSION: u32 = 1;

/// An upload under way.
#[derive(Debug)]
pub(super) struct Upload {
    id: String,
    part_bytes: u64,
    /// The first parts, that the server has.
    parts: Vec<UploadedPart>,
    /// What it was begun without.
    left_out: Vec<LeftOut>,
}

/// What a token says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    #[serde(rename = "v")]
    version: u32,
    #[serde(rename = "r")]
    restore: String,
    #[serde(rename = "k")]
    key: String,
    #[serde(rename = "u")]
    id: String,
    #[serde(rename = "p")]
    part_bytes: u64,
    #[serde(rename = "n")]
    n_parts: usize,
    /// Of the entity tags of the parts.
    #[serde(rename = "h")]
    hash: String,
    #[serde(rename = "s")]
    size_bytes: u64,
    #[serde(rename = "m")]
    modified: i64,
    #[serde(rename = "l", default, skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<LeftOut>,
}

/// How large the parts of an object were that was written in parts: as its record says, or else as can be
/// guessed from its entity tag, which ends with their number. Nothing if parts of that size cannot be made
/// again.
pub(super) fn recorded_part_bytes(record: &ObjectRecord, size_bytes: u64) -> Option<u64> {
    let known = record.part_bytes.filter(|bytes| {
        // Only the last one may be small.
        let least = LEAST_PART_BYTES.min(size_bytes.max(1));
        (least..=MOST_SAME_PART_BYTES).contains(bytes)
            && parts_of(&record.etag) == Some(size_bytes.div_ceil(*bytes))
    });
    known.or_else(|| guessed_part_bytes(&record.etag, size_bytes))
}

fn guessed_part_bytes(etag: &str, size_bytes: u64) -> Option<u64> {
    let count = parts_of(etag)?;
    let fits = |bytes: &u64| size_bytes.div_ceil(*bytes) == count;
    let even = size_bytes.div_ceil(count).div_ceil(MIB) * MIB;
    let usual = USUAL_PARTS_MIB.into_iter().map(|mib| mib * MIB);
    let found = usual.chain([even.max(LEAST_PART_BYTES)]).find(fits)?;
    (found <= MOST_SAME_PART_BYTES).then_some(found)
}

/// How large parts are if no others are to be made again.
fn usual_part_bytes(size_bytes: u64) -> u64 {
    (size_bytes.div_ceil(MOST_PARTS).div_ceil(MIB) * MIB).max(USUAL_PART_BYTES)
}

/// The upload that a token names, if the server still has what was told.
pub(super) async fn find(core: &Core, step: &Step, token: &WriteToken) -> Result<Option<Upload>> {
    let key = core.key_of(step);
    let Ok(told) = serde_json::from_slice::<Told>(token.as_bytes()) else { return Ok(None) };
    let expected = Told { hash: told.hash.clone(), ..told_of(core, step, &key, &told) };
    if told != expected || told.part_bytes < LEAST_PART_BYTES.min(step.bytes) || told.n_parts == 0 {
        return Ok(None);
    }
    let Some(mut parts) = core.place.bucket.uploaded_parts(&key, &told.id).await? else {
        return Ok(None);
    };
    parts.truncate(told.n_parts);
    let mut hasher = Sha256::new();
    let mut left = step.bytes;
    for (number, part) in (1..).zip(&parts) {
        let len_bytes = told.part_bytes.min(left);
        left -= len_bytes;
        if part.number != number || part.len_bytes != len_bytes || len_bytes == 0 {
            return Ok(None);
        }
        add(&mut hasher, part);
    }
    let is_whole = parts.len() == told.n_parts && hex::encode(hasher.finalize()) == told.hash;
    let Told { id, part_bytes, left_out, .. } = told;
    Ok(is_whole.then_some(Upload { id, part_bytes, parts, left_out }))
}

/// What a token would say that names the same parts of this step's upload.
fn told_of(core: &Core, step: &Step, key: &str, parts: &Told) -> Told {
    Told {
        version: TOKEN_VERSION,
        restore: core.name.clone(),
        key: key.to_owned(),
        id: parts.id.clone(),
        part_bytes: parts.part_bytes,
        n_parts: parts.n_parts,
        hash: String::new(),
        size_bytes: step.bytes,
        modified: step.entry.metadata.mtime.unix_seconds(),
        left_out: parts.left_out.clone(),
    }
}

fn add(hasher: &mut Sha256, part: &UploadedPart) {
    hasher.update(part.etag.as_bytes());
    hasher.update(b"\n");
}

/// Writes an object in parts, from its beginning or behind what a token tells. What it had to leave out is
/// returned.
pub(super) async fn write(
    core: &Core,
    step: &Step,
    way: &mut Replacing<'_>,
    recorded: ObjectRecord,
    body: BodyReader,
    from: Option<WriteToken>,
) -> Result<Vec<Error>> {
    let key = way.key();
    let part_bytes = recorded_part_bytes(&recorded, step.bytes);
    let part_bytes = part_bytes.unwrap_or_else(|| usual_part_bytes(step.bytes));
    let mut outgoing = Outgoing::of(core, recorded).await?;
    let mut upload = if let Some(token) = from {
        let upload = find(core, step, &token).await?.ok_or_else(|| {
            let why = "what was written of it before is not there any more";
            Error::new(ErrorKind::Conflict, format!("cannot go on with {}: {why}", step.entry.path))
        })?;
        outgoing.go_on_without(&upload.left_out);
        upload
    } else {
        begin(core, key, part_bytes, &mut outgoing).await?
    };
    let wants_tokens = body.wants_tokens();
    let sent = async {
        send(core, step, key, &mut upload, body).await?;
        complete(core, step, way, &upload, &outgoing.record).await
    };
    let is_complete = match sent.await {
        Ok(is_complete) => is_complete,
        // Somebody comes back.
        Err(error) if wants_tokens && error.is(ErrorKind::Cancelled) => return Err(error),
        Err(error) => {
            drop_upload(core, key, &upload.id).await?;
            return Err(error);
        }
    };
    if is_complete {
        core.is_over(key).await?;
    } else {
        drop_upload(core, key, &upload.id).await?;
    }
    check_tags(core, key, &mut outgoing).await?;
    check_protection(core, key, &mut outgoing, is_complete).await?;
    Ok(outgoing.taken(core))
}

/// Should the parts not go now, they go with the end of the restore.
async fn drop_upload(core: &Core, key: &str, id: &str) -> Result<()> {
    match core.place.hasty.abort_upload(key, id).await {
        Ok(()) => core.is_over(key).await,
        Err(_) => Ok(()),
    }
}

async fn begin(core: &Core, key: &str, part_bytes: u64, outgoing: &mut Outgoing) -> Result<Upload> {
    core.will_begin(key).await?;
    loop {
        match core.place.bucket.begin_object(key, &outgoing.record).await {
            Ok(begun) => {
                core.has_begun(key, &begun).await?;
                let (parts, left_out) = (Vec::new(), outgoing.left_out());
                return Ok(Upload { id: begun.id, part_bytes, parts, left_out });
            }
            Err(error) if outgoing.yields_to(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends all parts that are missing, a few at the same time, and tells how far it is.
async fn send(
    core: &Core,
    step: &Step,
    key: &str,
    upload: &mut Upload,
    body: BodyReader,
) -> Result<()> {
    let mut progress = Progress::of(core, step, key, upload);
    let start = progress.told_bytes();
    let mut pieces = Pieces::new(body, start, step.bytes);
    let part_bytes = progress.upload.part_bytes;
    let at_once = usize::try_from((BYTES_AT_ONCE / part_bytes).clamp(1, PARTS_AT_ONCE));
    let at_once = at_once.unwrap_or(1);
    let id = progress.upload.id.clone();
    let mut next = i32::try_from(progress.upload.parts.len()).unwrap_or(i32::MAX).saturating_add(1);
    let mut sends = FuturesUnordered::new();
    let ended = loop {
        let gathered = loop {
            if sends.is_empty() {
                break pieces.gather(part_bytes).await;
            }
            tokio::select! {
                biased;
                Some(sent) = sends.next() => {
                    progress.add(sent?);
                    progress.tell(pieces.reader())?;
                }
                gathered = pieces.gather(part_bytes) => break gathered,
            }
        };
        if gathered.is_err() {
            break gathered;
        }
        let bytes = pieces.take();
        if bytes.is_empty() {
            break pieces.end().await;
        }
        while sends.len() >= at_once {
            if let Some(sent) = sends.next().await {
                progress.add(sent?);
                progress.tell(pieces.reader())?;
            }
        }
        let parts = Parts::new(bytes.into()).await?;
        let (bucket, id, number) = (&core.place.bucket, &id, next);
        sends.push(async move { bucket.put_part(key, id, number, &parts).await });
        next = next.saturating_add(1);
    };
    // What is under way is not wasted, also if the body broke off.
    while let Some(sent) = sends.next().await {
        match sent {
            Ok(part) => progress.add(part),
            Err(_) if ended.is_err() => break,
            Err(error) => return Err(error),
        }
        progress.tell(pieces.reader())?;
    }
    ended
}

/// How far an upload is.
struct Progress<'a> {
    core: &'a Core,
    step: &'a Step,
    key: &'a str,
    upload: &'a mut Upload,
    /// Parts behind one that is missing.
    early: BTreeMap<i32, UploadedPart>,
    hasher: Sha256,
}

impl<'a> Progress<'a> {
    fn of(core: &'a Core, step: &'a Step, key: &'a str, upload: &'a mut Upload) -> Self {
        let mut hasher = Sha256::new();
        upload.parts.iter().for_each(|part| add(&mut hasher, part));
        Self { core, step, key, upload, early: BTreeMap::new(), hasher }
    }

    fn told_bytes(&self) -> u64 {
        let parts = self.upload.parts.len() as u64;
        parts.saturating_mul(self.upload.part_bytes).min(self.step.bytes)
    }

    fn add(&mut self, part: UploadedPart) {
        self.early.insert(part.number, part);
        while let Some(next) = self.early.first_entry() {
            let due = self.upload.parts.len().saturating_add(1);
            if usize::try_from(*next.key()) != Ok(due) {
                break;
            }
            let part = next.remove();
            add(&mut self.hasher, &part);
            self.upload.parts.push(part);
        }
    }

    fn tell(&self, reader: &BodyReader) -> Result<()> {
        if !reader.wants_tokens() || self.upload.parts.is_empty() {
            return Ok(());
        }
        let parts = Told {
            version: TOKEN_VERSION,
            restore: String::new(),
            key: String::new(),
            id: self.upload.id.clone(),
            part_bytes: self.upload.part_bytes,
            n_parts: self.upload.parts.len(),
            hash: String::new(),
            size_bytes: 0,
            modified: 0,
            left_out: self.upload.left_out.clone(),
        };
        let told = Told {
            hash: hex::encode(self.hasher.clone().finalize()),
            ..told_of(self.core, self.step, self.key, &parts)
        };
        let text = serde_json::to_vec(&told).map_err(|error| {
            Error::new(ErrorKind::Internal, "cannot write how far an upload is").with_source(error)
        })?;
        reader.report(self.told_bytes(), WriteToken::new(text));
        Ok(())
    }
}

/// Makes the object of the parts. Returns whether it did: an earlier try may have.
async fn complete(
    core: &Core,
    step: &Step,
    way: &mut Replacing<'_>,
    upload: &Upload,
    record: &ObjectRecord,
) -> Result<bool> {
    let key = way.key();
    let kept = core.place.keeps_of_uploads().await?;
    let content = Content::Entry(&step.entry);
    let mut parts = upload.parts.clone();
    loop {
        let Some(condition) = way.condition(kept, record, content).await? else {
            return Ok(false);
        };
        let bucket = &core.place.bucket;
        let lacks_checksums = parts.iter().any(|part| part.checksum.is_none());
        match bucket.complete_upload(key, &upload.id, &parts, &condition).await {
            Ok(etag) => {
                way.wrote(etag).await?;
                return Ok(true);
            }
            // Some servers want to have the checksums of all parts, and do not list them.
            Err(error) if error.code() == REFUSED && lacks_checksums => {
                add_checksums(core, step, upload.part_bytes, &mut parts).await?;
            }
            Err(error) => {
                if way.is_done_after(error, record, content).await? {
                    return Ok(false);
                }
            }
        }
    }
}

/// Adds the checksums of parts that an earlier session has sent, from the snapshot: the tags of those
/// parts are the ones that it was told.
async fn add_checksums(
    core: &Core,
    step: &Step,
    part_bytes: u64,
    parts: &mut [UploadedPart],
) -> Result<()> {
    let mut start = 0_u64;
    for part in parts {
        let end = start.saturating_add(part_bytes).min(step.bytes);
        if part.checksum.is_none() {
            let mut hasher = Sha256::new();
            let mut at = start;
            while at < end {
                let next = at.saturating_add(COMPARED_BYTES).min(end);
                let reading = core.snapshot.read(&step.entry, at..next);
                let bytes = core.cancel.unless_cancelled(reading).await?;
                hasher = hash(hasher, bytes).await?;
                at = next;
            }
            part.checksum = Some(STANDARD.encode(hasher.finalize()));
        }
        start = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_parts_are_guessed_from_their_number() {
        for (etag, size, expected) in [
            ("\"x-3\"", 17 * MIB, Some(8 * MIB)),
            ("\"x-4\"", 17 * MIB, Some(5 * MIB)),
            ("\"x-1\"", 3, Some(8 * MIB)),
            ("\"x-1\"", 40 * MIB, Some(64 * MIB)),
            ("\"x-2\"", 100 * MIB, Some(64 * MIB)),
            ("\"x-100\"", 1_000 * MIB, Some(10 * MIB)),
            ("\"x-300\"", 2_100 * MIB, Some(7 * MIB)),
            ("\"x\"", 17 * MIB, None),
            ("\"x-0\"", 17 * MIB, None),
            ("\"x-9\"", 3, None),
            ("\"x-2\"", 1_000 * MIB, None),
            ("", 17, None),
        ] {
            assert_eq!(guessed_part_bytes(etag, size), expected, "{etag} {size}");
        }
    }

    #[test]
    fn sizes_of_parts_that_are_recorded_are_not_guessed() {
        let recorded = |etag: &str, part_bytes, size| {
            let (etag, part_bytes) = (etag.to_owned(), Some(part_bytes));
            recorded_part_bytes(&ObjectRecord { etag, part_bytes, ..ObjectRecord::new() }, size)
        };
        // By eight they would be three, too.
        assert_eq!(recorded("x-3", 7 * MIB + 1, 17 * MIB), Some(7 * MIB + 1));
        assert_eq!(recorded("x-1", 3, 3), Some(3), "the only part may be small");
        for odd in [0, 1, 5 * MIB, 65 * MIB, u64::MAX] {
            assert_eq!(recorded("x-3", odd, 17 * MIB), Some(8 * MIB), "{odd}");
        }
    }

    #[test]
    fn there_are_never_too_many_parts() {
        for size in [1_u64, 16 << 20, 1 << 30, 200 << 30, 5 << 40, 48 << 40] {
            assert!(size.div_ceil(usual_part_bytes(size)) <= 10_000, "{size}");
        }
    }
}
