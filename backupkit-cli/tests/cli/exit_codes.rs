//! Every promised exit code that can be provoked from outside.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::scene::{FOREIGN_LOCK, FOREIGN_LOCK_ID, Outcome, Scene};

/// A user who may do nothing special.
const NOBODY: u32 = 65534;

/// Runs the program so that permissions bind it, also where tests run as root.
fn run_bound(scene: &Scene, arguments: &[&str]) -> Outcome {
    let ours = scene.command(arguments);
    if !rustix::process::geteuid().is_root() {
        let mut ours = ours;
        return Outcome(ours.output().unwrap());
    }
    // Nobody may not look into the folder where programs are built.
    let program = scene.path("backupkit");
    if !program.exists() {
        // By another process: a file that this one has open for writing cannot be run, nor while a
        // child of another test has inherited it.
        let copied = Command::new("cp").arg(ours.get_program()).arg(&program).status().unwrap();
        assert!(copied.success());
    }
    for path in [scene.path(""), scene.path("src"), scene.path("home")] {
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    }
    let mut bound = Command::new(program);
    scene.clean(&mut bound).args(arguments).uid(NOBODY).gid(NOBODY);
    Outcome(bound.output().unwrap())
}

fn lock_out(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(1), Some(1)).unwrap();
    }
}

fn let_in(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn success_is_0() {
    let scene = Scene::backed_up();
    scene.run(["backup", "src", "--to", "repo"]).expect(0);
    scene.run(["check", "-r", "repo", "--read-data"]).expect(0);
}

#[test]
fn a_missing_source_is_1_and_makes_nothing() {
    let scene = Scene::new();
    let outcome = scene.run(["backup", "nope", "--to", "repo", "--init"]).expect(1);
    assert!(outcome.stderr().contains("nope"), "{}", outcome.stderr());
    assert!(!scene.path("repo").exists());
}

#[test]
fn a_missing_snapshot_or_path_is_1() {
    let scene = Scene::backed_up();
    for snapshot in ["00000000", "latest:/nope", "latest:/src/a.txt/b"] {
        let outcome = scene.run(["cat", &format!("{snapshot}:/x"), "-r", "repo"]).expect(1);
        assert!(outcome.stderr().starts_with("error: "), "{}", outcome.stderr());
        scene.run(["ls", snapshot, "-r", "repo"]).expect(1);
        scene.run(["restore", snapshot, "-r", "repo", "--to", "out"]).expect(1);
    }
}

#[test]
fn a_repository_that_is_there_already_is_1() {
    let scene = Scene::backed_up();
    let outcome = scene.run(["repo", "init", "-r", "repo"]).expect(1);
    assert!(outcome.stderr().contains("already"), "{}", outcome.stderr());
}

#[test]
fn wrong_usage_is_2() {
    let scene = Scene::backed_up();
    for arguments in [
        &["backup", "src"][..],
        &["backup", "--to", "repo"],
        &["snapshots"],
        &["restore", "latest", "-r", "repo"],
        &["restore", "newest", "-r", "repo", "--to", "out"],
        &["cat", "latest", "-r", "repo"],
        &["backup", "src", "--to", "repo", "--memory", "lots"],
        &["backup", "src", "--to", "repo", "--memory", "1KiB"],
        &["backup", "src", "--to", "repo", "--compression-level", "23"],
        &["backup", "src", "--to", "repo", "--own-polynomial"],
        &["backup", "src", "--to", "repo", "--to", "./repo"],
        &["check", "-r", "repo", "--read-data=8/7"],
        &["run", "show", "abc"],
        &["maintenance", "set", "--logs", "0"],
        &["connection", "add", " ", "--folder", "src"],
        &["nonsense"],
    ] {
        let outcome = scene.run(arguments).expect(2);
        assert!(outcome.stderr().starts_with("error: "), "{arguments:?}: {}", outcome.stderr());
        assert_eq!(outcome.stdout(), "", "{arguments:?}");
    }
}

#[test]
fn unreadable_entries_are_3_and_named() {
    let scene = Scene::new();
    scene.write("src/secret", "x");
    lock_out(&scene.path("src/secret"));
    let outcome = run_bound(&scene, &["backup", "src", "--to", "repo", "--init"]).expect(3);
    assert!(outcome.stderr().contains("/src/secret"), "{}", outcome.stderr());
    assert!(outcome.stdout().contains("1 NOT backed up"), "{}", outcome.stdout());
    let outcome = run_bound(&scene, &["backup", "src", "--to", "repo", "--json"]).expect(3);
    let report = outcome.json();
    assert_eq!(report["status"], "warnings");
    assert_eq!(report["problems"][0]["path"], "/src/secret");
}

#[test]
fn a_missing_source_among_others_is_3() {
    let scene = Scene::new();
    let outcome = scene.run(["backup", "src", "nope", "--to", "repo", "--init"]).expect(3);
    assert!(outcome.stderr().contains("/nope"), "{}", outcome.stderr());
}

#[test]
fn no_repository_is_10_and_asks_for_no_password() {
    let scene = Scene::new();
    for arguments in [
        &["backup", "src", "--to", "repo"][..],
        &["snapshots", "-r", "repo"],
        &["check", "-r", "repo"],
        &["repo", "key", "list", "-r", "repo"],
    ] {
        let mut program = scene.command(arguments);
        let outcome = Outcome(program.env_remove("BACKUPKIT_PASSWORD").output().unwrap());
        let outcome = outcome.expect(10);
        assert!(outcome.stderr().contains("there is no repository"), "{}", outcome.stderr());
        assert!(!scene.path("repo").exists());
    }
}

#[test]
fn a_lock_of_somebody_else_is_11_until_it_is_removed() {
    let scene = Scene::backed_up();
    // What cannot be read may be exclusive.
    scene.write(&format!("repo/locks/{FOREIGN_LOCK_ID}"), FOREIGN_LOCK);
    let outcome = scene.run(["backup", "src", "--to", "repo"]).expect(11);
    assert!(outcome.stderr().contains("locked"), "{}", outcome.stderr());
    assert!(outcome.stderr().contains("repo unlock"), "{}", outcome.stderr());
    scene.run(["repo", "unlock", "-r", "repo"]).expect(0);
    scene.run(["backup", "src", "--to", "repo"]).expect(11);
    let removed = scene.run(["repo", "unlock", "--all", "-r", "repo", "--json"]).expect(0);
    assert_eq!(removed.json()["removed"].as_array().unwrap().len(), 1);
    scene.run(["backup", "src", "--to", "repo"]).expect(0);
}

#[test]
fn a_wrong_password_is_12() {
    let scene = Scene::backed_up();
    for arguments in [&["snapshots", "-r", "repo"][..], &["backup", "src", "--to", "repo"]] {
        let mut program = scene.command(arguments);
        let outcome = Outcome(program.env("BACKUPKIT_PASSWORD", "battery").output().unwrap());
        let outcome = outcome.expect(12);
        assert!(outcome.stderr().contains("password"), "{}", outcome.stderr());
    }
}

#[test]
fn a_damaged_config_is_13() {
    let scene = Scene::backed_up();
    flip_a_byte(&scene.path("repo/config"));
    let outcome = scene.run(["snapshots", "-r", "repo"]).expect(13);
    assert!(outcome.stderr().contains("config"), "{}", outcome.stderr());
}

#[test]
fn a_damaged_snapshot_is_13_and_named_and_the_others_are_listed() {
    let scene = Scene::backed_up();
    let damaged = scene.files("repo/snapshots").remove(0);
    scene.run(["backup", "src", "--to", "repo"]).expect(0);
    flip_a_byte(&damaged);
    let name = damaged.file_name().unwrap().to_string_lossy().into_owned();
    let outcome = scene.run(["snapshots", "-r", "repo"]).expect(13);
    assert!(outcome.stderr().contains(&name), "{name}: {}", outcome.stderr());
    assert!(outcome.stdout().contains("1 snapshot"), "{}", outcome.stdout());
    let outcome = scene.run(["repo", "info", "-r", "repo"]).expect(13);
    assert!(outcome.stderr().contains(&name), "{name}: {}", outcome.stderr());
    assert!(outcome.stdout().contains("Snapshots"), "{}", outcome.stdout());
}

#[test]
fn a_damaged_pack_is_13_and_named() {
    let scene = Scene::backed_up();
    let packs = scene.files("repo/data");
    for pack in &packs {
        flip_a_byte(pack);
    }
    let outcome = scene.run(["check", "-r", "repo", "--read-data"]).expect(13);
    let name = packs[0].file_name().unwrap().to_string_lossy().into_owned();
    assert!(outcome.stderr().contains(&name[..8]), "{name}: {}", outcome.stderr());
    assert!(outcome.stdout().contains("DAMAGED"), "{}", outcome.stdout());
    let report = scene.run(["check", "-r", "repo", "--read-data", "--json"]).expect(13).json();
    assert_eq!(report["clean"], false);
    assert!(report["finding_count"].as_u64().unwrap() > 0);
}

/// What lies below `what`, backed up by a plan into repository `nas`.
fn backed_up_by_plan(scene: &Scene, what: &str) {
    scene.run(["connection", "add", "docs", "--folder", what]).expect(0);
    scene.run(["connection", "add", "disk", "--folder", "disk"]).expect(0);
    scene.run(["repo", "add", "nas", "--connection", "disk", "--path", "repo"]).expect(0);
    scene.run(["plan", "create", "daily", "--from", "docs", "--to", "nas"]).expect(0);
    scene.run(["plan", "run", "daily"]).expect(0);
}

/// Both kinds of restore.
fn restores() -> [Vec<&'static str>; 2] {
    [
        vec!["restore", "latest", "-r", "disk/repo", "--to", "one"],
        vec!["repo", "restore", "nas", "latest", "--to", "two"],
    ]
}

#[test]
fn a_damaged_file_is_13_for_both_kinds_of_restore() {
    let scene = Scene::new();
    scene.write("src/large", (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    backed_up_by_plan(&scene, "src");
    let packs = scene.files("disk/repo/data").into_iter();
    flip_a_byte(&packs.max_by_key(|pack| pack.metadata().unwrap().len()).unwrap());
    for restore in restores() {
        scene.run(restore).expect(13);
    }
    scene.run(["run", "wait", "latest"]).expect(13);
}

#[test]
fn a_damaged_directory_is_13_for_both_kinds_of_restore() {
    let scene = Scene::new();
    // Only directories, so that there are only packs of them.
    fs::create_dir_all(scene.path("only/a/b")).unwrap();
    for folder in ["only", "only/a", "only/a/b"] {
        std::os::unix::fs::symlink("x", scene.path(folder).join("link")).unwrap();
    }
    backed_up_by_plan(&scene, "only");
    // A directory is stored before the one above it.
    let [pack] = scene.files("disk/repo/data").try_into().unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[20] ^= 1;
    fs::set_permissions(&pack, Permissions::from_mode(0o600)).unwrap();
    fs::write(&pack, bytes).unwrap();
    for restore in restores() {
        scene.run(restore).expect(13);
    }
}

#[test]
fn a_plan_without_its_repository_is_10() {
    let scene = Scene::new();
    backed_up_by_plan(&scene, "src");
    fs::remove_dir_all(scene.path("disk")).unwrap();
    for arguments in
        [&["plan", "run", "daily"][..], &["repo", "restore", "nas", "latest", "--to", "x"]]
    {
        scene.run(arguments).expect(10);
    }
    scene.run(["run", "wait", "latest"]).expect(10);
}

#[test]
fn a_repository_that_may_not_be_read_is_14() {
    let scene = Scene::new();
    run_bound(&scene, &["backup", "src", "--to", "repo", "--init"]).expect(0);
    lock_out(&scene.path("repo"));
    for arguments in [&["snapshots", "-r", "repo"][..], &["backup", "src", "--to", "repo"]] {
        let outcome = run_bound(&scene, arguments).expect(14);
        assert!(outcome.stderr().contains("permission denied"), "{}", outcome.stderr());
    }
    let_in(&scene.path("repo"));
}

#[test]
fn an_error_in_json_says_code_message_hint_and_exit() {
    let scene = Scene::new();
    for form in ["--json", "--ndjson"] {
        let outcome = scene.run(["snapshots", "-r", "repo", form]).expect(10);
        let error = outcome.json_error();
        assert_eq!(outcome.stdout(), "");
        assert_eq!(error["type"], "error");
        assert_eq!(error["code"], "repository-not-found");
        assert_eq!(error["exit"], 10);
        assert!(error["message"].as_str().unwrap().contains("repo"));
        assert!(error["hint"].is_string());
        let both = scene.run(["snapshots", "--json", "--ndjson"]).expect(2).json_error();
        assert_eq!(both["code"], "usage");
        let usage = scene.run(["snapshots", "--nope", form]).expect(2).json_error();
        assert_eq!((usage["type"].as_str(), usage["exit"].as_u64()), (Some("error"), Some(2)));
    }
}
