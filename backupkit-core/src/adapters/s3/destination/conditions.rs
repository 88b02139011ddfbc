//! Whether a server keeps conditions of writes. One that does not, and does not say so, would replace
//! what is there, so it is tried on an object that holds nothing of anybody.

use bytes::Bytes;

use super::S3Destination;
use crate::adapters::s3::bucket::Condition;
use crate::adapters::s3::errors::NOT_IMPLEMENTED;
use crate::adapters::s3::payload::Parts;
use crate::error::{Error, ErrorKind, Result};

/// It stays: whoever may not delete would leave one each time. No program takes it for a part of a
/// repository.
const TRIED: &str = "backupkit/conditions";
const CONTENT: &[u8] = b"BackupKit tries here whether this server keeps conditions of writes.\n";
/// The entity tag of no object.
const OTHER_TAG: &str = "\"00000000000000000000000000000000\"";
/// The server takes conditions of writes, and does not keep them.
const NO_CONDITIONS: &str = "s3-no-conditional-writes";

impl S3Destination {
    /// Makes sure that of two who create an object, one is refused.
    ///
    /// # Errors
    /// `Unsupported` if the server does not see to it; those of trying.
    pub(super) async fn require_one_writer(&self, doing: &str) -> Result<()> {
        let tried = self.keeps_absent.get_or_try_init(|| async {
            // The first one may find it there, the second one must.
            if self.is_refused(&Condition::Absent).await? {
                return Ok(true);
            }
            let is_refused = self.is_refused(&Condition::Absent).await?;
            if !is_refused {
                // What is of no use is not left, if it can be helped.
                drop(self.bucket.delete(TRIED).await);
            }
            Ok(is_refused)
        });
        require(tried.await, doing)
    }

    /// Makes sure that of two who replace an object, one is refused.
    ///
    /// # Errors
    /// As for [`Self::require_one_writer`].
    pub(super) async fn require_one_replacer(&self, doing: &str) -> Result<()> {
        self.require_one_writer(doing).await?;
        let other = Condition::Tag(OTHER_TAG.to_owned());
        let tried = self.keeps_tags.get_or_try_init(|| self.is_refused(&other));
        require(tried.await, doing)
    }

    /// Whether a write is refused because of its condition. A server that knows no conditions refuses it
    /// for another reason.
    async fn is_refused(&self, condition: &Condition) -> Result<bool> {
        let parts = Parts::new([Bytes::from_static(CONTENT)].into()).await?;
        match self.bucket.put(TRIED, &parts, condition).await {
            Ok(()) => Ok(false),
            Err(error) if error.is(ErrorKind::Conflict) => Ok(true),
            Err(error) if error.code() == NOT_IMPLEMENTED => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn require(tried: Result<&bool>, doing: &str) -> Result<()> {
    match tried {
        Ok(true) => Ok(()),
        Ok(false) => Err(no_conditions(doing)),
        Err(error) => Err(error.while_doing("try whether the server keeps conditions of writes")),
    }
}

/// The refusal of a server without conditions of writes, or of one that says that it knows none.
pub(super) fn no_conditions(doing: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("cannot {doing}: this server does not keep one writer from replacing what another one wrote"),
    )
    .with_code(NO_CONDITIONS)
    .with_hint("set conditional_writes to false for it, and let one program write at a time")
}
