//! What is set up, as a file.

use std::process::Command;

use serde_json::Value;

use crate::plans::{set_up, snapshots};
use crate::scene::{Outcome, Scene};

const SECRET: &str = "hunter2 canary";

fn run(command: &mut Command) -> Outcome {
    Outcome(command.output().unwrap())
}

fn whole(scene: &Scene) -> String {
    format!(
        r#"
[connections.docs]
kind = "folder"
path = "{root}/src"

[connections.disk]
kind = "folder"
path = "${{DISK}}"

[repositories.nas]
connection = "disk"
path = "repo"
password = "cmd:cat secret"
create = true

[plans.daily]
from = "docs"
to = ["nas"]
"#,
        root = scene.path("").display().to_string().trim_end_matches('/'),
    )
}

fn import(scene: &Scene, more: &[&str]) -> Outcome {
    let mut command = scene.command(["config", "import", "backupkit.toml"]);
    run(command.args(more).env("DISK", scene.path("disk")))
}

/// `NAME ACTION` of each change.
fn actions(outcome: &Outcome) -> Vec<String> {
    let changes = outcome.json();
    let action = |change: &Value| {
        format!("{} {}", change["name"].as_str().unwrap(), change["action"].as_str().unwrap())
    };
    changes.as_array().unwrap().iter().map(action).collect()
}

#[test]
fn a_file_sets_everything_up_and_says_so_again_without_a_change() {
    let scene = Scene::new();
    scene.write("secret", format!("{SECRET}\n"));
    scene.write("backupkit.toml", whole(&scene));
    let dry = import(&scene, &["--dry-run"]).expect(0).stdout();
    assert!(dry.contains("repository nas: would be created"), "{dry}");
    assert!(!scene.path("disk/repo").exists());
    let made = import(&scene, &["--json"]).expect(0);
    let created = ["disk created", "docs created", "nas created", "daily created"];
    assert_eq!(actions(&made), created);
    scene.run(["plan", "run", "daily"]).expect(0);
    assert_eq!(snapshots(&scene, SECRET).len(), 1);
    let again = import(&scene, &["--json", "--prune"]).expect(0);
    assert!(actions(&again).iter().all(|action| action.ends_with(" unchanged")));

    let exported = scene.run(["config", "export"]).expect(0).stdout();
    assert!(exported.contains(r#"password = "${NAS_PASSWORD}""#), "{exported}");
    assert!(!exported.contains(SECRET));
    scene.run(["config", "export", "exported.toml"]).expect(0);
    assert_eq!(std::fs::read_to_string(scene.path("exported.toml")).unwrap(), exported);
    scene.run(["config", "export", "exported.toml"]).expect(1);
    scene.run(["config", "validate", "exported.toml"]).expect(0);
    let mut command = scene.command(["config", "import", "exported.toml", "--json"]);
    let same = run(command.env("NAS_PASSWORD", SECRET)).expect(0);
    assert!(actions(&same).iter().all(|action| action.ends_with(" unchanged")));
    // On a machine that knows nothing.
    let mut command = scene.command(["config", "import", "exported.toml", "--state", "new/s.db"]);
    run(command.env("NAS_PASSWORD", SECRET)).expect(0);
    scene.run(["plan", "run", "daily", "--state", "new/s.db"]).expect(0);
}

#[test]
fn every_fault_is_told_with_file_line_and_field() {
    let scene = Scene::new();
    let text = whole(&scene)
        .replace("\"cmd:cat secret\"", &format!("\"{SECRET}\""))
        .replace("path = \"${DISK}\"", "path = \"${UNSET_DISK}\"\npth = 1")
        .replace("to = [\"nas\"]", "to = [\"nas\", \"none\"]\nform = 2");
    scene.write("backupkit.toml", text);
    for command in ["validate", "import"] {
        let refused = scene.run(["config", command, "backupkit.toml"]).expect(2);
        let told = refused.stderr();
        for expected in [
            "backupkit.toml:8: connections.disk.path: variable UNSET_DISK is not set",
            "repositories.nas.password: a secret does not stand in the file",
            "plans.daily.form: is not known here",
        ] {
            assert!(told.contains(expected), "{expected}\n{told}");
        }
        assert!(!told.contains(SECRET), "{told}");
        let refused = scene.run(["config", command, "backupkit.toml", "--json"]).expect(2);
        let error = refused.json_error();
        assert_eq!(error["code"], "invalid-configuration");
        assert!(error["message"].as_str().unwrap().contains("plans.daily.form"), "{error}");
    }
    let valid = whole(&scene).replace("path = \"${DISK}\"", "path = \"disk\"");
    scene.write("backupkit.toml", valid);
    let told = scene.run(["config", "validate", "backupkit.toml"]).expect(2).stderr();
    assert!(told.contains("connections.disk.path: \"disk\" is not absolute"), "{told}");
    assert!(!scene.path("home/.local/share/backupkit/state.db").exists());
    scene.run(["config", "validate", "none.toml"]).expect(1);
}

#[test]
fn a_file_is_checked_against_what_is_there_before_anything_changes() {
    let scene = Scene::new();
    scene.write("secret", "a password\n");
    scene.write("backupkit.toml", whole(&scene).replace("create = true\n", ""));
    let told = import(&scene, &[]).expect(10).stderr();
    assert!(told.contains("repositories.nas: there is no repository at"), "{told}");
    assert!(told.contains("create = true"), "{told}");
    let error = import(&scene, &["--json"]).expect(10).json_error();
    assert_eq!((&error["code"], &error["exit"]), (&"repository-not-found".into(), &10.into()));
    scene.write("backupkit.toml", whole(&scene));
    std::fs::remove_file(scene.path("secret")).unwrap();
    let told = import(&scene, &[]).expect(2).stderr();
    assert!(told.contains("repositories.nas.password: the secret command failed"), "{told}");
    let listed = scene.run(["connection", "list", "--json"]).expect(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 0);
    // One that is there needs its own password.
    scene.run(["repo", "init", "-r", "disk/repo"]).expect(0);
    scene.write("secret", "wrong\n");
    let told = import(&scene, &[]).expect(12).stderr();
    assert!(told.contains("the password does not open"), "{told}");
    let error = import(&scene, &["--json"]).expect(12).json_error();
    assert_eq!((&error["code"], &error["exit"]), (&"wrong-password".into(), &12.into()));
    // Besides something else, that alone is not it.
    let more =
        "[repositories.more]\nconnection = \"disk\"\npath = \"more\"\npassword = \"${UNSET}\"\n";
    scene.write("backupkit.toml", whole(&scene) + more);
    let error = import(&scene, &["--json"]).expect(2).json_error();
    assert_eq!((&error["code"], &error["exit"]), (&"invalid-configuration".into(), &2.into()));
}

#[test]
fn what_the_file_does_not_name_is_removed_only_on_request() {
    let scene = Scene::new();
    set_up(&scene);
    scene.write("empty.toml", "# nothing\n");
    scene.run(["config", "import", "empty.toml"]).expect(0);
    let asked = scene.run(["config", "import", "empty.toml", "--prune"]).expect(2).stderr();
    for name in ["plan daily", "repository nas", "connection docs", "--yes"] {
        assert!(asked.contains(name), "{name}: {asked}");
    }
    let dry = scene.run(["config", "import", "empty.toml", "--prune", "--dry-run"]).expect(0);
    assert!(dry.stdout().contains("plan daily: would be removed"), "{}", dry.stdout());
    scene.run(["plan", "run", "daily"]).expect(0);
    scene.run(["config", "import", "empty.toml", "--prune", "--yes"]).expect(0);
    for what in ["plan", "repo", "connection"] {
        let listed = scene.run([what, "list", "--json"]).expect(0).json();
        assert_eq!(listed.as_array().unwrap().len(), 0);
    }
    assert!(scene.path("disk/repo/config").exists());
    scene.run(["config", "import", "empty.toml", "--yes"]).expect(2);
}

#[test]
fn a_file_that_is_too_long_is_wrong() {
    let scene = Scene::new();
    scene.write("long.toml", "# much\n".repeat(700_000));
    for command in ["validate", "import"] {
        let told = scene.run(["config", command, "long.toml"]).expect(2).stderr();
        assert!(told.contains("at most"), "{told}");
    }
}
