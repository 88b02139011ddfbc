//! Reading repositories: the index and its copy, snapshots, checks and restores, also of damaged ones.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod check;
mod gate;
mod index_copy;
mod other_programs;
mod restore;
mod restore_failures;
mod restore_resume;
mod resumed;
mod scene;
mod snapshots;
