//! What happened in runs.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::value::RawValue;

use super::actor::Scope;
use super::leases::LeaseRef;
use super::record::is_word;
use super::refusal;
use super::runs::RunId;
use crate::error::Result;
use crate::model::Level;

/// The longest line, in bytes of text and body together.
pub const MAX_LOG_LINE_BYTES: usize = 64 << 10;

/// Keeps the log of each run.
///
/// # Contract
/// 1. Lines are numbered from 1 without gaps in each run, in the order in which they took effect, also
///    when several append at the same time. A reader that asks for what comes after the last number it
///    saw never misses a line.
/// 2. Lines are appended all or none, by whoever holds the lease; with a lease that is lost it fails with
///    `Conflict` and code `lease-lost`.
/// 3. Text and body come back byte by byte. What [`NewLogLine::check`] refuses is refused.
#[async_trait]
pub trait Logs: fmt::Debug + Send + Sync + 'static {
    /// Appends lines, and returns the number of the last one of the run.
    ///
    /// # Errors
    /// `Conflict` with code `lease-lost`; `InvalidInput` if a line is too long or has an odd code.
    async fn append_logs(&self, lease: &LeaseRef, lines: &[NewLogLine]) -> Result<u64>;

    /// At most `most` lines of a run behind number `after` that the filter lets through, in their
    /// order. None of a run that is not there.
    async fn logs(
        &self,
        scope: &Scope,
        run: RunId,
        filter: &LogFilter,
        after: u64,
        most: usize,
    ) -> Result<Vec<LogLine>>;

    /// Removes the lines of runs of a scope that ended before a time, and returns how many. The runs
    /// stay.
    async fn remove_logs(&self, scope: &Scope, ended_before: Timestamp) -> Result<u64>;
}

/// A line to be.
#[derive(Debug, Clone)]
pub struct NewLogLine {
    /// When it happened.
    pub at: Timestamp,
    /// How much it matters.
    pub level: Level,
    /// What happened: a stable code of 1 to 64 of `a` to `z`, `0` to `9` and `-`.
    pub code: String,
    /// The sentence for people. No secret.
    pub text: String,
    /// The fields, as one JSON object. No secret.
    pub body: Arc<RawValue>,
}

/// A line.
#[derive(Debug, Clone)]
pub struct LogLine {
    /// From 1, without gaps in its run.
    pub number: u64,
    /// What it says.
    pub line: NewLogLine,
}

/// Which lines are read. What is empty restricts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Only lines that matter so much, or more.
    pub level: Option<Level>,
    /// Only lines with this in their text; case counts only beyond ASCII.
    pub text: Option<String>,
}

impl NewLogLine {
    /// Says what is wrong with it, if anything is: for stores, before they keep it.
    ///
    /// # Errors
    /// `InvalidInput` if it is longer than [`MAX_LOG_LINE_BYTES`] or has an odd code.
    pub fn check(&self) -> Result<()> {
        let bytes = self.text.len().saturating_add(self.body.get().len());
        if bytes > MAX_LOG_LINE_BYTES || !is_word(&self.code, b'-') {
            return Err(refusal::odd_log_line(&self.code));
        }
        Ok(())
    }
}

impl LogFilter {
    /// Whether a line is read: for stores.
    pub fn lets_through(&self, line: &NewLogLine) -> bool {
        let has_text =
            |wanted: &String| line.text.to_ascii_lowercase().contains(&wanted.to_ascii_lowercase());
        self.level.is_none_or(|least| line.level >= least)
            && self.text.as_ref().is_none_or(has_text)
    }
}
