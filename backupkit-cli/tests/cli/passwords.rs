//! Where passwords come from, and how they are changed.

use std::process::Stdio;

use crate::scene::{Outcome, PASSWORD, Scene};

/// Runs with these variables and no other password.
fn run_with(scene: &Scene, arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let mut program = scene.command(arguments);
    program.env_remove("BACKUPKIT_PASSWORD");
    program.envs(variables.iter().copied());
    Outcome(program.output().unwrap())
}

#[test]
fn every_source_of_a_password_opens() {
    let scene = Scene::backed_up();
    scene.write("password", format!("{PASSWORD}\n"));
    scene.write("windows", format!("{PASSWORD}\r\n"));
    let list = ["snapshots", "-r", "repo"];
    let command = format!("echo '{PASSWORD}'");
    for variable in [
        ("BACKUPKIT_PASSWORD", PASSWORD),
        ("BACKUPKIT_PASSWORD_FILE", "password"),
        ("BACKUPKIT_PASSWORD_FILE", "windows"),
        ("BACKUPKIT_PASSWORD_COMMAND", "cat password"),
        ("BACKUPKIT_PASSWORD_COMMAND", &command),
    ] {
        run_with(&scene, &list, &[variable]).expect(0);
    }
    let flags = [&list[..], &["--password-file", "password"]].concat();
    run_with(&scene, &flags, &[("BACKUPKIT_PASSWORD", "wrong")]).expect(0);
    let flags = [&list[..], &["--password-command", "cat password"]].concat();
    run_with(&scene, &flags, &[("BACKUPKIT_PASSWORD", "wrong")]).expect(0);
}

#[test]
fn without_a_password_and_a_terminal_the_variables_are_named() {
    let scene = Scene::backed_up();
    let outcome = run_with(&scene, &["snapshots", "-r", "repo"], &[]).expect(2);
    for name in ["BACKUPKIT_PASSWORD,", "BACKUPKIT_PASSWORD_FILE", "BACKUPKIT_PASSWORD_COMMAND"] {
        assert!(outcome.stderr().contains(name), "{}", outcome.stderr());
    }
}

#[test]
fn a_source_that_gives_no_password_is_named() {
    let scene = Scene::backed_up();
    scene.write("empty", "\n");
    for (variable, value, word, code) in [
        ("BACKUPKIT_PASSWORD_FILE", "nowhere", "nowhere", 1),
        ("BACKUPKIT_PASSWORD_FILE", "empty", "empty", 2),
        ("BACKUPKIT_PASSWORD_COMMAND", "echo geheim; exit 7", "7", 1),
        ("BACKUPKIT_PASSWORD_COMMAND", "true", "empty", 2),
    ] {
        let outcome = run_with(&scene, &["snapshots", "-r", "repo"], &[(variable, value)]);
        let outcome = outcome.expect(code);
        assert!(outcome.stderr().contains(word), "{}", outcome.stderr());
        assert!(!outcome.stderr().contains("geheim"), "{}", outcome.stderr());
    }
}

#[test]
fn keys_are_added_listed_changed_and_removed() {
    let scene = Scene::backed_up();
    let opens = |password: &str| {
        let list = ["snapshots", "-r", "repo"];
        run_with(&scene, &list, &[("BACKUPKIT_PASSWORD", password)]).code() == Some(0)
    };
    scene.write("second", "second\n");
    let add = ["repo", "key", "add", "-r", "repo", "--new-password-file", "second", "--json"];
    let second = scene.run(add).expect(0).json();
    assert!(opens(PASSWORD) && opens("second"));

    let keys = scene.run(["repo", "key", "list", "-r", "repo", "--json"]).expect(0).json();
    let keys = keys.as_array().unwrap();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys.iter().filter(|key| key["current"] == true).count(), 1);
    let text = scene.run(["repo", "key", "list", "-r", "repo"]).expect(0).stdout();
    assert_eq!(text.lines().count(), 3, "{text}");

    let mut passwd = scene.command(["repo", "key", "passwd", "-r", "repo"]);
    let changed = passwd.env("BACKUPKIT_NEW_PASSWORD", "third").output().unwrap();
    Outcome(changed).expect(0);
    assert!(!opens(PASSWORD) && opens("second") && opens("third"));

    let id = &second["id"].as_str().unwrap()[..10];
    let rm = ["repo", "key", "rm", id, "-r", "repo"];
    run_with(&scene, &rm, &[("BACKUPKIT_PASSWORD", "second")]).expect(2);
    run_with(&scene, &rm, &[("BACKUPKIT_PASSWORD", "third")]).expect(0);
    assert!(!opens("second") && opens("third"));
}

#[test]
fn a_new_password_needs_a_source_of_its_own() {
    let scene = Scene::backed_up();
    let outcome = scene.run(["repo", "key", "add", "-r", "repo"]).expect(2);
    assert!(outcome.stderr().contains("BACKUPKIT_NEW_PASSWORD_FILE"), "{}", outcome.stderr());
}

#[test]
fn a_new_password_that_nobody_could_see_leaves_no_repository_on_record() {
    for form in [&[][..], &["--json"], &["--ndjson"], &["--quiet"]] {
        let scene = Scene::new();
        scene.run(["connection", "add", "disk", "--folder", "disk"]).expect(0);
        let add = ["repo", "add", "nas", "--connection", "disk", "--path", "repo"];
        let adding = || {
            let mut adding = scene.command(add.iter().chain(form));
            adding.env_remove("BACKUPKIT_PASSWORD").stderr(Stdio::piped());
            adding
        };
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let refused = Outcome(adding().stdout(full).output().unwrap()).expect(1);
        let told = refused.stderr();
        for word in ["no space left", "delete", "disk/repo"] {
            assert!(told.contains(word), "{word}: {told}");
        }
        let listed = scene.run(["repo", "list", "--json"]).expect(0).json();
        assert_eq!(listed.as_array().unwrap().len(), 0, "{listed}");
        std::fs::remove_dir_all(scene.path("disk/repo")).unwrap();
        // Its reader goes away.
        let mut child = adding().stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        Outcome(child.wait_with_output().unwrap()).expect(1);
        let listed = scene.run(["repo", "list", "--json"]).expect(0).json();
        assert_eq!(listed.as_array().unwrap().len(), 0, "{listed}");
    }
}

#[test]
fn a_new_password_comes_with_where_it_opens_what_in_json_too() {
    let scene = Scene::new();
    scene.run(["connection", "add", "disk", "--folder", "disk"]).expect(0);
    let add = ["repo", "add", "nas", "--connection", "disk", "--path", "repo", "--json"];
    let added = run_with(&scene, &add, &[]).expect(0).json();
    let location = scene.path("disk/repo").display().to_string();
    assert_eq!(added["location"], location.as_str(), "{added}");
    let command = added["restore_command"].as_str().unwrap();
    assert!(command.starts_with(&format!("restic -r {location} restore latest")), "{added}");
    let list = ["snapshots", "-r", &location];
    run_with(&scene, &list, &[("BACKUPKIT_PASSWORD", added["password"].as_str().unwrap())])
        .expect(0);
}
