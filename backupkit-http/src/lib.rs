//! The axum router of `BackupKit`: HTTP API, console and authentication.
//!
//! This crate is a place kept free: it holds no code yet.
