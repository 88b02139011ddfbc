//! The real program under `kill -9`, at moments spread over its progress.
//!
//! After each kill the repository is whole for restic, no finished snapshot is lost, and the next
//! backup stores nothing twice that was in a durable pack. `cargo xtask test --count N` kills N times.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![allow(clippy::print_stderr, reason = "what was killed where is said where the output goes")]

#[path = "../support/lib.rs"]
mod support;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use support::compare::{Aspects, assert_same};
use support::data::{self, Plan};
use support::process::Running;
use support::program::Program;
use support::random::Random;
use support::restic::{Restic, packs};
use support::tools::count;

const PASSWORD: &str = "kill";
const DATA_BYTES: u64 = 500 << 20;
/// Kills of one backup before it may finish.
const CHAIN: u32 = 5;
const PATIENCE: Duration = Duration::from_mins(5);

#[test]
fn a_killed_backup_leaves_a_whole_repository_and_loses_nothing_durable() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let Some(program) = Program::find(&at("home"), PASSWORD) else { return };
    let program = program.in_folder(scratch.path());
    let Some(restic) = Restic::find(&at("restic"), &at("repo"), PASSWORD) else { return };
    data::create(&at("small"), 1, &Plan::tiny());
    data::create(&at("data"), 2, &Plan::bulk(DATA_BYTES));
    let expected_packs = DATA_BYTES / (16 << 20);
    let (kills, seed) = (count(20), 7);
    eprintln!("{kills} kills, seed {seed}");
    let mut random = Random::new(seed);
    let mut phases: HashMap<&str, u32> = HashMap::new();
    let mut killed = 0;
    while killed < kills {
        drop(fs::remove_dir_all(at("repo")));
        program.run(["backup", "small", "--to", "repo", "--init", "-q"]).expect_success();
        let finished = restic.snapshots_json().len();
        let mut threshold = 0;
        for link in 1..=CHAIN.min(kills - killed) {
            // Spread over what is left, so that each kill of a chain comes later than the last.
            let room = expected_packs * u64::from(link) / u64::from(CHAIN);
            let more = random.below(room.saturating_sub(threshold).max(1));
            threshold += more;
            let mut running = program.start(["backup", "data", "--to", "repo", "-q"]);
            wait_for_packs(&running, &at("repo"), more);
            running.kill();
            let ended = running.finish(PATIENCE);
            let phase = match (ended.signal(), threshold) {
                (None, _) => "after its end",
                (_, 0) => "before the first pack",
                (_, packs) if packs < expected_packs / 2 => "in the first half",
                _ => "in the second half",
            };
            *phases.entry(phase).or_default() += 1;
            killed += 1;
            // Without a lock: the dead run's must stay for the next run of ours to find.
            restic.run(["check", "--read-data", "--no-lock"]).expect_success();
            assert!(restic.snapshots_json().len() >= finished, "a finished snapshot is gone");
        }
        let durable = packs(&at("repo"));
        program.run(["backup", "data", "--to", "repo", "-q"]).expect_success();
        restic.check_read_data();
        assert!(restic.list("locks").is_empty(), "a lock of a dead run stayed");
        let (blobs, unique) = restic.indexed_blobs();
        assert_eq!(blobs, unique, "blobs were stored twice");
        let now = packs(&at("repo"));
        assert!(durable.iter().all(|pack| now.contains(pack)), "a durable pack is gone");
        drop(fs::remove_dir_all(at("restored")));
        restic.restore("latest", &at("restored"));
        assert_same(&at("data"), &at("restored/data"), Aspects::ALL);
    }
    eprintln!("killed: {phases:?}");
}

/// Lets it run until so many packs of its own are durable, or it ends.
fn wait_for_packs(running: &Running, repository: &Path, wanted: u64) {
    let before = packs(repository).len() as u64;
    for _ in 0..30_000 {
        if packs(repository).len() as u64 >= before + wanted || running.has_ended() {
            return;
        }
        running.let_run(Duration::from_millis(5));
    }
}
