//! The versions of a key: those that the snapshot has, and how far the target has them.

mod fit;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use jiff::Timestamp;

pub(super) use self::fit::{Fit, Found};
use super::lookup::KnownObject;
use super::session::Core;
use crate::adapters::s3::bucket::{PagedVersion, VersionMarker};
use crate::adapters::s3::keys::past::{
    is_deletion, is_versions, name_of_past, object_of_past, past_of_object,
};
use crate::adapters::s3::keys::{EMPTY, place_beside_directory, undivided};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EntryKind, EntryPath};
use crate::snapshot::SnapshotEntry;
use crate::target::Step;

/// So many keys are remembered. Steps of a key follow each other, and few keys are under way.
const REMEMBERED: usize = 64;

/// What is known of keys under way.
#[derive(Debug, Default)]
pub(super) struct Chains(Mutex<VecDeque<(String, Slot)>>);

/// What is known of a key; nothing until somebody needs it.
pub(super) type Slot = Arc<tokio::sync::Mutex<Option<Chain>>>;

/// A version that the snapshot has.
#[derive(Debug, Clone)]
pub(super) struct Own {
    pub(super) path: EntryPath,
    /// Nothing for the mark of a deletion.
    pub(super) object: Option<KnownObject>,
    /// In seconds since 1970.
    modified: i64,
}

/// A version that the target has.
#[derive(Debug, Clone)]
pub(super) struct There {
    pub(super) id: Option<String>,
    pub(super) modified: Timestamp,
    pub(super) is_latest: bool,
    /// Nothing for the mark of a deletion.
    pub(super) len_bytes: Option<u64>,
    /// Empty if the listing has none.
    pub(super) etag: String,
}

/// All versions that the target has of a key, each list from the newest on. How the two are mixed only
/// their times tell, which may be of whole seconds.
#[derive(Debug, Default)]
pub(super) struct Theirs {
    pub(super) objects: Vec<There>,
    pub(super) marks: Vec<There>,
}

/// What the newest version of a key in the target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Newest {
    /// There is none.
    Nothing,
    /// The mark of a deletion.
    Mark,
    /// An object with this entity tag; an empty one if that is not known.
    Object(String),
}

/// The versions of a key.
#[derive(Debug)]
pub(super) struct Chain {
    /// From the oldest to the newest, with the current object if that is restored, too.
    pub(super) ours: Vec<Own>,
    pub(super) fit: Fit,
    pub(super) newest: Newest,
    /// When the newest version came that the snapshot does not have, in seconds since 1970; nothing if there
    /// is none.
    others_modified: Option<i64>,
}

impl Chains {
    pub(super) fn slot(&self, key: &str) -> Slot {
        let mut slots = self.slots();
        if let Some(place) = slots.iter().position(|(known, _)| known == key)
            && let Some(found) = slots.remove(place)
        {
            let slot = Arc::clone(&found.1);
            slots.push_back(found);
            return slot;
        }
        let slot = Slot::default();
        slots.push_back((key.to_owned(), Arc::clone(&slot)));
        if slots.len() > REMEMBERED {
            slots.pop_front();
        }
        slot
    }

    /// Forgets a key.
    pub(super) fn forget(&self, key: &str) {
        self.slots().retain(|(known, _)| known != key);
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.slots().clear();
    }

    fn slots(&self) -> MutexGuard<'_, VecDeque<(String, Slot)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl There {
    fn of(version: PagedVersion) -> Self {
        let PagedVersion { id, modified, is_latest, len_bytes, etag, .. } = version;
        Self { id, modified, is_latest, len_bytes, etag }
    }
}

impl Theirs {
    /// Lists what the target has of a whole key.
    pub(super) async fn of(core: &Core, key: &str) -> Result<Self> {
        let (mut theirs, mut behind) = (Self::default(), None::<VersionMarker>);
        loop {
            let listing = core.place.bucket.versions_page(key, behind.as_ref());
            let page = core.cancel.unless_cancelled(listing).await?;
            let mut has_others = false;
            for version in page.versions {
                if version.key != key {
                    has_others = true;
                    continue;
                }
                let list = if version.is_mark() { &mut theirs.marks } else { &mut theirs.objects };
                list.push(There::of(version));
            }
            match page.next {
                // Of all keys that begin so it is the first one.
                Some(next) if !has_others || next.key == key => behind = Some(next),
                _ => return Ok(theirs),
            }
        }
    }

    /// Whether the listing says which one is the newest.
    fn knows_latest(&self) -> bool {
        self.objects.iter().chain(&self.marks).any(|there| there.is_latest)
    }

    fn newest(&self) -> Option<&There> {
        let (object, mark) = (self.objects.first(), self.marks.first());
        match (object, mark) {
            (Some(object), Some(mark)) => {
                let is_marked =
                    mark.is_latest || !object.is_latest && mark.modified > object.modified;
                Some(if is_marked { mark } else { object })
            }
            (object, mark) => object.or(mark),
        }
    }
}

impl Chain {
    /// Finds out what the snapshot has of the key of an entry, and what the target has of that.
    pub(super) async fn read(core: &Core, key: &str, entry: &SnapshotEntry) -> Result<Self> {
        let ours = ours(core, entry).await?;
        let theirs = Theirs::of(core, key).await?;
        let newest = match theirs.newest() {
            None => Newest::Nothing,
            Some(There { len_bytes: None, .. }) => Newest::Mark,
            Some(there) => Newest::Object(there.etag.clone()),
        };
        let fit = Fit::of(core, key, &ours, &theirs).await?;
        let (known, all) = (fit.ids(), theirs.objects.iter().chain(&theirs.marks));
        let others = all.filter(|there| !known.contains(&there.id.as_deref()));
        let others_modified = others.map(|there| there.modified.as_second()).max();
        Ok(Self { ours, fit, newest, others_modified })
    }

    /// Where an entry stands in it.
    ///
    /// # Errors
    /// `Internal` if it is no version of this key.
    pub(super) fn place(&self, entry: &SnapshotEntry) -> Result<usize> {
        self.ours.iter().position(|own| own.path == entry.path).ok_or_else(|| {
            let message = format!("{} is not among the versions of its key", entry.path);
            Error::new(ErrorKind::Internal, message)
        })
    }

    /// Whether what the target has besides versions of the snapshot is older than the newest one of that.
    pub(super) fn is_older_there(&self) -> bool {
        let recorded = self.ours.last().map(|own| own.modified);
        recorded.is_some_and(|recorded| self.others_modified.is_none_or(|there| there < recorded))
    }

    /// Says that a version was written on top of all others.
    pub(super) fn wrote(&mut self, place: usize, newest: Newest) {
        self.newest = newest;
        self.fit.set(place);
    }
}

impl Core {
    /// The versions of a step's key, as they are known for writing.
    pub(super) fn chain_of(&self, key: &str) -> Slot {
        self.chains.slot(key)
    }

    /// Whether the snapshot has older versions of the key of this step, and they are restored.
    pub(super) async fn has_past(&self, step: &Step) -> Result<bool> {
        if !self.place.options.versions {
            return Ok(false);
        }
        Ok(is_past(step) || past_of(self, &step.entry).await?.is_some())
    }
}

/// Whether a step is that of an older version.
pub(super) fn is_past(step: &Step) -> bool {
    step.phase == super::PAST
}

/// Whether a step is the mark of a deletion.
pub(super) fn is_mark(step: &Step) -> bool {
    is_past(step) && is_deletion(step.entry.path.name().unwrap_or_default())
}

/// The directory with the older versions of a current object.
async fn past_of(core: &Core, entry: &SnapshotEntry) -> Result<Option<EntryPath>> {
    let scope = core.scope().await?;
    if !scope.is_of_bucket || !scope.has_current() || scope.past.is_empty() {
        return Ok(None);
    }
    let is_marker = entry.kind == EntryKind::Directory;
    for place in past_of_object(&undivided(&entry.path), is_marker) {
        let found = core.lookup.find(&*core.snapshot, &place).await?;
        if let Some(known) = found.filter(|known| known.is_directory) {
            return Ok(Some(known.path));
        }
    }
    Ok(None)
}

/// The versions that the snapshot has of the key of an entry, from the oldest to the newest.
async fn ours(core: &Core, entry: &SnapshotEntry) -> Result<Vec<Own>> {
    let mut ancestors = std::iter::successors(entry.path.parent(), EntryPath::parent);
    let is_of_key = |path: &EntryPath| path.name().is_some_and(|name| name_of_past(name).is_some());
    if let Some(past) = ancestors.find(is_of_key) {
        let mut ours = versions_in(core, &past).await?;
        if core.scope().await?.has_current() {
            ours.extend(current_of(core, &past).await?);
        }
        return Ok(ours);
    }
    let mut ours = match past_of(core, entry).await? {
        Some(past) => versions_in(core, &past).await?,
        None => Vec::new(),
    };
    ours.push(own_of(entry));
    Ok(ours)
}

async fn versions_in(core: &Core, past: &EntryPath) -> Result<Vec<Own>> {
    let (mut ours, mut entries) = (Vec::new(), core.snapshot.walk(past));
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        if entry.kind == EntryKind::File {
            ours.push(own_of(&entry));
        }
    }
    Ok(ours)
}

/// The current object whose older versions are in a directory.
async fn current_of(core: &Core, past: &EntryPath) -> Result<Option<Own>> {
    let Some(place) = object_of_past(&undivided(past)) else { return Ok(None) };
    let find = async |place: &EntryPath| core.lookup.find(&*core.snapshot, place).await;
    let (directory, beside) = (place.parent().unwrap_or_default(), place_beside_directory(&place));
    let is_of_marker = place.name() == Some(EMPTY.as_bytes());
    for (place, wants_directory) in [(&place, false), (&beside, false), (&directory, true)] {
        if wants_directory && !is_of_marker {
            continue;
        }
        if let Some(known) = find(place).await?
            && known.is_directory == wants_directory
            && let Some(object) = known.object
        {
            let modified = object.modified;
            return Ok(Some(Own { path: known.path, object: Some(object), modified }));
        }
    }
    Ok(None)
}

fn own_of(entry: &SnapshotEntry) -> Own {
    let is_mark = entry.path.names().next().is_some_and(is_versions)
        && is_deletion(entry.path.name().unwrap_or_default());
    let object = KnownObject::of(entry).filter(|_| !is_mark);
    let modified = entry.metadata.mtime.unix_seconds();
    Own { path: entry.path.clone(), object, modified }
}
