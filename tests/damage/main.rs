//! Damaged and hostile repositories: every damage is found and named, no wrong byte is restored, and
//! nothing panics or takes memory without bound.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "../support/random.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test takes what it needs")]
#[allow(clippy::print_stderr, reason = "seeds are said where the output goes")]
mod random;

mod cases;
mod forge;
mod harm;
mod hostile;
mod quick_clock;
mod scene;
