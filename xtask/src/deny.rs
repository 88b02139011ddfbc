//! cargo-deny: what `deny.toml` says about licences, bans and sources.

use std::path::PathBuf;
use std::process::Command;

use crate::step::{cargo, output_of, run};
use crate::{Outcome, cache};

/// Pinned, because a newer one may read `deny.toml` otherwise.
const VERSION: &str = "0.20.2";

pub(crate) fn check() -> Outcome {
    let program = find()?;
    let mut command = Command::new(program);
    command.current_dir(crate::step::workspace_root());
    // No advisories: their data cannot be fetched everywhere.
    run(command.args(["--workspace", "check", "licenses", "bans", "sources"]))
}

fn find() -> Outcome<PathBuf> {
    let tools = cache::folder("tools")?;
    let own = tools.join("bin").join("cargo-deny");
    for candidate in [own.clone(), PathBuf::from("cargo-deny")] {
        if is_right(&candidate) {
            return Ok(candidate);
        }
    }
    let mut install = cargo();
    install.args(["install", "cargo-deny", "--locked", "--no-default-features", "--debug"]);
    install.arg("--version").arg(format!("={VERSION}")).arg("--root").arg(&tools);
    // Not into the target folder of the workspace: it is needed once.
    let build = tools.join("build");
    run(install.env("CARGO_TARGET_DIR", &build))?;
    cache::remove(&build)?;
    if is_right(&own) {
        Ok(own)
    } else {
        Err("cargo-deny was installed but does not run".to_owned())
    }
}

fn is_right(program: &PathBuf) -> bool {
    output_of(Command::new(program).arg("--version"))
        .is_ok_and(|version| version == format!("cargo-deny {VERSION}"))
}
