//! What is set up is changed and tried.

use serde_json::Value;

use crate::plans::{set_up, snapshots};
use crate::scene::{PASSWORD, Scene};

fn list(scene: &Scene, what: &str) -> Vec<Value> {
    let listed = scene.run([what, "list", "--json"]).expect(0).json();
    listed.as_array().unwrap().clone()
}

/// The names of the steps of a probe, and how each went.
fn steps(probe: &Value) -> Vec<(String, String)> {
    let step = |step: &Value| {
        assert!(step["seconds"].is_f64(), "{step}");
        let text = |field: &str| step[field].as_str().unwrap().to_owned();
        let outcome = text("outcome");
        assert_eq!(outcome != "ok", step["reason"].is_string(), "{step}");
        (text("name"), outcome)
    };
    probe["steps"].as_array().unwrap().iter().map(step).collect()
}

#[test]
fn a_renamed_and_changed_set_up_runs_as_before() {
    let scene = Scene::new();
    let password = set_up(&scene);
    scene.run(["connection", "set", "docs", "--name", "papers"]).expect(0);
    scene.run(["repo", "set", "nas", "--name", "vault"]).expect(0);
    scene.run(["plan", "set", "daily", "--name", "nightly", "--no-tags"]).expect(0);
    scene.run(["plan", "run", "nightly"]).expect(0);
    let snapshots = snapshots(&scene, &password);
    let tags = snapshots[0]["tags"].as_array().unwrap();
    assert!(tags.contains(&"plan=nightly".into()) && !tags.contains(&"t".into()), "{tags:?}");
    scene.run(["plan", "run", "daily"]).expect(1);
    let taken = scene.run(["connection", "set", "papers", "--name", "disk"]).expect(1).stderr();
    assert!(taken.contains("called `disk`"), "{taken}");
}

#[test]
fn a_plan_reads_and_writes_elsewhere_from_its_next_run_on() {
    let scene = Scene::new();
    set_up(&scene);
    scene.write("other/o.txt", "o");
    scene.run(["connection", "add", "other", "--folder", "other"]).expect(0);
    scene.run(["repo", "add", "two", "--connection", "disk", "--path", "two"]).expect(0);
    scene
        .run(["plan", "set", "daily", "--from", "other", "--to", "two", "--tag", "a", "--tag", "b"])
        .expect(0);
    scene.run(["plan", "run", "daily"]).expect(0);
    scene.run(["repo", "rm", "nas"]).expect(0);
    let found = scene.run(["snapshots", "-r", "disk/two", "--json"]).expect(0).json();
    let tags = found[0]["tags"].as_array().unwrap();
    assert!(tags.contains(&"a".into()) && tags.contains(&"b".into()), "{tags:?}");
    let twice =
        scene.run(["plan", "set", "daily", "--to", "two", "--to", "two"]).expect(2).stderr();
    assert!(twice.contains("twice"), "{twice}");
}

#[test]
fn a_moved_repository_is_found_again_and_another_one_is_not_taken_for_it() {
    let scene = Scene::new();
    set_up(&scene);
    scene.run(["plan", "run", "daily"]).expect(0);
    std::fs::rename(scene.path("disk"), scene.path("new-disk")).unwrap();
    scene.run(["plan", "run", "daily"]).expect(10);
    scene.run(["connection", "set", "disk", "--folder", "new-disk"]).expect(0);
    scene.run(["plan", "run", "daily"]).expect(0);
    std::fs::rename(scene.path("new-disk/repo"), scene.path("new-disk/moved")).unwrap();
    let missing = scene.run(["repo", "set", "nas", "--path", "nowhere"]).expect(10).stderr();
    assert!(missing.contains("may have moved") && !missing.contains("--init"), "{missing}");
    scene.run(["repo", "init", "-r", "new-disk/other"]).expect(0);
    scene.run(["repo", "set", "nas", "--path", "other"]).expect(12);
    let other = scene.run(["repo", "set", "nas", "--path", "other", "--password"]).expect(1);
    assert!(other.stderr().contains("another repository"), "{}", other.stderr());
    scene.run(["repo", "set", "nas", "--path", "moved"]).expect(0);
    scene.run(["plan", "run", "daily"]).expect(0);
}

#[test]
fn a_new_password_is_kept_once_it_opens_the_repository() {
    let scene = Scene::new();
    let password = set_up(&scene);
    scene.run(["repo", "set", "nas", "--password"]).expect(12);
    scene.run(["plan", "run", "daily"]).expect(0);
    let mut passwd = scene.command(["repo", "key", "passwd", "-r", "disk/repo"]);
    passwd.env("BACKUPKIT_PASSWORD", &password).env("BACKUPKIT_NEW_PASSWORD", PASSWORD);
    assert!(passwd.output().unwrap().status.success());
    let paused = scene.run(["plan", "run", "daily"]).expect(12).stdout();
    assert!(paused.contains("credentials"), "{paused}");
    scene.run(["repo", "set", "nas", "--password"]).expect(0);
    // The run that waited for it goes on.
    let ended = scene.run(["plan", "run", "daily", "--json"]).expect(0).json();
    assert_eq!(ended["number"], 2, "{ended}");
}

#[test]
fn every_step_of_a_test_says_how_it_went() {
    let scene = Scene::new();
    set_up(&scene);
    let healthy = scene.run(["repo", "test", "nas", "--json"]).expect(0).json();
    let steps_of_healthy = steps(&healthy);
    assert_eq!(steps_of_healthy.len(), 9, "{healthy}");
    assert!(steps_of_healthy.iter().all(|(_, outcome)| outcome == "ok"), "{healthy}");
    let text = scene.run(["repo", "test", "nas"]).expect(0).stdout();
    assert!(text.contains("open it with the password: ok"), "{text}");
    assert!(
        !scene
            .path("disk/repo")
            .read_dir()
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().contains("probe") })
    );
    std::fs::rename(scene.path("disk/repo/config"), scene.path("config")).unwrap();
    std::fs::rename(scene.path("disk/repo/keys"), scene.path("keys")).unwrap();
    let gone = scene.run(["repo", "test", "nas", "--json"]).expect(1).json();
    let outcomes: Vec<String> = steps(&gone).into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, ["ok", "ok", "ok", "failed", "skipped", "skipped", "skipped"], "{gone}");
    assert!(gone["steps"][3]["hint"].is_string(), "{gone}");

    let listed = scene.run(["connection", "test", "docs", "--json"]).expect(0).json();
    assert_eq!(steps(&listed).len(), 2, "{listed}");
    std::fs::remove_dir_all(scene.path("src")).unwrap();
    let gone = scene.run(["connection", "test", "docs", "--json"]).expect(1).json();
    let outcomes: Vec<String> = steps(&gone).into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, ["failed", "skipped"], "{gone}");
}

#[test]
fn a_change_of_nothing_changes_nothing() {
    let scene = Scene::new();
    set_up(&scene);
    let before = list(&scene, "plan");
    scene.run(["plan", "set", "daily"]).expect(0);
    scene.run(["connection", "set", "docs"]).expect(0);
    scene.run(["repo", "set", "nas"]).expect(0);
    assert_eq!(list(&scene, "plan"), before);
    scene.run(["plan", "set", "none"]).expect(1);
}
