//! A server that runs for us.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Outcome, cache};

/// A server that has not answered by then does not come.
const PATIENCE: Duration = Duration::from_mins(2);
const INTERVAL: Duration = Duration::from_millis(100);
/// What is told of the log of a server that fails.
const TOLD_BYTES: usize = 2000;
const DATA: &str = "data";
/// As many as a server needs at most.
const PORTS: usize = 10;

/// A process with a folder of its own. Both go when this is dropped.
pub(super) struct Instance {
    name: String,
    port: u16,
    folder: PathBuf,
    child: Child,
}

impl Instance {
    /// Starts a program on ports of this machine that nobody uses, with these folders in its own.
    pub(super) fn start(
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
        folders: &[&str],
    ) -> Outcome<Self> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let unique = format!("backupkit-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(unique);
        let data = folder.join(DATA);
        cache::remove(&folder)?;
        cache::create(&data)?;
        folders.iter().try_for_each(|inner| cache::create(&data.join(inner)))?;
        let ports = free_ports()?;
        let log = |error| format!("write the log of {name}: {error}");
        let output = File::create(folder.join("log")).map_err(log)?;
        let errors = output.try_clone().map_err(log)?;
        let mut command = command(program);
        for argument in arguments {
            let mut argument = argument.replace("{folder}", &data.to_string_lossy());
            argument = argument.replace("{port}", &ports[0].to_string());
            for (number, port) in ports.iter().enumerate().skip(1) {
                argument = argument.replace(&format!("{{{number}}}"), &port.to_string());
            }
            command.arg(argument);
        }
        command.envs(environment.iter().copied()).current_dir(&folder);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().map_err(|error| format!("start {name}: {error}"))?;
        Ok(Self { name, port: ports[0], folder, child })
    }

    /// What it serves.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join(DATA)
    }

    pub(super) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Waits until the server answers a request for this path with anything but a failure of its own: that
    /// it has to be signed is an answer, too.
    pub(super) fn wait_until_ready(&self, path: &str) -> Outcome {
        let started = Instant::now();
        loop {
            let answer = self.status("GET", path).map_err(|error| error.to_string());
            let answer = answer.and_then(|status| match status {
                500.. => Err(format!("GET {path} gave status {status}")),
                _ => Ok(()),
            });
            match answer {
                Ok(()) => return Ok(()),
                Err(why) if started.elapsed() > PATIENCE => {
                    let said = self.said();
                    return Err(format!("{} does not get ready: {why}\n{said}", self.name));
                }
                Err(_) => std::thread::sleep(INTERVAL),
            }
        }
    }

    /// Makes a request without a body.
    pub(super) fn request(&self, method: &str, path: &str) -> Outcome {
        let status = self.status(method, path).map_err(|error| error.to_string())?;
        match status {
            200..300 => Ok(()),
            _ => Err(format!("{method} {path} gave status {status}")),
        }
    }

    fn status(&self, method: &str, path: &str) -> std::io::Result<u16> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let mut line = [0; "HTTP/1.1 200".len()];
        stream.read_exact(&mut line)?;
        let text = String::from_utf8_lossy(&line).into_owned();
        let number = text.rsplit(' ').next().and_then(|number| number.parse().ok());
        number.ok_or_else(|| std::io::Error::other(format!("it answered `{text}`")))
    }

    /// The end of its log.
    fn said(&self) -> String {
        let log = fs::read(self.folder.join("log")).unwrap_or_default();
        let end = &log[log.len().saturating_sub(TOLD_BYTES)..];
        String::from_utf8_lossy(end).into_owned()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Of a server that is gone nothing is left to do; its data are worth nothing.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(cache::remove(&self.folder));
    }
}

/// A program that ends with us, also if we are killed.
fn command(program: &Path) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if setpriv.is_file() {
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// Ports that nobody uses now.
fn free_ports() -> Outcome<Vec<u16>> {
    let none = |error| format!("find a free port: {error}");
    // Held all at once, so that they differ.
    let held: Vec<TcpListener> = (0..PORTS)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<std::io::Result<_>>()
        .map_err(none)?;
    let port = |listener: &TcpListener| Ok(listener.local_addr().map_err(none)?.port());
    held.iter().map(port).collect()
}
