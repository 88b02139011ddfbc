//! The state store of `BackupKit` on `SQLite`: connections, plans, runs, checkpoints and logs.
//!
//! This crate is a place kept free: it holds no code yet. Backups and restores without a state store
//! work today, with `backupkit-core` alone.
