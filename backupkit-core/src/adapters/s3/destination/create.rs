//! Creating objects: never over another one.

use super::S3Destination;
use super::compare::Content;
use super::conditions::no_conditions;
use super::large::LEAST_PART_BYTES;
use super::retention::{Way, refused};
use crate::adapters::s3::bucket::Condition;
use crate::adapters::s3::errors::NOT_IMPLEMENTED;
use crate::adapters::s3::payload::Parts;
use crate::destination::{ObjectKey, Payload};
use crate::error::{Error, ErrorKind, Result};

/// Larger files are read and sent in parts: no more than a few of these are in memory.
const MOST_FILE_BYTES: u64 = LEAST_PART_BYTES;
/// What is in memory is sent in parts only beyond this.
const MOST_MEMORY_BYTES: u64 = 256 << 20;
/// An object is written so often if it goes away meanwhile.
const MOST_WRITES: u32 = 3;

impl S3Destination {
    pub(super) async fn create_object(&self, key: &ObjectKey, payload: Payload) -> Result<()> {
        let length = payload.len_bytes();
        let is_large = match &payload {
            Payload::Bytes(_) => length > MOST_MEMORY_BYTES,
            Payload::File(_) => length > MOST_FILE_BYTES,
        };
        let content = if is_large {
            Content::Large(payload)
        } else {
            let parts = match payload {
                Payload::Bytes(parts) => parts,
                Payload::File(_) => [payload.to_bytes().await?].into(),
            };
            Content::Small(Parts::new(parts).await?)
        };
        if !self.bucket.settings().conditional_writes {
            return self.create_checked(key, &content).await;
        }
        self.require_one_writer(&format!("create {key}")).await?;
        self.create_absent(key, &content).await
    }

    /// The server refuses whoever comes second.
    async fn create_absent(&self, key: &ObjectKey, content: &Content) -> Result<()> {
        let mut writes = 1;
        loop {
            let refused = match self.write(key, content, &Condition::Absent).await {
                // It exists, maybe by an attempt of ours whose reply was lost.
                Err(error) if may_exist(&error) => error,
                written => return written,
            };
            match self.compare(key, content).await? {
                Some(true) => return self.retain_existing(key).await,
                Some(false) => return Err(exists(key)),
                // It went away since, or somebody has dropped the parts.
                None if writes < MOST_WRITES => writes += 1,
                None => {
                    let message = format!("cannot create {key}: it comes and goes meanwhile");
                    return Err(Error::new(ErrorKind::Unavailable, message).with_source(refused));
                }
            }
        }
    }

    /// For servers without conditions: looks first, and compares after.
    async fn create_checked(&self, key: &ObjectKey, content: &Content) -> Result<()> {
        match self.compare(key, content).await? {
            Some(true) => return self.retain_existing(key).await,
            Some(false) => return Err(exists(key)),
            None => self.write(key, content, &Condition::None).await?,
        }
        match self.compare(key, content).await? {
            Some(true) => Ok(()),
            Some(false) => Err(exists(key)),
            None => {
                let message = format!("cannot create {key}: it is gone as soon as it is written");
                Err(Error::new(ErrorKind::Unavailable, message))
            }
        }
    }

    async fn write(&self, key: &ObjectKey, content: &Content, condition: &Condition) -> Result<()> {
        let record = self.record_of(key).await?;
        let (written, way) = match content {
            Content::Small(parts) => {
                let put = self.bucket.put_object(key.as_str(), parts, condition, &record);
                (put.await.map(drop), Way::Whole)
            }
            Content::Large(payload) => {
                (self.write_large(key, payload, condition, &record).await, Way::InParts)
            }
        };
        match written {
            Ok(()) => self.require_locked(key, &record, way).await,
            // It has shown that it knows conditions.
            Err(error) if record.lock.is_some() => Err(refused(key.as_str(), error)),
            Err(error) if error.code() == NOT_IMPLEMENTED && *condition != Condition::None => {
                Err(no_conditions(&format!("create {key}")).with_source(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Only packs are large and read seldom; all else is read each time.
    pub(super) fn storage_class(&self, key: &ObjectKey) -> Option<&str> {
        let is_pack = key.as_str().starts_with("data/");
        self.bucket.settings().storage_class.as_deref().filter(|_| is_pack)
    }
}

/// Whether there may be an object with this key: the condition failed, or the upload is complete.
fn may_exist(error: &Error) -> bool {
    error.is(ErrorKind::Conflict) || error.is(ErrorKind::NotFound)
}

fn exists(key: &ObjectKey) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        format!("cannot create {key}: it exists with other content"),
    )
}
