//! `cargo xtask lint`: everything that is checked without running the program.

use std::fs;

use crate::step::{cargo, run as run_command, step, workspace_root};
use crate::{Outcome, deny, tidy};

pub(crate) fn run() -> Outcome {
    step("tidy", tidy::check)?;
    step("formatting", || run_command(cargo().args(["fmt", "--all", "--check"])))?;
    step("clippy, all features", || clippy(&["--workspace", "--all-features", "--all-targets"]))?;
    for package in ["backupkit-core", "backupkit"] {
        step(&format!("clippy, {package} without features"), || one_feature(package, None))?;
        for feature in features_of(package)? {
            step(&format!("clippy, {package} with {feature} alone"), || {
                one_feature(package, Some(&feature))
            })?;
        }
    }
    step("fuzz targets", || {
        run_command(cargo().args(["check", "--locked", "--manifest-path", "fuzz/Cargo.toml"]))
    })?;
    step("documentation", || {
        let mut command = cargo();
        command.args(["doc", "--no-deps", "--workspace", "--all-features"]);
        run_command(command.env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    step("licences, bans and sources of dependencies", deny::check)
}

fn one_feature(package: &str, feature: Option<&str>) -> Outcome {
    let mut arguments = vec!["--package", package, "--no-default-features"];
    if let Some(feature) = feature {
        arguments.extend(["--features", feature]);
    }
    // The tests of the facade ask for features of their own, which would hide what is missing here.
    arguments.push(if package == "backupkit" { "--lib" } else { "--all-targets" });
    clippy(&arguments)
}

fn clippy(arguments: &[&str]) -> Outcome {
    run_command(cargo().arg("clippy").args(arguments).args(["--", "-D", "warnings"]))
}

/// Read from the manifest, so that a new feature is checked without anybody remembering to.
fn features_of(package: &str) -> Outcome<Vec<String>> {
    let folder = if package == "backupkit" { "." } else { package };
    let path = workspace_root().join(folder).join("Cargo.toml");
    let manifest =
        fs::read_to_string(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
    Ok(features_in(&manifest))
}

fn features_in(manifest: &str) -> Vec<String> {
    manifest
        .lines()
        .skip_while(|line| line.trim() != "[features]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim())
        .filter(|name| *name != "default" && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_without_the_default_and_other_tables() {
        let manifest = "[package]\nname = \"x\"\n\n[features]\ndefault = [\"fs\"]\n# why = 1\n\
                        fs = [\"dep:fs\"]\ntesting = []\n\n[dependencies]\nbytes = \"1\"\n";
        assert_eq!(features_in(manifest), ["fs", "testing"]);
        assert_eq!(features_in("[package]\nname = \"x\"\n"), [""; 0]);
    }
}
