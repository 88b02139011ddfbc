//! What was measured, as tables.

use std::fmt::Write as _;

use super::super::report::{median, spread, to_f64};

/// What one command used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) wall_seconds: f64,
    pub(super) cpu_seconds: f64,
    pub(super) peak_bytes: u64,
    /// That the server took; zero where it does not count.
    pub(super) requests: u64,
}

/// All samples, in the order in which their names came first.
pub(super) struct Figures {
    heading: String,
    samples: Vec<(String, String, Vec<Sample>)>,
    ratios: Vec<(String, &'static str, Vec<f64>)>,
}

impl Figures {
    pub(super) fn new(machine: &str) -> Self {
        Self { heading: machine.to_owned(), samples: Vec::new(), ratios: Vec::new() }
    }

    pub(super) fn add(&mut self, part: &str, name: &str, sample: Sample) {
        println!(
            "    {name:<28} {:7.2} s  {:7.2} CPU s  {:5} MiB  {:8} requests",
            sample.wall_seconds,
            sample.cpu_seconds,
            sample.peak_bytes >> 20,
            sample.requests,
        );
        let known = |(one, other, _): &&mut (String, String, _)| one == part && other == name;
        match self.samples.iter_mut().find(known) {
            Some((_, _, samples)) => samples.push(sample),
            None => self.samples.push((part.to_owned(), name.to_owned(), vec![sample])),
        }
    }

    /// What was added last under this name.
    pub(super) fn last(&self, part: &str, name: &str) -> Sample {
        let found = self.samples.iter().find(|(one, other, _)| one == part && other == name);
        let nothing =
            Sample { wall_seconds: f64::NAN, cpu_seconds: f64::NAN, peak_bytes: 0, requests: 0 };
        found.and_then(|(_, _, samples)| samples.last().copied()).unwrap_or(nothing)
    }

    pub(super) fn ratio(&mut self, name: &str, ratio: f64, goal: &'static str) {
        println!("    {name}: {ratio:.2} {goal}");
        match self.ratios.iter_mut().find(|(known, _, _)| known == name) {
            Some((_, _, ratios)) => ratios.push(ratio),
            None => self.ratios.push((name.to_owned(), goal, vec![ratio])),
        }
    }

    /// Two tables in Markdown: medians, and ratios with their goals.
    pub(super) fn render(&self) -> String {
        let mut text = format!("{}\n\nMedians:\n\n", self.heading);
        text.push_str("| part | what | wall s | CPU s | peak MiB | requests |\n");
        text.push_str("|---|---|---:|---:|---:|---:|\n");
        for (part, name, samples) in &self.samples {
            let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
            _ = writeln!(
                text,
                "| {part} | {name} | {:.2} | {:.2} | {:.0} | {:.0} |",
                of(|sample| sample.wall_seconds),
                of(|sample| sample.cpu_seconds),
                of(|sample| to_f64(sample.peak_bytes) / to_f64(1 << 20)),
                of(|sample| to_f64(sample.requests)),
            );
        }
        text.push_str("\nRound by round: median (least to most):\n\n");
        text.push_str("| what | figure | goal |\n|---|---:|---|\n");
        for (name, goal, ratios) in &self.ratios {
            _ = writeln!(text, "| {name} | {} | {goal} |", spread(ratios.clone()));
        }
        text
    }
}
