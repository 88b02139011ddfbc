//! Objects that are asked for from an archive.

use aws_sdk_s3::types::{GlacierJobParameters, RestoreRequest, Tier};

use super::{Bucket, ObjectRef};
use crate::adapters::s3::errors::{REFUSED, THAWING, failed};
use crate::error::{Error, ErrorKind, Result};

impl Bucket {
    /// Asks for an object from its archive, to be there for so many days. One that was asked for before, or
    /// is there already, is fine.
    ///
    /// # Errors
    /// `PermissionDenied` without `s3:RestoreObject`, and whatever else the server says.
    pub(in crate::adapters::s3) async fn thaw(
        &self,
        object: ObjectRef<'_>,
        tier: &Tier,
        days: u16,
    ) -> Result<()> {
        match self.ask_for(object, tier, Some(i32::from(days))).await {
            // Of Intelligent-Tiering an object comes back for good.
            Err(error) if error.code() == REFUSED => self.ask_for(object, tier, None).await,
            asked => asked,
        }
    }

    async fn ask_for(&self, object: ObjectRef<'_>, tier: &Tier, days: Option<i32>) -> Result<()> {
        let doing = format!("ask for {} from its archive", object.key.escape_debug());
        let job = GlacierJobParameters::builder().tier(tier.clone()).build().map_err(|error| {
            Error::new(ErrorKind::Internal, format!("cannot {doing}")).with_source(error)
        })?;
        let wanted = RestoreRequest::builder().set_days(days).glacier_job_parameters(job).build();
        let asked = self
            .0
            .calls
            .run(|| async {
                let request = self.0.client.restore_object().bucket(self.name()).key(object.key);
                let request =
                    request.set_version_id(object.version()).restore_request(wanted.clone());
                request.send().await.map(drop).map_err(|error| failed(&doing, error))
            })
            .await;
        match asked {
            Err(error) if error.code() == THAWING => Ok(()),
            asked => asked,
        }
    }
}
