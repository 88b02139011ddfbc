//! The state store of `BackupKit` on `SQLite`: one file on a local disk, made on first use.
//!
//! It keeps what people set up (connections, repositories, plans), and runs with their leases,
//! checkpoints and logs. Backups and restores without a state store need `backupkit-core` alone.
//!
//! The file is in WAL mode, with two more beside it while it is open. Each change is on disk when the
//! call returns. It is made so that only its owner may read it. It must not lie on a network file
//! system.

mod catalogue;
mod checkpoints;
mod database;
mod leases;
mod logs;
mod rows;
mod run_rows;
mod runs;
mod settings;

pub use database::SqliteStore;
