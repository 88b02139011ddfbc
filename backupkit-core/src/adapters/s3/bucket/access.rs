//! Access lists.

use super::{Bucket, ObjectRef};
use crate::adapters::s3::errors::failed;
use crate::adapters::s3::object::AccessList;
use crate::adapters::s3::whole::Whole;
use crate::error::Result;

impl Bucket {
    /// The access list of an object, and whether all of it could be read.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied` without `s3:GetObjectAcl`, or `s3:GetObjectVersionAcl` for a version;
    /// `Unsupported` where there are none.
    pub(in crate::adapters::s3) async fn access_list(
        &self,
        object: ObjectRef<'_>,
    ) -> Result<(AccessList, bool)> {
        let doing = format!("read the access list of {}", object.key.escape_debug());
        let asked = self
            .0
            .calls
            .run(|| async {
                let request = self.0.client.get_object_acl().bucket(self.name());
                let request = request.key(object.key).set_version_id(object.version());
                let whole = Whole::default();
                let sent = request.customize().interceptor(whole.clone()).send();
                let reply = sent.await.map_err(|error| failed(&doing, error))?;
                whole.require(&doing)?;
                let owner = reply.owner().and_then(|owner| owner.id());
                Ok(AccessList::new(owner, reply.grants()))
            })
            .await;
        self.or_gone(object, asked).await
    }

    /// The id of the account that the bucket belongs to, if the server names one.
    ///
    /// # Errors
    /// `PermissionDenied` without `s3:GetBucketAcl`, `Unsupported` where there are no access lists.
    pub(in crate::adapters::s3) async fn owner(&self) -> Result<Option<String>> {
        let doing = "find out who owns the bucket";
        self.0
            .calls
            .run(|| async {
                let request = self.0.client.get_bucket_acl().bucket(self.name());
                let whole = Whole::default();
                let sent = request.customize().interceptor(whole.clone()).send();
                let reply = sent.await.map_err(|error| failed(doing, error))?;
                whole.require(doing)?;
                let owner = reply.owner().and_then(|owner| owner.id()).map(str::to_owned);
                Ok(owner.filter(|owner| !owner.is_empty()))
            })
            .await
    }
}
