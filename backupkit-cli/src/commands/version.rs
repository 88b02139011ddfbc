//! `version`.

use serde::Serialize;

use crate::app::App;
use crate::exit::Exit;

#[derive(Serialize)]
struct Built {
    version: &'static str,
    /// The version of the repository format that is written.
    repository_format: u32,
    os: &'static str,
    arch: &'static str,
}

pub(super) fn run(app: &App<'_>) -> Exit {
    let built = Built {
        version: env!("CARGO_PKG_VERSION"),
        repository_format: 2,
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
    };
    let Built { version, os, arch, .. } = &built;
    app.output.line(format!("backupkit {version} ({os} {arch}), restic repository format 2"));
    app.output.document("version", &built);
    Exit::Success
}
