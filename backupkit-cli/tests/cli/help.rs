//! Help, version and completions.

use std::process::Command;

use crate::scene::Scene;

/// All commands, as the help of each tells those below it.
fn commands(scene: &Scene) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut seen = 0;
    while let Some(command) = all.get(seen).cloned() {
        seen += 1;
        let help = scene.run(command.iter().map(String::as_str).chain(["-h"])).expect(0).stdout();
        let below = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        for line in below.take_while(|line| !line.is_empty()) {
            // A description that goes on stands further to the right.
            if line.starts_with("  ") && !line.starts_with("   ") {
                let name = line.split_whitespace().next().unwrap().to_owned();
                all.push(command.iter().cloned().chain([name]).collect());
            }
        }
    }
    assert!(all.len() > 40, "{all:?}");
    all
}

#[test]
fn help_of_every_command_fits_eighty_columns() {
    let scene = Scene::new();
    for command in commands(&scene) {
        for flag in ["-h", "--help"] {
            let outcome = scene.run(command.iter().map(String::as_str).chain([flag])).expect(0);
            assert!(outcome.stdout().contains("Usage: backupkit"), "{command:?}");
            assert_eq!(outcome.stderr(), "");
            for line in outcome.stdout().lines() {
                assert!(line.chars().count() <= 80, "{command:?}: {line}");
            }
        }
    }
}

#[test]
fn help_never_shows_what_is_in_variables() {
    let scene = Scene::new();
    for command in [&["snapshots", "--help"][..], &["--help"]] {
        let mut program = scene.command(command);
        program.env("BACKUPKIT_REPOSITORY", "rest:https://user:geheim@host/");
        program.env("BACKUPKIT_PASSWORD", "geheim");
        let shown = String::from_utf8(program.output().unwrap().stdout).unwrap();
        assert!(!shown.contains("geheim"), "{shown}");
    }
}

#[test]
fn without_a_command_there_is_help_and_wrong_usage() {
    let outcome = Scene::new().run([] as [&str; 0]).expect(2);
    assert!(outcome.stderr().contains("Usage:"));
    assert_eq!(outcome.stdout(), "");
}

#[test]
fn the_version_is_told_in_both_forms() {
    let scene = Scene::new();
    let version = env!("CARGO_PKG_VERSION");
    assert!(scene.run(["version"]).expect(0).stdout().contains(version));
    assert!(scene.run(["--version"]).expect(0).stdout().contains(version));
    let json = scene.run(["version", "--json"]).expect(0).json();
    assert_eq!(json["version"], version);
    assert_eq!(json["repository_format"], 2);
}

#[test]
fn completions_are_made_for_every_shell() {
    let scene = Scene::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = scene.run(["completions", shell]).expect(0).stdout();
        assert!(script.contains("backupkit") && script.contains("snapshots"), "{shell}");
    }
}

#[test]
fn bash_reads_its_completions() {
    let scene = Scene::new();
    let script = scene.run(["completions", "bash"]).expect(0).stdout();
    scene.write("completions.bash", script);
    match Command::new("bash").arg("-n").arg(scene.path("completions.bash")).output() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => eprintln!("skipped: no bash: {error}"),
    }
}
