//! Passwords of repositories, and the key of the secrets in the state.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::RepositoryOption;

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Add a password
    Add {
        #[command(flatten)]
        repository: RepositoryOption,
        #[command(flatten)]
        new_password: NewPasswordOptions,
    },
    /// List the passwords, without telling them
    List {
        #[command(flatten)]
        repository: RepositoryOption,
    },
    /// Remove a password
    Rm {
        /// The key, or the start of its id
        #[arg(value_name = "KEY")]
        key: String,
        #[command(flatten)]
        repository: RepositoryOption,
    },
    /// Change the password that opens the repository now
    Passwd {
        #[command(flatten)]
        repository: RepositoryOption,
        #[command(flatten)]
        new_password: NewPasswordOptions,
    },
}

/// Where the new password comes from, before `BACKUPKIT_NEW_PASSWORD`, `_FILE` and `_COMMAND`.
#[derive(Args)]
pub(crate) struct NewPasswordOptions {
    /// Read the new password from this file
    #[arg(long, value_name = "FILE", conflicts_with = "new_password_command")]
    pub(crate) new_password_file: Option<PathBuf>,
    /// Take the new password from the output of this shell command
    #[arg(long, value_name = "COMMAND")]
    pub(crate) new_password_command: Option<OsString>,
}

#[derive(Subcommand)]
pub(crate) enum MasterKeyCommand {
    /// Change the key of the secrets in the state. Other commands may run meanwhile
    Rotate,
    /// Print a new key, for where it comes from a variable or a command
    Generate,
}
