//! The program from outside: what it prints, takes, and ends with.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![allow(clippy::print_stderr, reason = "a skip is said where the test's output goes")]

mod addresses;
mod canary;
mod config;
mod editing;
mod exit_codes;
mod full_disk;
mod help;
mod interrupt;
mod machine;
mod maintenance;
mod master_key;
#[cfg(feature = "s3")]
mod minio;
mod output;
mod passwords;
mod plans;
mod restore;
mod s3;
mod s3_access;
mod s3_partial;
mod s3_retention;
mod s3_source;
mod s3_target;
mod scene;
mod several;
mod small_disk;
mod terminal;
