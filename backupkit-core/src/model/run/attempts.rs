//! How often a run is tried, and how long it waits in between.

use std::time::Duration;

use crate::error::Retry;

/// The longest wait that another side can ask for.
const LONGEST_NAMED: Duration = Duration::from_hours(24);

/// How often a run is tried without progress, and how long it waits before the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptPolicy {
    /// How many attempts without progress end it as failed. 0 counts as 1.
    pub max_attempts: u32,
    /// About how long to wait after the first attempt. Each further wait is twice as long.
    pub first_delay: Duration,
    /// The longest wait, unless the other side named a longer one, of at most a day.
    pub max_delay: Duration,
}

impl Default for AttemptPolicy {
    /// Five attempts, 30 s to 30 min apart.
    fn default() -> Self {
        Self {
            max_attempts: 5,
            first_delay: Duration::from_secs(30),
            max_delay: Duration::from_mins(30),
        }
    }
}

impl AttemptPolicy {
    /// Whether there is no further attempt after so many.
    pub(super) fn is_exhausted(&self, attempts: u32) -> bool {
        attempts >= self.max_attempts.max(1)
    }

    /// How long to wait after so many attempts.
    pub(super) fn delay(&self, attempts: u32, retry: Retry, jitter: u16) -> Duration {
        let doubled = 2u32.saturating_pow(attempts.saturating_sub(1).min(31));
        let due = self.first_delay.saturating_mul(doubled).min(self.max_delay);
        wait(due, retry, jitter)
    }

    /// How long to wait for what only time mends.
    pub(super) fn longest_delay(&self, retry: Retry, jitter: u16) -> Duration {
        wait(self.max_delay, retry, jitter)
    }
}

/// Between half and all of what is due; never less than the other side named.
fn wait(due: Duration, retry: Retry, jitter: u16) -> Duration {
    let half = due / 2;
    let due = half.saturating_add(share(half, jitter));
    match retry {
        // Not a moment earlier, and not all at the same one.
        Retry::After(named) => named.min(LONGEST_NAMED).saturating_add(due / 8),
        Retry::Soon | Retry::Never => due,
    }
}

/// The share of `whole` that chance gives. Divides first, so that nothing overflows.
fn share(whole: Duration, jitter: u16) -> Duration {
    (whole / u32::from(u16::MAX)).saturating_mul(u32::from(jitter))
}
