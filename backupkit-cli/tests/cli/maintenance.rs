//! Maintenance by the program: ordered, followed, set, and done by a worker when it is due.

use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::scene::Scene;

const LEFT: &str = "disk/repo/data/00-tmp-0011223344556677";

/// A repository with an unfinished file of a writer that died long ago.
fn set_up() -> Scene {
    let scene = Scene::new();
    scene.run(["connection", "add", "disk", "--folder", "disk"]).expect(0);
    scene.run(["repo", "add", "nas", "--connection", "disk", "--path", "repo"]).expect(0);
    scene.write(LEFT, "left");
    let long_ago: SystemTime = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let file = File::options().write(true).open(scene.path(LEFT)).unwrap();
    file.set_modified(long_ago).unwrap();
    scene
}

#[test]
fn a_dry_run_says_what_maintenance_then_removes() {
    let scene = set_up();
    let told = scene.run(["maintenance", "run", "--dry-run"]).expect(0).stdout();
    assert!(told.contains("would go  1 temporary file, 4 bytes, in repository `nas`"), "{told}");
    assert!(scene.path(LEFT).exists());
    let run = scene.run(["maintenance", "run", "--json"]).expect(0).json();
    assert_eq!((&run["kind"], &run["state"]), (&"maintenance".into(), &"succeeded".into()));
    assert_eq!(run["report"]["steps"][0]["work"], "temporary-files", "{run}");
    assert!(!scene.path(LEFT).exists());
    let log = scene.run(["run", "logs", "latest", "--ndjson"]).expect(0).json_lines();
    let removed = log.iter().filter(|line| line["code"] == "tidied");
    assert!(removed.clone().any(|line| line["fields"]["count"] == 1), "{log:?}");
    let again = scene.run(["maintenance", "run"]).expect(0).stdout();
    assert!(again.contains("removed   nothing"), "{again}");
}

#[test]
fn a_repository_out_of_reach_ends_maintenance_with_warnings() {
    let scene = set_up();
    std::fs::rename(scene.path("disk"), scene.path("elsewhere")).unwrap();
    let run = scene.run(["maintenance", "run", "--json"]).expect(3).json();
    assert_eq!((&run["state"], &run["report"]["problem_count"]), (&"warnings".into(), &1.into()));
    scene.run(["run", "logs", "latest", "--level", "warning", "--search", "nas"]).expect(0);
}

#[test]
fn settings_are_shown_changed_and_kept() {
    let scene = Scene::new();
    let shown = scene.run(["maintenance", "settings"]).expect(0).stdout();
    assert!(shown.contains("logs            90 days"), "{shown}");
    scene.run(["maintenance", "set", "--logs", "30", "--automatic", "off"]).expect(0);
    let settings = scene.run(["maintenance", "settings", "--json"]).expect(0).json();
    assert_eq!((&settings["logs_days"], &settings["runs_days"]), (&30.into(), &365.into()));
    assert_eq!(settings["automatic"], false);
    let refused = scene.run(["maintenance", "set", "--runs", "0"]).expect(2).stderr();
    assert!(refused.contains("1 to 36500 days"), "{refused}");
    scene.run(["maintenance", "set"]).expect(2);
}

#[test]
fn a_worker_does_maintenance_that_was_ordered_elsewhere_and_orders_none_too_soon() {
    let scene = set_up();
    scene.run(["maintenance", "run", "--dry-run"]).expect(0);
    let mut command = scene.command(["worker"]);
    let mut worker = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let ended = scene.run(["maintenance", "run", "--json"]).expect(0).json();
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert_eq!((&ended["number"], &ended["state"]), (&2.into(), &"succeeded".into()), "{ended}");
    assert!(!scene.path(LEFT).exists());
    let runs = scene.run(["run", "list", "--json"]).expect(0).json();
    assert_eq!(runs.as_array().unwrap().len(), 2, "{runs}");
}
