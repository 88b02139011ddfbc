//! Deletes many objects with one request.

use std::collections::HashMap;

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::Bucket;
use crate::adapters::s3::calls::Came;
use crate::adapters::s3::errors::{NO_SUCH_KEY, failed, odd_reply, refused_key};
use crate::adapters::s3::whole::Whole;
use crate::error::{Error, ErrorKind, Result, Retry};

/// How many keys a request may name.
pub(in crate::adapters::s3) const MOST_DELETED: usize = 1_000;

/// What has come of the keys of a request, which are known by their places.
#[derive(Debug)]
struct Progress {
    left: Vec<usize>,
    refused: Vec<(usize, Error)>,
}

impl Bucket {
    /// Deletes up to [`MOST_DELETED`] objects, and returns the places of those that the server refuses
    /// to delete. Those that are gone are fine.
    ///
    /// # Errors
    /// Those of the request as a whole: also of a server that knows no such request.
    pub(in crate::adapters::s3) async fn delete_batch(
        &self,
        keys: &[&str],
    ) -> Result<Vec<(usize, Error)>> {
        let doing = format!("delete {} objects", keys.len());
        let full: Vec<String> = keys.iter().map(|key| self.full_key(key)).collect();
        let places = full.iter().enumerate().map(|(place, key)| (key.as_str(), place)).collect();
        let progress = Progress { left: (0..keys.len()).collect(), refused: Vec::new() };
        let progress = tokio::sync::Mutex::new(progress);
        let call = || async {
            let mut progress = progress.lock().await;
            self.delete_left(&full, &places, &mut progress, &doing).await
        };
        self.0.calls.run_in_parts(call).await?;
        Ok(progress.into_inner().refused)
    }

    /// Asks to delete what is left of the keys.
    async fn delete_left(
        &self,
        full: &[String],
        places: &HashMap<&str, usize>,
        progress: &mut Progress,
        doing: &str,
    ) -> Result<Came<()>> {
        let unmade = |error: aws_sdk_s3::error::BuildError| {
            Error::new(
                ErrorKind::Internal,
                format!("cannot {doing}: the request could not be made"),
            )
            .with_source(error)
        };
        // Only what was not deleted is told.
        let mut delete = Delete::builder().quiet(true);
        for place in &progress.left {
            let key = full.get(*place).map(String::as_str).unwrap_or_default();
            delete = delete.objects(ObjectIdentifier::builder().key(key).build().map_err(unmade)?);
        }
        let delete = delete.build().map_err(unmade)?;
        let request = self.0.client.delete_objects().bucket(self.name()).delete(delete);
        let whole = Whole::default();
        let sent = request.customize().interceptor(whole.clone()).send();
        let reply = sent.await.map_err(|error| failed(doing, error))?;
        whole.require(doing)?;
        let (mut again, mut reason) = (Vec::new(), None);
        for told in reply.errors() {
            let key = told.key().unwrap_or_default();
            let Some(place) = places.get(key).filter(|place| progress.left.contains(place)) else {
                return Err(odd_reply(doing, "the server names keys that it was not asked for"));
            };
            let doing = format!("delete {}", key.escape_debug());
            let error = refused_key(&doing, told.code(), told.message());
            if error.code() == NO_SUCH_KEY {
                continue;
            }
            if error.retry() == Retry::Never {
                progress.refused.push((*place, error));
            } else {
                again.push(*place);
                reason = Some(error);
            }
        }
        let is_same = again.len() == progress.left.len();
        progress.left = again;
        match reason {
            None => Ok(Came::All(())),
            Some(error) if is_same => Err(error),
            // The next one asks for the rest.
            Some(_) => Ok(Came::Part),
        }
    }
}
