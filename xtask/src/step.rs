//! Running other programs, one spoken step at a time.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::Outcome;

/// Says what starts, runs it, says how long it took.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    println!("==> {name}");
    let started = Instant::now();
    let outcome = work();
    let verdict = if outcome.is_ok() { "done" } else { "FAILED" };
    println!("<== {name}: {verdict} in {:.1} s", started.elapsed().as_secs_f64());
    outcome.map_err(|error| format!("{name}: {error}"))
}

/// Runs to the end, output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let line = line_of(command);
    println!("    $ {line}");
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("start `{line}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` ended with {status}")) }
}

/// Runs to the end without a word, unless it fails.
pub(crate) fn run_quietly(command: &mut Command) -> Outcome {
    output_of(command).map(drop)
}

/// Runs to the end and returns what was printed.
pub(crate) fn output_of(command: &mut Command) -> Outcome<String> {
    let line = line_of(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("start `{line}`: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("`{line}` ended with {}: {}", output.status, said.trim()))
    }
}

/// The cargo that started us, in the root of the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace_root());
    command
}

/// The checkout this xtask was built from.
pub(crate) fn workspace_root() -> PathBuf {
    // Set by `cargo run`; the value at build time would go stale in a shared target folder.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let xtask = manifest.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    xtask.parent().map_or_else(|| xtask.clone(), Path::to_path_buf)
}

/// Whether whoever calls wants a failure where something would be skipped.
pub(crate) fn skipping_is_a_failure() -> bool {
    std::env::var_os("BACKUPKIT_REQUIRE_SERVERS").is_some_and(|value| value == "1")
}

fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    // The full path of cargo says nothing to the reader.
    let mut line = words.join(" ");
    if let Some(name) = Path::new(command.get_program()).file_name() {
        line.replace_range(..words[0].len(), &name.to_string_lossy());
    }
    line
}
