//! Tries a bucket, step by step.

use std::time::Duration;

use bytes::Bytes;

use super::S3Destination;
use super::retention::{refused, require_secrecy};
use crate::adapters::s3::bucket::{Bucket, Condition, Configured, Setting};
use crate::adapters::s3::errors::NOT_IMPLEMENTED;
use crate::adapters::s3::object::ObjectRecord;
use crate::adapters::s3::payload::Parts;
use crate::error::{Error, ErrorKind, Result};
use crate::probe::{Probe, Probing};

const LIST: &str = "reach the server and list the bucket";
const WRITE: &str = "write an object";
const CONDITION: &str = "refuse a second writer of the same object";
const READ: &str = "read a part of it back";
const RETAIN: &str = "keep an object from being deleted for a time";
const UPLOAD: &str = "begin and drop an upload in parts";
const DELETE: &str = "delete it";

/// All that is tried with an object.
const TRIES: [&str; 5] = [CONDITION, READ, RETAIN, UPLOAD, DELETE];

/// The object of the try is retained for so long.
const TRIED_TIME: Duration = Duration::from_mins(1);
/// How much is written.
const TRIED_BYTES: usize = 32;

/// `is_maintained`: whether the key must be allowed to delete.
pub(super) async fn probe(destination: &S3Destination, is_maintained: bool) -> Probe {
    // Somebody waits for the result.
    let bucket = destination.hasty();
    let mut probing = Probing::new(&destination.env);
    let hint = "check the address of the server, the bucket, the region and the key";
    let listed = probing.step_async(LIST, hint, bucket.list_page("", None, Some(1))).await;
    let tried = match listed {
        Some(_) => tried_object(destination).await.ok(),
        None => None,
    };
    let Some((key, parts, bytes)) = tried else {
        for step in std::iter::once(WRITE).chain(TRIES) {
            probing.skip(step, "the bucket cannot be reached");
        }
        return probing.finish();
    };
    let hint = "let this key write objects below the prefix; to read, that is not needed";
    let written = probing
        .step_async(WRITE, hint, write(bucket, &key, &parts, &ObjectRecord::of_ours(None)))
        .await;
    if written.is_none() {
        for step in TRIES {
            probing.skip(step, "nothing was written");
        }
        return probing.finish();
    }
    if bucket.settings().conditional_writes {
        let hint = "set conditional_writes to false, and let one program write at a time";
        probing.step_async(CONDITION, hint, refuses_second(bucket, &key, &parts)).await;
    } else {
        probing.skip(CONDITION, "conditional_writes is false");
    }
    let hint = "let this key read objects below the prefix";
    probing
        .step_async(READ, hint, async {
            let found = bucket.get(&key, Some(8..24)).await?;
            if found == bytes.slice(8..24) {
                Ok(())
            } else {
                Err(Error::corrupt(&key, "it does not hold what was written"))
            }
        })
        .await;
    retain(destination, &mut probing, &key, &parts).await;
    let hint = "let this key upload in parts; large packs need that";
    probing
        .step_async(UPLOAD, hint, async {
            let begun = bucket.begin_upload(&key).await?;
            bucket.abort_upload(&key, &begun.id).await
        })
        .await;
    delete(bucket, &mut probing, &key, is_maintained).await;
    probing.finish()
}

/// Backups write with a lock, so one object is written with one that ends soon.
async fn retain(destination: &S3Destination, probing: &mut Probing<'_>, key: &str, parts: &Parts) {
    let bucket = destination.hasty();
    let Some(retention) = bucket.settings().retention else {
        let why = match bucket.configured(Setting::ObjectLock).await {
            Configured::Value(_) => {
                "the bucket has Object Lock, but retention_mode is not set: whoever may delete \
                 versions may delete backups for good"
            }
            _ => "retention_mode is not set",
        };
        probing.skip(RETAIN, why);
        return;
    };
    let key = format!("{key}-retained");
    let tried = async {
        let lock = destination.lock_for(retention, TRIED_TIME).await?;
        let record = ObjectRecord { lock, ..ObjectRecord::of_ours(None) };
        write(bucket, &key, parts, &record).await?;
        match bucket.look(&key).await? {
            Some(found) if found.lock.is_none() => require_secrecy(bucket, &key).await,
            _ => Ok(()),
        }
    };
    let tried: Result<()> = tried.await.map_err(|error| refused(&key, error));
    let hint = "let this key write objects below the prefix";
    probing.step(RETAIN, hint, || tried);
    // Deleting is a step of its own. What is locked stays below the mark of its deletion.
    drop(bucket.delete(&key).await);
}

/// Credentials that may only add are fine for backups, and safer.
async fn delete(bucket: &Bucket, probing: &mut Probing<'_>, key: &str, is_maintained: bool) {
    match bucket.delete(key).await {
        Err(error) if error.is(ErrorKind::PermissionDenied) && !is_maintained => {
            probing.skip(DELETE, "this key may not delete: good for backups, not for maintenance");
        }
        deleted => {
            let hint = "let this key delete objects, or make that a refusal";
            probing.step(DELETE, hint, || deleted);
        }
    }
}

async fn tried_object(destination: &S3Destination) -> Result<(String, Parts, Bytes)> {
    let random = destination.env.random::<TRIED_BYTES>()?;
    let bytes = Bytes::copy_from_slice(&random);
    // No program takes a file of this name for a part of a repository.
    let key = format!("backupkit/probe-{}", hex::encode(&random[..8]));
    Ok((key, Parts::new([bytes.clone()].into()).await?, bytes))
}

/// Writes as backups do, if the server lets them: some are told to refuse all else.
async fn write(bucket: &Bucket, key: &str, parts: &Parts, record: &ObjectRecord) -> Result<()> {
    if bucket.settings().conditional_writes {
        match bucket.put_object(key, parts, &Condition::Absent, record).await {
            Err(error) if error.code() == NOT_IMPLEMENTED => {}
            written => return written.map(drop),
        }
    }
    bucket.put_object(key, parts, &Condition::None, record).await.map(drop)
}

async fn refuses_second(bucket: &Bucket, key: &str, parts: &Parts) -> Result<()> {
    match bucket.put(key, parts, &Condition::Absent).await {
        Err(error) if error.is(ErrorKind::Conflict) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            Err(Error::new(ErrorKind::Unsupported, "the server lets the second one replace it"))
        }
    }
}
