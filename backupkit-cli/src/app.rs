//! From the command line to the exit code.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use backupkit_core::adapters::fs::FsDestination;
use backupkit_core::destination::Destination;
use backupkit_core::repo::{KeyOwner, Repository};
use backupkit_core::{Engine, EngineBuilder, Identity};
use backupkit_core::{Env, Error, ErrorKind, Result};
use clap::error::ErrorKind as ClapErrorKind;
use clap::{ColorChoice, CommandFactory as _, FromArgMatches as _};
use secrecy::SecretString;

use crate::cli::{Cli, GlobalOptions, ReadOption, RepositoryOption, ResourceOptions};
use crate::commands;
use crate::environment::Environment;
use crate::exit::{Exit, usage};
use crate::moment;
use crate::output::{Form, Output};
use crate::password::{PasswordFinder, Purpose};
use crate::uri::{self, Place};

/// What every command needs.
pub(crate) struct App<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) options: GlobalOptions,
    pub(crate) output: Output,
    pub(crate) env: Env,
    pub(crate) identity: Identity,
}

/// Runs the program.
pub(crate) fn main(environment: &Environment) -> ExitCode {
    let env = Env::system();
    let cli = match parse(environment) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(refuse(environment, env, &error).code()),
    };
    let mut app = App {
        environment,
        output: Output::new(&cli.global, environment, env.clone()),
        options: cli.global,
        env,
        identity: environment.identity(),
    };
    if let Some(folder) = app.cache_folder() {
        app.env = app.env.with_temporary_folder(folder.join("scratch"));
    }
    let mut exit = run(&app, cli.command).unwrap_or_else(|error| {
        let exit = Exit::of_error(&error);
        app.output.error(&error, exit);
        exit
    });
    if let Some(error) = app.output.finish()
        && exit == Exit::Success
    {
        exit = Exit::Failure;
        app.output.error(&error, exit);
    }
    ExitCode::from(exit.code())
}

fn run(app: &App<'_>, command: crate::cli::Command) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::io("start the threads of the program", error))?;
    let result = runtime.block_on(commands::run(app, command));
    // Something that hangs, such as a network folder, must not keep the program from ending.
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

fn parse(environment: &Environment) -> std::result::Result<Cli, clap::Error> {
    let mut command = Cli::command();
    if has_flag(environment, "--no-color") {
        command = command.color(ColorChoice::Never);
    }
    let mut matches = command.try_get_matches_from_mut(&environment.arguments)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// Prints help, the version, or why the command line is wrong.
fn refuse(environment: &Environment, env: Env, error: &clap::Error) -> Exit {
    let is_json = has_flag(environment, "--json") || has_flag(environment, "--ndjson");
    if error.use_stderr()
        && is_json
        && error.kind() != ClapErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    {
        let text = uri::redact(&error.render().to_string());
        let message = text.strip_prefix("error: ").unwrap_or(&text);
        let message = message.lines().next().unwrap_or_default().to_owned();
        let error = usage(message).with_hint("see --help");
        let options = GlobalOptions::for_json();
        Output::new(&options, environment, env).error(&error, Exit::Usage);
        return Exit::Usage;
    }
    // A message repeats what was typed, and that may hold credentials.
    let is_plain = uri::redact(&error.to_string()) == error.to_string();
    if !error.use_stderr() || is_plain {
        // There is nowhere to complain if this fails.
        drop(error.print());
    } else {
        use std::io::Write as _;
        drop(std::io::stderr().write_all(uri::redact(&error.to_string()).as_bytes()));
    }
    if error.use_stderr() { Exit::Usage } else { Exit::Success }
}

fn has_flag(environment: &Environment, flag: &str) -> bool {
    let mut arguments = environment.arguments.iter().take_while(|argument| *argument != "--");
    arguments.any(|argument| argument == flag)
}

impl App<'_> {
    /// Builds an engine. Without a usable cache folder it does without, and says so.
    pub(crate) fn engine(&self, set_up: impl Fn(EngineBuilder) -> EngineBuilder) -> Result<Engine> {
        let builder = || Engine::builder().env(self.env.clone()).identity(self.identity.clone());
        let Some(folder) = self.cache_folder() else {
            self.output.note("there is no home folder, so indexes are read anew each time and large directories stay in memory");
            return set_up(builder()).build();
        };
        let cached = builder()
            .instance_folder(folder.join("instances"))
            .cache_folder(folder.join("index"))
            .scratch_folder(folder.join("scratch"));
        let cached = set_up(cached).build();
        match cached {
            Err(error) if !error.is(ErrorKind::InvalidConfig) => {
                self.output.warning(format!("going on without a cache folder: {error}"));
                set_up(builder()).build()
            }
            result => result,
        }
    }

    fn cache_folder(&self) -> Option<PathBuf> {
        self.options.cache_dir.clone().or_else(|| self.environment.cache_folder())
    }

    /// The folder for copies of indexes.
    pub(crate) fn index_folder(&self) -> Option<PathBuf> {
        Some(self.cache_folder()?.join("index"))
    }

    /// As [`Self::engine`], with what the user wants to spend.
    pub(crate) fn engine_with(&self, resources: &ResourceOptions) -> Result<Engine> {
        self.engine(|builder| with_resources(builder, resources))
    }

    /// Finds the password that opens repositories.
    pub(crate) fn password(&self, purpose: Purpose) -> Result<SecretString> {
        PasswordFinder {
            environment: self.environment,
            may_prompt: self.may_prompt(),
            file: self.options.password_file.clone(),
            command: self.options.password_command.clone(),
            purpose,
        }
        .find()
    }

    /// Programs and pipes are never asked.
    pub(crate) fn may_prompt(&self) -> bool {
        self.environment.stdin_is_terminal && self.output.form() == Form::Text
    }

    /// Opens the repository of a command.
    pub(crate) async fn open(&self, option: &RepositoryOption) -> Result<Repository> {
        self.open_at(self.destination(&option.repository)?).await
    }

    /// Opens the repository of an option that only reads.
    pub(crate) async fn open_to_read(&self, option: &ReadOption) -> Result<Repository> {
        let destination = self.destination(&option.repository.repository)?;
        match &option.as_of {
            None => self.open_at(destination).await,
            Some(text) => {
                let time = moment::parse(text, &self.env)?;
                self.open_at(destination.as_of(time)?).await
            }
        }
    }

    async fn open_at(&self, destination: Arc<dyn Destination>) -> Result<Repository> {
        require_repository(&*destination).await?;
        let password = self.password(Purpose::Open)?;
        Repository::open(destination, &password, &self.env).await
    }

    /// The destination of an address.
    pub(crate) fn destination(&self, address: &OsStr) -> Result<Arc<dyn Destination>> {
        match uri::place(address)? {
            Place::Folder(folder) => Ok(Arc::new(FsDestination::new(folder, self.env.clone()))),
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => self.bucket(&bucket),
        }
    }

    pub(crate) fn key_owner(&self) -> KeyOwner {
        KeyOwner {
            username: self.identity.username.clone(),
            hostname: self.identity.hostname.clone(),
        }
    }
}

pub(crate) fn with_resources(builder: EngineBuilder, resources: &ResourceOptions) -> EngineBuilder {
    match resources.threads {
        Some(threads) => builder.threads(usize::from(threads)),
        None => builder,
    }
}

/// Asks for no password if there is nothing to open.
async fn require_repository(destination: &dyn Destination) -> Result<()> {
    if Repository::exists(destination).await? {
        return Ok(());
    }
    Err(no_repository(destination))
}

pub(crate) fn no_repository(destination: &dyn Destination) -> Error {
    let location = destination.location();
    Error::new(ErrorKind::NotFound, format!("there is no repository at {location}"))
        .with_code("repository-not-found")
        .with_hint("check the address; `repo init` or `backup --init` makes a new repository")
}
