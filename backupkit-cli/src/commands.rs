//! The commands: parse, one call to the engine, print.

mod backup;
mod cat;
mod check;
mod completions;
mod config;
mod connection;
mod listing;
mod ls;
mod maintenance;
mod master_key;
mod plan;
mod probe;
mod repo;
mod restore;
mod runs;
mod snapshots;
mod version;

use backupkit_core::Result;
use backupkit_core::manage::PlanChange;
use backupkit_core::model::Wanted;

use crate::app::App;
use crate::cli::{
    Command, ConfigCommand, ConnectionCommand, KeyCommand, MaintenanceCommand, MasterKeyCommand,
    PlanCommand, RepoCommand, RunCommand,
};
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
            RepoCommand::Extend { repository, dry_run } => {
                Box::pin(repo::extend::run(app, &repository, dry_run)).await
            }
            RepoCommand::Add { name, connection, path } => {
                repo::set_up::add(app, &name, &connection, &path).await
            }
            RepoCommand::List => repo::set_up::list(app).await,
            RepoCommand::Set { name, new_name, connection, path, password } => {
                let change = repo::set_up::Change { name: new_name, connection, path, password };
                Box::pin(repo::set_up::set(app, &name, change)).await
            }
            RepoCommand::Test { name } => Box::pin(repo::set_up::test(app, &name)).await,
            RepoCommand::Rm { name } => repo::set_up::rm(app, &name).await,
            RepoCommand::Restore { name, snapshot, target, how } => {
                Box::pin(restore::run_named(app, &name, &snapshot, &target, &how)).await
            }
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
        Command::Connection(command) => match command {
            ConnectionCommand::Add { name, folder, bucket, max_runs } => {
                let address = folder.or(bucket).unwrap_or_default();
                connection::add(app, &name, &address, max_runs).await
            }
            ConnectionCommand::List => connection::list(app).await,
            ConnectionCommand::Set { name, new_name, folder, bucket, max_runs } => {
                connection::set(app, &name, new_name, folder.or(bucket).as_deref(), max_runs).await
            }
            ConnectionCommand::Test { name, purpose } => {
                connection::test(app, &name, purpose.map(Into::into)).await
            }
            ConnectionCommand::Policy { name, bucket, purpose } => {
                connection::policy(app, name.as_deref(), bucket.as_deref(), purpose.into()).await
            }
            ConnectionCommand::Rm { name } => connection::rm(app, &name).await,
        },
        Command::Plan(command) => match command {
            PlanCommand::Create { name, from, to, tags } => {
                plan::create(app, &name, &from, &to, tags).await
            }
            PlanCommand::List => plan::list(app).await,
            PlanCommand::Set { name, new_name, from, to, tags, no_tags } => {
                let tags = (no_tags || !tags.is_empty()).then_some(tags);
                let repositories = (!to.is_empty()).then_some(to);
                let sources = (!from.is_empty()).then_some(from);
                let change = PlanChange { name: new_name, sources, repositories, tags };
                plan::set(app, &name, change).await
            }
            PlanCommand::Run { name } => Box::pin(runs::execute::plan(app, &name)).await,
            PlanCommand::Rm { name } => plan::rm(app, &name).await,
        },
        Command::Run(command) => match command {
            RunCommand::List { limit } => runs::list(app, limit).await,
            RunCommand::Show { run } => runs::show(app, &run).await,
            RunCommand::Logs { run, follow, after, level, search } => {
                runs::logs(app, &run, runs::LogOptions { follow, after, level, search }).await
            }
            RunCommand::Pause { run } => runs::ask(app, &run, Wanted::Pause).await,
            RunCommand::Resume { run, follow: true } => {
                Box::pin(runs::execute::resume(app, &run)).await
            }
            RunCommand::Resume { run, follow: false } => runs::ask(app, &run, Wanted::Run).await,
            RunCommand::Cancel { run } => runs::ask(app, &run, Wanted::Cancel).await,
            RunCommand::Retry { run, follow } => {
                Box::pin(runs::execute::retry(app, &run, follow)).await
            }
            RunCommand::Wait { run } => runs::wait(app, &run).await,
        },
        Command::Worker { take_over, max_runs } => {
            Box::pin(runs::worker::work(app, take_over, max_runs)).await
        }
        Command::Config(command) => match command {
            ConfigCommand::Export { file } => config::export(app, file.as_deref()).await,
            ConfigCommand::Import { file, dry_run, prune, yes } => {
                let options = config::ImportOptions { dry_run, prune, yes };
                Box::pin(config::import(app, &file, options)).await
            }
            ConfigCommand::Validate { file } => config::validate(app, &file),
        },
        Command::Key(command) => match command {
            MasterKeyCommand::Rotate => Box::pin(master_key::rotate(app)).await,
            MasterKeyCommand::Generate => master_key::generate(app),
        },
        Command::Maintenance(command) => match command {
            MaintenanceCommand::Run { dry_run } => {
                Box::pin(runs::execute::maintenance(app, dry_run)).await
            }
            MaintenanceCommand::Settings => maintenance::settings(app).await,
            MaintenanceCommand::Set(changes) => maintenance::set(app, &changes).await,
        },
        Command::Completions { shell } => Ok(completions::run(app, shell)),
        Command::Version => Ok(version::run(app)),
    }
}
