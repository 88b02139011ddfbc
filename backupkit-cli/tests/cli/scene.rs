//! A folder of its own for each test, and the program run in it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const PASSWORD: &str = "correct horse";

/// A lock file that is whole, and that no key of ours opens. One that is not whole is waited for.
pub(crate) const FOREIGN_LOCK: &str = "a lock that our key does not open";
/// Its name: its hash.
pub(crate) const FOREIGN_LOCK_ID: &str =
    "fb62e365efaa4d21f6f3cf687d37b2f5eae2d78b1f53f34b7a0c141eb0cfd690";

/// The program: the one that is shipped if the test run names it, else the one of this build.
pub(crate) fn program() -> OsString {
    std::env::var_os("BACKUPKIT_TEST_PROGRAM")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_backupkit").into())
}

/// A folder with a small `src`, in which the program runs.
pub(crate) struct Scene {
    folder: TempDir,
}

/// How the program ended.
pub(crate) struct Outcome(pub(crate) Output);

impl Scene {
    pub(crate) fn new() -> Self {
        let scene = Self { folder: TempDir::new().unwrap() };
        scene.write("src/a.txt", "first\n");
        scene.write("src/sub/b.txt", "second\n");
        scene.write("src/sub/deeper/c c.txt", "third\n");
        std::os::unix::fs::symlink("a.txt", scene.path("src/link")).unwrap();
        scene
    }

    /// With a repository in `repo` that holds one snapshot of `src`.
    pub(crate) fn backed_up() -> Self {
        let scene = Self::new();
        scene.run(["backup", "src", "--to", "repo", "--init"]).expect(0);
        scene
    }

    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub(crate) fn write(&self, relative: &str, content: impl AsRef<[u8]>) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// The program with these arguments and a clean environment.
    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(program());
        self.clean(&mut command).args(arguments);
        command
    }

    /// Takes away what the tester's environment would change.
    pub(crate) fn clean<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("BACKUPKIT_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.folder.path())
            .env_remove("NO_COLOR")
            .env_remove("XDG_CACHE_HOME")
            .env_remove("XDG_DATA_HOME")
            .env("HOME", self.path("home"))
            .env("BACKUPKIT_PASSWORD", PASSWORD)
            .stdin(Stdio::null())
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Outcome {
        Outcome(self.command(arguments).output().unwrap())
    }

    /// The files in a folder of the repository.
    pub(crate) fn files(&self, relative: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.path(relative)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path);
                }
            }
        }
        files.sort();
        files
    }
}

impl Outcome {
    pub(crate) fn code(&self) -> Option<i32> {
        self.0.status.code()
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// Fails with all that was printed if it ended otherwise.
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code(),
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout(),
            self.stderr()
        );
        self
    }

    /// The one document.
    pub(crate) fn json(&self) -> Value {
        let text = self.stdout();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"))
    }

    /// The objects of a stream.
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        let text = self.stdout();
        text.lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect()
    }

    /// The last line of standard error, which is JSON.
    pub(crate) fn json_error(&self) -> Value {
        let text = self.stderr();
        let line = text.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}:\n{text}"))
    }
}

/// Fails if two folders differ.
pub(crate) fn assert_same(left: &Path, right: &Path) {
    let compared =
        Command::new("diff").args(["-r", "--no-dereference"]).args([left, right]).output().unwrap();
    let text = String::from_utf8_lossy(&compared.stdout);
    assert!(compared.status.success(), "{text}");
}
