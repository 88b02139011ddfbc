//! How to restore.

use clap::{Args, ValueEnum};

/// How to restore.
#[derive(Args)]
pub(crate) struct RestoreHow {
    /// What to do with what is there already
    #[arg(long, value_enum, value_name = "POLICY", default_value_t = Conflict::Overwrite)]
    pub(crate) conflict: Conflict,
    /// How to prove what was restored
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = Verify::Bytes)]
    pub(crate) verify: Verify,
    /// Do not wait until the disk has everything
    #[arg(long)]
    pub(crate) no_sync: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Conflict {
    /// Keep what is there
    Skip,
    /// Replace only what is older than in the snapshot
    Newer,
    /// Replace what differs
    Overwrite,
    /// Keep what is there, and restore beside it under a new name
    Rename,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verify {
    /// Do not look
    None,
    /// Compare existence, type and size
    Count,
    /// Compare a checksum that the target keeps, or else read everything back
    Checksum,
    /// Read everything back and compare it
    Bytes,
}
