//! Which of the objects that are listed are backed up.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::task::JoinSet;

use super::super::bucket::{PagedKey, Tagged};
use super::Shared;
use super::asked::try_on;
use super::filter::Candidate;
use super::found::ListedObject;
use crate::error::{Error, ErrorKind, Result};

/// Objects whose tags are asked for at the same time.
const AT_ONCE: usize = 32;

/// The objects of a page that are backed up. Of those at its beginning that `is_passed` knows nothing is
/// asked: they were judged before a break.
///
/// # Errors
/// Those of the server, if the choice depends on tags: what cannot be told is neither taken nor left out.
pub(super) async fn choose(
    shared: &Arc<Shared>,
    page: Vec<PagedKey>,
    is_passed: impl Fn(&str) -> bool,
) -> Result<Vec<ListedObject>> {
    let mut objects = Vec::with_capacity(page.len());
    for listed in page {
        let key = shared.bucket.full_key(&listed.key);
        if !is_taken(shared, &listed) {
            shared.notes.filtered();
        } else if let Some(prefix) = shared.excluded.iter().find(|one| key.starts_with(*one)) {
            shared.notes.left_out(prefix);
        } else {
            objects.push(ListedObject {
                key,
                len_bytes: listed.len_bytes,
                etag: listed.etag,
                modified: listed.modified.unwrap_or_default(),
                version: listed.version,
            });
        }
    }
    if objects.is_empty() || !(shared.is_compared() || shared.options.filter.asks_for_tags()) {
        return Ok(objects);
    }
    let passed = objects.iter().take_while(|object| is_passed(&object.key)).count();
    let due = objects.split_off(passed);
    if due.is_empty() {
        return Ok(objects);
    }
    // A task of its own: a request that nobody waits for would keep its place among the calls.
    let mut task = JoinSet::new();
    task.spawn(ask(Arc::clone(shared), due));
    let asked = async { task.join_next().await.transpose().map_err(panicked)?.transpose() };
    objects.extend(shared.cancel.unless_cancelled(asked).await?.unwrap_or_default());
    Ok(objects)
}

fn is_taken(shared: &Shared, listed: &PagedKey) -> bool {
    let candidate = Candidate {
        key: &listed.key,
        len_bytes: listed.len_bytes,
        modified: listed.modified,
        storage_class: listed.storage_class.as_deref(),
    };
    shared.options.filter.takes(&candidate, shared.moment.as_second())
}

async fn ask(shared: Arc<Shared>, objects: Vec<ListedObject>) -> Result<Vec<ListedObject>> {
    if shared.is_compared() {
        try_on(&shared, &objects).await;
    }
    if !shared.options.filter.asks_for_tags() {
        return Ok(objects);
    }
    let mut judged = Vec::with_capacity(objects.len());
    for object in objects {
        let shared = &shared;
        judged.push(async move {
            let tags = tags_of(shared, &object).await?;
            let is_taken = tags.is_none_or(|tags| shared.options.filter.takes_tags(&tags));
            if !is_taken {
                shared.notes.filtered();
            }
            Ok(is_taken.then_some(object))
        });
    }
    let taken = stream::iter(judged).buffered(AT_ONCE).try_filter_map(future::ok);
    taken.try_collect().await
}

/// Nothing of an object that is gone: whoever reads it finds that out.
async fn tags_of(
    shared: &Shared,
    object: &ListedObject,
) -> Result<Option<BTreeMap<String, String>>> {
    match shared.bucket.tags(object.named()).await {
        Ok(Tagged { tags, .. }) => Ok(Some(tags)),
        Err(error) if error.is(ErrorKind::NotFound) => Ok(None),
        Err(error) if error.is(ErrorKind::PermissionDenied) => {
            let hint = if object.version.is_some() {
                "let this key do s3:GetObjectVersionTagging, or choose no objects by tags"
            } else {
                "let this key do s3:GetObjectTagging, or choose no objects by tags"
            };
            Err(error.with_hint(hint))
        }
        Err(error) => Err(error),
    }
}

fn panicked(error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Internal, "a task that chooses objects panicked").with_source(error)
}
