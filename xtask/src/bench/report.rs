//! Samples become a table: medians of ours, and ratios with their spread.

use std::fmt::Write as _;

use super::measure::Usage;
use super::programs::Program;

/// What one command used and stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) usage: Usage,
    pub(crate) stored_bytes: Option<u64>,
}

/// All samples of one operation on one set, in the order of the rounds.
struct Row {
    set: &'static str,
    operation: &'static str,
    samples: Vec<(&'static str, Vec<Sample>)>,
}

pub(crate) struct Report {
    heading: String,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(programs: &[Program], machine: &str) -> Self {
        let versions: Vec<&str> = programs.iter().map(|program| program.version.as_str()).collect();
        Self { heading: format!("{}\n\n{machine}", versions.join(", ")), rows: Vec::new() }
    }

    pub(crate) fn add(
        &mut self,
        set: &'static str,
        operation: &'static str,
        program: &'static str,
        sample: Sample,
    ) {
        let index = self.rows.iter().position(|row| row.set == set && row.operation == operation);
        let index = index.unwrap_or_else(|| {
            self.rows.push(Row { set, operation, samples: Vec::new() });
            self.rows.len() - 1
        });
        let samples = &mut self.rows[index].samples;
        match samples.iter_mut().find(|(name, _)| *name == program) {
            Some((_, list)) => list.push(sample),
            None => samples.push((program, vec![sample])),
        }
    }

    /// Two tables in Markdown: what each program used, and how the others compare.
    pub(crate) fn render(&self) -> String {
        let mut text = format!("{}\n\n", self.heading);
        text.push_str(
            "Medians:\n\n| set | work | program | wall s | CPU s | peak MiB | stored MB |\n",
        );
        text.push_str("|---|---|---|---:|---:|---:|---:|\n");
        for row in &self.rows {
            for (program, samples) in &row.samples {
                let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
                let stored = of(|sample| sample.stored_bytes.map_or(f64::NAN, to_f64)) / 1e6;
                let stored = if stored.is_nan() { String::new() } else { format!("{stored:.1}") };
                let _ = writeln!(
                    text,
                    "| {} | {} | {program} | {:.2} | {:.2} | {:.0} | {stored} |",
                    row.set,
                    row.operation,
                    of(|sample| sample.usage.wall_seconds),
                    of(|sample| sample.usage.cpu_seconds),
                    of(|sample| to_f64(sample.usage.peak_bytes)) / to_f64(1 << 20),
                );
            }
        }
        text.push_str("\nHow many times our figure the others need, round by round: median (least to most):\n\n");
        text.push_str(
            "| set | work | against | wall | CPU | stored |\n|---|---|---|---:|---:|---:|\n",
        );
        for row in &self.rows {
            let Some((_, ours)) = row.samples.iter().find(|(name, _)| *name == "backupkit") else {
                continue;
            };
            for (program, theirs) in row.samples.iter().filter(|(name, _)| *name != "backupkit") {
                let ratio = |figure: fn(&Sample) -> f64| {
                    let pairs = theirs.iter().zip(ours);
                    spread(pairs.map(|(their, our)| figure(their) / figure(our)).collect())
                };
                let _ = writeln!(
                    text,
                    "| {} | {} | {program} | {} | {} | {} |",
                    row.set,
                    row.operation,
                    ratio(|sample| sample.usage.wall_seconds),
                    ratio(|sample| sample.usage.cpu_seconds),
                    ratio(|sample| sample.stored_bytes.map_or(f64::NAN, to_f64)),
                );
            }
        }
        text
    }
}

pub(crate) fn spread(ratios: Vec<f64>) -> String {
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let median = median(ratios);
    if median.is_finite() {
        format!("{median:.2} ({least:.2} to {most:.2})")
    } else {
        String::new()
    }
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => figures[middle],
        _ => f64::midpoint(figures[middle - 1], figures[middle]),
    }
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn to_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_lies_between() {
        assert!((median(vec![3.0, 1.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![9.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let sample = |wall_seconds| Sample {
            usage: Usage { wall_seconds, cpu_seconds: 1.0, peak_bytes: 1 << 20 },
            stored_bytes: None,
        };
        let mut report = Report::new(&[], "a machine");
        for (ours, theirs) in [(1.0, 2.0), (10.0, 30.0), (4.0, 4.0)] {
            report.add("small", "restore", "restic", sample(theirs));
            report.add("small", "restore", "backupkit", sample(ours));
        }
        let text = report.render();
        assert!(text.contains("| small | restore | restic | 2.00 (1.00 to 3.00) |"), "{text}");
    }
}
