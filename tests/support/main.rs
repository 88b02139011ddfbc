//! The harness itself: data that repeats, a comparison that misses nothing, runners that end.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![allow(clippy::print_stderr, reason = "a skip is said where the test's output goes")]

#[path = "lib.rs"]
mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::compare::{Aspects, assert_same, differences};
use support::data::{self, Plan};
use support::extended;
use support::process::Running;
use support::restic::Restic;
use tempfile::TempDir;

fn small_tree() -> (TempDir, PathBuf, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let (left, right) = (scratch.path().join("left"), scratch.path().join("right"));
    for folder in [&left, &right] {
        fs::create_dir_all(folder.join("folder")).unwrap();
        fs::write(folder.join("file"), "content").unwrap();
        fs::write(folder.join("folder/one"), "1").unwrap();
        fs::hard_link(folder.join("folder/one"), folder.join("folder/two")).unwrap();
        symlink("file", folder.join("link")).unwrap();
        extended::make_fifo(&folder.join("fifo")).unwrap();
        settle(folder);
    }
    (scratch, left, right)
}

fn settle(folder: &Path) {
    for path in data::paths_below(folder).iter().rev() {
        extended::set_modified(path, 1_000_000_000, 5).unwrap();
    }
    extended::set_modified(folder, 1_000_000_000, 5).unwrap();
}

#[test]
fn the_same_seed_gives_the_same_folder() {
    let scratch = tempfile::tempdir().unwrap();
    let (left, right) = (scratch.path().join("left"), scratch.path().join("right"));
    data::create(&left, 7, &Plan::everything());
    data::create(&right, 7, &Plan::everything());
    assert_same(&left, &right, Aspects::BELOW);
    data::change(&left, 8);
    assert!(!differences(&left, &right, Aspects::CONTENT).is_empty());
    data::change(&right, 8);
    assert_same(&left, &right, Aspects::CONTENT);
}

#[test]
fn another_seed_gives_other_bytes_under_the_same_names() {
    let scratch = tempfile::tempdir().unwrap();
    let (left, right) = (scratch.path().join("left"), scratch.path().join("right"));
    data::create(&left, 7, &Plan::tiny());
    data::create(&right, 8, &Plan::tiny());
    let differences = differences(&left, &right, Aspects::CONTENT);
    assert!(differences.iter().any(|line| line.contains("bytes, first at")), "{differences:?}");
    assert!(!differences.iter().any(|line| line.contains("only on")), "{differences:?}");
}

#[test]
fn a_bulk_plan_is_as_large_as_asked_for() {
    let scratch = tempfile::tempdir().unwrap();
    data::create(scratch.path(), 1, &Plan::bulk(50_000_000));
    let sizes = data::paths_below(scratch.path()).into_iter().map(|path| {
        let details = path.symlink_metadata().unwrap();
        if details.is_file() { details.len() } else { 0 }
    });
    let size_bytes = sizes.sum::<u64>();
    assert!((40_000_000..60_000_000).contains(&size_bytes), "{size_bytes}");
}

#[test]
fn a_byte_moves_a_whole_file() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file");
    fs::write(&file, "abc").unwrap();
    data::insert_byte_at_front(&file, b'x');
    assert_eq!(fs::read(&file).unwrap(), b"xabc");
}

#[test]
fn equal_folders_have_no_difference() {
    let (_scratch, left, right) = small_tree();
    assert_same(&left, &right, Aspects::ALL);
}

/// Changes the right folder, and expects exactly these lines; times are settled again.
#[track_caller]
fn expect(change: impl FnOnce(&Path), expected: &[&str]) {
    let (_scratch, left, right) = small_tree();
    change(&right);
    settle(&right);
    assert_eq!(differences(&left, &right, Aspects::ALL), expected);
}

#[test]
fn one_changed_byte_is_a_difference() {
    expect(
        |right| fs::write(right.join("file"), "conTent").unwrap(),
        &["\"file\": bytes, first at 3"],
    );
}

#[test]
fn a_longer_file_is_a_difference() {
    expect(
        |right| fs::write(right.join("file"), "content.").unwrap(),
        &["\"file\": size 7 against 8"],
    );
}

#[test]
fn missing_and_added_entries_are_differences() {
    expect(|right| fs::remove_file(right.join("file")).unwrap(), &["\"file\": only on the left"]);
    expect(|right| fs::write(right.join("a\nb"), "").unwrap(), &["\"a\\nb\": only on the right"]);
}

#[test]
fn another_kind_is_a_difference() {
    expect(
        |right| {
            fs::remove_file(right.join("fifo")).unwrap();
            fs::write(right.join("fifo"), "").unwrap();
        },
        &["\"fifo\": fifo against file"],
    );
}

#[test]
fn another_link_target_is_a_difference() {
    expect(
        |right| {
            fs::remove_file(right.join("link")).unwrap();
            symlink("folder", right.join("link")).unwrap();
        },
        &["\"link\": target \"file\" against \"folder\""],
    );
}

#[test]
fn another_mode_is_a_difference() {
    expect(
        |right| {
            let file = right.join("file");
            fs::set_permissions(right.join("folder"), fs::Permissions::from_mode(0o755)).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o4711)).unwrap();
        },
        &["\"file\": mode 0644 against 4711"],
    );
}

#[test]
fn a_broken_hard_link_is_a_difference() {
    let one = "\"folder/one\": hard links [\"folder/one\", \"folder/two\"] against []";
    let two = "\"folder/two\": hard links [\"folder/one\", \"folder/two\"] against []";
    expect(
        |right| {
            fs::remove_file(right.join("folder/two")).unwrap();
            fs::write(right.join("folder/two"), "1").unwrap();
        },
        &[one, two],
    );
}

#[test]
fn another_time_is_a_difference_by_the_nanosecond() {
    let (_scratch, left, right) = small_tree();
    for path in ["file", "link", "folder", ""] {
        extended::set_modified(&right.join(path), 1_000_000_000, 6).unwrap();
    }
    let time = "time 1000000000.000000005 against 1000000000.000000006";
    let expected = ["", "file", "folder", "link"].map(|path| format!("{path:?}: {time}"));
    assert_eq!(differences(&left, &right, Aspects::ALL), expected);
    assert_eq!(differences(&left, &right, Aspects::BELOW), expected[1..]);
    assert_same(&left, &right, Aspects::CONTENT);
}

#[test]
fn another_attribute_is_a_difference() {
    let (_scratch, left, right) = small_tree();
    if let Err(error) = extended::set_attribute(&right.join("file"), "user.a", b"\0") {
        eprintln!("SKIPPED: this file system has no extended attributes: {error}");
        return;
    }
    let expected = ["\"file\": attributes [] against [user.a=\\x00]"];
    assert_eq!(differences(&left, &right, Aspects::ALL), expected);
}

#[test]
fn a_program_that_takes_too_long_is_killed() {
    let mut command = Command::new("tail");
    let finished =
        Running::start(command.args(["-f", "/dev/null"])).finish(Duration::from_millis(50));
    assert!(finished.timed_out);
    assert_eq!((finished.code(), finished.signal()), (None, Some(9)));
}

#[test]
fn output_and_exit_code_are_kept() {
    let mut command = Command::new("sh");
    let finished = Running::start(command.args(["-c", "echo out; echo err >&2; exit 3"]))
        .finish(extended::PATIENCE)
        .expect_code(3);
    assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn a_running_program_can_be_watched_and_interrupted() {
    let mut command = Command::new("sh");
    let mut running = Running::start(command.args(["-c", "echo ready; exec tail -f /dev/null"]));
    assert!(running.wait_for(extended::PATIENCE, |said| said.contains("ready")));
    running.terminate();
    assert_eq!(running.finish(extended::PATIENCE).signal(), Some(15));
}

#[test]
fn restic_gives_back_what_the_generator_made() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
    let Some(restic) = Restic::find(scratch.path(), &scratch.path().join("repository"), "secret")
    else {
        return;
    };
    data::create(&source, 11, &Plan::everything());
    restic.init();
    let restic = restic.in_folder(scratch.path());
    let relative = Path::new("source");
    let summary = restic.backup(&[relative]);
    assert!(summary["data_blobs"].as_u64() > Some(100), "{summary}");
    restic.check_read_data();
    assert_eq!(restic.snapshots_json().len(), 1);
    restic.restore("latest", &target);
    assert_same(&source, &target.join("source"), Aspects::ALL);
    restic.forget(&["--keep-last", "1"]);
    restic.prune();
    let again = restic.backup_with(&["--force"], &[relative]);
    assert_eq!((&again["data_blobs"], &again["tree_blobs"]), (&0.into(), &0.into()), "{again}");
}
