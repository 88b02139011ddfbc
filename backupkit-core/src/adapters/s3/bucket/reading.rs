//! Reads objects, and goes on where a reply broke off.

use std::ops::Range;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use bytes::{Bytes, BytesMut};

use super::Bucket;
use super::objects::require_version;
use crate::adapters::s3::calls::Came;
use crate::adapters::s3::errors::{INVALID_RANGE, broken_off, failed, odd_reply};
use crate::error::{Error, ErrorKind, Result, Retry};

/// More memory is taken only for bytes that have come.
const MOST_TAKEN_AHEAD: u64 = 64 << 20;

/// How far a read is.
#[derive(Debug, Default)]
struct Progress {
    /// What came so far.
    bytes: BytesMut,
    /// What is read, once that is known.
    wanted: Option<Range<u64>>,
    /// The version that it comes from.
    etag: Option<String>,
    /// How long the object is.
    total: Option<u64>,
}

impl Bucket {
    /// Reads an object, or a range of it.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a range that the object does not have.
    pub(in crate::adapters::s3) async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<Bytes> {
        self.get_version(key, None, range).await
    }

    /// As [`Self::get`], of a version; without one, of the newest. A range of a version is not empty.
    pub(in crate::adapters::s3) async fn get_version(
        &self,
        key: &str,
        version: Option<&str>,
        range: Option<Range<u64>>,
    ) -> Result<Bytes> {
        let doing = format!("read {key}");
        if let Some(range) = range.clone().filter(|range| range.start >= range.end) {
            // No header says "no bytes".
            return match self.look(key).await? {
                Some(found) if range.start == range.end && range.end <= found.len_bytes => {
                    Ok(Bytes::new())
                }
                Some(_) => Err(beyond(&doing)),
                None => {
                    Err(Error::new(ErrorKind::NotFound, format!("cannot {doing}: no such key")))
                }
            };
        }
        let progress = tokio::sync::Mutex::new(Progress::default());
        let call = || async {
            let mut progress = progress.lock().await;
            let before = progress.bytes.len();
            match self.go_on((key, version), &doing, range.as_ref(), &mut progress).await {
                Ok(()) => Ok(Came::All(())),
                // The next one asks for the rest.
                Err(error)
                    if error.retry() != Retry::Never
                        && progress.can_go_on()
                        && progress.bytes.len() > before =>
                {
                    Ok(Came::Part)
                }
                Err(error) => Err(error),
            }
        };
        self.0.calls.run_in_parts(call).await?;
        Ok(progress.into_inner().bytes.freeze())
    }

    /// Asks for what has not come yet, and takes it as far as it comes.
    async fn go_on(
        &self,
        (key, version): (&str, Option<&str>),
        doing: &str,
        range: Option<&Range<u64>>,
        progress: &mut Progress,
    ) -> Result<()> {
        if !progress.can_go_on() {
            *progress = Progress { wanted: range.cloned(), ..Progress::default() };
        }
        let got = progress.bytes.len() as u64;
        let request = self.0.client.get_object().bucket(self.name()).key(self.full_key(key));
        let mut request = request.set_version_id(version.map(str::to_owned));
        if let Some(wanted) = &progress.wanted {
            let first = wanted.start.saturating_add(got);
            if first >= wanted.end {
                return Ok(());
            }
            request = request.range(format!("bytes={first}-{}", wanted.end.saturating_sub(1)));
        }
        // Bytes of two versions are never joined.
        request = request.set_if_match(progress.etag.clone());
        let reply = request.send().await.map_err(|error| failed(doing, error));
        let mut reply = match reply {
            Err(error) if error.code() == INVALID_RANGE && got > 0 => return Err(changed(doing)),
            Err(error) if error.code() == INVALID_RANGE => return Err(beyond(doing)),
            Err(error) if error.is(ErrorKind::Conflict) => return Err(changed(doing)),
            reply => reply?,
        };
        require_version(version, reply.version_id(), doing)?;
        let came = placed(&reply, doing)?;
        if got > 0 {
            // Not every server knows the condition.
            if reply.e_tag() != progress.etag.as_deref() {
                return Err(changed(doing));
            }
            if progress.total.is_some() && came.total.is_some() && progress.total != came.total {
                return Err(changed(doing));
            }
        } else {
            (progress.etag, progress.total) = (reply.e_tag().map(str::to_owned), came.total);
        }
        let wanted = progress.wanted.get_or_insert_with(|| came.range.clone()).clone();
        if came.range.start != wanted.start.saturating_add(got) {
            return Err(other_bytes(doing));
        }
        if came.range.end != wanted.end {
            let is_last = came.total.is_none_or(|total| total == came.range.end);
            return Err(if came.range.end < wanted.end && is_last && got == 0 {
                beyond(doing)
            } else {
                other_bytes(doing)
            });
        }
        if got == 0 {
            let length = wanted.end.saturating_sub(wanted.start).min(MOST_TAKEN_AHEAD);
            progress.bytes.reserve(usize::try_from(length).unwrap_or_default());
        }
        let mut left = came.range.end.saturating_sub(came.range.start);
        while let Some(piece) = reply.body.next().await {
            let piece = piece.map_err(|error| broken_off(doing, &error))?;
            left = left.checked_sub(piece.len() as u64).ok_or_else(|| other_bytes(doing))?;
            progress.bytes.extend_from_slice(&piece);
        }
        if left == 0 { Ok(()) } else { Err(other_bytes(doing)) }
    }
}

impl Progress {
    /// Whether the rest of what came can be asked for, and told from that of another version.
    fn can_go_on(&self) -> bool {
        !self.bytes.is_empty() && self.etag.is_some()
    }
}

/// What a reply brings.
#[derive(Debug)]
struct Placed {
    range: Range<u64>,
    /// How long the object is, if the reply says so.
    total: Option<u64>,
}

/// Which bytes of the object a reply has.
fn placed(reply: &GetObjectOutput, doing: &str) -> Result<Placed> {
    let length = reply.content_length().and_then(|length| u64::try_from(length).ok());
    let length = length.ok_or_else(|| other_bytes(doing))?;
    let Some(text) = reply.content_range() else {
        return Ok(Placed { range: 0..length, total: Some(length) });
    };
    let (bounds, total) = text
        .strip_prefix("bytes ")
        .and_then(|text| text.split_once('/'))
        .ok_or_else(|| other_bytes(doing))?;
    let bounds = bounds.split_once('-');
    let parsed = bounds.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    let (first, last): (u64, u64) = parsed.ok_or_else(|| other_bytes(doing))?;
    let end = last.checked_add(1).ok_or_else(|| other_bytes(doing))?;
    if end.checked_sub(first) == Some(length) {
        Ok(Placed { range: first..end, total: total.parse().ok() })
    } else {
        Err(other_bytes(doing))
    }
}

fn beyond(doing: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("cannot {doing}: the range is beyond its end"))
        .with_code(INVALID_RANGE)
}

fn changed(doing: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("cannot {doing}: it was replaced meanwhile"))
        .with_code("s3-replaced")
}

fn other_bytes(doing: &str) -> Error {
    odd_reply(doing, "the server gives other bytes than it says")
}
