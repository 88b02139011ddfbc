//! Ctrl-C and its kin while a backup runs.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::scene::Scene;

/// A source that takes a while: holes cost no disk, but every byte is chunked and hashed.
fn scene_with_much_to_read() -> Scene {
    let scene = Scene::new();
    for name in ["src/holes-1", "src/holes-2"] {
        File::create(scene.path(name)).unwrap().set_len(1 << 30).unwrap();
    }
    scene
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn start(scene: &Scene) -> (Child, BufReader<std::process::ChildStdout>) {
    start_command(scene, &["backup", "src", "--to", "repo", "--init", "--threads", "1"])
}

/// Starts the program and waits until it reads.
fn start_command(
    scene: &Scene,
    arguments: &[&str],
) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut program = scene.command(arguments.iter().chain(&["--ndjson"]));
    let mut child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended before it could be stopped");
        let object: Value = serde_json::from_str(&line).unwrap();
        if object["type"] == "status" && object["read_bytes"].as_u64() > Some(0) {
            break;
        }
    }
    (child, lines)
}

fn finish(
    mut child: Child,
    mut lines: BufReader<std::process::ChildStdout>,
) -> (Option<i32>, Vec<Value>) {
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    let code = child.wait().unwrap().code();
    (code, rest.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn an_interrupted_backup_continues_with_the_same_command() {
    let scene = scene_with_much_to_read();
    let (child, lines) = start(&scene);
    send(&child, Signal::INT);
    let (code, objects) = finish(child, lines);
    assert_eq!(code, Some(130), "{objects:?}");
    let summary = objects.last().unwrap();
    assert_eq!(summary["status"], "paused");
    assert!(summary["outputs"][0]["snapshot"].is_null());
    assert!(summary["outputs"][0]["checkpoint"].is_string());

    let list = ["snapshots", "-r", "repo", "--json"];
    assert_eq!(scene.run(list).expect(0).json(), Value::Array(Vec::new()));
    let all = scene.run(list.iter().chain(&["--all"])).expect(0).json();
    assert_eq!(all[0]["checkpoint"], true);
    scene.run(["repo", "info", "-r", "repo"]).expect(0);

    let outcome = scene.run(["backup", "src", "--to", "repo"]).expect(0);
    assert!(outcome.stderr().contains("continuing"), "{}", outcome.stderr());
    assert_eq!(scene.run(list).expect(0).json().as_array().unwrap().len(), 1);
    scene.run(["check", "-r", "repo", "--read-data"]).expect(0);
    assert_eq!(scene.run(["cat", "latest:src/a.txt", "-r", "repo"]).expect(0).stdout(), "first\n");
}

#[test]
fn every_request_to_end_pauses() {
    for signal in [Signal::TERM, Signal::HUP] {
        let scene = scene_with_much_to_read();
        // It is never read to its end.
        File::create(scene.path("src/holes-3")).unwrap().set_len(1 << 36).unwrap();
        let (child, lines) = start(&scene);
        send(&child, signal);
        let (code, objects) = finish(child, lines);
        assert_eq!(code, Some(130), "{objects:?}");
        assert_eq!(objects.last().unwrap()["status"], "paused");
    }
}

#[test]
fn a_second_ctrl_c_stops_at_once_and_leaves_no_lock() {
    let scene = scene_with_much_to_read();
    let arguments = ["backup", "src", "--to", "repo", "--init", "--threads", "1"];
    let (child, lines) = start(&scene);
    send(&child, Signal::INT);
    send(&child, Signal::TERM);
    let (code, _) = finish(child, lines);
    assert_eq!(code, Some(130));
    assert!(scene.files("repo/locks").is_empty());
    scene.run(arguments).expect(0);
}

#[test]
fn the_next_backup_starts_over_if_asked_to() {
    let scene = scene_with_much_to_read();
    let (child, lines) = start(&scene);
    send(&child, Signal::INT);
    let (code, _) = finish(child, lines);
    assert_eq!(code, Some(130));
    let outcome = scene.run(["backup", "src", "--to", "repo", "--from-start"]).expect(0);
    assert!(!outcome.stderr().contains("continuing"), "{}", outcome.stderr());
}

#[test]
fn an_interrupted_restore_leaves_nothing_half_written_under_its_name() {
    let scene = scene_with_much_to_read();
    scene.run(["backup", "src", "--to", "repo", "--init"]).expect(0);
    let (child, lines) = start_command(&scene, &["restore", "latest", "-r", "repo", "--to", "out"]);
    send(&child, Signal::INT);
    let (code, _) = finish(child, lines);
    assert_eq!(code, Some(130));
    assert!(scene.files("repo/locks").is_empty());
    if !scene.path("out").exists() {
        return;
    }
    for file in scene.files("out") {
        let whole = scene.path("src").join(file.strip_prefix(scene.path("out/src")).unwrap());
        assert_eq!(
            file.symlink_metadata().unwrap().len(),
            whole.symlink_metadata().unwrap().len(),
            "{}",
            file.display()
        );
    }
}
