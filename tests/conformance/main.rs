//! The conformance suites on everything that implements an adapter trait.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod destinations;
mod faults;
mod flaws;
mod sources;
mod states;
mod targets;
