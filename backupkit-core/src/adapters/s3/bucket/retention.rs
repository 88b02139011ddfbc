//! What locks objects: retentions and holds.

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::types::{ObjectLockLegalHoldStatus, ObjectLockRetention, ObjectLockRetentionMode};

use super::{Bucket, ObjectRef};
use crate::adapters::s3::errors::failed;
use crate::adapters::s3::object::ObjectLock;
use crate::error::Result;

/// What servers say of an object that nothing locks.
const NONE: &str = "NoSuchObjectLockConfiguration";

impl Bucket {
    /// What retains an object, be it over; nothing if nothing does.
    ///
    /// # Errors
    /// `PermissionDenied` without `s3:GetObjectRetention`, `Unsupported` where nothing can be retained;
    /// `NotFound`.
    pub(in crate::adapters::s3) async fn retention(
        &self,
        object: ObjectRef<'_>,
    ) -> Result<Option<ObjectLock>> {
        let doing = format!("ask what retains {}", object.key.escape_debug());
        self.0
            .calls
            .run(|| async {
                let request = self.0.client.get_object_retention().bucket(self.name());
                let request = request.key(object.key).set_version_id(object.version());
                match request.send().await {
                    Ok(reply) => Ok(reply.retention().and_then(|found| {
                        let mode = found.mode().map(ObjectLockRetentionMode::as_str);
                        ObjectLock::new(mode, found.retain_until_date(), false)
                    })),
                    Err(error) if error.code() == Some(NONE) => Ok(None),
                    Err(error) => Err(failed(&doing, error)),
                }
            })
            .await
    }

    /// Whether an object is held until somebody releases it.
    ///
    /// # Errors
    /// `PermissionDenied` without `s3:GetObjectLegalHold`, `Unsupported` where nothing can be held;
    /// `NotFound`.
    pub(in crate::adapters::s3) async fn is_held(&self, object: ObjectRef<'_>) -> Result<bool> {
        let doing = format!("ask whether {} is held", object.key.escape_debug());
        self.0
            .calls
            .run(|| async {
                let request = self.0.client.get_object_legal_hold().bucket(self.name());
                let request = request.key(object.key).set_version_id(object.version());
                match request.send().await {
                    Ok(reply) => Ok(reply.legal_hold().and_then(|hold| hold.status())
                        == Some(&ObjectLockLegalHoldStatus::On)),
                    Err(error) if error.code() == Some(NONE) => Ok(false),
                    Err(error) => Err(failed(&doing, error)),
                }
            })
            .await
    }

    /// Retains an object as a lock says. It may be made again.
    ///
    /// # Errors
    /// `PermissionDenied` without `s3:PutObjectRetention`, or if it is retained for longer or in another
    /// mode; `Unsupported` where nothing can be retained.
    pub(in crate::adapters::s3) async fn retain(
        &self,
        object: ObjectRef<'_>,
        lock: &ObjectLock,
    ) -> Result<()> {
        let doing = format!("retain {}", object.key.escape_debug());
        let retention = ObjectLockRetention::builder()
            .set_mode(lock.mode.as_deref().map(ObjectLockRetentionMode::from))
            .set_retain_until_date(lock.until())
            .build();
        self.0
            .calls
            .run(|| async {
                let request = self.0.client.put_object_retention().bucket(self.name());
                let request = request.key(object.key).set_version_id(object.version());
                let sent = request.retention(retention.clone()).send().await;
                sent.map(drop).map_err(|error| failed(&doing, error))
            })
            .await
    }
}
