//! Our own program, run as a user runs it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::extended::PATIENCE;
use super::process::{Finished, Running, clean_command};
use super::tools::require_or_skip;

/// How to run it. Each has its own home folder, so that no test sees another's cache or locks.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    home: PathBuf,
    environment: Vec<(String, String)>,
    folder: Option<PathBuf>,
}

impl Program {
    /// The program that `cargo xtask test` built; `home` is a folder for what it keeps.
    pub fn find(home: &Path, password: &str) -> Option<Self> {
        let found = std::env::var_os("BACKUPKIT_TEST_PROGRAM")
            .map(PathBuf::from)
            .ok_or("BACKUPKIT_TEST_PROGRAM does not name our program; `cargo xtask test` sets it");
        let path = require_or_skip(found.map_err(str::to_owned))?;
        let program = Self { path, home: home.to_owned(), environment: Vec::new(), folder: None };
        Some(program.with("BACKUPKIT_PASSWORD", password).with("TZ", "UTC"))
    }

    /// With one more environment variable; a later value replaces an earlier one.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without an environment variable that was set before.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self
    }

    #[must_use]
    pub fn with_password(self, password: &str) -> Self {
        self.with("BACKUPKIT_PASSWORD", password)
    }

    /// As a user in this time zone, such as `Asia/Kathmandu`.
    #[must_use]
    pub fn in_time_zone(self, name: &str) -> Self {
        self.with("TZ", name)
    }

    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Runs it to its end.
    pub fn run<Argument: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> Finished {
        self.start(arguments).finish(PATIENCE)
    }

    /// Starts it and comes back at once.
    pub fn start<Argument: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> Running {
        let mut command = self.command();
        Running::start(command.args(arguments))
    }

    /// For what `run` and `start` cannot do, such as a namespace of its own.
    pub fn command(&self) -> Command {
        let mut command = clean_command(&self.path, &self.home);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }
}
