//! `version`.

use serde::Serialize;

use crate::app::App;
use crate::exit::Exit;

#[derive(Serialize)]
struct Version {
    version: &'static str,
    /// The version of the repository format that is written.
    repository_format: u32,
    os: &'static str,
    arch: &'static str,
}

pub(super) fn run(app: &App<'_>) -> Exit {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        repository_format: 2,
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
    };
    let Version { version: number, os, arch, .. } = &version;
    app.output.line(format!("backupkit {number} ({os} {arch}), restic repository format 2"));
    app.output.document("version", &version);
    Exit::Success
}
