//! Sees what a worker process does, writes down what it reads, and ends it at its moment.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backupkit::Env;
use rustix::process::{Signal, getpid, kill_process};

use crate::coverage::{CLAIMED, Coverage, Read, load};
use crate::orders::{Moment, Stage};

/// How often it looks whether it may go on.
const POLL: Duration = Duration::from_millis(10);

/// Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Witness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    env: Env,
    log: File,
    /// What was read of packs.
    gets: File,
    /// The stage in which it ended itself is written there.
    epitaph: PathBuf,
    moment: Moment,
    /// A process that is to stop at its moment waits for this file's lock there, until another one has
    /// stopped it; any other is killed.
    stop: Option<File>,
    total_bytes: u64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    known: Coverage,
    read_bytes: u64,
    open_bodies: usize,
    is_listed: bool,
    is_committing: bool,
    is_created: bool,
    /// Behind which call the process is to stop, at the next occasion.
    due: Option<String>,
    /// Calls of the store that are under way.
    store_calls: usize,
    /// Steps of each stage so far.
    steps: HashMap<usize, u64>,
    /// Beginnings and ends.
    calls: HashMap<(String, bool), u64>,
}

impl Witness {
    /// The witness of this attempt in a folder, in which earlier attempts have left their logs. At its
    /// moment the process is killed, or waits to be stopped if there is a file for that.
    pub(crate) fn new(
        folder: &std::path::Path,
        attempt: u32,
        moment: Moment,
        stop: Option<File>,
        total_bytes: u64,
    ) -> Self {
        let mut seen = Seen::default();
        for earlier in 0..attempt {
            for read in load(&folder.join(format!("reads-{earlier}"))).concat() {
                seen.known.add(&read);
            }
        }
        let open = |log: String| File::options().append(true).create(true).open(folder.join(log));
        Self(Arc::new(Inner {
            env: Env::system(),
            log: open(format!("reads-{attempt}")).unwrap(),
            gets: open(format!("gets-{attempt}")).unwrap(),
            epitaph: folder.join(format!("ended-{attempt}")),
            moment,
            stop,
            total_bytes,
            seen: Mutex::new(seen),
        }))
    }

    /// Bytes of an entry were read, and nobody has seen them yet.
    pub(crate) fn read(&self, entry: u64, start: u64, end: u64) {
        let read = Read { entry, start, end, at_nanos: self.now_nanos() };
        let mut seen = self.0.seen.lock().unwrap();
        (&self.0.log).write_all(&read.encode()).unwrap();
        seen.known.add(&read);
        seen.read_bytes += end - start;
        if matches!(self.0.moment, Moment::Read(bytes) if seen.read_bytes >= bytes) {
            self.end(&seen);
        }
    }

    /// Waits where there is nothing to see yet: whoever is to end at a checkpoint must not have read all
    /// before the first one, however fast the machine.
    pub(crate) async fn let_read(&self) {
        let is_awaited = || match &self.0.moment {
            Moment::Call { name, is_over, .. } if name == "save_checkpoint" => {
                let seen = self.0.seen.lock().unwrap();
                let is_seen = seen.calls.contains_key(&(name.clone(), *is_over));
                seen.read_bytes > self.0.total_bytes / 2 && !is_seen
            }
            _ => false,
        };
        while is_awaited() {
            self.0.env.clock().sleep(POLL).await;
        }
    }

    /// A run was claimed: what is read from now on belongs to another attempt.
    pub(crate) fn claimed(&self) {
        let mark = Read { entry: CLAIMED, start: 0, end: 0, at_nanos: 0 };
        let mut seen = self.0.seen.lock().unwrap();
        (&self.0.log).write_all(&mark.encode()).unwrap();
        (&self.0.gets).write_all(&mark.encode()).unwrap();
        (seen.is_listed, seen.is_committing, seen.is_created) = (false, false, false);
    }

    /// Bytes of a pack were read.
    pub(crate) fn got(&self, pack: u64, start: u64, end: u64) {
        let read = Read { entry: pack, start, end, at_nanos: self.now_nanos() };
        (&self.0.gets).write_all(&read.encode()).unwrap();
    }

    fn now_nanos(&self) -> u64 {
        let now = self.0.env.clock().elapsed_since_boot();
        u64::try_from(now.as_nanos()).unwrap()
    }

    pub(crate) fn listed(&self) {
        self.0.seen.lock().unwrap().is_listed = true;
    }

    pub(crate) fn opened(&self) {
        self.0.seen.lock().unwrap().open_bodies += 1;
    }

    pub(crate) fn closed(&self) {
        self.0.seen.lock().unwrap().open_bodies -= 1;
    }

    /// The run that was claimed has recorded its commit.
    pub(crate) fn is_committing(&self) {
        self.0.seen.lock().unwrap().is_committing = true;
    }

    /// A call of the store begins.
    pub(crate) fn begin_in_store(&self, name: &str) {
        let mut seen = self.0.seen.lock().unwrap();
        seen.store_calls += 1;
        self.step(&mut seen, name, false);
    }

    /// A call of the store has succeeded.
    pub(crate) fn end_in_store(&self, name: &str) {
        self.0.seen.lock().unwrap().store_calls -= 1;
        self.end_of(name);
    }

    /// Stands still if that is due, once no call of the store is under way: a process that stops in the
    /// middle of one locks the store for all others. The lock on what was seen keeps new calls out until
    /// the process goes on: a signal that it sent to itself would reach its other threads later.
    pub(crate) async fn stop_if_due(&self) {
        loop {
            {
                let mut seen = self.0.seen.lock().unwrap();
                if seen.due.is_none() {
                    return;
                }
                if seen.store_calls == 0
                    && let Some(stop) = &self.0.stop
                {
                    seen.due = None;
                    self.write_epitaph(&seen);
                    stop.lock().unwrap();
                    return;
                }
            }
            self.0.env.clock().sleep(POLL).await;
        }
    }

    /// A call begins.
    pub(crate) fn begin(&self, name: &str) {
        self.step(&mut self.0.seen.lock().unwrap(), name, false);
    }

    /// A call has succeeded.
    pub(crate) fn end_of(&self, name: &str) {
        let mut seen = self.0.seen.lock().unwrap();
        match name {
            "record_outputs" => seen.is_committing = true,
            "create-snapshots" if seen.is_committing => seen.is_created = true,
            _ => {}
        }
        self.step(&mut seen, name, true);
    }

    fn step(&self, seen: &mut Seen, name: &str, over: bool) {
        let stage = self.stage(seen);
        let steps = seen.steps.entry(stage as usize).or_default();
        *steps += 1;
        let calls = seen.calls.entry((name.to_owned(), over)).or_default();
        *calls += 1;
        let is_now = match &self.0.moment {
            Moment::Step { stage: wanted, number } => *wanted == stage && number == steps,
            Moment::Call { name: wanted, number, is_over } => {
                wanted == name && *is_over == over && number == calls
            }
            Moment::Read(_) | Moment::Never => false,
        };
        if is_now && self.0.stop.is_some() {
            seen.due = Some(name.to_owned());
        } else if is_now {
            self.end(seen);
        }
    }

    fn stage(&self, seen: &Seen) -> Stage {
        if seen.is_created {
            Stage::Created
        } else if seen.is_committing {
            Stage::Committing
        } else if seen.is_listed
            && seen.open_bodies == 0
            && seen.known.bytes() >= self.0.total_bytes
        {
            Stage::AllRead
        } else if seen.read_bytes > 0 {
            Stage::Read
        } else {
            Stage::Start
        }
    }

    /// Under the lock, so that nothing more is logged.
    fn end(&self, seen: &Seen) {
        self.write_epitaph(seen);
        kill_process(getpid(), Signal::KILL).unwrap();
    }

    fn write_epitaph(&self, seen: &Seen) {
        fs::write(&self.0.epitaph, (self.stage(seen) as usize).to_string()).unwrap();
    }
}
