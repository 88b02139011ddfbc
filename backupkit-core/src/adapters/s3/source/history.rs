//! The listing of older versions, behind that of the objects: `/pictures%versions/…` (see
//! [`past`](super::super::keys::past)).
//!
//! Versions of a key come together, the newest first, and are given as they come: neither those of a key nor
//! those of the bucket are ever held. A [`Walk`] through the keys that have any finds where the directory of
//! each stands. A token keeps what came last, and not what the server calls a place: that may be gone.

mod lines;

use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use serde::{Deserialize, Serialize};

use self::lines::{Lines, PastVersion};
use super::super::bucket::PagedVersion;
use super::super::keys::past::{past_name, version_name};
use super::Shared;
use super::body::{deletion_entry, entry_of};
use super::choice::{Choosable, by_tags, choose_version};
use super::found::Past;
use super::listing::{directory, refuse_nothing};
use super::notes::Older;
use super::pages::{Versions, pages};
use super::walk::{Found, ListedObject, Walk, of_another_version};
use crate::error::{Error, ErrorKind, Result};
use crate::model::EntryPath;
use crate::source::{ListError, Listed, ListedItem};
use crate::token::ListToken;

/// The first byte of a list token: none of those of other listings begins with it.
const TOKEN_VERSION: u8 = 5;

/// A listing under way.
struct History {
    shared: Arc<Shared>,
    pages: BoxStream<'static, Result<Vec<PagedVersion>>>,
    lines: Lines,
    ready: VecDeque<PastVersion>,
    place: Place,
}

/// Where a listing is. Its serialised form continues it.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    walk: Walk,
    /// The version that came last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<PastVersion>,
    /// Whether that is not given yet.
    is_due: bool,
    /// The directory that gets the versions of a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<Open>,
    older: Older,
}

/// The directory of the older versions of a key.
#[derive(Debug, Serialize, Deserialize)]
struct Open {
    key: String,
    path: EntryPath,
    /// The part of the key that its name does not tell.
    part: Option<String>,
    /// When its newest version was written, in seconds since 1970.
    modified: i64,
}

/// Whether a token is of a listing of older versions.
pub(super) fn is_within(token: &ListToken) -> bool {
    token.as_bytes().first() == Some(&TOKEN_VERSION)
}

/// Lists older versions, from the beginning or behind a token of this listing.
pub(super) fn list(
    shared: &Arc<Shared>,
    after: Option<&ListToken>,
) -> BoxStream<'static, Result<Listed, ListError>> {
    let history = match History::new(shared, after) {
        Ok(history) => history,
        Err(error) => return stream::iter([Err(ListError::from(error))]).boxed(),
    };
    stream::unfold(Some(history), |history| async move {
        let mut history = history?;
        match history.next().await {
            // A listing that failed does not go on.
            Err(error) => Some((Err(ListError::from(error)), None)),
            Ok(None) => None,
            Ok(Some(listed)) => Some((Ok(listed), Some(history))),
        }
    })
    .boxed()
}

impl History {
    fn new(shared: &Arc<Shared>, after: Option<&ListToken>) -> Result<Self> {
        let bucket = &shared.bucket;
        let place = match after {
            None => Place::begin(&bucket.settings().bucket),
            Some(token) => Place::resume(token, &bucket.settings().bucket)?,
        };
        shared.notes.older(place.older);
        let mut lines = Lines::new(shared.moment.fixed());
        let mut from = None;
        if let Some(last) = &place.last {
            let root = bucket.full_key("");
            let key = last.object.key.strip_prefix(root.as_str());
            let key = key.ok_or_else(of_another_version)?;
            lines = lines.behind(key, last)?;
            from = Some(key.to_owned());
        }
        Ok(Self {
            shared: Arc::clone(shared),
            // It is asked again where directories are still open.
            pages: pages(bucket.clone(), Versions::new(from)).fuse().boxed(),
            lines,
            ready: VecDeque::new(),
            place,
        })
    }

    async fn next(&mut self) -> Result<Option<Listed>> {
        loop {
            self.shared.cancel.check()?;
            match self.place.walk.step() {
                Some(Found::Directory { path, part, modified, .. }) => {
                    return self.listed(directory(path, part, None, modified)?).map(Some);
                }
                Some(Found::Object { path, part, object }) => {
                    self.place.open = Some(Open::new(&path, part, object));
                    continue;
                }
                None if self.place.walk.has_ended() => return Ok(None),
                None => {}
            }
            if let Some(item) = self.advance().await? {
                return self.listed(item).map(Some);
            }
        }
    }

    /// What comes next besides what the walk finds; nothing if it is the walk's turn again.
    async fn advance(&mut self) -> Result<Option<ListedItem>> {
        if !self.place.is_due && !self.fetch().await? {
            // The versions of a key are over, or all of them.
            if let Some(open) = self.place.open.take() {
                return open.done().map(Some);
            }
            if !self.lines.has_keys() {
                refuse_nothing(&self.shared)?;
            }
            self.place.walk.end()?;
            return Ok(None);
        }
        let Some(due) = &self.place.last else { return Ok(None) };
        match &self.place.open {
            Some(open) if open.key == due.object.key => {
                let item = entry(&self.shared, open, due)?;
                let older = &mut self.place.older;
                match due.object.past {
                    Some(Past::Deletion) => older.deletions += 1,
                    _ => older.versions += 1,
                }
                self.shared.notes.older(*older);
                self.place.is_due = false;
                Ok(Some(item))
            }
            Some(_) => self.place.open.take().map(Open::done).transpose(),
            None => {
                self.place.walk.offer(due.key_alone())?;
                Ok(None)
            }
        }
    }

    /// Fetches the next older version that is backed up; false if there is none.
    async fn fetch(&mut self) -> Result<bool> {
        loop {
            if let Some(version) = self.ready.pop_front() {
                (self.place.last, self.place.is_due) = (Some(version), true);
                return Ok(true);
            }
            let page = async { self.pages.next().await.transpose() };
            let Some(page) = self.shared.cancel.unless_cancelled(page).await? else {
                self.lines.end()?;
                return Ok(false);
            };
            self.lines.look(&page);
            let mut past = Vec::with_capacity(page.len());
            for line in page {
                if let Some((time, trail)) = self.lines.take(&line)?
                    && let Some(object) = choose_version(&self.shared, line)
                {
                    past.push(PastVersion { object, time, trail });
                }
            }
            self.ready.extend(by_tags(&self.shared, past).await?);
        }
    }

    fn listed(&self, item: ListedItem) -> Result<Listed> {
        let mut token = vec![TOKEN_VERSION];
        serde_json::to_writer(&mut token, &self.place).map_err(|error| {
            Error::new(ErrorKind::Internal, "cannot write where a listing is").with_source(error)
        })?;
        Ok(Listed { item, token: ListToken::new(token) })
    }
}

impl Place {
    fn begin(bucket: &str) -> Self {
        let (walk, older) = (Walk::of_histories(bucket), Older::default());
        Self { walk, last: None, is_due: false, open: None, older }
    }

    fn resume(token: &ListToken, bucket: &str) -> Result<Self> {
        let text = token.as_bytes().get(1..).unwrap_or_default();
        let place: Self = serde_json::from_slice(text).map_err(|_| of_another_version())?;
        Ok(Self { walk: place.walk.resume_histories(bucket)?, ..place })
    }
}

impl Open {
    /// Beside the place of an object.
    fn new(object_path: &EntryPath, part: Option<String>, object: ListedObject) -> Self {
        let name = String::from_utf8_lossy(object_path.name().unwrap_or_default()).into_owned();
        let mut path = object_path.parent().unwrap_or_default();
        path.push(past_name(&name).as_bytes());
        Self { key: object.key, path, part, modified: object.modified }
    }

    fn done(self) -> Result<ListedItem> {
        directory(self.path, self.part, None, self.modified)
    }
}

impl PastVersion {
    /// Its key, as what a walk takes: nothing in it is a marker.
    fn key_alone(&self) -> ListedObject {
        ListedObject {
            key: self.object.key.clone(),
            len_bytes: 1,
            etag: String::new(),
            modified: self.object.modified,
            version: None,
            past: None,
        }
    }
}

impl Choosable for PastVersion {
    fn object(&self) -> &ListedObject {
        &self.object
    }
}

fn entry(shared: &Shared, open: &Open, version: &PastVersion) -> Result<ListedItem> {
    let object = &version.object;
    let is_deletion = object.past == Some(Past::Deletion);
    let id = object.version.as_deref().unwrap_or_default();
    let path = open.path.join(version_name(version.time()?, id, is_deletion).as_bytes());
    let entry = if is_deletion {
        deletion_entry(path, object)?
    } else {
        entry_of(shared, path, None, object)?
    };
    Ok(ListedItem::Entry(Box::new(entry)))
}
