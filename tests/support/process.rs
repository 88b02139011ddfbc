//! Running a program: everything it says is kept, and it never outlives its test.

use std::fmt;
use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A program that has ended, or was ended.
#[derive(Debug)]
pub struct Finished {
    line: String,
    status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    /// It was still running when its time was up, and was killed.
    pub timed_out: bool,
}

impl Finished {
    /// `None` where a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Panics with all that was said unless it ended with this code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert!(self.code() == Some(code) && !self.timed_out, "expected exit code {code}\n{self}");
        self
    }

    #[track_caller]
    pub fn expect_success(self) -> Self {
        self.expect_code(0)
    }

    /// What it printed, as one JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not JSON: {error}\n{self}"))
    }

    /// What it printed, as one JSON document a line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let parse = |line| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("`{line}` is not JSON: {error}\n{self}"))
        };
        self.stdout.lines().filter(|line| !line.is_empty()).map(parse).collect()
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let late = if self.timed_out { ", killed when its time was up" } else { "" };
        write!(
            formatter,
            "$ {}\n{}{late}\n--- stdout\n{}\n--- stderr\n{}",
            self.line, self.status, self.stdout, self.stderr
        )
    }
}

/// A program that may still be running. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    said: Arc<Said>,
    readers: Vec<JoinHandle<()>>,
    /// The status, once it was asked for: the process id must not be used after that.
    ended: Option<ExitStatus>,
}

#[derive(Debug, Default)]
struct Said {
    so_far: Mutex<Output>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    n_closed: usize,
}

impl Running {
    /// Starts it without a terminal and without input.
    pub fn start(command: &mut Command) -> Self {
        let line = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {line}: {error}"));
        let said = Arc::new(Said::default());
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let readers = vec![
            read_all(stdout, Arc::clone(&said), |output| &mut output.stdout),
            read_all(stderr, Arc::clone(&said), |output| &mut output.stderr),
        ];
        Self { line, child, said, readers, ended: None }
    }

    /// Waits until what it has printed so far satisfies `enough`. False if it ends before that, or
    /// the time is up.
    pub fn wait_for(&self, limit: Duration, enough: impl Fn(&str) -> bool) -> bool {
        let is_enough = |output: &Output| enough(&String::from_utf8_lossy(&output.stdout));
        let so_far = self.said.so_far.lock().unwrap();
        let (so_far, _) = self
            .said
            .more
            .wait_timeout_while(so_far, limit, |output| output.n_closed < 2 && !is_enough(output))
            .unwrap();
        is_enough(&so_far)
    }

    /// Lets it run for this long, or until it ends.
    pub fn let_run(&self, duration: Duration) {
        self.wait_for(duration, |_| false);
    }

    /// Whether it has closed what it prints to, as it does at its end.
    pub fn has_ended(&self) -> bool {
        self.said.so_far.lock().unwrap().n_closed >= 2
    }

    /// `kill -9`: it can do nothing about it.
    pub fn kill(&mut self) {
        self.send(Signal::KILL);
    }

    /// Ctrl-C.
    pub fn interrupt(&mut self) {
        self.send(Signal::INT);
    }

    /// What a service manager sends.
    pub fn terminate(&mut self) {
        self.send(Signal::TERM);
    }

    /// Ctrl-Z, but it can do nothing about it.
    pub fn suspend(&mut self) {
        self.send(Signal::STOP);
    }

    /// Lets it go on after it was stopped.
    pub fn resume(&mut self) {
        self.send(Signal::CONT);
    }

    /// Whether it is stopped, as by Ctrl-Z.
    pub fn is_stopped(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let status = status.unwrap_or_default();
        // Behind the name, which stands in parentheses and may hold anything.
        status.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    fn send(&mut self, signal: Signal) {
        // Our own child, not yet waited for: its number cannot belong to anybody else.
        if self.ended.is_none() {
            let pid = Pid::from_child(&self.child);
            kill_process(pid, signal).unwrap_or_else(|error| panic!("signal a child: {error}"));
        }
    }

    /// Waits for its end, and kills it if that takes longer than `limit`.
    pub fn finish(mut self, limit: Duration) -> Finished {
        let so_far = self.said.so_far.lock().unwrap();
        let waited = self.said.more.wait_timeout_while(so_far, limit, |output| output.n_closed < 2);
        let (so_far, wait) = waited.unwrap();
        drop(so_far);
        let timed_out = wait.timed_out();
        if timed_out {
            self.kill();
        }
        let status = self.child.wait().expect("our own child can be waited for");
        self.ended = Some(status);
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader does not panic");
        }
        let output = std::mem::take(&mut *self.said.so_far.lock().unwrap());
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Finished {
            line: std::mem::take(&mut self.line),
            status,
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            timed_out,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // The test has failed already; nothing more can be done about an error here.
            let _ignored = self.child.kill();
            let _ignored = self.child.wait();
        }
    }
}

fn read_all(
    mut pipe: impl Read + Send + 'static,
    said: Arc<Said>,
    part: fn(&mut Output) -> &mut Vec<u8>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 14];
        loop {
            let length = pipe.read(&mut buffer).unwrap_or(0);
            let mut so_far = said.so_far.lock().unwrap();
            part(&mut so_far).extend_from_slice(&buffer[..length]);
            so_far.n_closed += usize::from(length == 0);
            said.more.notify_all();
            drop(so_far);
            if length == 0 {
                return;
            }
        }
    })
}

/// A command that sees nothing of the machine it runs on but `PATH`.
pub fn clean_command(program: &std::path::Path, home: &std::path::Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("XDG_CACHE_HOME", home.join("cache"));
    command.env("TMPDIR", std::env::temp_dir());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}
