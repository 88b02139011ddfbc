//! How fast a run is, and how long it still takes.

use std::time::Duration;

use backupkit_core::model::Progress;

/// Before that, an estimate is a guess.
const ESTIMATE_AFTER: Duration = Duration::from_secs(10);
/// The rate forgets what is older than about this.
const MEMORY: Duration = Duration::from_secs(8);

/// Follows the progress of one run.
#[derive(Debug)]
pub(super) struct Meter {
    started: Duration,
    first: Option<Progress>,
    last: (Duration, Progress),
    read_rate: f64,
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reading {
    pub(super) progress: Progress,
    pub(super) elapsed: Duration,
    /// Bytes done, those of entries in the middle of being read included.
    pub(super) done_bytes: u64,
    /// Bytes to do, as far as known.
    pub(super) total_bytes: u64,
    /// 0 to 99: a run is at 100 only when it has ended. `None` until the total is known.
    pub(super) percent: Option<u8>,
    /// Bytes read a second.
    pub(super) read_rate: u64,
    pub(super) remaining: Option<Duration>,
}

impl Meter {
    pub(super) fn new(now: Duration) -> Self {
        Self { started: now, first: None, last: (now, Progress::default()), read_rate: 0.0 }
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "estimates for people"
    )]
    pub(super) fn read(&mut self, now: Duration, progress: Progress) -> Reading {
        let first = *self.first.get_or_insert(progress);
        let elapsed = now.saturating_sub(self.started);
        let step = now.saturating_sub(self.last.0).as_secs_f64();
        if step > 0.0 {
            let bytes = progress.read_bytes.saturating_sub(self.last.1.read_bytes) as f64;
            let weight = 1.0 - (-step / MEMORY.as_secs_f64().min(elapsed.as_secs_f64())).exp();
            self.read_rate += (bytes / step - self.read_rate) * weight;
            self.last = (now, progress);
        }
        let total = progress.listed_bytes.max(progress.finished_bytes);
        // Entries count when they are finished; one of many gigabytes must not look like a standstill.
        let read = progress.read_bytes.saturating_sub(first.read_bytes);
        let begun = first.finished_bytes.saturating_add(read);
        let done_bytes = progress.finished_bytes.max(begun).min(total);
        let percent = (progress.listing_done && total > 0).then(|| {
            let percent = u128::from(done_bytes) * 100 / u128::from(total);
            u8::try_from(percent.min(99)).unwrap_or(99)
        });
        // What an earlier run did tells nothing about how fast this one is.
        let done = done_bytes.saturating_sub(first.finished_bytes) as f64;
        let left = total.saturating_sub(done_bytes) as f64;
        let can_estimate =
            progress.listing_done && elapsed >= ESTIMATE_AFTER && done > 0.0 && left > 0.0;
        let seconds = elapsed.as_secs_f64() * left / done;
        Reading {
            progress,
            elapsed,
            done_bytes,
            total_bytes: total,
            percent,
            read_rate: self.read_rate as u64,
            remaining: (can_estimate && seconds < 1e7).then(|| Duration::from_secs(seconds as u64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(finished: u64, listed: u64, listing_done: bool) -> Progress {
        Progress {
            listed_bytes: listed,
            listing_done,
            finished_bytes: finished,
            read_bytes: finished,
            ..Progress::default()
        }
    }

    #[test]
    fn nothing_is_at_a_hundred_percent_before_the_end() {
        let mut meter = Meter::new(Duration::ZERO);
        let now = Duration::from_secs(1);
        assert_eq!(meter.read(now, progress(10, 100, false)).percent, None);
        assert_eq!(meter.read(now, progress(50, 100, true)).percent, Some(50));
        assert_eq!(meter.read(now, progress(100, 100, true)).percent, Some(99));
        assert_eq!(meter.read(now, progress(120, 100, true)).percent, Some(99));
        assert_eq!(meter.read(now, progress(0, 0, true)).percent, None);
    }

    #[test]
    fn the_end_is_estimated_after_ten_seconds_from_what_this_run_did() {
        let mut meter = Meter::new(Duration::ZERO);
        // 50 were done before this run.
        let early = meter.read(Duration::from_secs(0), progress(50, 100, true));
        assert_eq!(early.remaining, None);
        assert_eq!(meter.read(Duration::from_secs(9), progress(70, 100, true)).remaining, None);
        let later = meter.read(Duration::from_secs(20), progress(75, 100, true));
        assert_eq!(later.remaining, Some(Duration::from_secs(20)));
    }

    #[test]
    fn a_large_entry_moves_while_it_is_read() {
        let mut meter = Meter::new(Duration::ZERO);
        meter.read(Duration::ZERO, Progress::default());
        let mut inside = progress(10, 100, true);
        inside.read_bytes = 70;
        let reading = meter.read(Duration::from_secs(1), inside);
        assert_eq!((reading.percent, reading.done_bytes), (Some(70), 70));
    }

    #[test]
    fn the_rate_follows_the_last_seconds() {
        let mut meter = Meter::new(Duration::ZERO);
        let mut rate = 0;
        for second in 1..=60 {
            rate = meter
                .read(Duration::from_secs(second), progress(second * 1000, 0, false))
                .read_rate;
        }
        assert!((950..=1050).contains(&rate), "{rate}");
        for second in 61..=120 {
            rate = meter.read(Duration::from_secs(second), progress(60_000, 0, false)).read_rate;
        }
        assert!(rate < 10, "{rate}");
    }
}
