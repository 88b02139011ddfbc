//! S3 buckets, on a server in this process that does wrong what it is told to.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says why")]

mod as_of;
mod canary;
mod conformance;
mod creating;
mod deleting;
mod extending;
mod extras;
mod lending;
mod listing;
mod proxy;
mod reading;
mod real_server;
mod refusals;
mod retention;
mod round_trip;
mod scene;
mod source;
mod target;
mod tls;
mod trouble;
mod uploads;
