//! On a terminal: prompts and progress. `script` gives one.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::scene::{Outcome, Scene, program};

/// Runs a shell line on a terminal of 80 columns, with what a user types. `None` without `script`.
fn run_on_terminal(scene: &Scene, line: &str, typed: &str) -> Option<Outcome> {
    let line = format!("stty cols 80 rows 24; {} {line}", program().display());
    let mut script = Command::new("script");
    scene.clean(&mut script);
    script.args(["-qefc", &line, "/dev/null"]).env("TERM", "xterm");
    script.env_remove("BACKUPKIT_PASSWORD").stdin(Stdio::piped());
    let mut child = match script.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("skipped: no `script`: {error}");
            return None;
        }
    };
    // It stays open until the end: a terminal does not hang up either.
    let mut input = child.stdin.take().unwrap();
    input.write_all(typed.as_bytes()).unwrap();
    let outcome = Outcome(child.wait_with_output().unwrap());
    drop(input);
    Some(outcome)
}

#[test]
fn a_new_password_is_asked_for_twice_and_never_shown() {
    let scene = Scene::new();
    let init = "repo init -r repo";
    let Some(outcome) = run_on_terminal(&scene, init, "geheim\ngeheim\n") else {
        return;
    };
    let shown = outcome.expect(0).stdout();
    assert_eq!(shown.matches("password").count(), 3, "{shown}");
    let mut list = scene.command(["snapshots", "-r", "repo"]);
    Outcome(list.env("BACKUPKIT_PASSWORD", "geheim").output().unwrap()).expect(0);
}

#[test]
fn two_different_new_passwords_make_nothing() {
    let scene = Scene::new();
    let Some(outcome) = run_on_terminal(&scene, "repo init -r repo", "one\ntwo\n") else {
        return;
    };
    assert!(outcome.expect(2).stdout().contains("differ"));
    assert!(!scene.path("repo").exists());
}

#[test]
fn what_a_file_does_not_name_is_removed_once_somebody_agrees() {
    let scene = Scene::new();
    scene.run(["connection", "add", "docs", "--folder", "src"]).expect(0);
    scene.write("empty.toml", "");
    let prune = "config import empty.toml --prune";
    let Some(outcome) = run_on_terminal(&scene, prune, "n\n") else {
        return;
    };
    let asked = outcome.expect(1).stdout();
    assert!(asked.contains("to be removed: connection docs"), "{asked}");
    let count = || {
        let listed = scene.run(["connection", "list", "--json"]).expect(0).json();
        listed.as_array().unwrap().len()
    };
    assert_eq!(count(), 1);
    run_on_terminal(&scene, prune, "y\n").unwrap().expect(0);
    assert_eq!(count(), 0);
}

#[test]
fn json_never_asks() {
    let scene = Scene::backed_up();
    let Some(outcome) = run_on_terminal(&scene, "snapshots -r repo --json", "") else {
        return;
    };
    assert!(outcome.expect(2).stdout().contains("no-password"));
}

#[test]
fn progress_is_shown_on_a_terminal_and_gone_at_the_end() {
    let scene = Scene::new();
    std::fs::File::create(scene.path("src/holes")).unwrap().set_len(1 << 29).unwrap();
    let line = "backup src --to repo --init --password-command 'echo x'";
    let Some(outcome) = run_on_terminal(&scene, line, "") else {
        return;
    };
    let shown = outcome.expect(0).stdout();
    assert!(shown.contains("entries"), "{shown}");
    assert!(shown.contains("512.0 MiB"), "{shown}");
    let end = shown.split("files: ").nth(1).unwrap();
    assert!(!end.contains("entries"), "{end}");
}

#[test]
fn progress_can_be_turned_off() {
    let scene = Scene::new();
    let line = "backup src --to repo --init --no-progress --no-color --password-command 'echo x'";
    let Some(outcome) = run_on_terminal(&scene, line, "") else {
        return;
    };
    let shown = outcome.expect(0).stdout();
    assert!(!shown.contains("entries") && !shown.contains('\x1b'), "{shown}");
}
