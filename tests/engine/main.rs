//! The engine from outside, with sources and repositories in memory: pause and resume, crashes, lanes.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod absent;
mod copies;
mod crash;
mod divided;
mod durable;
mod entries;
mod fakes;
mod hangs;
mod held;
mod lane_pauses;
mod lanes;
mod large_packs;
mod left_packs;
mod mishaps;
mod overtaken;
mod pause;
mod scene;
mod scratch;
mod scripted;
mod slowed_down;
mod sources;
mod stops;
mod unfinished_locks;
mod waiting;
mod worker;

#[path = "../support/lib.rs"]
mod support;
