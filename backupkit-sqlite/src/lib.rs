//! The state store of `BackupKit` on `SQLite`: one file on a local disk, made on first use.
//!
//! So far it keeps what people set up: connections, repositories and plans. Runs, checkpoints and logs
//! follow. Backups and restores without a state store need `backupkit-core` alone.
//!
//! The file is in WAL mode, with two more beside it while it is open. Each change is on disk when the
//! call returns. It is made so that only its owner may read it. It must not lie on a network file
//! system.

mod catalogue;
mod database;
mod rows;

pub use database::SqliteStore;
