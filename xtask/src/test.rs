//! `cargo xtask test`: everything the tests need, then the tests.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::Outcome;
use crate::restic::{self, Found};
use crate::servers::Servers;
use crate::step::{cargo, run as run_command, skipping_is_a_failure, step, workspace_root};

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let request = Request::parse(arguments)?;
    let restic = step("find restic", || match restic::find()? {
        Found::Restic(path, version) => {
            println!("    {version}");
            Ok(Some(path))
        }
        Found::Impossible(why) if skipping_is_a_failure() => Err(why),
        Found::Impossible(why) => {
            println!("    SKIPPED: the tests that compare with restic will not run: {why}");
            Ok(None)
        }
    })?;
    let servers = step("start servers", Servers::start)?;
    // As it is shipped: without the features that only tests switch on.
    let program = step("build the program", || {
        run_command(cargo().args(["build", "--package", "backupkit-cli"]))?;
        program_beside_us()
    })?;
    let with_environment = |mut command: Command| {
        command.env("BACKUPKIT_TEST_PROGRAM", &program);
        if let Some(restic) = &restic {
            command.env("BACKUPKIT_TEST_RESTIC", restic);
        }
        command.envs(servers.variables());
        if let Some(count) = request.count {
            command.env("BACKUPKIT_TEST_COUNT", count.to_string());
        }
        command
    };
    step("run the tests", || run_command(&mut with_environment(request.cargo_test())))?;
    if request.is_everything() {
        for example in examples()? {
            step(&format!("run example {example}"), || {
                let mut command = cargo();
                command.args(["run", "--quiet", "--all-features", "--example", &example]);
                run_command(&mut with_environment(command))
            })?;
        }
    }
    if restic.is_none() {
        println!("SKIPPED: the tests that compare with restic (see above).");
    }
    for name in servers.skipped() {
        println!("SKIPPED: the tests on {name} (see above).");
    }
    Ok(())
}

/// What was asked for on the command line.
struct Request {
    count: Option<u32>,
    for_cargo: Vec<String>,
    for_tests: Vec<String>,
}

impl Request {
    fn parse(arguments: &[String]) -> Outcome<Self> {
        let mut request = Self { count: None, for_cargo: Vec::new(), for_tests: Vec::new() };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            if argument == "--" {
                request.for_tests = arguments.cloned().collect();
                break;
            }
            let count = match argument.strip_prefix("--count") {
                Some("") => Some(arguments.next().map_or("", String::as_str)),
                Some(rest) => rest.strip_prefix('='),
                None => None,
            };
            match count.map(str::parse) {
                Some(Ok(count)) => request.count = Some(count),
                Some(Err(_)) => return Err("`--count` takes a number".to_owned()),
                None => request.for_cargo.push(argument.clone()),
            }
        }
        Ok(request)
    }

    fn is_everything(&self) -> bool {
        self.for_cargo.is_empty() && self.for_tests.is_empty()
    }

    fn cargo_test(&self) -> Command {
        let names_a_package = |argument: &String| {
            argument.starts_with("-p")
                || argument == "--package"
                || argument.starts_with("--package=")
        };
        let mut command = cargo();
        command.arg("test");
        if !self.for_cargo.iter().any(names_a_package) {
            command.arg("--workspace");
        }
        command.arg("--all-features").args(&self.for_cargo);
        if !self.for_tests.is_empty() {
            command.arg("--").args(&self.for_tests);
        }
        command
    }
}

/// Cargo puts all programs of one profile into one folder, wherever that is.
fn program_beside_us() -> Outcome<PathBuf> {
    let xtask = std::env::current_exe().map_err(|error| format!("find ourselves: {error}"))?;
    let program = xtask.with_file_name(format!("backupkit{}", std::env::consts::EXE_SUFFIX));
    if program.is_file() {
        Ok(program)
    } else {
        Err(format!("{} is missing; start this with `cargo xtask`", program.display()))
    }
}

/// The files in `examples/`, in order of name.
fn examples() -> Outcome<Vec<String>> {
    let folder = workspace_root().join("examples");
    let Ok(listing) = fs::read_dir(&folder) else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in listing {
        let path = entry.map_err(|error| format!("list {}: {error}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Outcome<Request> {
        Request::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_count_is_taken_out_and_the_rest_goes_on() {
        let request = parse(&["--count", "7", "interop", "--", "--nocapture"]).unwrap();
        assert_eq!(request.count, Some(7));
        assert_eq!(request.for_cargo, ["interop"]);
        assert_eq!(request.for_tests, ["--nocapture"]);
        assert_eq!(parse(&["--count=9"]).unwrap().count, Some(9));
    }

    #[test]
    fn a_count_that_is_no_number_is_refused() {
        assert!(parse(&["--count"]).is_err());
        assert!(parse(&["--count", "many"]).is_err());
        assert!(parse(&["--count="]).is_err());
    }

    #[test]
    fn a_named_package_replaces_the_workspace() {
        let words = |request: Request| {
            let command = request.cargo_test();
            command.get_args().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(words(parse(&["x"]).unwrap()), ["test", "--workspace", "--all-features", "x"]);
        assert_eq!(words(parse(&["-p", "x"]).unwrap()), ["test", "--all-features", "-p", "x"]);
    }
}
