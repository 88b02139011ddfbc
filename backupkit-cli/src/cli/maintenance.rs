//! `maintenance`.

use clap::{Args, Subcommand, ValueEnum};

#[derive(Subcommand)]
pub(crate) enum MaintenanceCommand {
    /// Remove what crashed, cancelled and old runs left, and follow that
    Run {
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
    /// Show how long things are kept
    Settings,
    /// Change how long things are kept
    #[command(override_usage = "backupkit maintenance set [OPTIONS]")]
    Set(MaintenanceChanges),
}

/// What is not given stays as it is.
#[derive(Args)]
#[group(required = true, multiple = true)]
pub(crate) struct MaintenanceChanges {
    /// Keep logs for so long after the end of their run
    #[arg(long, value_name = "DAYS")]
    pub(crate) logs: Option<u32>,
    /// Keep runs on record for so long after their end
    #[arg(long, value_name = "DAYS")]
    pub(crate) runs: Option<u32>,
    /// Keep unfinished files of processes that died for so long
    #[arg(long, value_name = "DAYS")]
    pub(crate) temporary_files: Option<u32>,
    /// Keep for so long what backups that rested or crashed left in repositories to go on from
    #[arg(long, value_name = "DAYS")]
    pub(crate) checkpoints: Option<u32>,
    /// Keep copies of indexes for so long after their last use
    #[arg(long, value_name = "DAYS")]
    pub(crate) caches: Option<u32>,
    /// Whether a worker does maintenance once a day by itself
    #[arg(long, value_enum, value_name = "SWITCH")]
    pub(crate) automatic: Option<Switch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// It does
    On,
    /// It does not
    Off,
}
