//! The command line.

#![expect(clippy::doc_markdown, reason = "these comments are the texts of --help")]

mod config;
mod key;
mod maintenance;
mod restore_how;
mod set_up;
mod size;
mod snapshot_path;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use backupkit_core::repo::ReadData;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use config::ConfigCommand;
pub(crate) use key::{KeyCommand, MasterKeyCommand, NewPasswordOptions};
pub(crate) use maintenance::{MaintenanceChanges, MaintenanceCommand, Switch};
pub(crate) use restore_how::{Conflict, RestoreHow, Verify};
pub(crate) use set_up::{ConnectionCommand, PlanCommand};
pub(crate) use snapshot_path::SnapshotPath;

const AFTER_HELP: &str = "\
Examples:
  backupkit backup ~/documents --to /mnt/disk/repo --init
  backupkit snapshots -r /mnt/disk/repo
  backupkit restore latest -r /mnt/disk/repo --to ./restored

Password, the first that is set:
  --password-file, --password-command, BACKUPKIT_PASSWORD,
  BACKUPKIT_PASSWORD_FILE, BACKUPKIT_PASSWORD_COMMAND, a prompt on a terminal

Key for buckets (s3://bucket/prefix, s3:https://host/bucket/prefix):
  BACKUPKIT_S3_ACCESS_KEY_ID and BACKUPKIT_S3_SECRET_ACCESS_KEY, or with
  --s3 auth=environment the variables of AWS, with --s3 auth=profile
  ~/.aws/credentials

Exit codes:
  0 done, 1 failed, 2 wrong usage, 3 done but some entries were unreadable,
  4 some repositories failed, 10 no such repository, 11 locked,
  12 wrong password, 13 damaged, 14 permission denied, 130 interrupted";

/// Back up folders into encrypted, deduplicated repositories in restic's format, and put them back,
/// verified
#[derive(Parser)]
#[command(
    name = "backupkit",
    version,
    max_term_width = 80,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = AFTER_HELP
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args)]
#[command(next_help_heading = "Global options")]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag")]
pub(crate) struct GlobalOptions {
    /// Print one JSON document
    #[arg(long, global = true, conflicts_with = "ndjson")]
    pub(crate) json: bool,
    /// Print one JSON object a line, as things happen
    #[arg(long, global = true)]
    pub(crate) ndjson: bool,
    /// Print only warnings, errors and what was asked for
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print more of what happens
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    /// Show no progress
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
    /// Use no colours (also: NO_COLOR)
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Read the password from this file
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "password_command")]
    pub(crate) password_file: Option<PathBuf>,
    /// Take the password from the output of this shell command
    #[arg(long, global = true, value_name = "COMMAND")]
    pub(crate) password_command: Option<OsString>,
    /// Keep copies of indexes and scratch files here [default: the user's cache folder]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Keep connections, plans and runs in this file [default: in the user's data folder]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    /// Take the key of the secrets in the state from the output of this shell command
    #[arg(long, global = true, value_name = "COMMAND")]
    pub(crate) master_key_command: Option<OsString>,
    /// Say more about buckets, such as region=eu-central-1; give it again for more
    #[cfg(feature = "s3")]
    #[arg(
        long = "s3",
        global = true,
        value_name = "NAME=VALUE",
        env = "BACKUPKIT_S3",
        value_delimiter = ','
    )]
    pub(crate) s3: Vec<String>,
}

impl GlobalOptions {
    /// Nothing but `--json`, for when the command line could not be read.
    pub(crate) fn for_json() -> Self {
        Self {
            json: true,
            ndjson: false,
            quiet: false,
            verbose: false,
            no_progress: false,
            no_color: true,
            password_file: None,
            password_command: None,
            cache_dir: None,
            state: None,
            master_key_command: None,
            #[cfg(feature = "s3")]
            s3: Vec::new(),
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Back up folders and files into one or more repositories
    Backup(BackupArguments),
    /// Restore a snapshot, or one path of it
    Restore(RestoreArguments),
    /// List snapshots
    Snapshots(SnapshotsArguments),
    /// List what is in a snapshot
    Ls(LsArguments),
    /// Print one file of a snapshot
    Cat(CatArguments),
    /// Check that a repository is whole
    Check(CheckArguments),
    /// Make, describe and unlock repositories, and manage their passwords
    #[command(subcommand, arg_required_else_help = true)]
    Repo(RepoCommand),
    /// Set up what backups read from and write to
    #[command(subcommand, arg_required_else_help = true)]
    Connection(ConnectionCommand),
    /// Set up what is copied where, and run it
    #[command(subcommand, arg_required_else_help = true)]
    Plan(PlanCommand),
    /// Watch and steer runs of plans
    #[command(subcommand, arg_required_else_help = true)]
    Run(RunCommand),
    /// Do whatever runs are queued, until stopped
    Worker {
        /// Use the state that another machine used. Only when nothing uses it there any more
        #[arg(long)]
        take_over: bool,
        /// Execute so many runs side by side
        #[arg(long, value_name = "N", default_value = "2")]
        max_runs: NonZeroUsize,
    },
    /// Keep connections, repositories and plans as text
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),
    /// Manage the key of the secrets in the state
    #[command(subcommand, arg_required_else_help = true)]
    Key(MasterKeyCommand),
    /// Remove what crashed, cancelled and old runs left
    #[command(subcommand, arg_required_else_help = true)]
    Maintenance(MaintenanceCommand),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the version
    Version,
}

/// The repository that a command works on.
#[derive(Args)]
pub(crate) struct RepositoryOption {
    /// The repository: a path, file:///path, s3://bucket/prefix, or
    /// s3:https://host/bucket/prefix
    #[arg(
        long = "repo",
        short = 'r',
        value_name = "URI",
        env = "BACKUPKIT_REPOSITORY",
        hide_env_values = true
    )]
    pub(crate) repository: OsString,
}

/// The repository that a command reads, and of when.
#[derive(Args)]
pub(crate) struct ReadOption {
    #[command(flatten)]
    pub(crate) repository: RepositoryOption,
    /// Read it as it was at this time, such as "2026-03-01 14:00"; in buckets that keep versions
    #[arg(long, value_name = "TIME")]
    pub(crate) as_of: Option<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Resources")]
pub(crate) struct ResourceOptions {
    /// Compute with this many threads [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

#[derive(Args)]
pub(crate) struct BackupArguments {
    /// Folders and files to back up; or a bucket, as s3://bucket/prefix or
    /// s3:https://host/bucket/prefix
    #[arg(required = true, value_name = "SRC")]
    pub(crate) sources: Vec<OsString>,
    /// A repository to back up into; give it again for more
    #[arg(long, value_name = "URI", required = true)]
    pub(crate) to: Vec<OsString>,
    /// Make the repositories that do not exist
    #[arg(long)]
    pub(crate) init: bool,
    /// With --init: let each new repository cut files in its own way. By default they share it, so
    /// that the work is done once; who sees both can then tell that they hold the same data
    #[arg(long, requires = "init")]
    pub(crate) own_polynomial: bool,
    /// Label the snapshot; give it again for more
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// The host that the data belongs to [default: this one]
    #[arg(long, value_name = "HOST", env = "BACKUPKIT_HOST")]
    pub(crate) host: Option<String>,
    /// Start from the beginning even if an earlier backup was interrupted
    #[arg(long)]
    pub(crate) from_start: bool,
    /// How hard to compress: from -7, fast, to 22, small [default: 3]
    #[arg(
        long,
        value_name = "LEVEL",
        allow_hyphen_values = true,
        value_parser = clap::value_parser!(i32).range(-7..=22),
        help_heading = "Resources"
    )]
    pub(crate) compression_level: Option<i32>,
    /// Hold at most this much of the source in memory, such as 64MiB [default: 24MiB]
    #[arg(long, value_name = "SIZE", value_parser = size::parse, help_heading = "Resources")]
    pub(crate) memory: Option<u64>,
    #[command(flatten)]
    pub(crate) resources: ResourceOptions,
}

#[derive(Args)]
pub(crate) struct RestoreArguments {
    /// A snapshot: an id, the start of one, or `latest`; with :PATH only that path of it
    #[arg(value_name = "SNAP[:PATH]")]
    pub(crate) snapshot: OsString,
    #[command(flatten)]
    pub(crate) repository: ReadOption,
    /// Where to restore into: a path, file:///path or s3://bucket/prefix
    #[arg(long, value_name = "URI")]
    pub(crate) to: OsString,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) how: RestoreHow,
    #[command(flatten)]
    pub(crate) resources: ResourceOptions,
}

/// Where to restore into.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct TargetOption {
    /// The folder to restore into: a path or file:///path
    #[arg(long, value_name = "URI")]
    pub(crate) to: Option<OsString>,
    /// The connection to restore into
    #[arg(long, value_name = "NAME")]
    pub(crate) to_connection: Option<String>,
}

#[derive(Args)]
pub(crate) struct SnapshotsArguments {
    #[command(flatten)]
    pub(crate) repository: ReadOption,
    /// Only those with this tag; give it again for those with all of them
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Only those of this host
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Also what interrupted backups left to go on from
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Args)]
pub(crate) struct LsArguments {
    /// A snapshot: an id, the start of one, or `latest`; with :PATH only that path of it
    #[arg(value_name = "SNAP[:PATH]")]
    pub(crate) snapshot: OsString,
    #[command(flatten)]
    pub(crate) repository: ReadOption,
    /// Show mode, owner, size and time
    #[arg(short, long)]
    pub(crate) long: bool,
    /// List everything below, too
    #[arg(long, short = 'R')]
    pub(crate) recursive: bool,
}

#[derive(Args)]
pub(crate) struct CatArguments {
    /// A file of a snapshot
    #[arg(value_name = "SNAP:PATH")]
    pub(crate) file: OsString,
    #[command(flatten)]
    pub(crate) repository: ReadOption,
}

#[derive(Args)]
pub(crate) struct CheckArguments {
    #[command(flatten)]
    pub(crate) repository: ReadOption,
    /// Read and verify every byte, or with `=2/7` the second of seven parts
    #[arg(
        long,
        value_name = "PART",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "all",
        value_parser = read_data
    )]
    pub(crate) read_data: Option<ReadData>,
    #[command(flatten)]
    pub(crate) resources: ResourceOptions,
}

/// Reads `all` or `2/7`.
fn read_data(text: &str) -> Result<ReadData, String> {
    if text == "all" {
        return Ok(ReadData::All);
    }
    let part = text
        .split_once('/')
        .and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
    match part {
        Some((number, of)) if (1..=of).contains(&number) => Ok(ReadData::Part { number, of }),
        _ => Err("write it as 2/7, with at most 255 parts".to_owned()),
    }
}

#[derive(Subcommand)]
pub(crate) enum RepoCommand {
    /// Make a new repository
    Init {
        #[command(flatten)]
        repository: RepositoryOption,
        /// Cut files as this repository does, so that one backup into both does the work once; who
        /// sees both can then tell that they hold the same data
        #[arg(long, value_name = "URI")]
        polynomial_of: Option<OsString>,
    },
    /// Describe a repository
    Info {
        #[command(flatten)]
        repository: ReadOption,
    },
    /// Remove locks that crashed programs left
    Unlock {
        #[command(flatten)]
        repository: RepositoryOption,
        /// Remove all locks. Only when no program works on the repository
        #[arg(long)]
        all: bool,
    },
    /// Keep a repository from being deleted for longer; in buckets with retention_mode
    Extend {
        #[command(flatten)]
        repository: RepositoryOption,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Add a repository for plans: the one that is there, or a new one
    Add {
        /// What to call it
        #[arg(value_name = "NAME")]
        name: String,
        /// The connection that leads to it
        #[arg(long, value_name = "NAME")]
        connection: String,
        /// Where it lies below what the connection leads to [default: at that place itself]
        #[arg(long, value_name = "PATH", default_value = "", hide_default_value = true)]
        path: String,
    },
    /// List the repositories that were added
    List,
    /// Change what is known of a repository: what it is called, where it lies now, its password
    Set {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// Call it so from now on
        #[arg(long = "name", value_name = "NEW-NAME")]
        new_name: Option<String>,
        /// The connection that leads to it
        #[arg(long, value_name = "NAME")]
        connection: Option<String>,
        /// Where it lies below what the connection leads to
        #[arg(long, value_name = "PATH")]
        path: Option<String>,
        /// Keep another of its passwords, taken from where passwords come from
        #[arg(long)]
        password: bool,
    },
    /// Try a repository, step by step
    Test {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Forget a repository; what lies in it stays
    Rm {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Restore out of a repository that was added, as a run that can rest and go on
    #[command(override_usage = "\
backupkit repo restore [OPTIONS] <NAME> <SNAP[:PATH]>
           <--to <URI>|--to-connection <NAME>>")]
    Restore {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// A snapshot: an id, the start of one, or `latest`; with :PATH only that path of it
        #[arg(value_name = "SNAP[:PATH]")]
        snapshot: OsString,
        #[command(flatten)]
        target: TargetOption,
        #[command(flatten)]
        how: RestoreHow,
    },
    /// Manage the passwords of a repository
    #[command(subcommand, arg_required_else_help = true)]
    Key(KeyCommand),
}

#[derive(Subcommand)]
pub(crate) enum RunCommand {
    /// List runs, newest first
    List {
        /// List at most so many
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u16,
    },
    /// Describe a run
    Show {
        #[command(flatten)]
        run: RunName,
    },
    /// Print the log of a run
    Logs {
        #[command(flatten)]
        run: RunName,
        /// Go on until the run ends
        #[arg(long, short)]
        follow: bool,
        /// Only what is behind this number
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        after: u64,
        /// Only lines that matter so much, or more
        #[arg(long, value_enum, value_name = "LEVEL", default_value_t = LogLevel::Info)]
        level: LogLevel,
        /// Only lines with this in their text
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
    },
    /// Let a run rest
    Pause {
        #[command(flatten)]
        run: RunName,
    },
    /// Let a run go on that rests or waits
    Resume {
        #[command(flatten)]
        run: RunName,
        /// Follow it, and execute it if no worker does
        #[arg(long, short)]
        follow: bool,
    },
    /// End a run without a snapshot
    Cancel {
        #[command(flatten)]
        run: RunName,
    },
    /// Make again what a run could not: missing snapshots from those that it made
    Retry {
        #[command(flatten)]
        run: RunName,
        /// Follow the new run, and execute it if no worker does
        #[arg(long, short)]
        follow: bool,
    },
    /// Wait until a run ends or rests
    Wait {
        #[command(flatten)]
        run: RunName,
    },
}

#[derive(Args)]
pub(crate) struct RunName {
    /// The number of the run, or `latest`
    #[arg(value_name = "RUN")]
    pub(crate) name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// Everything
    Info,
    /// Warnings and errors
    Warning,
    /// Errors
    Error,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_grammar_of_the_readme_parses() {
        for line in [
            "backup a b --to r1 --to r2 --init --tag x --tag y --host h --from-start",
            "backup ./some-folder --to ./repo --init --own-polynomial --compression-level -7 --memory 64MiB",
            "restore latest:/srv -r r --to t --dry-run --conflict newer --verify count --no-sync",
            "snapshots --repo r --tag a --host h --json",
            "check -r r --as-of 2026-03-01",
            "restore latest -r r --as-of 2026-03-01T14:00:00Z --to t",
            "ls latest -r r -l --recursive",
            "cat latest:/a -r r",
            "check -r r --read-data --threads 2",
            "check -r r --read-data=2/7",
            "repo init -r r",
            "repo unlock --all -r r",
            "repo key rm abc -r r",
            "repo key passwd -r r --new-password-file f",
            "connection add docs --folder /srv/docs",
            "connection test docs",
            "repo add nas --connection disk --path repo",
            "plan create daily --from docs --to nas --to away --tag x",
            "plan run daily --state s.db",
            "connection set docs --name papers --folder /srv",
            "repo set nas --connection disk --path p --password",
            "repo test nas",
            "plan set daily --from docs --to nas --to away --no-tags --name n",
            "config export",
            "config import f.toml --dry-run --prune --yes",
            "config validate f.toml",
            "key rotate --master-key-command c",
            "run list --limit 3",
            "run logs latest -f --after 7 --level warning --search x",
            "run pause 3",
            "worker",
            "worker --take-over",
            "maintenance run --dry-run",
            "maintenance set --logs 30 --runs 200 --temporary-files 2 --checkpoints 9 --caches 3 --automatic off",
            "--quiet version",
            "completions bash",
        ] {
            let words = std::iter::once("backupkit").chain(line.split(' '));
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
    }
}
