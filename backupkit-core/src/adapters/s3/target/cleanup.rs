//! Which uploads a restore has begun, and dropping those that it did not end.
//!
//! Before an upload begins the store says so, so that no crash leaves one that nobody knows.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::session::Core;
use crate::adapters::s3::bucket::BegunUpload;
use crate::adapters::s3::errors::NOT_IMPLEMENTED;
use crate::error::{Error, ErrorKind, Result};
use crate::model::BlobId;

/// Clocks may differ by this much, in seconds: servers refuse more.
const CLOCKS_DIFFER_SECONDS: i64 = 900;
const PAGE: usize = 64;

/// An upload that was begun, or is about to be.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    #[serde(rename = "k")]
    key: String,
    /// Nothing until the server has named it.
    #[serde(rename = "u")]
    id: Option<String>,
    /// Not before this, in seconds since 1970.
    #[serde(rename = "t")]
    since: i64,
}

impl Core {
    fn uploads(&self) -> String {
        format!("restore/{}/uploads/", self.name)
    }

    fn upload(&self, key: &str) -> String {
        self.uploads() + &BlobId::of(key.as_bytes()).to_string()
    }

    /// Says that an upload begins. One of the same object that was begun before is dropped.
    pub(super) async fn will_begin(&self, key: &str) -> Result<()> {
        let name = self.upload(key);
        if let Some(earlier) = self.store.get(&name).await? {
            drop_one(self, &earlier).await?;
        }
        self.note_upload(key, None).await
    }

    /// Says which one it is. If it took several attempts, others may have begun whose names were lost:
    /// they are dropped.
    pub(super) async fn has_begun(&self, key: &str, begun: &BegunUpload) -> Result<()> {
        if begun.is_repeated {
            let since = self.place.env.now().as_second() - CLOCKS_DIFFER_SECONDS;
            drop_unnamed(self, key, since, Some(&begun.id)).await?;
        }
        self.note_upload(key, Some(begun.id.clone())).await
    }

    /// Says that the upload of an object is complete, or gone.
    pub(super) async fn is_over(&self, key: &str) -> Result<()> {
        self.store.delete(&self.upload(key)).await
    }

    async fn note_upload(&self, key: &str, id: Option<String>) -> Result<()> {
        let since = self.place.env.now().as_second() - CLOCKS_DIFFER_SECONDS;
        let text =
            serde_json::to_vec(&Begun { key: key.to_owned(), id, since }).map_err(|error| {
                Error::new(ErrorKind::Internal, "cannot write that an upload begins")
                    .with_source(error)
            })?;
        self.store.put(&self.upload(key), text.into(), false).await
    }
}

/// Drops all uploads that this restore has begun and not ended, also in earlier sessions.
pub(super) async fn drop_uploads(core: &Core) -> Result<()> {
    let (prefix, mut after, mut failure) = (core.uploads(), None::<String>, None);
    loop {
        let found = core.store.scan(&prefix, after.as_deref(), PAGE).await?;
        let Some((last, _)) = found.last() else { break };
        after = Some(last.clone());
        for (name, text) in &found {
            match drop_one(core, text).await {
                Ok(()) => core.store.delete(name).await?,
                Err(error) => failure = Some(error),
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

async fn drop_one(core: &Core, text: &Bytes) -> Result<()> {
    // What cannot be read was written by another version, which dropped its uploads.
    let Ok(Begun { key, id, since }) = serde_json::from_slice(text) else { return Ok(()) };
    match id {
        Some(id) => core.place.bucket.abort_upload(&key, &id).await,
        None => drop_unnamed(core, &key, since, None).await,
    }
}

/// Drops uploads of an object that have begun since, but for one.
async fn drop_unnamed(core: &Core, key: &str, since: i64, kept: Option<&str>) -> Result<()> {
    let bucket = &core.place.bucket;
    let found = match bucket.open_uploads(key).await {
        // Some servers keep no list, and some keys may not see it.
        Err(error) if error.code() == NOT_IMPLEMENTED || error.is(ErrorKind::PermissionDenied) => {
            return Ok(());
        }
        found => found?,
    };
    for upload in found {
        let is_ours = upload.started.is_none_or(|started| started.as_second() >= since);
        if upload.key == key && is_ours && kept != Some(upload.id.as_str()) {
            bucket.abort_upload(key, &upload.id).await?;
        }
    }
    Ok(())
}
