//! A bucket that keeps repositories.

mod as_of;
mod compare;
mod conditions;
mod create;
mod deleting;
mod large;
mod list;
mod orphans;
mod probe;
mod retention;

use std::fmt;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::{Mutex, OnceCell};

use self::as_of::S3AsOf;
use self::orphans::Orphans;
use self::retention::{LockProofs, ServerTime};
use super::bucket::{Bucket, Condition, MOST_DELETED};
use super::credentials::S3Credentials;
use super::payload::Parts;
use super::settings::S3Settings;
use crate::destination::{
    Destination, DestinationCapabilities, Extension, Leftovers, ObjectKey, ObjectMeta, Payload,
    Undeleted,
};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::probe::Probe;

/// How many calls the engine may have under way. Buckets take more, memory does not.
const CONCURRENCY: usize = 16;

/// A destination in a bucket, or below a prefix of it: the object `a/b` is the key `<prefix>/a/b`,
/// which is how restic lays out its repositories.
///
/// Objects are created under the condition that there is none; if the reply to that is lost, what is
/// there is compared. Whether the server keeps such conditions is tried before, on a small object
/// `backupkit/conditions` that stays. For one that does not ([`S3Settings::without_conditional_writes`]), the key is looked at first and what was
/// written is compared after.
///
/// With a [retention](S3Settings::with_retention) all that a restore needs is locked from the moment it is
/// written, by the clock of the server. Deleting it makes a mark, as in each bucket that keeps versions.
///
/// Calls that fail are made again: for 15 minutes in general, and for as long as 30 minutes without
/// any success while the server asks to slow down. Clones share connections and limits.
///
/// What a crash leaves of large objects are parts of uploads, which are never listed;
/// [`remove_abandoned`](Destination::remove_abandoned) clears them.
#[derive(Clone)]
pub struct S3Destination {
    bucket: Bucket,
    env: Env,
    /// For calls that nobody waits long for.
    hasty: Arc<OnceLock<Bucket>>,
    /// Whether the server keeps the condition of writes that there is no object, once that is known.
    keeps_absent: Arc<OnceCell<bool>>,
    /// The same of the condition that the object is a certain one.
    keeps_tags: Arc<OnceCell<bool>>,
    /// Whether the server has shown that it keeps what locks an object.
    keeps_locks: Arc<LockProofs>,
    server_time: Arc<Mutex<Option<ServerTime>>>,
    orphans: Orphans,
    /// Whether the server has refused to delete several objects in one request.
    deletes_singly: Arc<AtomicBool>,
}

impl S3Destination {
    /// Returns a destination. Nothing is sent yet.
    ///
    /// # Errors
    /// `InvalidConfig` for certificates or a proxy that will not do.
    pub fn new(settings: S3Settings, credentials: &S3Credentials, env: Env) -> Result<Self> {
        let bucket = Bucket::new(settings, credentials, &env)?;
        Ok(Self {
            bucket,
            env,
            hasty: Arc::default(),
            keeps_absent: Arc::default(),
            keeps_tags: Arc::default(),
            keeps_locks: Arc::default(),
            server_time: Arc::default(),
            orphans: Orphans::default(),
            deletes_singly: Arc::default(),
        })
    }
}

impl fmt::Debug for S3Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Destination").field("at", &self.location()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Destination for S3Destination {
    fn capabilities(&self) -> DestinationCapabilities {
        let capabilities =
            DestinationCapabilities::new(CONCURRENCY).with_delete_batch(MOST_DELETED);
        if self.bucket.settings().conditional_writes {
            capabilities.with_swap()
        } else {
            capabilities.with_checked_create()
        }
    }

    fn location(&self) -> String {
        self.bucket.settings().location()
    }

    fn is_slowed_down(&self) -> bool {
        self.bucket.is_slowed_down()
    }

    async fn check(&self) -> Result<Probe> {
        Ok(probe::probe(self, false).await)
    }

    async fn create(&self, key: &ObjectKey, payload: Payload) -> Result<()> {
        self.orphans.drop_all(self.hasty(), &self.env).await;
        self.create_object(key, payload).await
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes> {
        self.bucket.get(key.as_str(), range).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let found = self.bucket.look(key.as_str()).await?.ok_or_else(|| {
            let message = format!("there is no {key} at {}", self.location());
            Error::new(ErrorKind::NotFound, message)
        })?;
        Ok(ObjectMeta { key: key.clone(), size_bytes: found.len_bytes })
    }

    fn list(&self, prefix: &ObjectKey) -> BoxStream<'static, Result<ObjectMeta>> {
        list::list(self.bucket.clone(), prefix.clone())
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.orphans.drop_all(self.hasty(), &self.env).await;
        self.bucket.delete(key.as_str()).await
    }

    async fn delete_many(&self, keys: &[ObjectKey]) -> Result<Vec<Undeleted>> {
        self.orphans.drop_all(self.hasty(), &self.env).await;
        self.delete_objects(keys).await
    }

    async fn swap(&self, key: &ObjectKey, expected: Option<Bytes>, bytes: Bytes) -> Result<()> {
        if !self.bucket.settings().conditional_writes {
            let message = format!("cannot replace {key}: this server has no conditional writes");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        self.require_one_replacer(&format!("replace {key}")).await?;
        let other = || {
            let message = format!("cannot replace {key}: it is not what was expected");
            Err(Error::new(ErrorKind::Conflict, message))
        };
        let condition = match expected {
            None => Condition::Absent,
            Some(expected) => match self.tag_of(key, &expected).await? {
                Some(etag) => Condition::Tag(etag),
                None => return other(),
            },
        };
        let parts = Parts::new([bytes.clone()].into()).await?;
        match self.bucket.put(key.as_str(), &parts, &condition).await {
            Err(error) if error.is(ErrorKind::Conflict) || error.is(ErrorKind::NotFound) => {
                // It may be our own: of an attempt whose reply was lost.
                match self.tag_of(key, &bytes).await? {
                    Some(_) => Ok(()),
                    None => other(),
                }
            }
            put => put,
        }
    }

    fn as_of(&self, time: Timestamp) -> Result<Arc<dyn Destination>> {
        Ok(Arc::new(S3AsOf::new(self, time)))
    }

    async fn time(&self) -> Result<Option<Timestamp>> {
        self.bucket.server_time("backupkit/").await
    }

    async fn extend_retention(&self, key: &ObjectKey, dry_run: bool) -> Result<Extension> {
        self.extend(key, dry_run).await
    }

    async fn remove_abandoned(
        &self,
        prefix: &ObjectKey,
        unchanged_for: Duration,
        dry_run: bool,
    ) -> Result<Leftovers> {
        orphans::remove_abandoned(&self.bucket, &self.env, prefix, unchanged_for, dry_run).await
    }
}

impl S3Destination {
    /// As [`check`](Destination::check), where the key must be allowed to delete.
    pub(super) async fn check_for_maintenance(&self) -> Probe {
        probe::probe(self, true).await
    }

    /// The entity tag of an object, if it has just these bytes.
    async fn tag_of(&self, key: &ObjectKey, bytes: &Bytes) -> Result<Option<String>> {
        let Some(found) = self.bucket.look(key.as_str()).await? else { return Ok(None) };
        if found.len_bytes != bytes.len() as u64 {
            return Ok(None);
        }
        match self.bucket.get(key.as_str(), None).await {
            // The tag is older than the bytes: if both were replaced, the condition fails.
            Ok(there) if there == bytes => found.etag.map(Some).ok_or_else(|| {
                let message = format!("cannot tell versions of {key}: it has no entity tag");
                Error::new(ErrorKind::Unsupported, message)
            }),
            Ok(_) => Ok(None),
            Err(error) if error.is(ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The bucket, for calls that nobody waits long for.
    fn hasty(&self) -> &Bucket {
        self.hasty.get_or_init(|| self.bucket.impatient(&self.env))
    }
}
