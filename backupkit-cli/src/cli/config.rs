//! Connections, repositories and plans as text.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Write what is set up as TOML, without its secrets
    Export {
        /// The file to make; it must not be there [default: print it]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Set up what a file says: create what is not there, update what differs
    Import {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        /// Remove what the file does not name. What lies in repositories stays
        #[arg(long)]
        prune: bool,
        /// With --prune: do not ask
        #[arg(long, requires = "prune")]
        yes: bool,
    },
    /// Say all that is wrong with a file. Needs no secrets and no state
    Validate {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}
