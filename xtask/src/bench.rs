//! `cargo xtask bench`: this program and its peers, side by side on the same data.
//!
//! Every operation is run by each program in turn before the next operation begins, so that a slow
//! minute of the machine hits all of them. Ratios are taken within a round. Nothing is asserted.

mod data;
mod measure;
mod options;
mod programs;
mod random;
mod report;
mod round;
mod s3;

use std::fs;
use std::process::Command;

use crate::step::{cargo, output_of, run, step, workspace_root};
use crate::{Outcome, cache};
pub(crate) use measure::{TOUCH_MEMORY, touch_memory};
use options::Options;
use programs::Program;
use report::Report;

pub(crate) fn run_bench(arguments: &[String]) -> Outcome {
    if let Some((task, rest)) = arguments.split_first()
        && task == "s3"
    {
        return s3::run(rest);
    }
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{}", options::HELP);
        return Ok(());
    }
    let options = Options::parse(arguments)?;
    let work = match &options.work {
        Some(folder) => folder.clone(),
        None => cache::folder("bench")?,
    };
    let ours = step("build", build)?;
    let programs = step("find programs", || programs::find(&ours, &options))?;
    for set in &options.sets {
        step(&format!("data: {}", set.name()), || data::make(*set, options.scale, &work))?;
    }
    cache::remove(&round::aside(&work))?;
    let mut report = Report::new(&programs, &describe_machine());
    for number in 0..options.rounds {
        for set in &options.sets {
            let name = format!("round {} of {}: {}", number + 1, options.rounds, set.name());
            step(&name, || round::run(number, *set, &options, &programs, &work, &mut report))?;
        }
    }
    cache::remove(&round::aside(&work))?;
    let text = report.render();
    println!("\n{text}");
    if let Some(path) = &options.out {
        fs::write(path, &text).map_err(|error| format!("write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Builds the program as users get it.
fn build() -> Outcome<Program> {
    run(cargo().args(["build", "--release", "--locked", "-p", "backupkit-cli"]))?;
    let metadata = output_of(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let folder = metadata
        .split_once("\"target_directory\":\"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(folder, _)| folder.to_owned())
        .ok_or("cargo metadata names no target folder")?;
    let program = workspace_root().join(folder).join("release/backupkit");
    programs::ours(&program)
}

/// Cores, memory and processor: what the figures depend on.
fn describe_machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches(['\t', ' ', ':']).trim();
    let kernel = output_of(Command::new("uname").arg("-sr")).unwrap_or_default();
    format!("{cores} cores, {model}, {kernel}")
}
