//! Systems with the habits of real ones, in memory.
//!
//! They exist so that the engine is tested on all shapes of sources: raw key order, streams with
//! segments, entries known by ids. The real adapters are tested on real servers besides.

mod drive;
mod mongodb;
mod s3;

pub use drive::FakeDrive;
pub use mongodb::{FakeMongoDb, FakeMongoDbTarget};
pub use s3::FakeS3;
