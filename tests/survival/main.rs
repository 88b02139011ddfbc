//! Durable runs under `kill -9`, at moments spread over their progress: after each the same run goes on,
//! little is read again, nothing is stored twice, and what it makes is whole for restic.
//!
//! This test is its own worker: it starts itself again as a process that executes runs with a state store
//! on disk, logs each byte that it reads, and kills itself where it was told to.
//! `cargo xtask test --count N --test survival` kills N times, and pauses N times.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![allow(clippy::print_stdout, reason = "a worker process says what it did")]
#![allow(clippy::print_stderr, reason = "what was killed where is said where the output goes")]

#[path = "../support/lib.rs"]
mod support;

mod bucket;
mod coverage;
mod judge;
mod kills;
mod orders;
mod pauses;
mod places;
mod source;
mod stale;
mod witness;
mod worker;
mod world;

/// Not a test of its own: what the others start as a process.
#[test]
fn worker_process() {
    worker::run_if_asked();
}
