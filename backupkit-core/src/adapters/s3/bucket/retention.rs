//! Retention of objects.

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::types::{ObjectLockRetention, ObjectLockRetentionMode};

use super::Bucket;
use crate::adapters::s3::errors::failed;
use crate::adapters::s3::object::ObjectLock;
use crate::error::Result;

/// What servers say of an object that nothing retains.
const NONE: &str = "NoSuchObjectLockConfiguration";

impl Bucket {
    /// Whether an object has a retention, be it over.
    ///
    /// # Errors
    /// `PermissionDenied` without `s3:GetObjectRetention`, `Unsupported` where nothing can be retained.
    pub(in crate::adapters::s3) async fn is_retained(&self, key: &str) -> Result<bool> {
        let doing = format!("ask what retains {key}");
        self.0
            .calls
            .run(|| async {
                let request = self.0.client.get_object_retention().bucket(self.name());
                match request.key(self.full_key(key)).send().await {
                    Ok(reply) => Ok(reply.retention().is_some_and(|found| found.mode().is_some())),
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
    pub(in crate::adapters::s3) async fn retain(&self, key: &str, lock: &ObjectLock) -> Result<()> {
        let doing = format!("retain {key}");
        let retention = ObjectLockRetention::builder()
            .set_mode(lock.mode.as_deref().map(ObjectLockRetentionMode::from))
            .set_retain_until_date(lock.until())
            .build();
        self.0
            .calls
            .run(|| async {
                let request = self
                    .0
                    .client
                    .put_object_retention()
                    .bucket(self.name())
                    .key(self.full_key(key))
                    .retention(retention.clone());
                request.send().await.map(drop).map_err(|error| failed(&doing, error))
            })
            .await
    }
}
