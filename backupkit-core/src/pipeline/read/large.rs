//! One large entry: its parts side by side, each chunked in order, then joined.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};

use super::{ReadEntry, ReadOutcome, Reading, SharedProgress, ranged, streamed};
use crate::error::{ErrorKind, Result};
use crate::model::{BlobId, Entry};
use crate::pipeline::progress::{EntryProgress, PartProgress};
use crate::source::{Body, BodyContent, BodyEnd};

/// Segments of one entry that are read at the same time.
const SEGMENTS_AT_ONCE: usize = 2;

/// How reading one part ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PartEnd {
    Done,
    Paused,
}

/// Reads and stores an entry, going on from `progress` and keeping it up to date.
///
/// # Errors
/// Only what is fatal to the run; errors of the entry are an outcome.
pub(crate) async fn read_large(
    reading: Arc<Reading>,
    entry: Entry,
    progress: SharedProgress,
) -> Result<ReadOutcome> {
    let mut retried = false;
    loop {
        match read_parts(&reading, &entry, &progress).await {
            Ok(Attempt::Done { changed }) if retried || !changed => {
                let read = join(&reading, &entry, &progress, changed);
                return Ok(ReadOutcome::Done(Box::new(read)));
            }
            Ok(Attempt::Paused) => return Ok(ReadOutcome::Paused),
            Ok(Attempt::Done { .. }) => {}
            Err(Failure::Entry(error)) if error.is(ErrorKind::SourceChanged) && !retried => {}
            Err(Failure::Entry(error)) if reading.concerns_all(&error) => return Err(error),
            Err(Failure::Entry(error)) => return Ok(ReadOutcome::Failed(error)),
            Err(Failure::Run(error)) => return Err(error),
        }
        // Bytes of two versions are never joined.
        retried = true;
        progress.with(EntryProgress::restart);
    }
}

enum Attempt {
    Done { changed: bool },
    Paused,
}

/// Whose error it is: the entry's, or the run's.
pub(super) enum Failure {
    Entry(crate::Error),
    Run(crate::Error),
}

async fn read_parts(
    reading: &Reading,
    entry: &Entry,
    progress: &SharedProgress,
) -> Result<Attempt, Failure> {
    plan(reading, entry, progress).await.map_err(Failure::Entry)?;
    let parts = progress.with(|progress| progress.parts.len());
    let ends: Vec<(PartEnd, bool)> = futures::stream::iter(0..parts)
        .map(|part| read_part(reading, entry, progress, part))
        .buffered(SEGMENTS_AT_ONCE)
        .try_collect()
        .await?;
    if ends.iter().any(|(end, _)| *end == PartEnd::Paused) {
        return Ok(Attempt::Paused);
    }
    Ok(Attempt::Done { changed: ends.iter().any(|(_, changed)| *changed) })
}

/// Asks for the segments, once a run.
async fn plan(reading: &Reading, entry: &Entry, progress: &SharedProgress) -> Result<()> {
    if progress.with(|progress| progress.planned) {
        return Ok(());
    }
    let segments = reading.view.segments(entry).await?;
    let groups = reading.groups.len();
    progress.with(|progress| {
        progress.planned = true;
        progress.parts = if segments.is_empty() {
            vec![PartProgress::fresh(None, groups)]
        } else {
            segments.into_iter().map(|part| PartProgress::fresh(Some(part), groups)).collect()
        };
    });
    Ok(())
}

async fn read_part(
    reading: &Reading,
    entry: &Entry,
    progress: &SharedProgress,
    part: usize,
) -> Result<(PartEnd, bool), Failure> {
    let (done, segment) = progress.with(|progress| {
        let part = &progress.parts[part];
        (part.done, part.segment.clone())
    });
    if done {
        return Ok((PartEnd::Done, false));
    }
    if reading.control.is_pausing() {
        return Ok((PartEnd::Paused, false));
    }
    let _room = reading.budget.reserve_chunk().await.map_err(Failure::Run)?;
    let Body { refreshed, content } =
        reading.view.body(entry, segment.as_ref()).await.map_err(Failure::Entry)?;
    if let Some(now) = refreshed {
        let same = progress.with(|progress| {
            if let Some(before) = &progress.version {
                return same_version(before, &now);
            }
            progress.version = Some(now);
            true
        });
        if !same {
            return Err(Failure::Entry(crate::Error::new(
                ErrorKind::SourceChanged,
                format!("{} changed since it was read in part", entry.path),
            )));
        }
    }
    match content {
        BodyContent::Ranged(body) => {
            let end = ranged::read(reading, &body, progress, part).await?;
            let changed = end == PartEnd::Done
                && body.finish().await.map_err(Failure::Entry)? == BodyEnd::Changed;
            Ok((end, changed))
        }
        BodyContent::Stream(body) => {
            Ok((streamed::read(reading, &*body, progress, part).await?, false))
        }
    }
}

/// Whether two looks at an entry saw the same bytes, as far as its metadata tells.
pub(crate) fn same_version(before: &Entry, now: &Entry) -> bool {
    let stamp = |entry: &Entry| {
        let meta = &entry.metadata;
        let time = |time: crate::model::FileTime| (time.unix_seconds(), time.nanoseconds());
        (entry.size_bytes, time(meta.mtime), time(meta.ctime), meta.inode)
    };
    stamp(before) == stamp(now) && before.fingerprint == now.fingerprint
}

fn join(reading: &Reading, entry: &Entry, progress: &SharedProgress, changed: bool) -> ReadEntry {
    progress.with(|progress| {
        let content = (0..reading.groups.len())
            .map(|group| {
                let parts = progress.parts.iter();
                let ids: Vec<BlobId> =
                    parts.flat_map(|part| part.groups[group].content.iter().copied()).collect();
                Arc::from(ids)
            })
            .collect();
        let entry = progress.version.as_deref().unwrap_or(entry).clone();
        ReadEntry {
            entry,
            content,
            size_bytes: progress.parts.iter().map(|part| part.stored_bytes).sum(),
            changed_while_read: changed,
        }
    })
}
