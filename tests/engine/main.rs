//! The engine from outside, with sources and repositories in memory: pause and resume, crashes, lanes.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod pause;
mod scene;
