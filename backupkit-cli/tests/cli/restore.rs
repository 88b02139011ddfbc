//! Restores, and the command that a backup prints for them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use crate::scene::{Outcome, Scene, assert_same};

/// Runs the command that the backup printed, as a user would: in a shell.
fn run_printed(scene: &Scene, printed: &str) -> Outcome {
    let line = printed.lines().find_map(|line| line.trim().strip_prefix("to restore it: "));
    let mut shell = Command::new("/bin/sh");
    scene.clean(&mut shell).arg("-c").arg(line.unwrap());
    Outcome(shell.output().unwrap())
}

#[test]
fn the_printed_command_restores_what_was_backed_up() {
    for name in
        [&b"repo"[..], b"it's a repo $HOME `x` \"y\"", b"-r", b"\xff\n%s\\", "größe".as_bytes()]
    {
        let scene = Scene::new();
        let repository = scene.path(OsStr::from_bytes(name));
        let arguments = [
            OsStr::new("backup"),
            OsStr::new("src"),
            OsStr::new("--init"),
            OsStr::new("--to"),
            repository.as_os_str(),
        ];
        let printed = scene.run(arguments).expect(0).stdout();
        run_printed(&scene, &printed).expect(0);
        assert_same(&scene.path("src"), &scene.path("restored/src"));
    }
}

#[test]
fn the_printed_command_names_the_password_options() {
    let scene = Scene::new();
    scene.write("pass word", "other");
    let options = ["--password-file", "pass word"];
    let arguments = ["backup", "src", "--to", "repo", "--init"].iter().chain(&options);
    let printed = scene.run(arguments).expect(0).stdout();
    run_printed(&scene, &printed).expect(0);
    assert_same(&scene.path("src"), &scene.path("restored/src"));
}

#[test]
fn a_path_of_a_snapshot_goes_into_the_folder_itself() {
    let scene = Scene::backed_up();
    scene.run(["restore", "latest:/src/sub", "-r", "repo", "--to", "out"]).expect(0);
    assert_same(&scene.path("src/sub"), &scene.path("out"));
    scene.run(["restore", "latest:src/a.txt", "-r", "repo", "--to", "one"]).expect(0);
    assert_eq!(std::fs::read_to_string(scene.path("one/a.txt")).unwrap(), "first\n");
}

#[test]
fn a_dry_run_says_what_would_be_done_and_writes_nothing() {
    let scene = Scene::backed_up();
    let arguments = ["restore", "latest", "-r", "repo", "--to", "out", "--dry-run"];
    let text = scene.run(arguments).expect(0).stdout();
    assert!(text.contains("create") && text.contains("out/src/sub/b.txt"), "{text}");
    assert!(text.contains("nothing was written"), "{text}");
    assert!(!scene.path("out").exists());
    let lines = scene.run(arguments.iter().chain(&["--ndjson"])).expect(0).json_lines();
    let steps = lines.iter().filter(|line| line["type"] == "step").count();
    assert_eq!(steps as u64, lines.last().unwrap()["created"].as_u64().unwrap());
}

#[test]
fn conflicts_are_settled_as_asked() {
    let scene = Scene::backed_up();
    let restore = |policy: &str| {
        scene.write("out/src/a.txt", "mine, and longer");
        let arguments = ["restore", "latest", "-r", "repo", "--to", "out", "--conflict", policy];
        scene.run(arguments).expect(0);
        std::fs::read_to_string(scene.path("out/src/a.txt")).unwrap()
    };
    assert_eq!(restore("skip"), "mine, and longer");
    assert_eq!(restore("newer"), "mine, and longer");
    assert_eq!(restore("rename"), "mine, and longer");
    assert!(scene.files("out/src").len() > scene.files("src").len());
    assert_eq!(restore("overwrite"), "first\n");
}

#[test]
fn a_restore_ends_with_what_was_verified() {
    let scene = Scene::backed_up();
    for (level, word) in
        [("none", "not verified"), ("count", "verified: "), ("bytes", "verified: ")]
    {
        let arguments = ["restore", "latest", "-r", "repo", "--to", level, "--verify", level];
        let text = scene.run(arguments).expect(0).stdout();
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn damage_is_never_restored_and_never_success() {
    let scene = Scene::new();
    scene.write("src/large", (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    scene.run(["backup", "src", "--to", "repo", "--init"]).expect(0);
    let largest =
        scene.files("repo/data").into_iter().max_by_key(|path| path.metadata().unwrap().len());
    let largest = largest.unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(&largest, bytes).unwrap();
    let outcome = scene.run(["restore", "latest", "-r", "repo", "--to", "out"]).expect(13);
    assert!(outcome.stderr().contains("large"), "{}", outcome.stderr());
    assert!(!scene.path("out/src/large").exists());
    let outcome = scene.run(["cat", "latest:src/large", "-r", "repo"]).expect(13);
    assert!(outcome.stderr().contains("damaged"), "{}", outcome.stderr());
}

#[test]
fn cat_prints_a_file_byte_for_byte() {
    let scene = Scene::new();
    let content: Vec<u8> = (0..2_500_000_u64).flat_map(|n| (n * n).to_le_bytes()).collect();
    scene.write("src/large", &content);
    scene.write("src/empty", "");
    scene.run(["backup", "src", "--to", "repo", "--init"]).expect(0);
    let outcome = scene.run(["cat", "latest:src/large", "-r", "repo"]).expect(0);
    assert!(outcome.0.stdout == content);
    assert_eq!(scene.run(["cat", "latest:src/empty", "-r", "repo"]).expect(0).stdout(), "");
    let outcome = scene.run(["cat", "latest:src", "-r", "repo"]).expect(2);
    assert!(outcome.stderr().contains("directory"), "{}", outcome.stderr());
}
