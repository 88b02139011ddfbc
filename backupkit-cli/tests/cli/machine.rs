//! The state belongs to one machine.

use std::process::{Child, Command, Output, Stdio};

use crate::plans::set_up;
use crate::scene::Scene;

/// The program on another machine.
fn elsewhere(scene: &Scene, arguments: &[&str]) -> Command {
    let mut command = scene.command(arguments);
    command.env("BACKUPKIT_MACHINE_ID", "another one");
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until the worker says that it waits, then ends it as a service manager does.
fn stop(mut worker: Child) -> Output {
    use std::io::{BufRead as _, BufReader};
    let mut stderr = BufReader::new(worker.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("waiting for runs"), "{line}");
    let process = worker.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &process]).status().unwrap().success());
    worker.wait_with_output().unwrap()
}

#[test]
fn another_machine_is_refused_until_it_takes_the_state_over() {
    let scene = Scene::new();
    set_up(&scene);
    for arguments in
        [&["plan", "run", "daily"][..], &["plan", "list"], &["run", "list"], &["worker"]]
    {
        let refused = elsewhere(&scene, arguments).output().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
        let told = stderr(&refused);
        assert!(told.contains("another machine") && told.contains("--take-over"), "{told}");
        assert!(told.contains("state.db"), "{told}");
    }
    scene.run(["plan", "run", "daily"]).expect(0);
    let mut taking = elsewhere(&scene, &["worker", "--take-over"]);
    let worker = taking.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(stop(worker).status.code(), Some(0));
    assert!(elsewhere(&scene, &["plan", "run", "daily"]).output().unwrap().status.success());
    let refused = scene.run(["plan", "list"]).expect(1).stderr();
    assert!(refused.contains("another machine"), "{refused}");
}

#[test]
fn a_refused_machine_leaves_the_state_as_it_was() {
    let scene = Scene::new();
    set_up(&scene);
    elsewhere(&scene, &["connection", "rm", "docs"]).output().unwrap();
    elsewhere(&scene, &["connection", "add", "x", "--folder", "src"]).output().unwrap();
    let listed = scene.run(["connection", "list", "--json"]).expect(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
}

#[test]
fn a_machine_without_the_key_takes_nothing_over() {
    let scene = Scene::new();
    set_up(&scene);
    let key = scene.run(["key", "generate"]).expect(0).stdout();
    let mut taking = elsewhere(&scene, &["worker", "--take-over"]);
    let refused = taking.env("BACKUPKIT_MASTER_KEY", key.trim()).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("master key"), "{}", stderr(&refused));
    scene.run(["plan", "run", "daily"]).expect(0);
    let refused = elsewhere(&scene, &["plan", "list"]).output().unwrap();
    assert!(stderr(&refused).contains("another machine"), "{}", stderr(&refused));
}
