//! Progress: a bar on a terminal, a line now and then elsewhere, records for programs.

use std::time::Duration;

use backupkit_core::model::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::meter::{Meter, Reading};
use super::{Output, ProgressForm, format};

/// Between two lines where nothing can be redrawn.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Two lines at the bottom of the terminal.
pub(super) struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::stderr_with_hz(10));
        Self(bar)
    }

    pub(super) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }

    fn show(&self, doing: &str, reading: &Reading) {
        let [upper, lower] = bar_text(doing, reading);
        let template = match reading.percent {
            Some(_) => "{bar:20} {wide_msg}\n{prefix}",
            None => "{spinner} {wide_msg}\n{prefix}",
        };
        // The template is a constant.
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        self.0.set_style(style);
        self.0.set_position(u64::from(reading.percent.unwrap_or_default()));
        self.0.set_message(upper);
        self.0.set_prefix(lower);
        self.0.tick();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Shows the progress of one run. Ends with the run.
pub(crate) struct ProgressView<'a> {
    output: &'a Output,
    doing: &'static str,
    meter: Meter,
    last_line: Duration,
}

/// A status record.
#[derive(Serialize)]
struct Status<'a> {
    doing: &'a str,
    elapsed_seconds: f64,
    #[serde(flatten)]
    progress: Progress,
    percent: Option<u8>,
    read_bytes_per_second: u64,
    remaining_seconds: Option<u64>,
}

impl<'a> ProgressView<'a> {
    /// `doing` is what the run does, such as "backing up".
    pub(crate) fn start(output: &'a Output, doing: &'static str) -> Self {
        if output.progress == ProgressForm::Bar {
            drop(output.bar.borrow_mut().replace(Bar::new()));
        }
        let now = output.env.clock().elapsed_since_boot();
        Self { output, doing, meter: Meter::new(now), last_line: now }
    }

    /// How often to show progress.
    pub(crate) fn interval(&self) -> Duration {
        match self.output.progress {
            ProgressForm::Bar => Duration::from_millis(100),
            ProgressForm::Records => Duration::from_millis(250),
            ProgressForm::Lines | ProgressForm::Hidden => Duration::from_secs(1),
        }
    }

    pub(crate) fn show(&mut self, progress: Progress) {
        let now = self.output.env.clock().elapsed_since_boot();
        let reading = self.meter.read(now, progress);
        match self.output.progress {
            ProgressForm::Hidden => {}
            ProgressForm::Bar => {
                if let Some(bar) = &*self.output.bar.borrow() {
                    bar.show(self.doing, &reading);
                }
            }
            ProgressForm::Lines => {
                if now.saturating_sub(self.last_line) >= LINE_INTERVAL {
                    self.last_line = now;
                    self.output.note(line(self.doing, &reading));
                }
            }
            ProgressForm::Records => self.output.record(
                "status",
                &Status {
                    doing: self.doing,
                    elapsed_seconds: reading.elapsed.as_secs_f64(),
                    progress,
                    percent: reading.percent,
                    read_bytes_per_second: reading.read_rate,
                    remaining_seconds: reading.remaining.map(|remaining| remaining.as_secs()),
                },
            ),
        }
    }
}

impl Drop for ProgressView<'_> {
    fn drop(&mut self) {
        self.output.hide_bar();
    }
}

/// Each fits beside a bar of 20 on 80 columns.
fn bar_text(doing: &str, reading: &Reading) -> [String; 2] {
    let progress = &reading.progress;
    let upper = match reading.percent {
        Some(percent) => format!(
            "{percent:2} %  {} of {}{}",
            format::bytes(reading.done_bytes),
            format::bytes(reading.total_bytes),
            reading
                .remaining
                .map_or(String::new(), |left| format!("  {} left", format::clock(left))),
        ),
        None => format!(
            "{doing}: {} found, {} done",
            format::bytes(reading.total_bytes),
            format::bytes(reading.done_bytes)
        ),
    };
    let mut lower = vec![
        format::clock(reading.elapsed),
        entries(progress),
        if progress.is_slowed_down {
            "slowed down".to_owned()
        } else {
            format!("{}/s", format::bytes(reading.read_rate))
        },
    ];
    lower.extend(problems(progress));
    [upper, lower.join("  ")]
}

fn line(doing: &str, reading: &Reading) -> String {
    let progress = &reading.progress;
    let done = match reading.percent {
        Some(percent) => format!(
            "{doing}: {percent} %, {} of {}",
            format::bytes(reading.done_bytes),
            format::bytes(reading.total_bytes)
        ),
        None => format!("{doing}: {} done", format::bytes(reading.done_bytes)),
    };
    let mut parts =
        vec![done, entries(progress), format!("reading {}/s", format::bytes(reading.read_rate))];
    parts.extend(reading.remaining.map(|left| format!("{} left", format::duration(left))));
    parts.extend(progress.is_slowed_down.then(|| "slowed down by the server".to_owned()));
    parts.extend(problems(progress));
    parts.join(", ")
}

fn problems(progress: &Progress) -> Option<String> {
    (progress.problems > 0).then(|| format::counted(progress.problems, "problem", "problems"))
}

fn entries(progress: &Progress) -> String {
    let finished = format::count(progress.finished_entries);
    let listed = format::counted(progress.listed_entries, "entry", "entries");
    if progress.listing_done {
        format!("{finished} of {listed}")
    } else {
        format!("{finished} of {listed} found")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fits_eighty_columns() {
        for (percent, listing_done) in [(None, false), (Some(99), true)] {
            let reading = Reading {
                progress: Progress {
                    listed_entries: 99_999_999,
                    finished_entries: 99_999_999,
                    listed_bytes: 1023 << 40,
                    finished_bytes: 1023 << 40,
                    listing_done,
                    read_bytes: 0,
                    problems: 99_999,
                    is_slowed_down: true,
                },
                elapsed: Duration::from_hours(99),
                done_bytes: 1023 << 40,
                total_bytes: 1023 << 40,
                percent,
                read_rate: 1023 << 20,
                remaining: percent.map(|_| Duration::from_hours(99)),
            };
            let [upper, lower] = bar_text("backing up", &reading);
            assert!(upper.len() + 21 <= 80, "{upper}");
            assert!(lower.len() <= 80, "{lower}");
        }
    }

    #[test]
    fn a_line_says_all_there_is_to_say() {
        let mut meter = Meter::new(Duration::ZERO);
        let progress = Progress {
            listed_entries: 4000,
            listed_bytes: 4 << 30,
            listing_done: true,
            finished_entries: 1000,
            finished_bytes: 1 << 30,
            read_bytes: 0,
            problems: 1,
            is_slowed_down: true,
        };
        meter.read(Duration::ZERO, Progress::default());
        let reading = meter.read(Duration::from_mins(1), progress);
        assert_eq!(
            line("backing up", &reading),
            "backing up: 25 %, 1.0 GiB of 4.0 GiB, 1,000 of 4,000 entries, reading 0 B/s, \
             3 min 00 s left, slowed down by the server, 1 problem"
        );
    }
}
