//! Runs that are paused, resumed and cancelled from another process, at any moment and in any order.

use std::fs;
use std::time::Duration;

use backupkit::manage::{ConnectionBody, NewRestore, RestorePlace};
use backupkit::model::{RunState, Wanted};
use backupkit::state::Run;
use backupkit::target::{RestoreOptions, VerifyLevel};
use backupkit::{CancelToken, HeldRunOptions};
use serde_json::value::RawValue;

use crate::coverage::{Coverage, Tail, load};
use crate::judge::{CHUNK_BYTES, data_trees, judge_snapshot};
use crate::source::WatchedKind;
use crate::support::compare::{Aspects, assert_same};
use crate::support::process::Running;
use crate::support::random::Random;
use crate::support::tools::count;
use crate::world::{Data, Desk, PATIENCE, PLAN, World};

const MIB: u64 = 1 << 20;
/// The reader of a large file has so many ranges on their way, and there are two.
pub(crate) const RANGES_ON_THEIR_WAY: u64 = 4;
/// What a restore reads in one go, and may have read ahead.
const WINDOW_BYTES: u64 = 16 * MIB;
const WINDOWS: u64 = 3;
const POLL: Duration = Duration::from_millis(5);

/// How long it took from the wish until reading stopped, and until the run rested, in milliseconds.
#[derive(Debug, Default)]
struct Delays {
    stopped: Vec<u64>,
    rested: Vec<u64>,
}

impl Delays {
    fn tell(&mut self) {
        for (what, delays) in [("reading stopped", &mut self.stopped), ("paused", &mut self.rested)]
        {
            delays.sort_unstable();
            let at = delays.len() * 95 / 100;
            if let Some(delay) = delays.get(at.min(delays.len().saturating_sub(1))) {
                eprintln!("p95 from the wish to {what:?}: {delay} ms of {} pauses", delays.len());
            }
        }
    }
}

/// Somebody who asks things of the run that a worker process executes.
struct Person<'a> {
    desk: &'a Desk,
    random: &'a mut Random,
    delays: &'a mut Delays,
    log: Tail,
}

impl Person<'_> {
    async fn look(&self, run: &Run) -> Run {
        self.desk.workspace.run(run.new.id).await.unwrap()
    }

    async fn sleep(&self) {
        self.desk.engine.env().clock().sleep(POLL).await;
    }

    /// Waits until so many more bytes were read, or the run has ended.
    async fn let_read(&mut self, run: &Run, bytes: u64, worker: &Running) -> bool {
        let wanted = self.log.read_bytes() + bytes;
        while self.log.read_bytes() < wanted {
            assert!(!worker.has_ended() || self.look(run).await.state.is_terminal(), "no worker");
            if self.look(run).await.state.is_terminal() {
                return false;
            }
            self.sleep().await;
        }
        true
    }

    /// Asks, sometimes twice. It may be too late for that.
    async fn ask(&mut self, run: &Run, wanted: Wanted) -> bool {
        let mut taken = false;
        for _ in 0..=self.random.below(2) {
            taken = self.desk.workspace.ask(run.new.id, wanted).await.is_ok();
        }
        taken
    }

    /// Lets the run rest, or changes its mind before it does.
    async fn pause(&mut self, run: &Run) {
        let clock = std::sync::Arc::clone(self.desk.engine.env().clock());
        let asked_at = clock.elapsed_since_boot();
        if !self.ask(run, Wanted::Pause).await {
            return;
        }
        if self.random.below(4) == 0 {
            self.ask(run, Wanted::Run).await;
            return;
        }
        loop {
            let state = self.look(run).await.state;
            if state == RunState::Paused {
                break;
            }
            // It was written before it heard.
            if state.is_terminal() || state == RunState::Committing {
                return;
            }
            self.sleep().await;
        }
        let millis = |since: Duration| since.as_millis().try_into().unwrap();
        let rested_at = clock.elapsed_since_boot();
        self.delays.rested.push(millis(rested_at.saturating_sub(asked_at)));
        self.log.read_bytes();
        let last = Duration::from_nanos(self.log.last_nanos);
        self.delays.stopped.push(millis(last.saturating_sub(asked_at)));
        self.ask(run, Wanted::Run).await;
    }
}

impl Person<'_> {
    /// Pauses a run again and again after some of it was read, and cancels some, as long as there are
    /// wishes left. Returns how many it took.
    async fn steer(&mut self, run: &Run, worker: &Running, left: u32, total_bytes: u64) -> u32 {
        let is_to_be_cancelled = self.random.below(3) == 0;
        let pauses = 1 + self.random.below(4);
        let mut taken = 0;
        while taken < left {
            let more = self.random.below(total_bytes / 3);
            if !self.let_read(run, more, worker).await {
                break;
            }
            taken += 1;
            if u64::from(taken) > pauses && is_to_be_cancelled {
                self.ask(run, Wanted::Cancel).await;
                break;
            }
            self.pause(run).await;
        }
        taken
    }
}

/// Of each claim of a run, what had been read before.
fn assert_little_read_again(log: &std::path::Path, allowed_bytes: u64, why: &str) -> u64 {
    let (mut coverage, mut most) = (Coverage::default(), 0);
    for reads in load(log) {
        let again: u64 = reads.iter().map(|read| coverage.add(read)).sum();
        assert!(again <= allowed_bytes, "{why}: {again} bytes were read again");
        most = most.max(again);
    }
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_that_are_paused_and_cancelled_at_any_moment_end_as_undisturbed_ones() {
    let data = Data::large();
    let (wishes, seed) = (count(20), 21);
    eprintln!("{wishes} wishes, seed {seed}");
    let (mut random, mut delays) = (Random::new(seed), Delays::default());
    let (mut asked, mut most_again) = (0, 0);
    while asked < wishes {
        let Some(mut world) = World::new(&data).await else { return };
        let desk = world.desk().await;
        let mut run = desk.workspace.order_backup(PLAN).await.unwrap();
        loop {
            let why = format!("seed {seed}, wish {asked}");
            let log = world.reads(world.attempts);
            let worker = world.start_never();
            let mut person = Person {
                desk: &desk,
                random: &mut random,
                delays: &mut delays,
                log: Tail::of(log),
            };
            asked += person.steer(&run, &worker, wishes - asked, data.total_bytes).await;
            let ended = worker.finish(PATIENCE).expect_success();
            run = desk.workspace.run(run.new.id).await.unwrap();
            assert!(run.state.is_terminal(), "{why}: {}\n{ended}", run.state);
            let allowed = CHUNK_BYTES + RANGES_ON_THEIR_WAY * data.range_bytes();
            let log = world.reads(world.attempts - 1);
            most_again = most_again.max(assert_little_read_again(&log, allowed, &why));
            if run.state == RunState::Succeeded {
                break;
            }
            assert_eq!(run.state, RunState::Cancelled, "{why}: {:?}\n{ended}", run.cause);
            assert!(world.restic.snapshots_json().is_empty(), "{why}: it left a snapshot");
            assert!(world.restic.list("locks").is_empty(), "{why}: it left a lock");
            run = desk.workspace.order_backup(PLAN).await.unwrap();
        }
        // Under the name of another host, everything is read again.
        desk.workspace.order_backup(PLAN).await.unwrap();
        let held = desk.workspace.claim(&desk.engine, None, HeldRunOptions::default()).await;
        let held = held.unwrap().expect("the run that was just ordered");
        let undisturbed =
            desk.workspace.execute(held, "undisturbed", &CancelToken::new()).await.unwrap();
        assert_eq!(undisturbed.state, RunState::Succeeded);
        let trees = data_trees(&world).await;
        assert_eq!(trees.len(), 2);
        assert_eq!(trees[0], trees[1], "seed {seed}, wish {asked}: the trees differ");
        judge_snapshot(&world, &format!("seed {seed}, wish {asked}"));
        eprintln!("{asked} of {wishes} wishes");
    }
    delays.tell();
    eprintln!("at most {} MiB read again after a pause", most_again / MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn restores_that_are_paused_and_cancelled_at_any_moment_end_as_undisturbed_ones() {
    let data = Data::large();
    let (wishes, seed) = (count(20), 22);
    eprintln!("{wishes} wishes, seed {seed}");
    let (mut random, mut delays) = (Random::new(seed), Delays::default());
    let Some(mut world) = World::new(&data).await else { return };
    let desk = world.desk().await;
    desk.workspace.order_backup(PLAN).await.unwrap();
    world.start_never().finish(PATIENCE).expect_success();
    let (mut asked, mut most_again) = (0, 0);
    while asked < wishes {
        let why = format!("seed {seed}, wish {asked}");
        let place = world.path("back");
        drop(fs::remove_dir_all(&place));
        let settings = serde_json::to_string(place.to_str().unwrap()).unwrap();
        let settings = RawValue::from_string(settings).unwrap().into();
        let order = NewRestore {
            repository: "repository",
            snapshot: "latest",
            target: RestorePlace::Unnamed(ConnectionBody::new(WatchedKind::NAME, settings)),
            options: RestoreOptions::default(),
            verify: Some(VerifyLevel::Count),
        };
        let run = desk.workspace.order_restore(order).await.unwrap();
        let log = world.gets(world.attempts);
        let worker = world.start_never();
        let mut person =
            Person { desk: &desk, random: &mut random, delays: &mut delays, log: Tail::of(log) };
        asked += person.steer(&run, &worker, wishes - asked, data.total_bytes).await;
        let ended = worker.finish(PATIENCE).expect_success();
        let run = desk.workspace.run(run.new.id).await.unwrap();
        let allowed = WINDOWS * (WINDOW_BYTES + CHUNK_BYTES);
        let log = world.gets(world.attempts - 1);
        most_again = most_again.max(assert_little_read_again(&log, allowed, &why));
        assert!(world.restic.list("locks").is_empty(), "{why}: it left a lock");
        let restored = place.join(data.path().strip_prefix("/").unwrap());
        match run.state {
            RunState::Succeeded => assert_same(data.path(), &restored, Aspects::ALL),
            RunState::Cancelled => assert_nothing_incomplete(&place, data.path()),
            state => panic!("{why}: {state}: {:?}\n{ended}", run.cause),
        }
        eprintln!("{asked} of {wishes} wishes");
    }
    delays.tell();
    eprintln!("at most {} MiB read again after a pause", most_again / MIB);
}

/// What is there is as it was backed up.
fn assert_nothing_incomplete(place: &std::path::Path, data: &std::path::Path) {
    if !place.exists() {
        return;
    }
    for path in crate::support::data::paths_below(place) {
        if !path.is_file() {
            continue;
        }
        let original = std::path::Path::new("/").join(path.strip_prefix(place).unwrap());
        assert!(original.starts_with(data), "{} is incomplete", path.display());
        assert!(fs::read(&path).unwrap() == fs::read(&original).unwrap(), "{}", path.display());
    }
}
