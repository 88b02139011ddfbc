//! What is printed, in every form.

use std::process::Stdio;

use serde_json::Value;

use crate::scene::{Outcome, Scene};

#[test]
fn a_backup_ends_with_what_it_stored() {
    let scene = Scene::new();
    let outcome = scene.run(["backup", "src", "--to", "repo", "--init"]).expect(0);
    let text = outcome.stdout();
    assert!(text.contains("files: 3 new, 0 changed, 0 unmodified"), "{text}");
    assert!(text.contains("snapshot ") && text.contains("stored as"), "{text}");
    let outcome = scene.run(["backup", "src", "--to", "repo"]).expect(0);
    let text = outcome.stdout();
    assert!(text.contains("files: 0 new, 0 changed, 3 unmodified"), "{text}");
    assert!(text.contains("added 0 B"), "{text}");
    assert_eq!(outcome.stderr(), "");
}

#[test]
fn quiet_prints_only_what_was_asked_for() {
    let scene = Scene::new();
    let outcome = scene.run(["-q", "backup", "src", "--to", "repo", "--init"]).expect(0);
    assert_eq!(outcome.stdout() + &outcome.stderr(), "");
    let outcome = scene.run(["-q", "restore", "latest", "-r", "repo", "--to", "out"]).expect(0);
    assert_eq!(outcome.stdout() + &outcome.stderr(), "");
    assert_eq!(
        scene.run(["-q", "cat", "latest:src/a.txt", "-r", "repo"]).expect(0).stdout(),
        "first\n"
    );
    assert_eq!(scene.run(["-q", "ls", "latest", "-r", "repo"]).expect(0).stdout(), "/src/\n");
    assert_eq!(scene.run(["-q", "snapshots", "-r", "repo"]).expect(0).stdout().lines().count(), 2);
}

#[test]
fn every_command_prints_one_json_document() {
    let scene = Scene::new();
    for arguments in [
        &["backup", "src", "--to", "repo", "--init"][..],
        &["snapshots", "-r", "repo"],
        &["ls", "latest", "-r", "repo", "-R"],
        &["restore", "latest", "-r", "repo", "--to", "out", "--dry-run"],
        &["restore", "latest", "-r", "repo", "--to", "out"],
        &["check", "-r", "repo"],
        &["repo", "info", "-r", "repo"],
        &["repo", "unlock", "-r", "repo"],
        &["repo", "key", "list", "-r", "repo"],
        &["repo", "init", "-r", "other"],
        &["snapshots", "-r", "other"],
        &["version"],
    ] {
        let outcome = scene.run(arguments.iter().chain(&["--json"])).expect(0);
        outcome.json();
        assert_eq!(outcome.stderr(), "", "{arguments:?}");
        if arguments[0] != "repo" || arguments[1] != "init" {
            let stream = scene.run(arguments.iter().chain(&["--ndjson"])).expect(0);
            for line in stream.json_lines() {
                assert!(line["type"].is_string() && line["ts"].is_string(), "{line}");
            }
        }
    }
}

#[test]
fn a_stream_ends_with_the_summary() {
    let scene = Scene::new();
    let outcome = scene.run(["backup", "src", "--to", "repo", "--init", "--ndjson"]).expect(0);
    let lines = outcome.json_lines();
    let last = lines.last().unwrap();
    assert_eq!((&last["type"], &last["status"]), (&"summary".into(), &"succeeded".into()));
    assert!(lines.iter().any(|line| line["code"] == "snapshot-created"), "{lines:?}");
}

#[test]
fn snapshots_are_filtered_by_tag_and_host() {
    let scene = Scene::backed_up();
    let backup =
        ["backup", "src", "--to", "repo", "--tag", "x", "--tag", "y", "--host", "elsewhere"];
    scene.run(backup).expect(0);
    let list = |filters: &[&str]| {
        let arguments = ["snapshots", "-r", "repo", "--json"].iter().chain(filters);
        scene.run(arguments).expect(0).json().as_array().unwrap().clone()
    };
    assert_eq!(list(&[]).len(), 2);
    assert_eq!(list(&["--tag", "x"]).len(), 1);
    assert_eq!(list(&["--tag", "x", "--tag", "y"])[0]["hostname"], "elsewhere");
    assert_eq!(list(&["--tag", "x", "--tag", "z"]).len(), 0);
    assert_eq!(list(&["--host", "elsewhere"]).len(), 1);
    assert_eq!(list(&["--host", "nowhere"]).len(), 0);
}

#[test]
fn names_that_are_not_text_are_escaped_and_come_as_bytes_in_json() {
    use std::os::unix::ffi::OsStrExt as _;
    let scene = Scene::new();
    let name = std::ffi::OsStr::from_bytes(b"odd\xff\x1b[31m\n");
    std::fs::write(scene.path("src").join(name), "x").unwrap();
    scene.run(["backup", "src", "--to", "repo", "--init"]).expect(0);
    let text = scene.run(["ls", "latest:src", "-l", "-r", "repo"]).expect(0).stdout();
    assert!(text.contains("odd\\xff\\u{1b}[31m\\n"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    let json = scene.run(["ls", "latest:src", "-r", "repo", "--json"]).expect(0).json();
    let odd: Vec<&Value> =
        json.as_array().unwrap().iter().filter(|entry| entry["path_b64"].is_string()).collect();
    assert_eq!(odd.len(), 1);
    assert_eq!(odd[0]["path_b64"], "c3JjL29kZP8bWzMxbQo=");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let scene = Scene::backed_up();
    scene.write("src/large", vec![7; 4 << 20]);
    scene.run(["backup", "src", "--to", "repo"]).expect(0);
    for arguments in [
        &["cat", "latest:src/large", "-r", "repo"][..],
        &["ls", "latest", "-R", "-r", "repo"],
        &["snapshots", "-r", "repo", "--json"],
        &["backup", "src", "--to", "repo", "--ndjson"],
        &["completions", "bash"],
    ] {
        let mut program = scene.command(arguments);
        program.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = program.spawn().unwrap();
        drop(child.stdout.take());
        let outcome = Outcome(child.wait_with_output().unwrap()).expect(0);
        assert_eq!(outcome.stderr(), "", "{arguments:?}");
    }
    let listed = scene.run(["snapshots", "-r", "repo", "--json"]).expect(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 3);
}

#[test]
fn a_full_disk_under_standard_output_is_an_error() {
    let scene = Scene::backed_up();
    for arguments in [&["cat", "latest:src/a.txt", "-r", "repo"][..], &["snapshots", "-r", "repo"]]
    {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut program = scene.command(arguments);
        let outcome = Outcome(program.stdout(full).output().unwrap()).expect(1);
        assert!(outcome.stderr().contains("no space left"), "{}", outcome.stderr());
    }
}

#[test]
fn without_a_usable_cache_folder_it_goes_on() {
    let scene = Scene::backed_up();
    scene.write("file", "");
    let arguments = ["backup", "src", "--to", "repo", "--cache-dir", "file"];
    let outcome = scene.run(arguments).expect(0);
    assert!(outcome.stderr().contains("without a cache folder"), "{}", outcome.stderr());
    let mut program = scene.command(["backup", "src", "--to", "repo"]);
    Outcome(program.env_remove("HOME").output().unwrap()).expect(0);
}
