//! From names of entries of a snapshot to keys.

use super::Way;
use crate::adapters::s3::keys::{Prefix, is_settings};
use crate::adapters::s3::object::{DirectoryRecord, ObjectRecord};
use crate::model::{EntryKind, EntryPath};
use crate::snapshot::SnapshotEntry;

/// How names of entries become keys.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) is_of_bucket: bool,
    /// The directory whose content goes to the root of the target.
    pub(super) base: EntryPath,
    /// The first name is one of a bucket, and no part of keys.
    pub(super) skips_bucket: bool,
    pub(super) levels: Vec<Level>,
}

/// A directory on the way to the entry at hand.
#[derive(Debug)]
pub(super) struct Level {
    path: EntryPath,
    /// What keys in it begin with, or why there are none.
    inside: Result<Prefix, String>,
}

impl Names {
    /// Where an entry goes. They must come in the order of the walk.
    pub(super) fn way(&mut self, entry: &SnapshotEntry) -> Way {
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

pub(super) fn not_ours() -> String {
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
