//! What is set up: connections and plans.

#![expect(clippy::doc_markdown, reason = "these comments are the texts of --help")]

use std::ffi::OsString;

use clap::{Subcommand, ValueEnum};

#[derive(Subcommand)]
pub(crate) enum ConnectionCommand {
    /// Add a connection
    Add {
        /// What to call it
        #[arg(value_name = "NAME")]
        name: String,
        /// The local folder that it leads to: a path or file:///path
        #[arg(long, value_name = "URI", required_unless_present = "bucket")]
        folder: Option<OsString>,
        /// The bucket that it leads to: s3://bucket/prefix or
        /// s3:https://host/bucket/prefix; --s3 says more about it
        #[arg(long, value_name = "URI", conflicts_with = "folder")]
        bucket: Option<OsString>,
        /// Let so many runs read from it at the same time, and as many use the repositories in it
        /// [default: one, and any number]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        max_runs: Option<u32>,
    },
    /// List connections
    List,
    /// Change a connection. Where it comes to lead elsewhere, its credentials are dropped
    Set {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// Call it so from now on
        #[arg(long = "name", value_name = "NEW-NAME")]
        new_name: Option<String>,
        /// The local folder that it leads to: a path or file:///path
        #[arg(long, value_name = "URI")]
        folder: Option<OsString>,
        /// The bucket that it leads to: s3://bucket/prefix or
        /// s3:https://host/bucket/prefix; --s3 says more about it
        #[arg(long, value_name = "URI", conflicts_with = "folder")]
        bucket: Option<OsString>,
        /// Let so many runs read from it at the same time, and as many use the repositories in it; 0:
        /// one, and any number
        #[arg(long, value_name = "N")]
        max_runs: Option<u32>,
    },
    /// Try a connection, step by step
    Test {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// What it is to be good for [default: to be read]
        #[arg(long = "for", value_name = "PURPOSE")]
        purpose: Option<Purpose>,
    },
    /// Print the least that its key must be allowed to do, as a policy to hand to the server
    Policy {
        /// The connection
        #[arg(value_name = "NAME", required_unless_present = "bucket")]
        name: Option<String>,
        /// A bucket without a connection: s3://bucket/prefix or s3:https://host/bucket/prefix
        #[arg(long, value_name = "URI", conflicts_with = "name")]
        bucket: Option<OsString>,
        /// What it is used for
        #[arg(long = "for", value_name = "PURPOSE")]
        purpose: Purpose,
    },
    /// Remove a connection that nothing needs
    Rm {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// What a connection is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// Backups read it
    Source,
    /// Repositories are kept in it, to which backups only add
    Repository,
    /// Repositories are kept in it, and what they do not need any more is removed
    Maintenance,
    /// Snapshots are restored into it
    Target,
}

impl From<Purpose> for backupkit_core::registry::Purpose {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Source => Self::Source,
            Purpose::Repository => Self::Repository,
            Purpose::Maintenance => Self::Maintenance,
            Purpose::Target => Self::Target,
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum PlanCommand {
    /// Make a plan
    #[command(
        override_usage = "backupkit plan create [OPTIONS] <NAME> --from <CONNECTION> --to <REPO>"
    )]
    Create {
        /// What to call it
        #[arg(value_name = "NAME")]
        name: String,
        /// A connection to read; give it again for more
        #[arg(long, value_name = "CONNECTION", required = true)]
        from: Vec<String>,
        /// A repository to back up into; give it again for more
        #[arg(long, value_name = "REPOSITORY", required = true)]
        to: Vec<String>,
        /// Label the snapshots; give it again for more
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
    },
    /// List plans
    List,
    /// Change a plan. A run that has begun keeps what it began with
    Set {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// Call it so from now on
        #[arg(long = "name", value_name = "NEW-NAME")]
        new_name: Option<String>,
        /// A connection to read, instead of those so far; give it again for more
        #[arg(long, value_name = "CONNECTION")]
        from: Vec<String>,
        /// A repository to back up into, instead of those so far; give it again for more
        #[arg(long, value_name = "REPOSITORY")]
        to: Vec<String>,
        /// Label the snapshots, instead of the labels so far; give it again for more
        #[arg(long = "tag", value_name = "TAG", conflicts_with = "no_tags")]
        tags: Vec<String>,
        /// Label the snapshots no more
        #[arg(long)]
        no_tags: bool,
    },
    /// Run a plan and follow it; one that was interrupted goes on
    Run {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Remove a plan; its snapshots and runs stay
    Rm {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
}
