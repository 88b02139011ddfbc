//! Disks that are full: of the repository, of the target, of the cache.

use std::process::Command;

use crate::scene::{Outcome, Scene, assert_same};
use crate::small_disk::SmallDisk;

const MIB: u64 = 1 << 20;

/// Adds files of 12 MiB each that neither compress nor repeat: more than two packs.
fn add_large_files(scene: &Scene, folder: &str) {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for number in 0..3 {
        let words = (0..12 * MIB / 8).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        scene.write(&format!("{folder}/large{number}"), words.collect::<Vec<u8>>());
    }
}

/// One line that names the place, and what to do.
fn assert_says_full(outcome: &Outcome, place: &str) {
    let stderr = outcome.stderr();
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    for word in [place, "no space left"] {
        assert!(errors[0].contains(word), "{word} is missing: {stderr}");
    }
    assert!(stderr.contains("make space"), "{stderr}");
    assert_eq!(stderr.matches("no space left").count(), 1, "said twice: {stderr}");
}

/// The packs of a repository. Nothing else lies about but files of the format.
fn packs(disk: &mut SmallDisk<'_>, repository: &str) -> Vec<(String, u64)> {
    let files = disk.files(repository);
    for (path, _) in &files {
        let name = path.rsplit('/').next().unwrap();
        let is_id = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(is_id || name == "config", "{path} was left behind");
    }
    files.into_iter().filter(|(path, _)| path.contains("/data/")).collect()
}

fn total_bytes(files: &[(String, u64)]) -> u64 {
    files.iter().map(|(_, size_bytes)| size_bytes).sum()
}

/// Our own check, and that of restic where the test run names one.
fn assert_sound(scene: &Scene, repository: &str) {
    scene.run(["check", "-r", repository, "--read-data"]).expect(0);
    if let Some(restic) = std::env::var_os("BACKUPKIT_TEST_RESTIC") {
        let mut restic = Command::new(restic);
        let arguments = ["check", "--read-data", "--no-cache", "--no-lock", "-r", repository];
        scene.clean(&mut restic).args(arguments).env("RESTIC_PASSWORD", crate::scene::PASSWORD);
        Outcome(restic.output().unwrap()).expect(0);
    }
}

#[test]
fn a_repository_on_a_full_disk_stays_whole_and_goes_on_once_there_is_room() {
    let scene = Scene::new();
    let Some(mut disk) = SmallDisk::mount(&scene, 80) else { return };
    disk.run(["backup", "src", "--to", "small/repo", "--init"]).expect(0);
    disk.shell("cp -a src before").expect(0);
    add_large_files(&scene, "src");
    let before = packs(&mut disk, "small/repo");
    disk.leave(30);
    let mut durable = before.clone();
    for round in 0..10 {
        let outcome = disk.run(["backup", "src", "--to", "small/repo"]).expect(1);
        assert_says_full(&outcome, "small/repo");
        assert_eq!(outcome.stdout(), "", "round {round}");
        durable = packs(&mut disk, "small/repo");
        // Two packs that are written side by side may both find no room.
        if round > 0 && durable.len() > before.len() {
            break;
        }
    }
    assert!(durable.len() > before.len(), "nothing was stored, so nothing is tested");
    let listed = disk.run(["snapshots", "-r", "small/repo", "--json"]).expect(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 1);

    // As it stands, and what was there before.
    disk.shell("cp -a small/repo copy").expect(0);
    assert_sound(&scene, "copy");
    scene.run(["restore", "latest:/src", "-r", "copy", "--to", "restored"]).expect(0);
    assert_same(&scene.path("before"), &scene.path("restored"));

    // Not even a lock can be written any more.
    disk.leave(0);
    let restore = ["restore", "latest:/src", "-r", "small/repo", "--to", "again"];
    let outcome = disk.run(restore).expect(0);
    assert!(outcome.stderr().contains("without a lock"), "{}", outcome.stderr());
    assert_same(&scene.path("before"), &scene.path("again"));
    let outcome = disk.run(["backup", "src", "--to", "small/repo"]).expect(1);
    assert_says_full(&outcome, "small/repo");
    assert_eq!(packs(&mut disk, "small/repo"), durable);

    disk.clear();
    let report = disk.run(["backup", "src", "--to", "small/repo", "--json"]).expect(0).json();
    let after = packs(&mut disk, "small/repo");
    assert!(durable.iter().all(|pack| after.contains(pack)), "{after:?}");
    let stored = report["outputs"][0]["stored_bytes"].as_u64().unwrap();
    let (durable, after) = (total_bytes(&durable), total_bytes(&after));
    assert!(stored < 36 * MIB - (durable - MIB), "{stored} bytes stored, {durable} were there");
    assert!(after < 37 * MIB, "{after} bytes for 36 MiB: something was stored twice");
    disk.run(["check", "-r", "small/repo", "--read-data"]).expect(0);
    disk.run(["restore", "latest:/src", "-r", "small/repo", "--to", "whole"]).expect(0);
    assert_same(&scene.path("src"), &scene.path("whole"));
    assert_eq!(disk.files("small/repo/locks"), []);
}

#[test]
fn a_restore_into_a_full_disk_says_so_and_leaves_no_half_a_file() {
    let scene = Scene::new();
    add_large_files(&scene, "src");
    scene.run(["backup", "src", "--to", "repo", "--init"]).expect(0);
    let Some(mut disk) = SmallDisk::mount(&scene, 30) else { return };
    let restore = ["restore", "latest:/src", "-r", "repo", "--to", "small/out"];
    let outcome = disk.run(restore).expect(1);
    assert_says_full(&outcome, "small/out");
    for (path, size_bytes) in disk.files("small/out") {
        let source = scene.path(path.replace("small/out", "src"));
        let whole = std::fs::metadata(&source).is_ok_and(|source| source.len() == size_bytes);
        assert!(whole, "{path} has {size_bytes} bytes");
        disk.shell(&format!("cmp {path} {}", source.display())).expect(0);
    }
    // With room, the same command finishes it.
    disk.shell("mount -o remount,size=60m small").expect(0);
    disk.run(restore).expect(0);
    disk.shell("diff -r --no-dereference src small/out").expect(0);
}

#[test]
fn a_full_cache_folder_costs_a_warning_at_most() {
    let scene = Scene::backed_up();
    let Some(mut disk) = SmallDisk::mount(&scene, 1) else { return };
    disk.shell("mkdir small/cache").expect(0);
    disk.leave(0);
    for arguments in [
        &["backup", "src", "--to", "repo"][..],
        &["check", "-r", "repo", "--read-data"],
        &["restore", "latest", "-r", "repo", "--to", "out"],
    ] {
        let outcome = disk.run_with("BACKUPKIT_CACHE_DIR=small/cache", arguments.iter().copied());
        let outcome = outcome.expect(0);
        assert!(!outcome.stderr().contains("error: "), "{}", outcome.stderr());
    }
    disk.shell(
        "rm small/ballast && find small/cache -name '*.tmp' -type f | grep . && exit 1; true",
    )
    .expect(0);
}

#[test]
fn one_repository_on_a_full_disk_makes_it_4_and_the_other_is_whole() {
    let scene = Scene::new();
    add_large_files(&scene, "src");
    let Some(mut disk) = SmallDisk::mount(&scene, 30) else { return };
    let arguments = ["backup", "src", "--to", "small/repo", "--to", "repo", "--init"];
    let outcome = disk.run(arguments).expect(4);
    assert_says_full(&outcome, "small/repo");
    assert!(outcome.stdout().contains("no snapshot, it failed"), "{}", outcome.stdout());
    assert_sound(&scene, "repo");
    scene.run(["restore", "latest:/src", "-r", "repo", "--to", "restored"]).expect(0);
    assert_same(&scene.path("src"), &scene.path("restored"));
    disk.shell("cp -a small/repo copy").expect(0);
    assert_sound(&scene, "copy");
}
