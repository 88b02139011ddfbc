//! Systems with the habits of real ones, in memory.
//!
//! They exist so that the engine is tested on all shapes of sources: raw key order, streams with
//! segments, entries known by ids. The real adapters are tested on real servers besides.

mod drive;
mod mongodb;
mod s3;
mod s3_server;

pub use drive::FakeDrive;
pub use mongodb::{FakeMongoDb, FakeMongoDbTarget};
pub use s3::FakeS3;
pub use s3_server::{
    AccessLists, ConditionalWrites, KeyOrder, ReadVersions, S3Counters, S3Effect, S3Fault,
    S3Lender, S3Object, S3Operation, S3Read, S3Server, S3ServerOptions,
};
