//! From names of older versions to keys.

use super::Way;
use super::names::not_ours;
use crate::adapters::s3::keys::Prefix;
use crate::adapters::s3::keys::past::name_of_past;
use crate::adapters::s3::object::{DirectoryRecord, ObjectRecord};
use crate::adapters::s3::target::scope::Past;
use crate::model::{EntryKind, EntryPath};
use crate::snapshot::SnapshotEntry;

/// How names of older versions become keys.
#[derive(Debug)]
pub(super) struct PastNames {
    past: Past,
    levels: Vec<Level>,
}

/// A directory on the way to the version at hand.
#[derive(Debug)]
struct Level {
    path: EntryPath,
    inside: Inside,
}

/// What is in a directory.
#[derive(Debug, Clone)]
enum Inside {
    /// Keys that begin so.
    Keys(Prefix),
    /// The versions of a key: of a part of this name, if the node of the directory keeps it.
    Versions { above: Prefix, name: Vec<u8>, kept: Option<String> },
    /// What we did not write.
    Strange,
}

impl PastNames {
    pub(super) fn new(past: Past) -> Self {
        Self { past, levels: Vec::new() }
    }

    /// Where a version goes; nothing for a directory. They must come in the order of the walk.
    pub(super) fn way(&mut self, entry: &SnapshotEntry) -> Option<Way> {
        let depth = entry.path.len();
        let is_above =
            |level: &Level| depth == level.path.len() + 1 && entry.path.starts_with(&level.path);
        while self.levels.last().is_some_and(|level| !is_above(level)) {
            self.levels.pop();
        }
        let above = match self.levels.last() {
            Some(level) => level.inside.clone(),
            None if depth == self.past.base.len() + 1 => Inside::Keys(self.past.outer.clone()),
            None => Inside::Strange,
        };
        let name = entry.path.name().unwrap_or_default();
        if entry.kind == EntryKind::Directory {
            let inside = enter(above, entry, name);
            self.levels.push(Level { path: entry.path.clone(), inside });
            return None;
        }
        let key = match above {
            Inside::Versions { above, name, kept } if entry.kind == EntryKind::File => {
                key_of_version(entry, &above, &name, kept)
            }
            _ => None,
        };
        Some(key.map_or_else(|| Way::No(not_ours()), Way::To))
    }
}

fn enter(above: Inside, entry: &SnapshotEntry, name: &[u8]) -> Inside {
    let kept = DirectoryRecord::of(&entry.metadata).ok().flatten().and_then(|record| record.part);
    match above {
        Inside::Keys(above) => match name_of_past(name) {
            Some(name) => Inside::Versions { above, name: name.to_vec(), kept },
            None => above.enter(name, kept.as_deref()).map_or(Inside::Strange, Inside::Keys),
        },
        // One that only divides it.
        Inside::Versions { above: prefix, name: of, kept }
            if prefix.enter(name, None).is_some_and(|inside| inside == prefix) =>
        {
            Inside::Versions { above: prefix, name: of, kept }
        }
        Inside::Versions { .. } | Inside::Strange => Inside::Strange,
    }
}

/// The key of a version in a directory of this name.
pub(super) fn key_of_version(
    entry: &SnapshotEntry,
    above: &Prefix,
    name: &[u8],
    kept: Option<String>,
) -> Option<String> {
    let of_file = || ObjectRecord::of(&entry.metadata).ok().flatten()?.part;
    above.key_of_file(name, kept.or_else(of_file).as_deref())
}
