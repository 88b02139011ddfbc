//! Development tasks of this workspace: `cargo xtask help` lists them.
//!
//! Next to nothing but the standard library, so that the first run on a fresh machine is quick.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool prints")]
#![allow(clippy::disallowed_methods, reason = "measures how long its own steps take")]

mod bench;
mod cache;
mod deny;
mod lint;
mod restic;
mod servers;
mod step;
mod test;
mod tidy;

use std::process::ExitCode;

/// What every task returns: the message is printed once, by `main`.
type Outcome<T = ()> = Result<T, String>;

const HELP: &str = "\
cargo xtask <task>

  test [--count N] [FILTER] [CARGO-TEST-ARGS] [-- TEST-ARGS]
          set up what the tests need, then run all of them: units, integration, docs, examples
          --count N   how often the long, seeded drivers repeat
  lint    formatting, clippy per feature, documentation, dependencies, tidiness
  tidy    only the rules of this project that no other tool knows
  ci      test, then lint: what has to pass before a change is merged
  bench   this program and its peers side by side: `cargo xtask bench --help`

Environment:
  BACKUPKIT_REQUIRE_SERVERS=1   what would be skipped is a failure
  BACKUPKIT_TEST_RESTIC=PATH    use this restic instead of the distribution's
  XDG_CACHE_HOME                where downloaded tools are kept (default ~/.cache)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = match arguments.split_first() {
        Some((task, rest)) => (task.as_str(), rest),
        None => ("help", &[][..]),
    };
    let outcome = match task {
        "test" => test::run(rest),
        "bench" => bench::run_bench(rest),
        bench::TOUCH_MEMORY => {
            bench::touch_memory();
            Ok(())
        }
        "lint" => without_arguments(task, rest).and_then(|()| lint::run()),
        "tidy" => without_arguments(task, rest).and_then(|()| tidy::run()),
        "ci" => {
            without_arguments(task, rest).and_then(|()| test::run(&[])).and_then(|()| lint::run())
        }
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(format!("unknown task `{other}`\n\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn without_arguments(task: &str, rest: &[String]) -> Outcome {
    match rest.first() {
        None => Ok(()),
        Some(argument) => Err(format!("`{task}` takes no argument, but got `{argument}`")),
    }
}
