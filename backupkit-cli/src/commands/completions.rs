//! `completions`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::app::App;
use crate::cli::Cli;
use crate::exit::Exit;

pub(super) fn run(app: &App<'_>, shell: Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "backupkit", &mut script);
    app.output.bytes(&script);
    Exit::Success
}
