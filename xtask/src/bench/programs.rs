//! The programs that are compared, and how each is told what to do.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::options::Options;
use crate::step::{output_of, run};
use crate::{Outcome, cache, restic};

/// Who may be compared with us.
pub(super) const PEERS: [&str; 2] = ["restic", "rustic"];
/// The version that the goals name.
const RUSTIC_VERSION: &str = "0.11.4";
const PASSWORD: &str = "benchmark";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grammar {
    Ours,
    Restic,
    Rustic,
}

/// A program on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    grammar: Grammar,
    path: PathBuf,
    /// What it calls itself, with its version.
    pub(crate) version: String,
}

pub(crate) fn ours(path: &Path) -> Outcome<Program> {
    let version = output_of(Command::new(path).arg("version"))?;
    let version = version.lines().next().unwrap_or_default().to_owned();
    Ok(Program { grammar: Grammar::Ours, path: path.to_owned(), version })
}

/// This program first, then each peer that is wanted and found.
pub(crate) fn find(ours: &Program, options: &Options) -> Outcome<Vec<Program>> {
    let mut programs = vec![ours.clone()];
    if options.wants("restic") {
        match restic::find()? {
            restic::Found::Restic(path, version) => {
                let version = version.split(" compiled").next().unwrap_or_default().to_owned();
                programs.push(Program { grammar: Grammar::Restic, path, version });
            }
            restic::Found::Impossible(why) => println!("    without restic: {why}"),
        }
    }
    if options.wants("rustic") {
        match find_rustic(options.build_rustic)? {
            Some(program) => programs.push(program),
            None => println!("    without rustic: `--build-rustic` builds it once"),
        }
    }
    for program in &programs {
        println!("    {}", program.version);
    }
    Ok(programs)
}

fn find_rustic(may_build: bool) -> Outcome<Option<Program>> {
    let folder = cache::folder("rustic")?;
    let built = folder.join("bin/rustic");
    if may_build && !built.exists() {
        let mut cargo = Command::new("cargo");
        cargo.args(["install", "rustic-rs", "--version", RUSTIC_VERSION, "--locked"]);
        cargo.args(["--no-default-features", "--root"]).arg(&folder);
        run(&mut cargo)?;
    }
    let candidates = [built, PathBuf::from("rustic")];
    Ok(candidates.into_iter().find_map(|path| {
        let version = output_of(Command::new(&path).arg("--version")).ok()?;
        Some(Program { grammar: Grammar::Rustic, path, version })
    }))
}

impl Program {
    pub(crate) fn name(&self) -> &'static str {
        match self.grammar {
            Grammar::Ours => "backupkit",
            Grammar::Restic => "restic",
            Grammar::Rustic => "rustic",
        }
    }

    /// Makes a new repository with this program; one that cuts chunks as `like` does, if that is given.
    pub(crate) fn init(&self, repository: &Path, like: Option<&Path>, cache: &Path) -> Command {
        let mut command = self.command(None, cache, &["repo", "init", "-r"], Some(repository));
        if let Some(like) = like {
            command.arg("--polynomial-of").arg(like);
        }
        command
    }

    /// Stores a folder in each of the repositories; only this program can do several.
    pub(crate) fn backup(&self, folder: &Path, repositories: &[&Path], cache: &Path) -> Command {
        if self.grammar == Grammar::Ours {
            let mut command = self.command(None, cache, &["backup"], Some(folder));
            for repository in repositories {
                command.arg("--to").arg(repository);
            }
            return command;
        }
        self.command(repositories.first().copied(), cache, &["backup"], Some(folder))
    }

    /// Makes a plan that stores a folder in a repository; only this program has plans. The state lies in
    /// the cache.
    pub(crate) fn plan(&self, folder: &Path, repository: &Path, cache: &Path) -> [Command; 4] {
        let command = |arguments: &[&str], last| self.command(None, cache, arguments, last);
        let add =
            |name, leads_to| command(&["connection", "add", name, "--folder"], Some(leads_to));
        [
            add("data", folder),
            add("disk", repository),
            command(&["repo", "add", "repository", "--connection", "disk"], None),
            command(&["plan", "create", "daily", "--from", "data", "--to", "repository"], None),
        ]
    }

    /// Stores what the plan says, as a run on record.
    pub(crate) fn run_plan(&self, cache: &Path) -> Command {
        self.command(None, cache, &["plan", "run", "daily"], None)
    }

    /// Checks everything.
    pub(crate) fn check(&self, repository: &Path, cache: &Path) -> Command {
        let arguments = ["check", "--read-data"];
        match self.grammar {
            Grammar::Ours => {
                let mut command = self.command(None, cache, &arguments, None);
                command.arg("-r").arg(repository);
                command
            }
            _ => self.command(Some(repository), cache, &arguments, None),
        }
    }

    /// Restores the newest snapshot.
    pub(crate) fn restore(&self, repository: &Path, target: &Path, cache: &Path) -> Command {
        match self.grammar {
            Grammar::Ours => {
                let mut command = self.command(None, cache, &["restore", "latest"], None);
                // The others neither compare afterwards nor wait for the disk.
                command.arg("-r").arg(repository).args(["--verify", "none", "--no-sync", "--to"]);
                command.arg(target);
                command
            }
            Grammar::Restic => self.command(
                Some(repository),
                cache,
                &["restore", "latest", "--target"],
                Some(target),
            ),
            Grammar::Rustic => {
                self.command(Some(repository), cache, &["restore", "latest"], Some(target))
            }
        }
    }

    /// This program, with nothing said yet.
    pub(crate) fn bare(&self, cache: &Path) -> Command {
        self.command(None, cache, &[], None)
    }

    fn command(
        &self,
        repository: Option<&Path>,
        cache: &Path,
        arguments: &[&str],
        last: Option<&Path>,
    ) -> Command {
        let mut command = Command::new(&self.path);
        command.env("XDG_CACHE_HOME", cache).env("HOME", cache);
        match self.grammar {
            Grammar::Ours => {
                command.env("BACKUPKIT_PASSWORD", PASSWORD).arg("--quiet");
            }
            Grammar::Restic => {
                command.env("RESTIC_PASSWORD", PASSWORD).arg("--quiet");
            }
            Grammar::Rustic => {
                command.env("RUSTIC_PASSWORD", PASSWORD).env("RUSTIC_NO_PROGRESS", "true");
                command.args(["--log-level", "warn"]);
            }
        }
        if let Some(repository) = repository {
            command.arg("-r").arg(repository);
        }
        command.args(arguments);
        if let Some(last) = last {
            command.arg(last);
        }
        command
    }
}
