//! What is listed: entries of objects, and directories with their markers.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::task::{JoinError, JoinSet};

use super::super::bucket::{PagedKey, Version, Wanted};
use super::super::object::{DirectoryRecord, ObjectRecord};
use super::Shared;
use super::asked::{Extras, complete};
use super::body::{ATTEMPTS, entry_of, fingerprint_of, gone, require_listed, time};
use super::choice::choose;
use super::order::ListingOrder;
use super::pages::{Known, Then, pages, pages_of_now};
use super::sorted::{is_unordered, sorted};
use super::walk::{Found, ListedObject, Walk, of_another_version};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EntryPath, FileMode, Metadata};
use crate::source::{ListError, Listed, ListedItem, VANISHED};
use crate::token::ListToken;

/// Markers that are looked at at the same time.
const MARKERS_AT_ONCE: usize = 16;
/// The first byte of a list token.
const TOKEN_VERSION: u8 = 2;
/// The same where the server lists in no order.
const SORTED_TOKEN_VERSION: u8 = 3;

/// A listing under way.
pub(super) struct Listing {
    shared: Arc<Shared>,
    pages: BoxStream<'static, Result<Vec<PagedKey>>>,
    keys: VecDeque<ListedObject>,
    walk: Walk,
    /// Whether there was a key, also one that is left out.
    has_keys: bool,
    /// Whether keys are sorted here, since the server does not.
    is_sorted: bool,
}

impl Listing {
    /// Begins, or goes on behind a token.
    pub(super) fn new(shared: &Arc<Shared>, after: Option<&ListToken>) -> Result<Self> {
        let settings = shared.bucket.settings();
        let (walk, is_sorted) = match after.map(ListToken::as_bytes) {
            None => {
                let is_any = shared.options.order == ListingOrder::Any;
                (Walk::new(&settings.bucket), is_any || settings.is_directory_bucket())
            }
            Some([version @ (TOKEN_VERSION | SORTED_TOKEN_VERSION), text @ ..]) => {
                let is_sorted = *version == SORTED_TOKEN_VERSION;
                (Walk::resume(&settings.bucket, text)?, is_sorted)
            }
            Some(_) => {
                return Err(of_another_version());
            }
        };
        // What is in no order has to be listed from the beginning.
        let behind = walk.behind(settings.lists_by_bytes()).filter(|_| !is_sorted);
        let bucket = shared.bucket.clone();
        let pages = match shared.moment.fixed() {
            None => {
                // In no order, nothing follows from one page for another.
                let parent = shared.parent.clone().filter(|_| !is_sorted);
                let is_by_bytes = !is_sorted && (settings.lists_by_bytes() || walk.is_by_bytes());
                pages_of_now(bucket, behind, Known { is_by_bytes, parent })
            }
            // What is no version of now must be one of those before.
            Some(time) => {
                let then = Then::new(&bucket, behind, time, shared.options.versions);
                pages(bucket, then)
            }
        };
        let has_keys = walk.has_keys();
        let (shared, keys) = (Arc::clone(shared), VecDeque::new());
        let mut listing = Self { shared, pages, keys, walk, has_keys, is_sorted: false };
        if is_sorted {
            listing.sort(None);
        }
        Ok(listing)
    }

    /// Sorts all that comes, and a page that came.
    fn sort(&mut self, page: Option<Vec<PagedKey>>) {
        let others = std::mem::replace(&mut self.pages, stream::empty().boxed());
        let pages = stream::iter(page.map(Ok)).chain(others).boxed();
        let env = self.shared.env.clone();
        self.pages = sorted(pages, move || env.temporary_file());
        self.walk.expect_sorted();
        self.is_sorted = true;
    }

    pub(super) fn into_stream(self) -> BoxStream<'static, Result<Listed, ListError>> {
        let shared = Arc::clone(&self.shared);
        let found = stream::unfold(Some(self), |listing| async move {
            let mut listing = listing?;
            match listing.next().await {
                // A listing that failed does not go on.
                Err(error) => Some((Err(error), None)),
                Ok(None) => None,
                Ok(Some(found)) => Some((Ok(found), Some(listing))),
            }
        });
        found
            .map(move |found| {
                let shared = Arc::clone(&shared);
                let item = found.map(|(found, token)| (item_of(&shared, found), token));
                async move {
                    let (item, token) = item?;
                    Ok(Listed { item: item.await?, token })
                }
            })
            .buffered(MARKERS_AT_ONCE)
            .boxed()
    }

    /// What is found next, and the token that goes on behind it.
    async fn next(&mut self) -> Result<Option<(Found, ListToken)>> {
        loop {
            self.shared.cancel.check()?;
            if let Some(found) = self.walk.step() {
                let version = if self.is_sorted { SORTED_TOKEN_VERSION } else { TOKEN_VERSION };
                let mut token = vec![version];
                token.extend(self.walk.to_text()?);
                return Ok(Some((found, ListToken::new(token))));
            }
            if self.walk.has_ended() {
                return Ok(None);
            }
            match self.next_key().await? {
                Some(object) => self.walk.offer(object)?,
                // Where there is none, there may have been some.
                None if self.has_keys || self.shared.options.versions => self.walk.end()?,
                None => {
                    refuse_nothing(&self.shared)?;
                    self.walk.end()?;
                }
            }
        }
    }

    async fn next_key(&mut self) -> Result<Option<ListedObject>> {
        loop {
            if let Some(object) = self.keys.pop_front() {
                return Ok(Some(object));
            }
            let page = async { self.pages.next().await.transpose() };
            let Some(page) = self.shared.cancel.unless_cancelled(page).await? else {
                return Ok(None);
            };
            let is_first = !self.has_keys;
            self.has_keys |= !page.is_empty();
            if is_first && !self.is_sorted && is_unordered(&page) {
                self.sort(Some(page));
                continue;
            }
            let is_passed = |key: &str| self.walk.has_passed(key);
            self.keys.extend(choose(&self.shared, page, is_passed).await?);
        }
    }
}

/// A prefix below which there is nothing is rather mistyped than meant.
pub(super) fn refuse_nothing(shared: &Shared) -> Result<()> {
    let settings = shared.bucket.settings();
    if settings.prefix.is_empty() {
        return Ok(());
    }
    let then = shared.moment.fixed().map(|time| format!(" at {time}")).unwrap_or_default();
    let at = settings.location();
    let message = format!("cannot back up {at}: no key begins with it{then}");
    Err(Error::new(ErrorKind::NotFound, message)
        .with_code("s3-no-such-prefix")
        .with_hint("check the prefix; it names a folder, so what it begins ends with /"))
}

/// A listing, and what follows if it comes to its end.
pub(super) fn followed(
    listing: BoxStream<'static, Result<Listed, ListError>>,
    next: impl FnOnce() -> BoxStream<'static, Result<Listed, ListError>> + Send + 'static,
) -> BoxStream<'static, Result<Listed, ListError>> {
    stream::unfold(Some((listing, Some(next))), |state| async move {
        let (mut listing, mut next) = state?;
        loop {
            match listing.next().await {
                Some(Ok(listed)) => return Some((Ok(listed), Some((listing, next)))),
                // A listing that failed does not go on.
                Some(Err(error)) => return Some((Err(error), None)),
                None => listing = next.take()?(),
            }
        }
    })
    .boxed()
}

/// What the engine takes for it. Markers are asked for by a task of their own: a request that nobody
/// waits for would keep its place among the calls.
fn item_of(
    shared: &Arc<Shared>,
    found: Found,
) -> impl Future<Output = Result<ListedItem, ListError>> + use<> {
    let shared = Arc::clone(shared);
    let mut asked = None;
    if let Found::Directory { path, marker: Some(marker), .. } = &found {
        let mut task = JoinSet::new();
        task.spawn(look_at(Arc::clone(&shared), path.clone(), marker.clone()));
        asked = Some(task);
    }
    async move {
        match found {
            Found::Object { path, part, object } => {
                let entry = entry_of(&shared, path, part.as_deref(), &object)?;
                Ok(ListedItem::Entry(Box::new(entry)))
            }
            Found::Directory { path, part, modified, .. } => {
                let mut marker = None;
                if let Some(mut task) = asked {
                    let look =
                        async { task.join_next().await.transpose().map_err(panicked)?.transpose() };
                    marker = shared.cancel.unless_cancelled(look).await?.flatten();
                }
                Ok(directory(path, part, marker, modified)?)
            }
        }
    }
}

/// A directory of which all was listed.
pub(super) fn directory(
    path: EntryPath,
    part: Option<String>,
    marker: Option<ObjectRecord>,
    modified: i64,
) -> Result<ListedItem> {
    let mut metadata = Metadata::new(FileMode::DIRECTORY, time(modified));
    if let Some(record) = DirectoryRecord::new(part, marker) {
        record.put_into(&mut metadata)?;
    }
    Ok(ListedItem::DirDone { path, metadata: Box::new(metadata) })
}

/// What is known of a marker; nothing if it is gone. A marker that cannot be read is kept without what
/// the server says of it, and told.
async fn look_at(
    shared: Arc<Shared>,
    path: EntryPath,
    marker: ListedObject,
) -> Result<Option<ObjectRecord>> {
    if let Some(known) = known_marker(&shared, &path, &marker).await {
        return Ok(Some(known));
    }
    let fingerprint = |extras| fingerprint_of(&marker.etag, marker.modified, extras);
    let mut is_filled = false;
    let look = async {
        let mut attempt = 1;
        loop {
            let read = read_marker(&shared, &marker).await;
            is_filled = read.as_ref().is_err_and(|error| error.is(ErrorKind::SourceChanged));
            let version = read?;
            let (id, is_last) = (version.id.as_deref(), attempt == ATTEMPTS);
            match complete(&shared, &marker, id, version.record, is_last).await {
                Err(error) if error.is(ErrorKind::SourceChanged) && !is_last => attempt += 1,
                completed => {
                    let (mut record, extras) = completed?;
                    record.fingerprint = fingerprint(extras);
                    return Ok::<_, Error>(record);
                }
            }
        }
    };
    let looked = match look.await {
        Err(error) if error.is(ErrorKind::NotFound) => gone(&shared, &marker).await,
        looked => looked,
    };
    match shared.confirm(looked).await {
        Err(error) if error.code() == VANISHED => Ok(None),
        // It became an object with bytes, which the next backup will find.
        Err(_) if is_filled => {
            shared.notes.filled(&marker.key);
            Ok(None)
        }
        Err(error) if shared.concerns_all(&error) => Err(error),
        Err(_) => {
            let mut record = ObjectRecord::new();
            record.etag.clone_from(&marker.etag);
            record.fingerprint = fingerprint(shared.asked.wanted());
            record.is_incomplete = true;
            shared.notes.incomplete(&marker.key);
            Ok(Some(record))
        }
        looked => looked.map(Some),
    }
}

/// What the server says of a marker.
///
/// # Errors
/// `SourceChanged` if it has bytes by now.
async fn read_marker(shared: &Shared, marker: &ListedObject) -> Result<Version> {
    let wanted = Wanted::Whole { most: 0 };
    let (version, _) = shared.bucket.read_version(marker.named(), None, &wanted).await?;
    require_listed(marker, &version)?;
    Ok(version)
}

/// What the earlier snapshot keeps of a marker that is still the same.
async fn known_marker(
    shared: &Shared,
    path: &EntryPath,
    marker: &ListedObject,
) -> Option<ObjectRecord> {
    let parent = shared.parent.as_ref().filter(|_| !marker.etag.is_empty())?;
    // What cannot be read there is as good as not there.
    let directory = parent.find(path).await.ok().flatten()?;
    let known = DirectoryRecord::of(&directory.metadata).ok().flatten()?.marker?;
    let is_it =
        |extras: Extras| fingerprint_of(&marker.etag, marker.modified, extras) == known.fingerprint;
    let is_same = is_it(shared.asked.wanted()) || shared.asked.enough().into_iter().any(is_it);
    (is_same && !known.is_incomplete).then_some(known)
}

fn panicked(error: JoinError) -> Error {
    Error::new(ErrorKind::Internal, "a task that looks at a marker panicked").with_source(error)
}
