//! Puts the events of a run into its log.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt as _;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::HeldPart;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::events::KEPT_PER_CODE;
use crate::model::{Event, EventKind, Level};
use crate::state::NewLogLine;
use crate::state::refusal::{LEASE_LOST, lease_lost};

/// So many lines are written at once.
const BATCH_LINES: usize = 200;
/// Lines wait so long for others.
const BATCH_TIME: Duration = Duration::from_millis(250);
/// So often a store is asked again once the run is over.
const LAST_TRIES: u32 = 8;
/// A longer sentence is cut.
const MAX_TEXT_BYTES: usize = 16 << 10;

/// Writes events to the log of a run.
pub(super) struct Recorder(pub(super) HeldPart);

impl Recorder {
    /// Writes what comes until it is over, and then what has come by then. A store that is busy is asked
    /// again; once it is over, only a few times: a log is worth less than what came of the run.
    pub(super) async fn record(
        &self,
        mut events: BoxStream<'static, Event>,
        over: &CancellationToken,
    ) {
        let (mut counts, mut is_behind) = (BTreeMap::new(), false);
        loop {
            let first = tokio::select! {
                biased;
                first = events.next() => first,
                () = over.cancelled() => None,
            };
            let Some(first) = first else { return };
            if !over.is_cancelled() && !is_behind {
                tokio::select! {
                    () = over.cancelled() => {}
                    () = self.0.env.clock().sleep(BATCH_TIME) => {}
                }
            }
            let mut next = Some(first);
            let mut lines = Vec::new();
            while let Some(event) = next {
                lines.extend(line(event, &mut counts).ok().flatten());
                if lines.len() >= BATCH_LINES {
                    break;
                }
                next = events.next().now_or_never().flatten();
            }
            is_behind = lines.len() >= BATCH_LINES;
            if !lines.is_empty() && !self.append(&lines, over).await {
                return;
            }
        }
    }

    /// Writes one line, as long as there is any use in it.
    pub(super) async fn append_one(
        &self,
        at: Timestamp,
        level: Level,
        kind: EventKind,
    ) -> Result<()> {
        let HeldPart { store, lease, .. } = &self.0;
        let line = [written(at, level, &kind)?];
        self.0.insist(|| store.append_logs(lease, &line)).await.map(drop)
    }

    /// Whether there is any use in going on.
    async fn append(&self, lines: &[NewLogLine], over: &CancellationToken) -> bool {
        let HeldPart { store, lease, env, gone, .. } = &self.0;
        let mut last_tries = LAST_TRIES;
        loop {
            // A store that hangs is waited for no longer than the lease lasts.
            let appending = gone.run_until_cancelled(store.append_logs(lease, lines));
            match appending.await.unwrap_or_else(|| Err(lease_lost(lease.run()))) {
                Ok(_) => return true,
                Err(error) if error.retry() == Retry::Never => return error.code() != LEASE_LOST,
                Err(_) if over.is_cancelled() && last_tries == 0 => return false,
                Err(_) => {}
            }
            if over.is_cancelled() {
                last_tries -= 1;
            }
            env.clock().sleep(BATCH_TIME).await;
        }
    }
}

/// The line of an event, unless there are many of its code already in this attempt: the report counts
/// all problems.
fn line(event: Event, counts: &mut BTreeMap<&'static str, usize>) -> Result<Option<NewLogLine>> {
    let code = event.kind.code();
    let count = counts.entry(code).or_default();
    *count += 1;
    let (kind, level) = match *count {
        ..=KEPT_PER_CODE => (event.kind, event.level),
        more if more == KEPT_PER_CODE + 1 => {
            let text = format!("further messages of the kind {code} are counted, not written");
            (EventKind::Note { text }, Level::Info)
        }
        _ => return Ok(None),
    };
    written(event.at, level, &kind).map(Some)
}

/// An event as the log keeps it.
fn written(at: Timestamp, level: Level, kind: &EventKind) -> Result<NewLogLine> {
    let mut text = kind.to_string();
    text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
    let failed = |error| {
        Error::new(ErrorKind::Internal, "cannot write an event into the log").with_source(error)
    };
    let mut body = serde_json::value::to_raw_value(kind).map_err(failed)?;
    if body.get().len() > MAX_TEXT_BYTES {
        // Too much for a line; the text says what it can.
        body = serde_json::value::to_raw_value(&serde_json::Map::new()).map_err(failed)?;
    }
    Ok(NewLogLine { at, level, code: kind.code().to_owned(), text, body: body.into() })
}
