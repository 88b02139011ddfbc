//! Reading repositories: the index and its copy, snapshots, checks and restores, also of damaged ones.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "../support/lib.rs"]
mod support;

mod check;
mod gate;
mod held;
mod index_copy;
mod other_programs;
mod restore;
mod restore_failures;
mod restore_resume;
mod resumed;
mod scene;
mod snapshots;
