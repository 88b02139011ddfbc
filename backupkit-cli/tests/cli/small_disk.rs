//! A disk that is soon full: a file system in memory that only the program under test sees.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};

use crate::scene::{Outcome, Scene, program};

/// A disk of few bytes at `small` in the folder of a scene, in a mount namespace of its own. What is
/// on it is seen through [`SmallDisk::shell`] alone, and is gone with this value.
pub(crate) struct SmallDisk<'a> {
    scene: &'a Scene,
    shell: Child,
    commands: ChildStdin,
    codes: BufReader<ChildStdout>,
}

impl<'a> SmallDisk<'a> {
    /// Mounts the disk. `None`, with a line that says so, where this user may not.
    pub(crate) fn mount(scene: &'a Scene, mebibytes: u32) -> Option<Self> {
        std::fs::create_dir(scene.path("small")).unwrap();
        let mount = format!(
            "mount -t tmpfs -o size={mebibytes}m,mode=0755 tmpfs small && echo ready && exec sh"
        );
        let mut unshare = Command::new("unshare");
        scene.clean(&mut unshare).args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        unshare.arg(mount).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut shell = match unshare.spawn() {
            Ok(shell) => shell,
            Err(error) => return skip(&format!("`unshare` cannot be run: {error}")),
        };
        let commands = shell.stdin.take().unwrap();
        let mut codes = BufReader::new(shell.stdout.take().unwrap());
        let mut line = String::new();
        codes.read_line(&mut line).unwrap();
        if line == "ready\n" {
            return Some(Self { scene, shell, commands, codes });
        }
        let mut why = String::new();
        shell.stderr.take().unwrap().read_to_string(&mut why).unwrap();
        shell.wait().unwrap();
        skip(why.trim())
    }

    /// Runs a line of shell, with the environment and in the folder of the scene.
    pub(crate) fn shell(&mut self, line: &str) -> Outcome {
        let (out, err) = (self.scene.path("shell.out"), self.scene.path("shell.err"));
        let (to_out, to_err) = (quote(out.to_str().unwrap()), quote(err.to_str().unwrap()));
        writeln!(self.commands, "{{ {line}\n}} >{to_out} 2>{to_err} </dev/null; echo $?").unwrap();
        let mut code = String::new();
        self.codes.read_line(&mut code).unwrap();
        let code: i32 = code.trim().parse().unwrap_or_else(|_| panic!("the shell ended: {line}"));
        let read = |path: &Path| std::fs::read(path).unwrap();
        let status = ExitStatus::from_raw(code << 8);
        Outcome(Output { status, stdout: read(&out), stderr: read(&err) })
    }

    /// Runs the program.
    pub(crate) fn run<'b>(&mut self, arguments: impl IntoIterator<Item = &'b str>) -> Outcome {
        self.run_with("", arguments)
    }

    /// Runs the program with variables set, such as `NAME=value`.
    pub(crate) fn run_with<'b>(
        &mut self,
        variables: &str,
        arguments: impl IntoIterator<Item = &'b str>,
    ) -> Outcome {
        let mut words = vec![quote(program().to_str().unwrap())];
        words.extend(arguments.into_iter().map(quote));
        self.shell(&format!("{variables} {}", words.join(" ")))
    }

    /// The files below a folder, with their sizes, in order.
    pub(crate) fn files(&mut self, folder: &str) -> Vec<(String, u64)> {
        let list = format!("find {folder} -type f -exec stat -c '%s %n' {{}} +");
        let listed = self.shell(&list).expect(0).stdout();
        let mut files: Vec<(String, u64)> = listed
            .lines()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(size_bytes, name)| (name.to_owned(), size_bytes.parse().unwrap()))
            .collect();
        files.sort();
        files
    }

    /// Takes all but so many bytes.
    pub(crate) fn leave(&mut self, mebibytes: u64) {
        self.shell("head -c 1G /dev/zero > small/ballast");
        let ballast = self.files("small/ballast")[0].1;
        let left = ballast.checked_sub(mebibytes << 20).unwrap();
        self.shell(&format!("truncate -s {left} small/ballast")).expect(0);
    }

    /// Gives back what [`SmallDisk::leave`] took.
    pub(crate) fn clear(&mut self) {
        self.shell("rm small/ballast").expect(0);
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Its disk goes with the last process in the namespace.
        drop(self.shell.kill());
        drop(self.shell.wait());
    }
}

/// Said, and never a failure: whether namespaces are allowed is not the tester's to decide.
fn skip<T>(why: &str) -> Option<T> {
    eprintln!("skipped, as no disk of a few MiB can be made here: {why}");
    None
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
