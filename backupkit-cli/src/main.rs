//! The `backupkit` program: it parses a command, calls the engine once, and prints what comes back.

mod app;
#[cfg(feature = "s3")]
mod bucket;
mod cli;
mod commands;
mod environment;
mod exit;
mod machine;
mod master_keys;
mod moment;
mod output;
mod password;
mod secret_source;
mod signals;
mod state;
mod uri;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    app::main(&environment::Environment::read())
}
