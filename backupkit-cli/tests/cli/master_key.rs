//! The key of the secrets in the state: changed, and kept elsewhere.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use crate::plans::set_up;
use crate::scene::{Outcome, Scene};

fn key_file(scene: &Scene) -> PathBuf {
    let files = scene.files("");
    scene.path(files.into_iter().find(|file| file.ends_with("state.db.key")).unwrap())
}

fn generate(scene: &Scene) -> String {
    let made = scene.run(["key", "generate"]).expect(0).stdout();
    assert!(made.starts_with("backupkit-key-1:"), "{made}");
    made.trim().to_owned()
}

fn with_key(scene: &Scene, keys: &str, arguments: &[&str]) -> Outcome {
    let mut command = scene.command(arguments);
    Outcome(command.env("BACKUPKIT_MASTER_KEY", keys).output().unwrap())
}

#[test]
fn a_changed_master_key_opens_everything_and_the_former_one_nothing() {
    let scene = Scene::new();
    set_up(&scene);
    let file = key_file(&scene);
    let former = std::fs::read_to_string(&file).unwrap();
    let rotated = scene.run(["key", "rotate", "--json"]).expect(0).json();
    assert_eq!(rotated["rewrapped"], 1, "{rotated}");
    let now = std::fs::read_to_string(&file).unwrap();
    assert_eq!(now.lines().count(), 1);
    assert!(now.contains(rotated["key_id"].as_str().unwrap()), "not in the file");
    assert_ne!(now, former);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    scene.run(["plan", "run", "daily"]).expect(0);
    scene.run(["repo", "test", "nas"]).expect(0);
    std::fs::write(&file, &former).unwrap();
    let refused = scene.run(["plan", "run", "daily"]).expect(2).stderr();
    assert!(refused.contains("master key"), "{refused}");
    std::fs::write(&file, &now).unwrap();
    let text = scene.run(["key", "rotate"]).expect(0);
    let key = now.trim().rsplit(':').next().unwrap();
    assert!(!text.stdout().contains(key) && !text.stderr().contains(key));
    scene.run(["plan", "run", "daily"]).expect(0);
}

#[test]
fn a_rotation_that_is_killed_leaves_everything_readable() {
    let scene = Scene::new();
    set_up(&scene);
    let names = ["nas", "one", "two", "three"];
    for name in &names[1..] {
        scene.run(["repo", "add", name, "--connection", "disk", "--path", name]).expect(0);
    }
    let file = key_file(&scene);
    let keys = || std::fs::read_to_string(&file).unwrap().lines().count();
    let mut interrupted = 0;
    for _ in 0..8 {
        let before = keys();
        let mut rotating = scene.command(["key", "rotate"]);
        let rotating = rotating.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut rotating = rotating.unwrap();
        // Until it is in the middle, or through.
        while keys() == before && rotating.try_wait().unwrap().is_none() {}
        rotating.kill().unwrap();
        rotating.wait().unwrap();
        interrupted += u32::from(keys() > 1);
        for name in ["nas", "three"] {
            scene.run(["repo", "test", name]).expect(0);
        }
    }
    assert!(interrupted > 0, "it was never in the middle");
    scene.run(["key", "rotate"]).expect(0);
    assert_eq!(keys(), 1);
    for name in names {
        scene.run(["repo", "test", name]).expect(0);
    }
    scene.run(["plan", "run", "daily"]).expect(0);
}

#[test]
fn racing_rotations_and_other_commands_lose_nothing() {
    let scene = Scene::new();
    set_up(&scene);
    let spawn = |arguments: &[&str]| {
        let mut command = scene.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for round in 0..5 {
        let rotating: Vec<_> = (0..3).map(|_| spawn(&["key", "rotate"])).collect();
        let name = format!("more-{round}");
        let adding = spawn(&["repo", "add", &name, "--connection", "disk", "--path", &name]);
        let testing = spawn(&["repo", "test", "nas"]);
        for rotated in rotating {
            let outcome = Outcome(rotated.wait_with_output().unwrap());
            let told = outcome.stderr();
            let is_overtaken = outcome.code() == Some(1) && told.contains("another process");
            assert!(outcome.code() == Some(0) || is_overtaken, "round {round}: {told}");
        }
        for other in [adding, testing] {
            Outcome(other.wait_with_output().unwrap()).expect(0);
        }
        for name in ["nas", &name] {
            scene.run(["repo", "test", name]).expect(0);
        }
    }
    // However the races ended, one more leaves one key.
    scene.run(["key", "rotate"]).expect(0);
    assert_eq!(std::fs::read_to_string(key_file(&scene)).unwrap().lines().count(), 1);
    scene.run(["plan", "run", "daily"]).expect(0);
}

#[test]
fn a_key_of_ones_own_is_changed_with_both_at_hand() {
    let scene = Scene::new();
    let (one, two) = (generate(&scene), generate(&scene));
    with_key(&scene, &one, &["connection", "add", "disk", "--folder", "disk"]).expect(0);
    let add = ["repo", "add", "nas", "--connection", "disk"];
    with_key(&scene, &one, &add).expect(0);
    let refused = with_key(&scene, &one, &["key", "rotate"]).expect(1).stderr();
    for word in ["kept elsewhere", "key generate", "BACKUPKIT_MASTER_KEY"] {
        assert!(refused.contains(word), "{word}: {refused}");
    }
    with_key(&scene, &two, &["repo", "test", "nas"]).expect(2);
    let both = format!("{two} {one}");
    with_key(&scene, &both, &["repo", "test", "nas"]).expect(0);
    let told = with_key(&scene, &both, &["key", "rotate"]).expect(0).stdout();
    assert!(told.contains("former keys"), "{told}");
    with_key(&scene, &two, &["repo", "test", "nas"]).expect(0);
    with_key(&scene, &one, &["repo", "test", "nas"]).expect(2);
    assert!(!scene.files("").iter().any(|file| file.ends_with("state.db.key")));
}

#[test]
fn a_key_file_that_several_states_share_is_changed_by_hand() {
    let scene = Scene::new();
    let former = generate(&scene);
    scene.write("shared.key", format!("{former}\n"));
    let states = ["a.db", "b.db"];
    let test = |state: &str| scene.run(["repo", "test", state, "--state", state]);
    for state in states {
        let link = scene.path(format!("{state}.key"));
        std::os::unix::fs::symlink("shared.key", link).unwrap();
        let disk = ["connection", "add", "disk", "--folder", "disk", "--state", state];
        scene.run(disk).expect(0);
        let add = ["repo", "add", state, "--connection", "disk", "--path", state];
        scene.run(add.into_iter().chain(["--state", state])).expect(0);
    }
    let rotate = |state: &str| scene.run(["key", "rotate", "--state", state]);
    let refused = rotate("a.db").expect(1).stderr();
    for word in ["kept elsewhere", "key generate", "a.db.key"] {
        assert!(refused.contains(word), "{word}: {refused}");
    }
    let kept = std::fs::read_to_string(scene.path("shared.key")).unwrap();
    assert_eq!(kept.trim(), former);
    for state in states {
        test(state).expect(0);
    }
    let new = generate(&scene);
    scene.write("shared.key", format!("{new} {former}\n"));
    for state in states {
        rotate(state).expect(0);
    }
    scene.write("shared.key", format!("{new}\n"));
    for state in states {
        test(state).expect(0);
    }
}

#[test]
fn a_command_gives_the_master_key() {
    let scene = Scene::new();
    let key = generate(&scene);
    scene.write("secret-key", format!("{key}\n"));
    let option = ["--master-key-command", "cat secret-key"];
    let add = ["connection", "add", "disk", "--folder", "disk"];
    scene.run(option.into_iter().chain(add)).expect(0);
    let add = ["repo", "add", "nas", "--connection", "disk"];
    let mut command = scene.command(add);
    command.env("BACKUPKIT_MASTER_KEY_COMMAND", "cat secret-key");
    Outcome(command.output().unwrap()).expect(0);
    scene.run(option.into_iter().chain(["repo", "test", "nas"])).expect(0);
    let failing = ["--master-key-command", "exit 3", "repo", "test", "nas"];
    let failed = scene.run(failing).expect(1).stderr();
    assert!(failed.contains("master key command failed"), "{failed}");
    let missing = scene.run(["repo", "test", "nas"]).expect(2).stderr();
    assert!(missing.contains("state.db.key"), "{missing}");
}

#[test]
fn a_key_that_will_not_do_makes_no_state() {
    let scene = Scene::new();
    with_key(&scene, "nonsense", &["connection", "list"]).expect(2);
    scene.run(["connection", "list"]).expect(0);
}
