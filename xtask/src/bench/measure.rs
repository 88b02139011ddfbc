//! One command: how long, how much processor, how much memory.

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use wait4::Wait4 as _;

use crate::Outcome;
use crate::step::run_quietly;

/// As much as a command of the benchmark takes, with what the system keeps for it.
const TOUCHED_BYTES: usize = 3 << 30;
const PAGE_BYTES: usize = 4 << 10;

/// The task that only this benchmark calls.
pub(crate) const TOUCH_MEMORY: &str = "touch-memory";

/// What one command used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) wall_seconds: f64,
    /// User and system.
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_bytes: u64,
}

/// Runs a command whose output goes into `log`. Nothing waits to be written when it starts.
pub(crate) fn measure(mut command: Command, log: &Path) -> Outcome<Usage> {
    let line = format!("{command:?}");
    let open = || {
        let mut options = OpenOptions::new();
        options.create(true).append(true).open(log)
    };
    let cannot_log = |error| format!("write {}: {error}", log.display());
    let (out, err) = (open().map_err(cannot_log)?, open().map_err(cannot_log)?);
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    run_quietly(&mut Command::new("sync"))?;
    let itself = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    run_quietly(Command::new(itself).arg(TOUCH_MEMORY))?;
    let started = Instant::now();
    let used = command
        .spawn()
        .and_then(|mut child| child.wait4())
        .map_err(|error| format!("start {line}: {error}"))?;
    let wall_seconds = started.elapsed().as_secs_f64();
    if !used.status.success() {
        return Err(format!("{line} ended with {}; see {}", used.status, log.display()));
    }
    Ok(Usage {
        wall_seconds,
        cpu_seconds: (used.rusage.utime + used.rusage.stime).as_secs_f64(),
        peak_bytes: used.rusage.maxrss,
    })
}

/// Touches memory that is free. On a virtual machine the host takes back what lies idle, and the first
/// touch after that costs more than much of the work: whoever came first would pay for all.
///
/// In a process of its own: a child begins with the peak of its parent.
pub(crate) fn touch_memory() {
    let mut bytes = vec![0_u8; TOUCHED_BYTES];
    for page in bytes.chunks_mut(PAGE_BYTES) {
        page[0] = 1;
    }
    black_box(bytes);
}

/// Reads all files below a folder, so that they are in the system's cache.
pub(crate) fn warm(folder: &Path) -> Outcome {
    for_each_file(folder, &mut |path| {
        std::io::copy(&mut File::open(path)?, &mut std::io::sink()).map(drop)
    })
}

/// Puts all files below a folder out of the system's cache, so that they come from the disk.
pub(crate) fn cool(folder: &Path) -> Outcome {
    run_quietly(&mut Command::new("sync"))?;
    for_each_file(folder, &mut |path| {
        let file = File::open(path)?;
        Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?)
    })
}

fn for_each_file(folder: &Path, act: &mut impl FnMut(&Path) -> std::io::Result<()>) -> Outcome {
    let failed = |error| format!("read {}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            for_each_file(&entry.path(), act)?;
        } else if kind.is_file() {
            act(&entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

/// Bytes of all files below a folder.
pub(crate) fn bytes_below(folder: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for_each_file(folder, &mut |path| {
        bytes += fs::metadata(path)?.len();
        Ok(())
    })?;
    Ok(bytes)
}
