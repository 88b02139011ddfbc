//! restic: what it makes of our repositories, and what we make of its.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::extended::PATIENCE;
use super::process::{Finished, Running, clean_command};
use super::tools::require_or_skip;

/// How to run it on one repository. Each has its own home folder and so its own cache.
#[derive(Debug, Clone)]
pub struct Restic {
    program: PathBuf,
    home: PathBuf,
    repository: PathBuf,
    password: String,
    time_zone: String,
    folder: Option<PathBuf>,
    /// Major, minor, patch.
    pub version: (u32, u32, u32),
}

impl Restic {
    /// The restic that `cargo xtask test` found, for the repository in this folder.
    pub fn find(home: &Path, repository: &Path, password: &str) -> Option<Self> {
        let found = std::env::var_os("BACKUPKIT_TEST_RESTIC")
            .map(PathBuf::from)
            .ok_or("BACKUPKIT_TEST_RESTIC does not name restic; `cargo xtask test` sets it");
        let mut restic = Self {
            program: require_or_skip(found.map_err(str::to_owned))?,
            home: home.to_owned(),
            repository: repository.to_owned(),
            password: password.to_owned(),
            time_zone: "UTC".to_owned(),
            folder: None,
            version: (0, 0, 0),
        };
        let said = restic.run(["version"]).expect_success().stdout;
        restic.version =
            version_in(&said).unwrap_or_else(|| panic!("restic says of its version: {said}"));
        Some(restic)
    }

    /// The same on another repository.
    #[must_use]
    pub fn on(&self, repository: &Path) -> Self {
        Self { repository: repository.to_owned(), ..self.clone() }
    }

    #[must_use]
    pub fn with_password(&self, password: &str) -> Self {
        Self { password: password.to_owned(), ..self.clone() }
    }

    /// As a user in this time zone, such as `Asia/Kathmandu`.
    #[must_use]
    pub fn in_time_zone(&self, name: &str) -> Self {
        Self { time_zone: name.to_owned(), ..self.clone() }
    }

    /// Started in this folder. A relative source then leaves the folders above it out of the
    /// snapshot, and with them times that every other test changes.
    #[must_use]
    pub fn in_folder(&self, folder: &Path) -> Self {
        Self { folder: Some(folder.to_owned()), ..self.clone() }
    }

    /// Makes a repository of format version 2.
    #[track_caller]
    pub fn init(&self) {
        self.run(["init", "--repository-version", "2"]).expect_success();
    }

    /// How many blobs the indexes name, with and without repetition.
    #[track_caller]
    pub fn indexed_blobs(&self) -> (usize, usize) {
        let (mut all, mut unique) = (0, HashSet::new());
        for id in self.list("index") {
            let index = self.run(["cat", "index", &id]).expect_success().json();
            for pack in index["packs"].as_array().unwrap() {
                for blob in pack["blobs"].as_array().unwrap() {
                    all += 1;
                    unique.insert(blob["id"].as_str().unwrap().to_owned());
                }
            }
        }
        (all, unique.len())
    }

    /// Backs up and returns the summary that restic prints: `files_new`, `data_blobs`,
    /// `tree_blobs`, `data_added`, `snapshot_id`, and others.
    #[track_caller]
    pub fn backup(&self, sources: &[&Path]) -> Value {
        self.backup_with(&[], sources)
    }

    /// The same with options, such as `--force`.
    #[track_caller]
    pub fn backup_with(&self, options: &[&str], sources: &[&Path]) -> Value {
        let arguments = ["backup", "--json"].map(OsStr::new).into_iter();
        let arguments = arguments.chain(options.iter().map(OsStr::new)).chain([OsStr::new("--")]);
        let finished =
            self.run(arguments.chain(sources.iter().map(|path| path.as_os_str()))).expect_success();
        let is_summary = |line: &Value| line["message_type"] == "summary";
        finished
            .json_lines()
            .into_iter()
            .find(is_summary)
            .unwrap_or_else(|| panic!("restic printed no summary\n{finished}"))
    }

    /// Everything is there and every byte is right.
    #[track_caller]
    pub fn check_read_data(&self) {
        let finished = self.run(["check", "--read-data"]).expect_success();
        assert!(finished.stdout.contains("no errors were found"), "{finished}");
    }

    /// Everything is there; contents are not read.
    #[track_caller]
    pub fn check(&self) {
        self.run(["check"]).expect_success();
    }

    #[track_caller]
    pub fn restore(&self, snapshot: &str, target: &Path) {
        let arguments = [OsStr::new("restore"), OsStr::new(snapshot), OsStr::new("--target")];
        self.run(arguments.into_iter().chain([target.as_os_str()])).expect_success();
    }

    /// All snapshots, as restic shows them.
    #[track_caller]
    pub fn snapshots_json(&self) -> Vec<Value> {
        let snapshots = self.run(["snapshots", "--json"]).expect_success().json();
        // No snapshot at all is `null`.
        snapshots.as_array().cloned().unwrap_or_default()
    }

    /// All ids of a kind: `blobs`, `packs`, `index`, `snapshots`, `keys`, `locks`.
    #[track_caller]
    pub fn list(&self, kind: &str) -> Vec<String> {
        let finished = self.run(["--quiet", "--no-lock", "list", kind]).expect_success();
        finished.stdout.lines().map(str::to_owned).collect()
    }

    /// What is in a snapshot, one JSON object each, the snapshot itself first.
    #[track_caller]
    pub fn ls(&self, snapshot: &str) -> Vec<Value> {
        self.run(["ls", "--json", "--long", snapshot]).expect_success().json_lines()
    }

    /// Forgets by policy or id, such as `["--keep-last", "1"]`.
    #[track_caller]
    pub fn forget(&self, arguments: &[&str]) {
        self.run(["forget"].iter().chain(arguments)).expect_success();
    }

    #[track_caller]
    pub fn prune(&self) {
        self.run(["prune"]).expect_success();
    }

    /// Sizes and counts, by `restore-size`, `files-by-contents` or `raw-data`.
    #[track_caller]
    pub fn stats(&self, mode: &str) -> Value {
        self.run(["stats", "--json", "--mode", mode]).expect_success().json()
    }

    /// Any other command, run to its end.
    pub fn run<Argument: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> Finished {
        self.start(arguments).finish(PATIENCE)
    }

    /// Any command, started only.
    pub fn start<Argument: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> Running {
        let mut command = clean_command(&self.program, &self.home);
        command
            .env("RESTIC_PASSWORD", &self.password)
            .env("RESTIC_REPOSITORY", &self.repository)
            .env("RESTIC_CACHE_DIR", self.home.join("restic-cache"))
            .env("TZ", &self.time_zone);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        Running::start(command.args(arguments))
    }
}

/// The packs in the folder of a repository. Names only: files that are being written vanish at any
/// moment.
pub fn packs(repository: &Path) -> BTreeSet<String> {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    entries(&repository.join("data"))
        .flat_map(|folder| entries(&folder.path()))
        .filter_map(|pack| pack.file_name().into_string().ok())
        .filter(|name| name.len() == 64)
        .collect()
}

fn version_in(said: &str) -> Option<(u32, u32, u32)> {
    let number = said.strip_prefix("restic ")?.split_whitespace().next()?;
    let number = number.split('-').next()?;
    let mut parts = number.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}
