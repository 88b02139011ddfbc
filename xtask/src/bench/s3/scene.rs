//! The server, the programs, and their commands.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::figures::Sample;
use crate::bench::measure::measure;
use crate::bench::programs::Program;
use crate::servers::{ACCESS_KEY_ID, BenchmarkServer, SECRET_ACCESS_KEY};
use crate::step::{cargo, output_of, run_quietly};
use crate::{Outcome, cache, restic};

const PASSWORD: &str = "benchmark";
const BUCKET: &str = "bucket";

/// How a server is reached.
#[derive(Debug, Clone)]
pub(super) struct Line(String);

/// Where a repository in a bucket lies, as the programs write it.
pub(super) struct Address {
    pub(super) ours: String,
    pub(super) restic: String,
}

/// A program of ours that serves until this is dropped.
pub(super) struct Helper {
    address: String,
    child: Child,
}

impl Line {
    pub(super) fn of(helper: &Helper) -> Self {
        Self(helper.address.clone())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Of one that is gone nothing is left to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(super) struct Scene {
    server: BenchmarkServer,
    ours: Program,
    restic: Option<PathBuf>,
    /// The program of `benches/s3`.
    client: PathBuf,
    folder: PathBuf,
}

impl Scene {
    pub(super) fn start(ours: &Program, folder: &Path) -> Outcome<Self> {
        let client = build_client()?;
        cache::remove(folder)?;
        cache::create(folder)?;
        let restic = match restic::find()? {
            restic::Found::Restic(path, version) => {
                println!("    {version}");
                Some(path)
            }
            restic::Found::Impossible(why) => {
                println!("    without restic: {why}");
                None
            }
        };
        println!("    {}", ours.version);
        let server = BenchmarkServer::start()?;
        Ok(Self { server, ours: ours.clone(), restic, client, folder: folder.to_owned() })
    }

    /// The server itself.
    pub(super) fn near(&self) -> Line {
        Line(self.server.address())
    }

    /// The server behind a line on which replies take longer.
    pub(super) fn delayed(&self, milliseconds: u32) -> Outcome<Helper> {
        let address = self.server.address();
        let to = address.trim_start_matches("http://");
        self.help(&["delay", "--to", to, "--milliseconds", &milliseconds.to_string()])
    }

    /// A server with objects that nobody put.
    pub(super) fn made_up(&self, (count, len_bytes): (usize, usize)) -> Outcome<Helper> {
        let (count, len_bytes) = (count.to_string(), len_bytes.to_string());
        self.help(&["serve", "--count", &count, "--bytes", &len_bytes])
    }

    fn help(&self, arguments: &[&str]) -> Outcome<Helper> {
        let failed = |error| format!("start {}: {error}", arguments[0]);
        let mut command = Command::new(&self.client);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let mut address = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut address).map_err(failed)?;
        }
        Ok(Helper { address: address.trim().to_owned(), child })
    }

    /// Puts objects into the bucket.
    pub(super) fn seed(&self, prefix: &str, objects: (usize, usize)) -> Outcome {
        let mut command = self.client(&self.near(), "seed", prefix);
        run_quietly(counted(&mut command, objects))
    }

    /// Writes the same as files.
    pub(super) fn write_folder(&self, name: &str, objects: (usize, usize)) -> Outcome {
        let mut command = Command::new(&self.client);
        command.arg("write").arg("--folder").arg(self.folder.join(name));
        run_quietly(counted(&mut command, objects))
    }

    /// Gets all objects, so many at the same time.
    pub(super) fn download(&self, line: &Line, prefix: &str, at_once: usize) -> Command {
        let mut command = self.client(line, "download", prefix);
        command.arg("--at-once").arg(at_once.to_string());
        command
    }

    pub(super) fn list(&self, line: &Line, prefix: &str) -> Command {
        self.client(line, "list", prefix)
    }

    fn client(&self, line: &Line, task: &str, prefix: &str) -> Command {
        let mut command = Command::new(&self.client);
        command.args([task, "--endpoint", &line.0, "--bucket", BUCKET, "--prefix", prefix]);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID);
        command.env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
        command
    }

    pub(super) fn repository(&self, name: &str) -> PathBuf {
        self.folder.join("repositories").join(name)
    }

    /// Makes an empty repository in a folder, in the place of what was there.
    pub(super) fn new_repository(&self, name: &str) -> Outcome<PathBuf> {
        let repository = self.repository(name);
        cache::remove(&repository)?;
        run_quietly(self.ours().args(["repo", "init", "-r"]).arg(&repository))?;
        Ok(repository)
    }

    /// Makes two empty repositories in the bucket: one for each program.
    pub(super) fn new_bucket_repository(&self, name: &str) -> Outcome<Address> {
        let place = |program| format!("{}/{BUCKET}/repositories/{program}-{name}", self.near().0);
        let address = Address {
            ours: format!("s3:{}", place("ours")),
            restic: format!("s3:{}", place("restic")),
        };
        run_quietly(self.ours().args(["repo", "init", "-r", &address.ours]))?;
        if self.restic.is_some() {
            run_quietly(self.ours().args(["repo", "init", "-r", &address.restic]))?;
        }
        Ok(address)
    }

    pub(super) fn back_up_bucket(&self, line: &Line, prefix: &str, repository: &Path) -> Command {
        let mut command = self.ours();
        command.arg("backup").arg(format!("s3:{}/{BUCKET}/{prefix}", line.0));
        command.arg("--to").arg(repository);
        command
    }

    pub(super) fn back_up_folder(&self, name: &str, repository: &Path) -> Command {
        let mut command = self.ours();
        command.arg("backup").arg(self.folder.join(name)).arg("--to").arg(repository);
        command
    }

    pub(super) fn back_up_into_bucket(&self, folder: &Path, address: &str) -> Command {
        let mut command = self.ours();
        command.arg("backup").arg(folder).args(["--to", address]);
        command
    }

    fn ours(&self) -> Command {
        let mut command = self.ours.bare(&self.folder.join("cache"));
        command.env("BACKUPKIT_S3_ACCESS_KEY_ID", ACCESS_KEY_ID);
        command.env("BACKUPKIT_S3_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
        command
    }

    /// The same by restic, where there is one.
    pub(super) fn restic_backup(&self, folder: &Path, address: &str) -> Option<Command> {
        let mut command = Command::new(self.restic.as_ref()?);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID);
        command.env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
        command.env("RESTIC_PASSWORD", PASSWORD);
        command.env("XDG_CACHE_HOME", self.folder.join("cache")).env("HOME", &self.folder);
        command.args(["--quiet", "-o", "s3.region=us-east-1", "-r", address, "backup"]).arg(folder);
        Some(command)
    }

    /// Removes what lies below a path of the server, past it.
    pub(super) fn remove(&self, path: &str) -> Outcome {
        cache::remove(&self.server.data().join(path))
    }

    pub(super) fn measure(&self, command: &Command) -> Outcome<Sample> {
        let before = self.server.requests()?;
        let usage = measure(again(command), &self.folder.join("log"))?;
        Ok(Sample {
            wall_seconds: usage.wall_seconds,
            cpu_seconds: usage.cpu_seconds,
            peak_bytes: usage.peak_bytes,
            requests: self.server.requests()? - before,
        })
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // It can be made again; that it is still there harms nobody.
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn counted(command: &mut Command, (count, len_bytes): (usize, usize)) -> &mut Command {
    command.arg("--count").arg(count.to_string()).arg("--bytes").arg(len_bytes.to_string())
}

/// The same command once more: a command that ran cannot be copied.
fn again(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => copy.env(name, value),
            None => copy.env_remove(name),
        };
    }
    copy
}

/// Builds the client as programs are built.
fn build_client() -> Outcome<PathBuf> {
    let arguments = ["build", "--locked", "--bench", "s3", "--features", "s3,testing"];
    let said = output_of(cargo().args(arguments).args([
        "--profile",
        "bench",
        "--message-format",
        "json",
    ]))?;
    let mut programs = said.lines().filter(|line| line.contains("\"kind\":[\"bench\"]"));
    let program = programs.find_map(|line| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        Some(PathBuf::from(rest.split_once('"')?.0))
    });
    program.ok_or_else(|| "cargo names no program of the benchmark".to_owned())
}
