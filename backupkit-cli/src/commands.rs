//! The commands: parse, one call to the engine, print.

mod backup;
mod cat;
mod check;
mod completions;
mod ls;
mod repo;
mod restore;
mod snapshots;
mod version;

use backupkit_core::Result;

use crate::app::App;
use crate::cli::{Command, KeyCommand, RepoCommand};
use crate::exit::Exit;

/// Runs one command.
pub(crate) async fn run(app: &App<'_>, command: Command) -> Result<Exit> {
    match command {
        Command::Backup(arguments) => Box::pin(backup::run(app, arguments)).await,
        Command::Restore(arguments) => Box::pin(restore::run(app, arguments)).await,
        Command::Snapshots(arguments) => snapshots::run(app, arguments).await,
        Command::Ls(arguments) => Box::pin(ls::run(app, arguments)).await,
        Command::Cat(arguments) => Box::pin(cat::run(app, arguments)).await,
        Command::Check(arguments) => Box::pin(check::run(app, arguments)).await,
        Command::Repo(command) => match command {
            RepoCommand::Init { repository, polynomial_of } => {
                repo::init(app, &repository, polynomial_of.as_deref()).await
            }
            RepoCommand::Info { repository } => repo::info(app, &repository).await,
            RepoCommand::Unlock { repository, all } => repo::unlock(app, &repository, all).await,
            RepoCommand::Key(command) => match command {
                KeyCommand::Add { repository, new_password } => {
                    repo::key::add(app, &repository, new_password).await
                }
                KeyCommand::List { repository } => repo::key::list(app, &repository).await,
                KeyCommand::Rm { key, repository } => repo::key::rm(app, &key, &repository).await,
                KeyCommand::Passwd { repository, new_password } => {
                    repo::key::passwd(app, &repository, new_password).await
                }
            },
        },
        Command::Completions { shell } => Ok(completions::run(app, shell)),
        Command::Version => Ok(version::run(app)),
    }
}
