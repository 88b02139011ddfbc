//! The conformance suites on everything that implements an adapter trait.

mod destinations;
mod faults;
mod sources;
mod targets;
