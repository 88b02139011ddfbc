//! Backups into several repositories.

use crate::scene::{FOREIGN_LOCK, FOREIGN_LOCK_ID, Outcome, Scene};

#[test]
fn one_backup_fills_several_repositories() {
    let scene = Scene::new();
    let arguments = ["backup", "src", "--to", "one", "--to", "two", "--init", "--json"];
    let report = scene.run(arguments).expect(0).json();
    let outputs = report["outputs"].as_array().unwrap();
    assert_eq!(outputs.len(), 2);
    for (output, name) in outputs.iter().zip(["one", "two"]) {
        assert!(output["repository"].as_str().unwrap().ends_with(name));
        assert!(output["snapshot"].is_string());
        scene.run(["check", "-r", name, "--read-data"]).expect(0);
    }
}

#[test]
fn one_that_fails_makes_it_4_and_the_others_finish() {
    let scene = Scene::backed_up();
    scene.write("file", "not a folder");
    for (other, word) in [("missing", "there is no repository"), ("file", "file")] {
        let outcome = scene.run(["backup", "src", "--to", other, "--to", "repo"]).expect(4);
        assert!(outcome.stderr().contains(word), "{}", outcome.stderr());
        assert!(outcome.stdout().contains("no snapshot, it failed"), "{}", outcome.stdout());
        assert!(outcome.stdout().contains("to restore it"), "{}", outcome.stdout());
    }
    let arguments = ["backup", "src", "--to", "missing", "--to", "repo", "--json"];
    let report = scene.run(arguments).expect(4).json();
    assert_eq!(report["status"], "partial");
    assert_eq!(report["outputs"][0]["error"]["code"], "repository-not-found");
    assert_eq!(report["outputs"][0]["error"]["exit"], 10);
    assert!(report["outputs"][1]["snapshot"].is_string());
    let listed = scene.run(["snapshots", "-r", "repo", "--json"]).expect(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 4);
}

#[test]
fn a_locked_one_makes_it_4() {
    let scene = Scene::backed_up();
    scene.run(["repo", "init", "-r", "locked"]).expect(0);
    scene.write(&format!("locked/locks/{FOREIGN_LOCK_ID}"), FOREIGN_LOCK);
    let outcome = scene.run(["backup", "src", "--to", "locked", "--to", "repo"]).expect(4);
    assert!(outcome.stderr().contains("locked"), "{}", outcome.stderr());
}

#[test]
fn a_password_that_does_not_open_what_is_there_makes_nothing_new() {
    let scene = Scene::backed_up();
    let mut program = scene.command(["backup", "src", "--to", "repo", "--to", "new", "--init"]);
    let outcome = Outcome(program.env("BACKUPKIT_PASSWORD", "mistyped").output().unwrap());
    outcome.expect(12);
    assert!(!scene.path("new").exists());
}

#[test]
fn one_repository_under_two_names_is_refused() {
    let scene = Scene::backed_up();
    std::os::unix::fs::symlink("repo", scene.path("alias")).unwrap();
    let outcome = scene.run(["backup", "src", "--to", "repo", "--to", "alias"]);
    assert_ne!(outcome.code(), Some(0));
    assert!(outcome.stderr().contains("twice"), "{}", outcome.stderr());
}

#[test]
fn a_repository_inside_the_source_is_left_out_with_a_line() {
    let scene = Scene::new();
    let arguments = ["backup", "src", "--to", "src/repo", "--init"];
    for _ in 0..2 {
        let outcome = scene.run(arguments).expect(0);
        assert!(outcome.stderr().contains("left out"), "{}", outcome.stderr());
        assert!(outcome.stderr().contains("/src/repo"), "{}", outcome.stderr());
    }
    let listed = scene.run(["ls", "latest", "-R", "-r", "src/repo"]).expect(0).stdout();
    assert!(!listed.contains("repo"), "{listed}");
}
