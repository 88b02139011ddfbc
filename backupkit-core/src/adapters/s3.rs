//! S3 buckets: AWS, and servers that speak its protocol.
//!
//! - [`S3Settings`] say where a bucket is and how its server behaves, [`S3Credentials`] who asks.
//!   Nothing is taken from the surroundings: no variable, no file and no service that was not named.
//! - [`S3Kind`] makes them of connections, which keep secrets sealed.
//! - [`S3Source`] is a bucket that is backed up.
//! - [`S3Destination`] keeps repositories in a bucket, in restic's layout.
//! - [`S3Target`] is a bucket to restore into.

mod bucket;
mod calls;
mod client;
mod credentials;
mod destination;
mod errors;
mod keys;
mod kind;
mod object;
mod payload;
mod percent;
mod policy;
mod profile;
mod reach;
mod settings;
mod silence;
mod small_file;
mod source;
mod target;
mod whole;

pub use credentials::{S3Credentials, S3Role};
pub use destination::S3Destination;
pub use kind::S3Kind;
pub use settings::{S3Retention, S3RetentionMode, S3Settings};
pub use source::{
    ArchivedObjects, ConsistentAt, ListingOrder, S3Filter, S3Source, S3SourceOptions, ThawTier,
};
pub use target::{S3Target, S3TargetOptions};
