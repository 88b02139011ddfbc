//! S3 buckets, on a server in this process that does wrong what it is told to.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod as_of;
mod conformance;
mod creating;
mod deleting;
mod listing;
mod reading;
mod real_server;
mod refusals;
mod scene;
mod source;
mod target;
mod trouble;
mod uploads;
