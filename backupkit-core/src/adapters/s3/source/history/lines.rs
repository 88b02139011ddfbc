//! Which lines of a listing of versions are of the past, and which times their names have.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::super::found::ListedObject;
use crate::adapters::s3::bucket::PagedVersion;
use crate::adapters::s3::keys::past::Times;
use crate::error::{Error, ErrorKind, Result};

/// So many lines are known again, where a listing goes on.
const MOST_STEPS: usize = 8;

/// An older version that is backed up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PastVersion {
    #[serde(rename = "o")]
    pub(super) object: ListedObject,
    /// What its name says, in microseconds since 1970.
    #[serde(rename = "t")]
    pub(super) time: i64,
    /// The lines of its key up to its own.
    #[serde(rename = "l")]
    pub(super) trail: Trail,
}

/// The last lines of a key, from the newest version on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Trail {
    #[serde(rename = "s")]
    steps: Vec<Step>,
    /// Whether there were others before.
    #[serde(rename = "c", default, skip_serializing_if = "std::ops::Not::not")]
    is_cut: bool,
}

/// A line: a number made of the version, and when it was written, in microseconds since 1970.
type Step = (u64, i64);

/// Reads the lines of a listing.
#[derive(Debug)]
pub(super) struct Lines {
    until: Option<Timestamp>,
    key: Option<Current>,
    /// Where a listing went on, and has not caught up yet.
    sought: Option<Sought>,
    has_keys: bool,
}

/// The key whose lines come.
#[derive(Debug)]
struct Current {
    /// Without the prefix of the settings.
    key: String,
    times: Times,
    /// Empty until that version came which is no past.
    trail: Trail,
}

/// The versions of a key that were there before.
#[derive(Debug)]
struct Sought {
    key: Current,
    /// Whether one of the known lines comes in this page.
    is_ahead: bool,
    is_found: bool,
    /// Whether a line came of which it cannot be told whether it came before.
    is_doubtful: bool,
}

impl PastVersion {
    pub(super) fn time(&self) -> Result<Timestamp> {
        time_of(self.time)
    }
}

impl Lines {
    /// Of versions that are no newer than a time.
    pub(super) fn new(until: Option<Timestamp>) -> Self {
        Self { until, key: None, sought: None, has_keys: false }
    }

    /// Goes on behind a version of a key, which is listed from its newest version on.
    pub(super) fn behind(mut self, key: &str, last: &PastVersion) -> Result<Self> {
        let (times, trail) = (Times::behind(last.time()?), last.trail.clone());
        let key = Current { key: key.to_owned(), times, trail };
        let (is_ahead, is_found, is_doubtful) = (false, false, false);
        self.sought = Some(Sought { key, is_ahead, is_found, is_doubtful });
        self.has_keys = true;
        Ok(self)
    }

    /// Whether there was a key, also one without a past.
    pub(super) fn has_keys(&self) -> bool {
        self.has_keys
    }

    /// Looks at the lines of a page, before they are taken.
    pub(super) fn look(&mut self, page: &[PagedVersion]) {
        if let Some(sought) = &mut self.sought {
            sought.is_ahead = page.iter().any(|line| sought.knows(line));
        }
    }

    /// Takes the next line. Gives the time in its name, and the lines up to it, if it is of the past.
    ///
    /// # Errors
    /// `SourceChanged` where it is not known any more what came before.
    pub(super) fn take(&mut self, line: &PagedVersion) -> Result<Option<(i64, Trail)>> {
        if self.until.is_some_and(|until| line.modified > until) {
            return Ok(None);
        }
        self.has_keys = true;
        if self.is_passed(line)? {
            return Ok(None);
        }
        // Names are exact to the microsecond.
        let modified = line.modified.as_microsecond();
        let key = match &mut self.key {
            Some(key) if key.key == line.key => key,
            _ => self.key.insert(Current {
                key: line.key.clone(),
                times: Times::default(),
                trail: Trail::default(),
            }),
        };
        let is_first = key.trail.steps.is_empty();
        key.trail.add(line);
        if is_first && !line.is_mark() {
            // What is there is no past.
            key.times = Times::behind(time_of(modified)?);
            return Ok(None);
        }
        let time = key.times.next(time_of(modified)?);
        Ok(Some((time.as_microsecond(), key.trail.clone())))
    }

    /// There are no more lines.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn end(&mut self) -> Result<()> {
        self.sought.take().map_or(Ok(()), |sought| sought.end().map(drop))
    }

    /// Whether a line came before the break.
    fn is_passed(&mut self, line: &PagedVersion) -> Result<bool> {
        let Some(mut sought) = self.sought.take() else { return Ok(false) };
        if sought.key.key != line.key {
            sought.end()?;
            return Ok(false);
        }
        if sought.knows(line) {
            sought.is_found = true;
        } else if sought.is_found || sought.is_behind(line) {
            // What follows is due.
            return sought.end().map(|key| {
                self.key = Some(key);
                false
            });
        }
        self.sought = Some(sought);
        Ok(true)
    }
}

impl Sought {
    fn knows(&self, line: &PagedVersion) -> bool {
        self.key.key == line.key && self.key.trail.steps.contains(&step_of(line))
    }

    /// Whether a line is behind those that are known, although none of them came: they are gone. What is
    /// newer than they were came meanwhile.
    fn is_behind(&mut self, line: &PagedVersion) -> bool {
        let Trail { steps, is_cut } = &self.key.trail;
        let modified = line.modified.as_microsecond();
        let is_newer = steps.iter().all(|step| step.1 < modified);
        if self.is_ahead || is_newer {
            return false;
        }
        let is_older = steps.iter().all(|step| step.1 > modified);
        self.is_doubtful |= *is_cut && !is_older;
        !is_cut || is_older
    }

    /// The known lines are over.
    fn end(self) -> Result<Current> {
        if self.is_found || !self.is_doubtful {
            return Ok(self.key);
        }
        let why = "cannot go on with the listing: too many older versions were removed meanwhile";
        Err(Error::new(ErrorKind::SourceChanged, why))
    }
}

impl Trail {
    fn add(&mut self, line: &PagedVersion) {
        if self.steps.len() == MOST_STEPS {
            self.steps.remove(0);
            self.is_cut = true;
        }
        self.steps.push(step_of(line));
    }
}

/// Versions without an id of their own replace each other: only with its time one is known again.
fn step_of(line: &PagedVersion) -> Step {
    let hash = Sha256::digest(line.id.as_deref().unwrap_or_default());
    let number = hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
    (number, line.modified.as_microsecond())
}

fn time_of(microseconds: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(microseconds)
        .map_err(|_| Error::new(ErrorKind::SourceChanged, "a version of no time"))
}

#[cfg(test)]
mod tests;
