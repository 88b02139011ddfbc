//! Tries a bucket as a target, step by step.

use bytes::Bytes;

use super::Place;
use super::kept::tried_record;
use crate::adapters::s3::bucket::Condition;
use crate::adapters::s3::errors::NOT_IMPLEMENTED;
use crate::adapters::s3::object::ObjectRecord;
use crate::adapters::s3::payload::Parts;
use crate::error::{Error, ErrorKind, Result};
use crate::probe::{Probe, Probing};

const VERSIONS: &str = "find that the bucket keeps versions";
const LIST: &str = "reach the server and list the bucket";
const WRITE: &str = "write an object with metadata";
const TAGS: &str = "write it with tags";
const LOOK: &str = "find it as it was written";
const CONDITION: &str = "refuse a second writer of the same object";
const UPLOAD: &str = "begin and drop an upload in parts";
const DELETE: &str = "delete it";

const CONTENT: &[u8] = b"BackupKit tries here whether it can restore into this bucket.\n";

pub(super) async fn check(place: &Place) -> Probe {
    // Somebody waits for the result.
    let bucket = &place.hasty;
    let mut probing = Probing::new(&place.env);
    let root = place.settings.root();
    let hint = "check the address of the server, the bucket, the region and the key";
    let listed = probing.step_async(LIST, hint, bucket.list_page(&root, None, Some(1))).await;
    let content = [Bytes::from_static(CONTENT)];
    let tried = match listed {
        Some(_) => place.tried_key().ok().zip(Parts::new(content.into()).await.ok()),
        None => None,
    };
    let Some((key, parts)) = tried else {
        return skip(
            probing,
            &[WRITE, TAGS, LOOK, CONDITION, UPLOAD, DELETE],
            "it cannot be reached",
        );
    };
    let mut record = tried_record();
    let tagged = record.tags.take();
    let hint = "let this key write objects below the prefix";
    let writing = bucket.put_object(&key, &parts, &Condition::None, &record);
    if probing.step_async(WRITE, hint, writing).await.is_none() {
        return skip(probing, &[TAGS, LOOK, CONDITION, UPLOAD, DELETE], "nothing was written");
    }
    let with_tags = ObjectRecord { tags: tagged, ..record.clone() };
    match bucket.put_object(&key, &parts, &Condition::None, &with_tags).await {
        Err(error) if error.code() == NOT_IMPLEMENTED => {
            probing.skip(TAGS, "this server keeps none: objects are restored without them");
        }
        written => {
            let hint = "let this key do s3:PutObjectTagging, or restore what has no tags";
            probing.step(TAGS, hint, || written);
        }
    }
    let hint = "see whether something before the server changes what is written";
    probing.step_async(LOOK, hint, look(place, &key, &parts, &record)).await;
    let hint = "let this key write objects below the prefix";
    let why = "other programs should not write there at the same time";
    match bucket.put(&key, &parts, &Condition::Absent).await {
        Err(error) if error.is(ErrorKind::Conflict) => {
            probing.step(CONDITION, "", || Ok(()));
        }
        Err(error) if error.code() != NOT_IMPLEMENTED => {
            probing.step(CONDITION, hint, || Err::<(), _>(error));
        }
        _ => probing.skip(CONDITION, &format!("this server does not: {why}")),
    }
    let hint = "let this key upload in parts; large objects need that";
    probing
        .step_async(UPLOAD, hint, async {
            let begun = bucket.begin_upload(&key).await?;
            bucket.abort_upload(&key, &begun.id).await
        })
        .await;
    if place.options.versions {
        let hint = "enable versioning of the bucket, or restore without versions; this key needs \
                    s3:GetBucketVersioning and s3:ListBucketVersions";
        probing
            .step_async(VERSIONS, hint, async {
                place.require_versions(bucket).await?;
                bucket.versions_page(&key, None).await.map(drop)
            })
            .await;
    }
    match bucket.delete(&key).await {
        Err(error) if error.is(ErrorKind::PermissionDenied) => {
            probing.skip(DELETE, "this key may not delete: small objects that try things stay");
        }
        deleted => {
            let hint = "let this key delete objects, or make that a refusal";
            probing.step(DELETE, hint, || deleted);
        }
    }
    probing.finish()
}

async fn look(place: &Place, key: &str, parts: &Parts, record: &ObjectRecord) -> Result<()> {
    let found = place.hasty.look(key).await?;
    let wrong = |detail: &str| Err(Error::corrupt("the object", detail));
    match found {
        None => wrong("it is gone as soon as it is written"),
        Some(found) if found.len_bytes != parts.len_bytes() => wrong("it has another length"),
        Some(found)
            if found.user_metadata.get("backupkit") != record.user_metadata.get("backupkit") =>
        {
            wrong("its metadata is not what was written")
        }
        Some(_) => Ok(()),
    }
}

fn skip(mut probing: Probing<'_>, steps: &[&'static str], why: &str) -> Probe {
    for step in steps {
        probing.skip(*step, why);
    }
    probing.finish()
}
