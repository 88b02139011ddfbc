//! From entries of a snapshot to keys.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};

use super::names::why_not;
use super::session::Core;
use crate::adapters::s3::keys::{
    Prefix, is_settings, place_beside_directory, undivided, usual_place,
};
use crate::adapters::s3::object::{DirectoryRecord, ObjectRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EntryKind, EntryPath};
use crate::snapshot::SnapshotEntry;
use crate::token::CancelToken;

/// What snapshots of buckets name as their paths.
const SCHEME: &str = "s3://";

/// An entry, and where it goes.
#[derive(Debug, Clone)]
pub(super) struct Mapped {
    /// Its number in the walk.
    pub(super) number: u64,
    pub(super) entry: SnapshotEntry,
    pub(super) way: Way,
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
    entries: BoxStream<'static, Result<SnapshotEntry>>,
    names: Names,
    number: u64,
    /// A folder in which nothing was seen yet.
    open: Option<EntryPath>,
    n_empty: u64,
    /// Keys of entries whose names we would not have given them. Snapshots of ours have none.
    strange: HashSet<String>,
}

/// How names of entries become keys.
#[derive(Debug)]
struct Names {
    is_of_bucket: bool,
    /// The directory whose content goes to the root of the target.
    base: EntryPath,
    /// The first name is one of a bucket, and no part of keys.
    skips_bucket: bool,
    levels: Vec<Level>,
}

/// A directory on the way to the entry at hand.
#[derive(Debug)]
struct Level {
    path: EntryPath,
    /// What keys in it begin with, or why there are none.
    inside: Result<Prefix, String>,
}

impl Mapper {
    async fn begin(core: Arc<Core>, cancel: CancelToken) -> Result<Self> {
        let path = &core.options.path;
        let paths = core.snapshot.paths();
        let is_of_bucket = !paths.is_empty() && paths.iter().all(|path| path.starts_with(SCHEME));
        core.notes.is_of_folders.store(!is_of_bucket, Ordering::Relaxed);
        let mut base = path.clone();
        let entries = if path.is_empty() {
            core.snapshot.walk(path)
        } else {
            let found = core.snapshot.find(path).await?.ok_or_else(|| {
                let message = format!("cannot restore {path}: it is not in the snapshot");
                Error::new(ErrorKind::NotFound, message)
            })?;
            if found.kind == EntryKind::Directory {
                core.snapshot.walk(path)
            } else {
                base.pop();
                stream::iter([Ok(found)]).boxed()
            }
        };
        let skips_bucket = is_of_bucket && base.is_empty() && paths.len() == 1;
        let names = Names { is_of_bucket, base, skips_bucket, levels: Vec::new() };
        Ok(Self {
            core,
            cancel,
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
        let Some(entry) = self.entries.next().await else {
            self.close(None);
            self.core.notes.n_empty_folders.store(self.n_empty, Ordering::Relaxed);
            return Ok(None);
        };
        let entry = entry?;
        self.close(Some(&entry.path));
        let mut way = self.names.way(&entry);
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
        self.number += 1;
        Ok(Some(Mapped { number: self.number - 1, entry, way }))
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
        if !self.names.is_of_bucket {
            // No name holds `/`.
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

impl Names {
    /// Where an entry goes. They must come in the order of the walk.
    fn way(&mut self, entry: &SnapshotEntry) -> Way {
        let depth = entry.path.len();
        let is_above =
            |level: &Level| depth == level.path.len() + 1 && entry.path.starts_with(&level.path);
        while self.levels.last().is_some_and(|level| !is_above(level)) {
            self.levels.pop();
        }
        let above = match self.levels.last() {
            Some(level) => level.inside.clone(),
            None if depth == self.base.len() + 1 => Ok(Prefix::default()),
            None => Err("its folder is not in the snapshot".to_owned()),
        };
        let name = entry.path.name().unwrap_or_default();
        if entry.kind == EntryKind::Directory {
            return self.directory(entry, name, above);
        }
        if self.is_of_bucket && depth == 1 && is_settings(name) {
            return Way::Settings;
        }
        match above.and_then(|above| self.key(entry, name, &above)) {
            Ok(key) => Way::To(key),
            Err(why) => Way::No(why),
        }
    }

    fn directory(
        &mut self,
        entry: &SnapshotEntry,
        name: &[u8],
        above: Result<Prefix, String>,
    ) -> Way {
        let is_bucket = self.skips_bucket && entry.path.len() == 1;
        let mut marked = false;
        let inside = above.and_then(|above| {
            if is_bucket {
                return Ok(above);
            }
            if !self.is_of_bucket {
                return plain(name).map(|name| above.enter_plain(name));
            }
            let record = DirectoryRecord::of(&entry.metadata).map_err(|error| error.report())?;
            let record = record.unwrap_or_default();
            marked = record.marker.is_some();
            above.enter(name, record.part.as_deref()).ok_or_else(not_ours)
        });
        let way = match &inside {
            Ok(prefix) if marked => Way::To(prefix.as_str().to_owned()),
            Ok(_) => Way::Nowhere,
            Err(why) => Way::No(why.clone()),
        };
        self.levels.push(Level { path: entry.path.clone(), inside });
        way
    }

    fn key(&self, entry: &SnapshotEntry, name: &[u8], above: &Prefix) -> Result<String, String> {
        if entry.kind != EntryKind::File {
            return Err(format!("a bucket cannot hold {}", many(&entry.kind)));
        }
        if !self.is_of_bucket {
            return plain(name).map(|name| format!("{}{name}", above.as_str()));
        }
        let record = ObjectRecord::of(&entry.metadata).map_err(|error| error.report())?;
        let part = record.and_then(|record| record.part);
        above.key_of_file(name, part.as_deref()).ok_or_else(not_ours)
    }
}

/// A name of a file as a part of a key.
fn plain(name: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(name).map_err(|_| "its name is no UTF-8 text".to_owned())?;
    match text {
        "" | "." | ".." => Err("its name is no name of a file".to_owned()),
        _ if text.contains(['/', '\0']) => Err("its name is no name of a file".to_owned()),
        _ => Ok(text),
    }
}

fn not_ours() -> String {
    "its name stands for no key".to_owned()
}

fn many(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::Symlink { .. } => "symbolic links",
        EntryKind::BlockDevice(_) | EntryKind::CharacterDevice(_) => "devices",
        EntryKind::Fifo => "pipes",
        EntryKind::Socket => "sockets",
        EntryKind::File | EntryKind::Directory => "this",
    }
}
