//! A bucket: the requests that we make, each repeated as its errors advise.

mod access;
mod at_time;
mod clock;
mod configuration;
mod deleting;
mod described;
mod objects;
mod pages;
mod reading;
mod retention;
mod thaw;
mod uploads;
mod version_order;
mod versions;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, ObjectLockLegalHoldStatus, ObjectLockMode,
};

use super::calls::Calls;
use super::client;
use super::credentials::S3Credentials;
use super::errors::{INVALID_RANGE, NO_SUCH_KEY, failed, odd_reply};
use super::object::{ObjectLock, ObjectRecord};
use super::payload::Parts;
use super::settings::S3Settings;
use crate::env::Env;
use crate::error::{Result, Retry};

pub(super) use at_time::AtTime;
pub(super) use configuration::{Configured, Setting};
pub(super) use deleting::MOST_DELETED;
use described::{Expires, described};
pub(super) use objects::{ObjectRef, Tagged, Version, Wanted, other_version};
pub(super) use pages::{Page, PagedKey, incomplete};
pub(super) use uploads::{BegunUpload, UploadedPart};
pub(super) use versions::{PagedVersion, VersionMarker, Versioning, VersionsPage};

/// A look that contradicts what the server says otherwise is made so often.
const MOST_LOOKS: u32 = 3;

/// A bucket. Clones share its connections and its limits.
#[derive(Clone)]
pub(super) struct Bucket(Arc<Inner>);

struct Inner {
    client: Client,
    calls: Calls,
    settings: S3Settings,
    root: String,
}

/// What must hold for a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    /// Nothing.
    None,
    /// There is no object with this key.
    Absent,
    /// The object has this entity tag.
    Tag(String),
}

/// What a look at an object tells.
#[derive(Debug, Clone)]
pub(super) struct Looked {
    pub(super) len_bytes: u64,
    pub(super) etag: Option<String>,
    /// The SHA-256 of all its bytes, if the server keeps it.
    pub(super) checksum: Option<String>,
    /// In seconds since 1970.
    pub(super) modified: Option<i64>,
    /// What locks it, as far as we may know.
    pub(super) lock: Option<ObjectLock>,
    /// `Content-Type`.
    pub(super) content_type: Option<String>,
    /// Metadata of users, by name.
    pub(super) user_metadata: BTreeMap<String, String>,
}

impl Bucket {
    pub(super) fn new(
        settings: S3Settings,
        credentials: &S3Credentials,
        env: &Env,
    ) -> Result<Self> {
        let provider = credentials.provider(&settings, env);
        let client = client::build(&settings, provider.clone())?;
        let (calls, root) = (Calls::new(env, provider), settings.root());
        Ok(Self(Arc::new(Inner { client, calls, settings, root })))
    }

    /// The same bucket, for somebody who does not wait long: each call is made once, and given up soon.
    /// It shares the connections, and has limits of its own.
    pub(super) fn impatient(&self, env: &Env) -> Self {
        let Inner { client, calls, settings, root } = &*self.0;
        let client = client::impatient(client);
        let calls = Calls::once(env, calls.provider().cloned());
        Self(Arc::new(Inner { client, calls, settings: settings.clone(), root: root.clone() }))
    }

    /// Whether the server has lately asked for fewer requests.
    pub(super) fn is_slowed_down(&self) -> bool {
        self.0.calls.is_slowed_down()
    }

    /// Whether the server is taken for gone.
    pub(super) fn is_lost(&self) -> bool {
        self.0.calls.is_lost()
    }

    pub(super) fn settings(&self) -> &S3Settings {
        &self.0.settings
    }

    /// The key in the bucket of what a destination calls `key`.
    pub(super) fn full_key(&self, key: &str) -> String {
        format!("{}{key}", self.0.root)
    }

    fn name(&self) -> &str {
        &self.0.settings.bucket
    }

    /// Stores an object of ours in one request, with nothing special.
    ///
    /// # Errors
    /// As for [`Self::put_object`].
    pub(super) async fn put(&self, key: &str, parts: &Parts, condition: &Condition) -> Result<()> {
        self.put_object(key, parts, condition, &ObjectRecord::of_ours(None)).await.map(drop)
    }

    /// Stores an object in one request, with all that the record says of it. Returns its entity tag, if the
    /// server says it.
    ///
    /// # Errors
    /// `Conflict` if the condition does not hold, also where it does not any more because an earlier
    /// attempt of this call had its effect and its reply was lost.
    pub(super) async fn put_object(
        &self,
        key: &str,
        parts: &Parts,
        condition: &Condition,
        record: &ObjectRecord,
    ) -> Result<Option<String>> {
        let doing = format!("write {}", key.escape_debug());
        self.0
            .calls
            .run(|| async {
                let request = self
                    .0
                    .client
                    .put_object()
                    .bucket(self.name())
                    .key(self.full_key(key))
                    .body(parts.body())
                    .content_length(parts.content_length());
                let mut request = described!(request, record);
                if self.0.settings.sends_checksums() {
                    request = request
                        .checksum_algorithm(ChecksumAlgorithm::Sha256)
                        .checksum_sha256(parts.checksum());
                }
                request = match condition {
                    Condition::None => request,
                    Condition::Absent => request.if_none_match("*"),
                    Condition::Tag(etag) => request.if_match(etag),
                };
                let sent = request
                    .customize()
                    .interceptor(parts.signer())
                    .interceptor(Expires::of(record))
                    .send();
                let reply = sent.await.map_err(|error| failed(&doing, error))?;
                Ok(reply.e_tag().filter(|etag| !etag.is_empty()).map(str::to_owned))
            })
            .await
    }

    /// Looks at an object; nothing if there is none.
    pub(super) async fn look(&self, key: &str) -> Result<Option<Looked>> {
        let doing = format!("look at {key}");
        let mut looks = 0;
        loop {
            looks += 1;
            let absent = match self.head(key, None, &doing).await {
                Ok(Ok(found)) => return Ok(Some(found)),
                Ok(Err(absent)) => absent,
                Err(error) if error.retry() == Retry::Never => {
                    return Err(match self.is_there(key, &doing).await {
                        Err(told) if told.retry() == Retry::Never => told,
                        _ => error,
                    });
                }
                Err(error) => return Err(error),
            };
            if !self.is_there(key, &doing).await? {
                return Ok(None);
            }
            // It came meanwhile, or what answered was not the server.
            if looks >= MOST_LOOKS {
                return Err(absent);
            }
        }
    }

    /// Looks at a version of an object; nothing if it is gone.
    pub(super) async fn look_at_version(&self, key: &str, version: &str) -> Result<Option<Looked>> {
        let doing = format!("look at a version of {}", key.escape_debug());
        self.head(key, Some(version), &doing).await.map(Result::ok)
    }

    /// Asks for what is known of an object. The inner error is one that may mean that there is none: a
    /// reply to HEAD has no body, and so no reason. It may also be that the bucket is not there, or that a
    /// proxy has answered.
    async fn head(&self, key: &str, version: Option<&str>, doing: &str) -> Result<Result<Looked>> {
        let head = || async {
            let mut request =
                self.0.client.head_object().bucket(self.name()).key(self.full_key(key));
            request = request.set_version_id(version.map(str::to_owned));
            if self.0.settings.sends_checksums() {
                request = request.checksum_mode(ChecksumMode::Enabled);
            }
            match request.send().await {
                Ok(found) => looked(&found, doing).map(Ok),
                Err(error) => {
                    let status = error.raw_response().map(|reply| reply.status().as_u16());
                    let error = failed(doing, error);
                    if status == Some(404) { Ok(Err(error)) } else { Err(error) }
                }
            }
        };
        self.0.calls.run(head).await
    }

    /// Whether there is an object, in the words of the server.
    ///
    /// # Errors
    /// Whatever else the server says.
    async fn is_there(&self, key: &str, doing: &str) -> Result<bool> {
        let read = || async {
            let request = self.0.client.get_object().bucket(self.name()).key(self.full_key(key));
            match request.range("bytes=0-0").send().await.map_err(|error| failed(doing, error)) {
                Ok(_) => Ok(true),
                Err(error) if error.code() == INVALID_RANGE => Ok(true),
                Err(error) if error.code() == NO_SUCH_KEY => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.0.calls.run(read).await
    }

    /// Deletes an object. One that is gone is fine.
    pub(super) async fn delete(&self, key: &str) -> Result<()> {
        let doing = format!("delete {key}");
        let deleted = self
            .0
            .calls
            .run(|| async {
                let request =
                    self.0.client.delete_object().bucket(self.name()).key(self.full_key(key));
                request.send().await.map(drop).map_err(|error| failed(&doing, error))
            })
            .await;
        match deleted {
            Err(error) if error.code() == NO_SUCH_KEY => Ok(()),
            deleted => deleted,
        }
    }
}

/// What a reply to a look tells.
fn looked(found: &HeadObjectOutput, doing: &str) -> Result<Looked> {
    let length = found.content_length().and_then(|length| u64::try_from(length).ok());
    let len_bytes =
        length.ok_or_else(|| odd_reply(doing, "the server does not say how long it is"))?;
    // A checksum of parts is one of their checksums, not of the bytes.
    let is_whole = found.checksum_type() != Some(&ChecksumType::Composite);
    let checksum = found.checksum_sha256().filter(|text| is_whole && text.len() == 44);
    let text = |value: Option<&str>| value.map(str::to_owned);
    let metadata = found.metadata().into_iter().flatten();
    Ok(Looked {
        len_bytes,
        etag: text(found.e_tag()),
        checksum: text(checksum),
        modified: found.last_modified().map(DateTime::secs),
        lock: ObjectLock::new(
            found.object_lock_mode().map(ObjectLockMode::as_str),
            found.object_lock_retain_until_date(),
            found.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On),
        ),
        content_type: text(found.content_type()),
        user_metadata: metadata.map(|(name, value)| (name.clone(), value.clone())).collect(),
    })
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("at", &self.0.settings.location()).finish_non_exhaustive()
    }
}
