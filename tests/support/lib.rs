//! What the top-level tests share: data to back up, comparison of folders, and runners for restic
//! and for our own program.
//!
//! A test takes it in with `#[path = "../support/lib.rs"] mod support;`. Nothing here knows the
//! engine: it sees what a user sees, files and programs.

#![allow(dead_code, unreachable_pub, reason = "each test takes what it needs")]
#![allow(clippy::print_stderr, reason = "skips and seeds are said where the test's output goes")]
#![allow(clippy::struct_excessive_bools, reason = "switches of a generator, not states")]
#![allow(clippy::unnecessary_debug_formatting, reason = "keeps odd names readable, on one line")]
#![allow(clippy::unwrap_used, reason = "a harness fails by panicking, as tests do")]

pub mod compare;
pub mod data;
pub mod extended;
pub mod process;
pub mod program;
pub mod random;
pub mod restic;
pub mod tools;
