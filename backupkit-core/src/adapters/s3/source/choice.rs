//! Which of the objects that are listed are backed up.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::task::JoinSet;

use super::super::bucket::{PagedKey, PagedVersion, Tagged};
use super::Shared;
use super::asked::try_on;
use super::filter::Candidate;
use super::found::{ListedObject, Past};
use crate::error::{Error, ErrorKind, Result};

/// Objects whose tags are asked for at the same time.
const AT_ONCE: usize = 32;

/// Something that may be backed up, and its object.
pub(super) trait Choosable: Send + Sync + 'static {
    fn object(&self) -> &ListedObject;
}

impl Choosable for ListedObject {
    fn object(&self) -> &ListedObject {
        self
    }
}

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
        let candidate = Candidate {
            key: &listed.key,
            len_bytes: Some(listed.len_bytes),
            modified: listed.modified,
            storage_class: listed.storage_class.as_deref(),
        };
        if is_taken(shared, &candidate, None) {
            objects.push(ListedObject {
                key: shared.bucket.full_key(&listed.key),
                len_bytes: listed.len_bytes,
                etag: listed.etag,
                modified: listed.modified.unwrap_or_default(),
                version: listed.version,
                past: None,
            });
        }
    }
    let passed = objects.iter().take_while(|object| is_passed(&object.key)).count();
    let due = objects.split_off(passed);
    objects.extend(by_tags(shared, due).await?);
    Ok(objects)
}

/// An older version, if it is backed up whatever its tags.
pub(super) fn choose_version(shared: &Shared, version: PagedVersion) -> Option<ListedObject> {
    let past = if version.is_mark() { Past::Deletion } else { Past::Version };
    let modified = version.modified.as_second();
    let candidate = Candidate {
        key: &version.key,
        len_bytes: version.len_bytes,
        modified: Some(modified),
        storage_class: version.storage_class.as_deref(),
    };
    is_taken(shared, &candidate, Some(past)).then(|| ListedObject {
        key: shared.bucket.full_key(&version.key),
        len_bytes: version.len_bytes.unwrap_or_default(),
        etag: version.etag,
        modified,
        version: version.id,
        past: Some(past),
    })
}

/// Those that are backed up by their tags. Marks of deletions have none, and are.
///
/// # Errors
/// As [`choose`].
pub(super) async fn by_tags<T: Choosable>(shared: &Arc<Shared>, objects: Vec<T>) -> Result<Vec<T>> {
    if objects.is_empty() || !(shared.is_compared() || shared.options.filter.asks_for_tags()) {
        return Ok(objects);
    }
    // A task of its own: a request that nobody waits for would keep its place among the calls.
    let mut task = JoinSet::new();
    task.spawn(ask(Arc::clone(shared), objects));
    let asked = async { task.join_next().await.transpose().map_err(panicked)?.transpose() };
    Ok(shared.cancel.unless_cancelled(asked).await?.unwrap_or_default())
}

fn is_taken(shared: &Shared, candidate: &Candidate<'_>, past: Option<Past>) -> bool {
    if !shared.options.filter.takes(candidate, shared.moment.as_second()) {
        shared.notes.filtered(past);
        return false;
    }
    let key = shared.bucket.full_key(candidate.key);
    let excluded = shared.excluded.iter().find(|prefix| key.starts_with(*prefix));
    if let Some(prefix) = excluded {
        shared.notes.left_out(prefix);
    }
    excluded.is_none()
}

async fn ask<T: Choosable>(shared: Arc<Shared>, objects: Vec<T>) -> Result<Vec<T>> {
    let has_tags = |object: &ListedObject| object.past != Some(Past::Deletion);
    if shared.is_compared() {
        let having = objects.iter().map(T::object).filter(|object| has_tags(object));
        try_on(&shared, &having.collect::<Vec<_>>()).await;
    }
    if !shared.options.filter.asks_for_tags() {
        return Ok(objects);
    }
    let mut judged = Vec::with_capacity(objects.len());
    for one in objects {
        let shared = &shared;
        judged.push(async move {
            let object = one.object();
            let tags = if has_tags(object) { tags_of(shared, object).await? } else { None };
            let is_taken = tags.is_none_or(|tags| shared.options.filter.takes_tags(&tags));
            if !is_taken {
                shared.notes.filtered(object.past);
            }
            Ok(is_taken.then_some(one))
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
