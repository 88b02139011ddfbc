//! Plans and their runs: set up, run, paused from elsewhere, killed, and gone on with.

use std::fs::File;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::scene::{Scene, assert_same};

/// Two connections, a repository and a plan. Returns the password.
pub(crate) fn set_up(scene: &Scene) -> String {
    scene.run(["connection", "add", "docs", "--folder", "src"]).expect(0);
    scene.run(["connection", "add", "disk", "--folder", "disk"]).expect(0);
    let add = ["repo", "add", "nas", "--connection", "disk", "--path", "repo", "--json"];
    let mut command = scene.command(add);
    let added = command.env_remove("BACKUPKIT_PASSWORD").output().unwrap();
    assert!(added.status.success(), "{added:?}");
    let added: Value = serde_json::from_slice(&added.stdout).unwrap();
    scene.run(["plan", "create", "daily", "--from", "docs", "--to", "nas", "--tag", "t"]).expect(0);
    added["password"].as_str().unwrap().to_owned()
}

fn much_to_read(scene: &Scene) {
    for name in ["src/holes-1", "src/holes-2"] {
        File::create(scene.path(name)).unwrap().set_len(2 << 30).unwrap();
    }
}

fn latest(scene: &Scene) -> Value {
    scene.run(["run", "show", "latest", "--json"]).expect(0).json()
}

/// Starts to run the plan, and returns once its run is under way.
fn start(scene: &Scene) -> Child {
    let mut command = scene.command(["plan", "run", "daily"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let state = || {
        let shown = scene.run(["run", "show", "latest", "--json"]);
        // There is none yet.
        if shown.code() == Some(0) { shown.json()["state"].clone() } else { "queued".into() }
    };
    loop {
        match state().as_str() {
            Some("running") => return child,
            Some("queued") => {}
            other => panic!("it ended before it could be stopped: {other:?}"),
        }
    }
}

pub(crate) fn snapshots(scene: &Scene, password: &str) -> Vec<Value> {
    let mut command = scene.command(["snapshots", "-r", "disk/repo", "--json"]);
    let listed = command.env("BACKUPKIT_PASSWORD", password).output().unwrap();
    serde_json::from_slice(&listed.stdout).unwrap()
}

#[test]
fn a_plan_that_was_set_up_runs_and_its_run_stands_on_record() {
    let scene = Scene::new();
    let password = set_up(&scene);
    let run = scene.run(["plan", "run", "daily", "--json"]).expect(0).json();
    assert_eq!((&run["number"], &run["state"]), (&1.into(), &"succeeded".into()), "{run}");
    let snapshots = snapshots(&scene, &password);
    assert_eq!(snapshots.len(), 1);
    assert_eq!(run["report"]["outputs"][0]["snapshot"], snapshots[0]["id"]);
    let tags = snapshots[0]["tags"].as_array().unwrap();
    for tag in
        ["t".to_owned(), "plan=daily".to_owned(), format!("run={}", run["id"].as_str().unwrap())]
    {
        assert!(tags.contains(&tag.clone().into()), "{tag}: {tags:?}");
    }
    let mut restore = scene.command(["restore", "latest:/", "-r", "disk/repo", "--to", "back"]);
    let restored = restore.env("BACKUPKIT_PASSWORD", &password).output().unwrap();
    assert!(restored.status.success(), "{restored:?}");
    let back = scene.path("back").join(scene.path("src").strip_prefix("/").unwrap());
    assert_same(&scene.path("src"), &back);
    let log = scene.run(["run", "logs", "1", "--ndjson"]).expect(0).json_lines();
    assert!(log.iter().any(|line| line["code"] == "snapshot-created"), "{log:?}");
    let list = scene.run(["run", "list"]).expect(0).stdout();
    assert!(list.contains("daily") && list.contains("succeeded"), "{list}");
}

#[test]
fn what_a_plan_needs_cannot_be_removed_and_names_its_user() {
    let scene = Scene::new();
    set_up(&scene);
    for (what, name, user) in
        [("connection", "docs", "plan `daily`"), ("repo", "nas", "plan `daily`")]
    {
        let refused = scene.run([what, "rm", name]).expect(1).stderr();
        assert!(refused.contains("in use") && refused.contains(user), "{refused}");
    }
    scene.run(["plan", "rm", "daily"]).expect(0);
    scene.run(["repo", "rm", "nas"]).expect(0);
    scene.run(["connection", "rm", "docs"]).expect(0);
}

#[test]
fn a_run_that_is_paused_from_another_process_goes_on_as_the_same_run() {
    let scene = Scene::new();
    let password = set_up(&scene);
    much_to_read(&scene);
    let child = start(&scene);
    scene.run(["run", "pause", "latest"]).expect(0);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let paused = latest(&scene);
    assert_eq!((&paused["state"], &paused["pause_reason"]), (&"paused".into(), &"user".into()));
    assert!(snapshots(&scene, &password).is_empty());
    let ended = scene.run(["plan", "run", "daily", "--json"]).expect(0).json();
    assert_eq!((&ended["id"], &ended["state"]), (&paused["id"], &"succeeded".into()));
    assert_eq!(snapshots(&scene, &password).len(), 1);
}

#[test]
fn a_run_whose_process_was_killed_goes_on_as_the_same_run() {
    let scene = Scene::new();
    let password = set_up(&scene);
    much_to_read(&scene);
    let mut child = start(&scene);
    child.kill().unwrap();
    child.wait().unwrap();
    let ended = scene.run(["plan", "run", "daily", "--json"]).expect(0).json();
    assert_eq!((&ended["number"], &ended["state"]), (&1.into(), &"succeeded".into()), "{ended}");
    assert_eq!(snapshots(&scene, &password).len(), 1);
    let mut check = scene.command(["check", "-r", "disk/repo", "--read-data"]);
    assert!(check.env("BACKUPKIT_PASSWORD", &password).output().unwrap().status.success());
}

#[test]
fn a_cancelled_run_leaves_no_snapshot() {
    let scene = Scene::new();
    let password = set_up(&scene);
    much_to_read(&scene);
    let child = start(&scene);
    scene.run(["run", "cancel", "latest"]).expect(0);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    assert_eq!(latest(&scene)["state"], "cancelled");
    assert!(snapshots(&scene, &password).is_empty());
    let resumed = scene.run(["run", "resume", "latest"]).expect(1).stderr();
    assert!(resumed.contains("has ended"), "{resumed}");
}

#[test]
fn a_run_that_is_cancelled_while_nobody_works_on_it_makes_room_for_the_next() {
    let scene = Scene::new();
    let password = set_up(&scene);
    much_to_read(&scene);
    let child = start(&scene);
    scene.run(["run", "pause", "latest"]).expect(0);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    let told = scene.run(["run", "cancel", "latest"]).expect(0).stdout();
    assert!(told.contains("to be cancelled: a worker does it"), "{told}");
    for arguments in [&["run", "list"][..], &["run", "show", "latest"]] {
        let told = scene.run(arguments).expect(0).stdout();
        assert!(told.contains("to be cancelled"), "{told}");
    }
    let ended = scene.run(["plan", "run", "daily", "--json"]).expect(0).json();
    assert_eq!((&ended["number"], &ended["state"]), (&2.into(), &"succeeded".into()), "{ended}");
    let first = scene.run(["run", "show", "1", "--json"]).expect(0).json();
    assert_eq!(first["state"], "cancelled");
    // What the first one left is gone with the second.
    assert_eq!(snapshots(&scene, &password).len(), 1);
    let mut all = scene.command(["snapshots", "-r", "disk/repo", "--all", "--json"]);
    let all = all.env("BACKUPKIT_PASSWORD", &password).output().unwrap();
    let all: Vec<Value> = serde_json::from_slice(&all.stdout).unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
}

#[test]
fn no_password_stands_in_the_state_and_its_key_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new();
    let password = set_up(&scene);
    let run = scene.run(["plan", "run", "daily", "-v"]).expect(0);
    assert!(!run.stdout().contains(&password) && !run.stderr().contains(&password));
    let state = scene.files("").into_iter().filter(|file| {
        file.parent().is_some_and(|folder| folder.ends_with("backupkit"))
            && file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("state.db"))
    });
    let mut looked_at = 0;
    for file in state {
        let file = scene.path(file);
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(password.len()).any(|part| part == password.as_bytes());
        assert!(!found, "{}", file.display());
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{}", file.display());
        looked_at += 1;
    }
    assert!(looked_at >= 2, "the state was not found");
}

#[test]
fn a_wrong_or_missing_master_key_is_refused_and_changes_nothing() {
    let scene = Scene::new();
    set_up(&scene);
    let key = scene
        .path(scene.files("").into_iter().find(|file| file.ends_with("state.db.key")).unwrap());
    let text = std::fs::read_to_string(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let missing = scene.run(["plan", "list"]).expect(2).stderr();
    assert!(missing.contains("master key"), "{missing}");
    assert!(!key.exists());
    // The key of another state.
    let other = Scene::new();
    set_up(&other);
    let wrong = other.files("").into_iter().find(|file| file.ends_with("state.db.key")).unwrap();
    std::fs::copy(other.path(wrong), &key).unwrap();
    let refused = scene.run(["plan", "run", "daily"]).expect(2).stderr();
    assert!(refused.contains("master key"), "{refused}");
    std::fs::write(&key, text).unwrap();
    scene.run(["plan", "run", "daily"]).expect(0);
}

#[test]
fn a_restore_by_the_name_of_the_repository_is_a_run_of_its_own() {
    let scene = Scene::new();
    set_up(&scene);
    scene.run(["plan", "run", "daily"]).expect(0);
    let restored = scene.run(["repo", "restore", "nas", "latest:/", "--to", "back"]).expect(0);
    let said = restored.stdout();
    assert!(said.contains("verified: ") && said.contains("succeeded"), "{said}");
    let back = scene.path("back").join(scene.path("src").strip_prefix("/").unwrap());
    assert_same(&scene.path("src"), &back);
    let run = latest(&scene);
    assert_eq!((&run["kind"], &run["number"]), (&"restore".into(), &2.into()));
    assert_eq!(run["report"]["counts"]["failed"], 0);
    scene.run(["connection", "add", "elsewhere", "--folder", "elsewhere"]).expect(0);
    let into = ["repo", "restore", "nas", "latest:/", "--to-connection", "elsewhere"];
    scene.run(into).expect(0);
    let back = scene.path("elsewhere").join(scene.path("src").strip_prefix("/").unwrap());
    assert_same(&scene.path("src"), &back);
}

#[test]
fn a_restore_whose_process_was_killed_goes_on_as_the_same_run() {
    let scene = Scene::new();
    set_up(&scene);
    much_to_read(&scene);
    scene.run(["plan", "run", "daily"]).expect(0);
    let restore = ["repo", "restore", "nas", "latest:/", "--to", "back"];
    let mut command = scene.command(restore);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while latest(&scene)["state"] != "running" {
        assert_eq!(child.try_wait().unwrap(), None, "it ended before it could be killed");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let again = scene.run(["repo", "restore", "nas", "latest:/", "--to", "back", "--json"]);
    let ended = again.expect(0).json();
    assert_eq!((&ended["number"], &ended["state"]), (&2.into(), &"succeeded".into()), "{ended}");
    let back = scene.path("back").join(scene.path("src").strip_prefix("/").unwrap());
    assert_same(&scene.path("src"), &back);
}

#[test]
fn what_one_repository_missed_is_copied_from_the_other() {
    let scene = Scene::new();
    set_up(&scene);
    scene.run(["connection", "add", "usb", "--folder", "usb"]).expect(0);
    scene.run(["repo", "add", "stick", "--connection", "usb"]).expect(0);
    scene
        .run(["plan", "create", "both", "--from", "docs", "--to", "nas", "--to", "stick"])
        .expect(0);
    // It cannot take packs for now.
    let data = scene.path("usb/data");
    std::fs::write(&data, "in the way").unwrap();
    let run = scene.run(["plan", "run", "both", "--json"]).expect(4).json();
    assert_eq!(run["state"], "partial", "{run}");
    std::fs::remove_file(&data).unwrap();
    // The source has other data by now, which is not what the run has missed.
    scene.write("src/a.txt", "later\n");
    let again = scene.run(["run", "retry", "latest", "--follow", "--json"]).expect(0).json();
    assert_eq!((&again["state"], &again["number"]), (&"succeeded".into(), &2.into()), "{again}");
    assert_eq!(again["report"]["outputs"].as_array().unwrap().len(), 1);
    scene.run(["repo", "restore", "stick", "latest:/", "--to", "back"]).expect(0);
    let back = scene.path("back").join(scene.path("src").strip_prefix("/").unwrap());
    assert_eq!(std::fs::read_to_string(back.join("a.txt")).unwrap(), "first\n");
    let refused = scene.run(["run", "retry", "2"]).expect(1).stderr();
    assert!(refused.contains("nothing to retry"), "{refused}");
}

#[test]
fn a_repository_that_is_not_plugged_in_does_not_hold_up_the_other() {
    let scene = Scene::new();
    set_up(&scene);
    scene.run(["connection", "add", "usb", "--folder", "usb"]).expect(0);
    scene.run(["repo", "add", "stick", "--connection", "usb"]).expect(0);
    let both = ["--to", "stick", "--to", "nas"];
    scene.run(["plan", "create", "both", "--from", "docs"].into_iter().chain(both)).expect(0);
    std::fs::rename(scene.path("usb"), scene.path("drawer")).unwrap();
    let run = scene.run(["plan", "run", "both", "--json"]).expect(4).json();
    let outputs = &run["report"]["outputs"];
    assert!(outputs[1]["snapshot"].is_string() && outputs[0]["snapshot"].is_null(), "{run}");
    assert!(outputs[0]["repository"].as_str().unwrap().ends_with("usb"), "{run}");
    let shown = scene.run(["run", "show", "latest"]).expect(0).stdout();
    assert!(shown.contains("open repository `stick`"), "{shown}");
    assert!(shown.contains("next      `backupkit run retry 1` makes what is missing"), "{shown}");
    std::fs::rename(scene.path("drawer"), scene.path("usb")).unwrap();
    scene.run(["run", "retry", "latest", "--follow"]).expect(0);
    scene.run(["repo", "restore", "stick", "latest:/", "--to", "back"]).expect(0);
    let back = scene.path("back").join(scene.path("src").strip_prefix("/").unwrap());
    assert_same(&scene.path("src"), &back);
}

#[test]
fn what_a_run_needs_to_go_on_is_not_removed() {
    let scene = Scene::new();
    set_up(&scene);
    much_to_read(&scene);
    let child = start(&scene);
    scene.run(["run", "pause", "latest"]).expect(0);
    child.wait_with_output().unwrap();
    let needed = [["plan", "rm", "daily"], ["repo", "rm", "nas"], ["connection", "rm", "docs"]];
    for rm in needed {
        let refused = scene.run(rm).expect(1).stderr();
        assert!(refused.contains("in use") && refused.contains("run 1"), "{refused}");
    }
    scene.run(["run", "resume", "latest", "--follow"]).expect(0);
    for rm in needed {
        let removed = scene.run(rm).expect(0).stdout();
        assert!(rm[0] != "repo" || removed.contains("and its password"), "{removed}");
    }
    // What it has stored is still there.
    assert!(std::fs::read_dir(scene.path("disk/repo/data")).unwrap().count() > 0);
}

#[test]
fn a_plan_of_several_sources_makes_a_snapshot_of_each() {
    let scene = Scene::new();
    let password = set_up(&scene);
    std::fs::create_dir(scene.path("photos")).unwrap();
    std::fs::write(scene.path("photos/one"), "a photo").unwrap();
    scene.run(["connection", "add", "photos", "--folder", "photos", "--max-runs", "3"]).expect(0);
    let change = ["plan", "set", "daily", "--from", "docs", "--from", "photos"];
    scene.run(change).expect(0);
    let listed = scene.run(["plan", "list"]).expect(0).stdout();
    assert!(listed.contains("docs, photos"), "{listed}");
    let said = scene.run(["plan", "run", "daily"]).expect(0);
    let said = format!("{}{}", said.stdout(), said.stderr());
    assert!(said.contains("source 2 of 2: ") && said.contains("succeeded"), "{said}");
    let made = snapshots(&scene, &password);
    let mut paths: Vec<_> = made.iter().map(|made| made["paths"][0].as_str().unwrap()).collect();
    paths.sort_unstable();
    let expected = [scene.path("photos"), scene.path("src")];
    assert_eq!(paths, expected.each_ref().map(|path| path.to_str().unwrap()));
    let outputs = latest(&scene)["report"]["outputs"].clone();
    assert_eq!(outputs.as_array().map(Vec::len), Some(2), "{outputs}");
    // As text and back it is the same.
    let exported = scene.run(["config", "export"]).expect(0).stdout();
    assert!(exported.contains("max_runs = 3"), "{exported}");
    assert!(exported.contains(r#"from = ["docs", "photos"]"#), "{exported}");
    let file = scene.path("config.toml");
    std::fs::write(&file, exported.replace("max_runs = 3", "max_runs = 1")).unwrap();
    let import = ["config", "import", file.to_str().unwrap()];
    let mut command = scene.command(import);
    let imported = command.env("NAS_PASSWORD", &password).output().unwrap();
    assert!(imported.status.success(), "{imported:?}");
    let known = scene.run(["connection", "list", "--json"]).expect(0).json();
    let limits: Vec<_> =
        known.as_array().unwrap().iter().map(|it| it["max_runs"].clone()).collect();
    assert_eq!(limits, [Value::Null, Value::Null, 1.into()]);
    let unknown = scene.run(["plan", "set", "daily", "--from", "docs", "--from", "docs"]);
    assert!(unknown.expect(2).stderr().contains("names a connection twice"));
}

#[test]
fn what_is_removed_is_one_document() {
    let scene = Scene::new();
    set_up(&scene);
    for (what, name, kind) in [
        ("plan", "daily", "plan"),
        ("repo", "nas", "repository"),
        ("connection", "docs", "connection"),
    ] {
        let removed = scene.run([what, "rm", name, "--json"]).expect(0).json();
        assert_eq!((&removed["kind"], &removed["name"]), (&kind.into(), &name.into()));
        assert_eq!(removed["removed"], true);
    }
}

#[test]
fn a_followed_run_streams_how_it_stands_and_ends_with_a_summary() {
    let scene = Scene::new();
    set_up(&scene);
    much_to_read(&scene);
    let lines = scene.run(["plan", "run", "daily", "--ndjson"]).expect(0).json_lines();
    let statuses = || lines.iter().filter(|line| line["type"] == "status");
    assert!(statuses().any(|line| line["state"] == "running"), "{lines:?}");
    assert!(statuses().all(|line| line["number"] == 1), "{lines:?}");
    let last = lines.last().unwrap();
    assert_eq!((&last["type"], &last["state"]), (&"summary".into(), &"succeeded".into()));
    assert!(lines.iter().any(|line| line["type"] == "log"), "{lines:?}");
    let silent = scene.run(["plan", "run", "daily", "--ndjson", "--no-progress"]).expect(0);
    assert!(silent.json_lines().iter().all(|line| line["type"] != "status"));
    let table = scene.run(["run", "list"]).expect(0).stdout();
    assert!(table.lines().next().unwrap().contains("TITLE"), "{table}");
}

#[test]
fn a_worker_tells_programs_of_its_runs() {
    use std::io::{BufRead as _, BufReader};
    let scene = Scene::new();
    set_up(&scene);
    // One that nobody executes but a worker.
    std::fs::rename(scene.path("disk"), scene.path("gone")).unwrap();
    scene.run(["plan", "run", "daily"]).expect(10);
    std::fs::rename(scene.path("gone"), scene.path("disk")).unwrap();
    scene.run(["run", "retry", "latest"]).expect(0);
    let mut command = scene.command(["worker", "--ndjson"]);
    let mut worker = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut printed = BufReader::new(worker.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&printed.next().unwrap().unwrap()).unwrap();
    let mut told = next();
    while told["state"] != "succeeded" {
        assert_eq!((&told["type"], &told["number"]), (&"run".into(), &2.into()), "{told}");
        told = next();
    }
    let process = worker.id().to_string();
    let mut kill = std::process::Command::new("kill");
    assert!(kill.args(["-TERM", &process]).status().unwrap().success());
    told = next();
    assert_eq!((&told["type"], &told["executed"]), (&"summary".into(), &1.into()), "{told}");
    assert!(worker.wait().unwrap().success());
}

#[test]
fn a_run_that_rests_for_a_wrong_password_does_not_look_interrupted() {
    let scene = Scene::new();
    set_up(&scene);
    // Somebody has replaced the keys.
    scene.run(["repo", "add", "other", "--connection", "disk", "--path", "other"]).expect(0);
    let keys = scene.path("disk/repo/keys");
    std::fs::remove_dir_all(&keys).unwrap();
    std::fs::rename(scene.path("disk/other/keys"), &keys).unwrap();
    scene.run(["plan", "run", "daily"]).expect(12);
    let run = latest(&scene);
    assert_eq!((&run["state"], &run["pause_reason"]), (&"paused".into(), &"credentials".into()));
}
