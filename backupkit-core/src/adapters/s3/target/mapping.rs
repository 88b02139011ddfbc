//! From entries of a snapshot to keys.

mod names;
mod past;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};

use self::names::Names;
use self::past::{PastNames, key_of_version};
use super::names::why_not;
use super::scope::{Current, Past, Scope};
use super::session::Core;
use crate::adapters::s3::keys::past::{is_deletion, is_versions, name_of_past};
use crate::adapters::s3::keys::{Prefix, place_beside_directory, undivided, usual_place};
use crate::adapters::s3::object::DirectoryRecord;
use crate::error::Result;
use crate::model::{EntryKind, EntryPath};
use crate::snapshot::SnapshotEntry;
use crate::token::CancelToken;

/// An entry, and where it goes.
#[derive(Debug, Clone)]
pub(super) struct Mapped {
    /// Its number in the walk.
    pub(super) number: u64,
    pub(super) entry: SnapshotEntry,
    pub(super) way: Way,
    pub(super) age: Age,
}

/// Whether an entry is an older version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// It was current.
    Current,
    /// It is an older version, the first one of its key here.
    First,
    /// It is an older version of the same key as the one before it.
    Further,
}

/// Where an entry goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// Becomes the object of this key below the target's prefix.
    To(String),
    /// Cannot, for this reason.
    No(String),
    /// A folder without a marker.
    Nowhere,
    /// The settings of a bucket, which are no object.
    Settings,
    /// An older version that nobody asked for.
    Older,
}

/// All entries that are to be restored, in the order of the walk.
pub(super) fn mapped(core: Arc<Core>, cancel: CancelToken) -> BoxStream<'static, Result<Mapped>> {
    let mapper = stream::once(Mapper::begin(core, cancel));
    mapper
        .flat_map(|begun| match begun {
            Err(error) => stream::once(std::future::ready(Err(error))).boxed(),
            Ok(mapper) => stream::unfold(Some(mapper), async |mapper| {
                let mut mapper = mapper?;
                match mapper.next().await {
                    Ok(Some(found)) => Some((Ok(found), Some(mapper))),
                    Ok(None) => None,
                    Err(error) => Some((Err(error), None)),
                }
            })
            .boxed(),
        })
        .boxed()
}

struct Mapper {
    core: Arc<Core>,
    cancel: CancelToken,
    /// Directories with older versions that are not walked yet; they come first.
    later_past: std::vec::IntoIter<Past>,
    past: Option<(BoxStream<'static, Result<SnapshotEntry>>, PastNames)>,
    /// The directory of the last version.
    last_past: Option<EntryPath>,
    n_older: u64,
    entries: BoxStream<'static, Result<SnapshotEntry>>,
    names: Names,
    number: u64,
    /// A folder in which nothing was seen yet.
    open: Option<EntryPath>,
    n_empty: u64,
    /// Keys of entries whose names we would not have given them. Snapshots of ours have none.
    strange: HashSet<String>,
}

impl Mapper {
    async fn begin(core: Arc<Core>, cancel: CancelToken) -> Result<Self> {
        let scope = core.scope().await?;
        let Scope { is_of_bucket, ref base, skips_bucket, .. } = *scope;
        let entries = match &scope.current {
            Current::Below if base.is_empty() && is_of_bucket => walk_current(&core),
            Current::Below => core.snapshot.walk(base),
            Current::One(found) | Current::OneVersion(found) => {
                stream::iter([Ok(found.clone())]).boxed()
            }
            Current::Nothing => stream::empty().boxed(),
        };
        let names = Names { is_of_bucket, base: base.clone(), skips_bucket, levels: Vec::new() };
        let later_past = scope.past.clone().into_iter();
        Ok(Self {
            core,
            cancel,
            later_past,
            past: None,
            last_past: None,
            n_older: 0,
            entries,
            names,
            number: 0,
            open: None,
            n_empty: 0,
            strange: HashSet::new(),
        })
    }

    async fn next(&mut self) -> Result<Option<Mapped>> {
        self.cancel.check()?;
        if let Some(found) = self.next_past().await? {
            return Ok(Some(found));
        }
        let Some(entry) = self.entries.next().await else {
            self.close(None);
            self.core.notes.n_empty_folders.store(self.n_empty, Ordering::Relaxed);
            self.core.notes.n_older.store(self.n_older, Ordering::Relaxed);
            return Ok(None);
        };
        let entry = entry?;
        self.close(Some(&entry.path));
        let mut way = match self.core.scope().await?.current {
            Current::OneVersion(_) => way_of_one(&entry),
            _ => self.names.way(&entry),
        };
        if let Way::To(key) = &way {
            let root = self.core.place.settings.root();
            let taken = match why_not(&root, key) {
                Some(why) => Some(why),
                None => self.why_taken(&entry, key).await?,
            };
            if let Some(why) = taken {
                way = Way::No(why);
            }
        }
        if way == Way::Settings {
            self.core.notes.has_settings.store(true, Ordering::Relaxed);
        }
        if way == Way::Nowhere {
            self.open = Some(entry.path.clone());
        }
        Ok(Some(self.numbered(entry, way, Age::Current)))
    }

    /// The next older version.
    async fn next_past(&mut self) -> Result<Option<Mapped>> {
        loop {
            let Some((entries, names)) = &mut self.past else {
                let Some(past) = self.later_past.next() else { return Ok(None) };
                let mut entries = self.core.snapshot.walk(&past.top);
                if past.is_of_key
                    && let Some(top) = self.core.snapshot.find(&past.top).await?
                {
                    entries = stream::iter([Ok(top)]).chain(entries).boxed();
                }
                self.past = Some((entries, PastNames::new(past)));
                continue;
            };
            let Some(entry) = entries.next().await else {
                self.past = None;
                continue;
            };
            let entry = entry?;
            let Some(mut way) = names.way(&entry) else { continue };
            if !self.core.place.options.versions {
                self.n_older += 1;
                way = Way::Older;
            }
            let root = self.core.place.settings.root();
            if let Way::To(key) = &way
                && let Some(why) = why_not(&root, key)
            {
                way = Way::No(why);
            }
            let directory = undivided(&entry.path).parent();
            let age = if directory == self.last_past { Age::Further } else { Age::First };
            self.last_past = directory;
            return Ok(Some(self.numbered(entry, way, age)));
        }
    }

    fn numbered(&mut self, entry: SnapshotEntry, way: Way, age: Age) -> Mapped {
        self.number += 1;
        Mapped { number: self.number - 1, entry, way, age }
    }

    /// Counts the last folder if it was empty.
    fn close(&mut self, next: Option<&EntryPath>) {
        if let Some(open) = self.open.take() {
            let is_empty = next.is_none_or(|next| !next.starts_with(&open));
            self.n_empty += u64::from(is_empty);
        }
    }

    /// Why another entry has this key. Names that we give are of one key each, but for an object beside
    /// a directory and for markers; only of other names the keys have to be remembered.
    async fn why_taken(&mut self, entry: &SnapshotEntry, key: &str) -> Result<Option<String>> {
        let is_version = entry.path.names().next().is_some_and(is_versions);
        if !self.names.is_of_bucket || is_version {
            // No name holds `/`, or there is just one.
            return Ok(None);
        }
        let mut base = self.names.base.clone();
        if self.names.skips_bucket {
            base.push(entry.path.names().next().unwrap_or_default());
        }
        let (own, usual) = (undivided(&entry.path), undivided(&usual_place(&base, key)));
        if usual == own {
            return Ok(None);
        }
        let beside = place_beside_directory(&usual);
        let mut places = vec![usual.clone()];
        if beside != own {
            places.push(beside.clone());
        }
        for place in places {
            let found = self.core.snapshot.find(&place).await?;
            if found.is_some_and(|found| found.kind == EntryKind::File) {
                return Ok(Some(format!("{place} has the same key")));
            }
        }
        let directory = usual.parent().unwrap_or_default();
        if beside == own || directory == own {
            return Ok(None);
        }
        if key.ends_with('/')
            && let Some(found) = self.core.snapshot.find(&directory).await?
            && DirectoryRecord::of(&found.metadata)?.is_some_and(|record| record.marker.is_some())
        {
            return Ok(Some(format!("{directory} has the same key")));
        }
        let is_new = self.strange.insert(key.to_owned());
        Ok((!is_new).then(|| "another entry of the snapshot has the same key".to_owned()))
    }
}

/// All of a snapshot of buckets but older versions, which come before it.
fn walk_current(core: &Core) -> BoxStream<'static, Result<SnapshotEntry>> {
    let snapshot = Arc::clone(&core.snapshot);
    let tops = snapshot.children(&EntryPath::root());
    let entries = tops.flat_map(move |top| match top {
        Ok(top) if top.kind != EntryKind::Directory => stream::iter([Ok(top)]).boxed(),
        Ok(top) if is_versions(top.path.name().unwrap_or_default()) => stream::empty().boxed(),
        Ok(top) => {
            let below = snapshot.walk(&top.path);
            stream::iter([Ok(top)]).chain(below).boxed()
        }
        Err(error) => stream::iter([Err(error)]).boxed(),
    });
    entries.boxed()
}

/// Where one version goes that somebody has named: to its key, at the root of the target.
fn way_of_one(entry: &SnapshotEntry) -> Way {
    let mut names = entry.path.names().rev();
    let version = names.next().unwrap_or_default();
    if is_deletion(version) {
        return Way::No("it is the mark of a deletion, and no object".to_owned());
    }
    let key = names
        .find_map(name_of_past)
        .and_then(|name| key_of_version(entry, &Prefix::default(), name, None));
    key.map_or_else(|| Way::No(names::not_ours()), Way::To)
}
