//! What a walk through the snapshot means for where entries go and which cannot be restored at all.

use super::super::contained::is_plain_name;
use super::decisions::Decision;
use crate::model::{EntryKind, EntryPath};
use crate::snapshot::SnapshotEntry;
use crate::target::StepAction;

/// Which part of the snapshot is restored.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// The names that lead to it.
    pub(super) n_names: usize,
}

/// The folders on the way to the entry at hand. Holds as much as the walk is deep.
#[derive(Debug)]
pub(super) struct Descent {
    scope: Scope,
    is_root: bool,
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    /// The folder's path in the snapshot.
    path: EntryPath,
    /// Where the folder goes, or why it cannot be there.
    destination: Result<EntryPath, String>,
}

impl Level {
    /// Whether this is the directory that a path stands in.
    fn holds(&self, path: &EntryPath) -> bool {
        path.len() == self.path.len() + 1 && path.starts_with(&self.path)
    }
}

/// Where an entry goes.
#[derive(Debug)]
pub(super) enum Way {
    /// To this path, if nothing there prevents it.
    To(EntryPath),
    /// To this path, but it will not be restored.
    No(EntryPath, StepAction),
}

impl Descent {
    pub(super) fn new(scope: &Scope, is_root: bool) -> Self {
        Self { scope: scope.clone(), is_root, levels: Vec::new() }
    }

    /// Finds where an entry goes. Entries must come in the order of the walk, and each directory is
    /// followed by [`Self::enter`].
    pub(super) fn way(&mut self, entry: &SnapshotEntry) -> Way {
        while self.levels.last().is_some_and(|level| !level.holds(&entry.path)) {
            self.levels.pop();
        }
        let name = entry.path.name().unwrap_or_default();
        let parent = match self.levels.last() {
            Some(level) => level.destination.clone(),
            None if entry.path.len() == self.scope.n_names + 1 => Ok(EntryPath::root()),
            None => Err(String::from("its folder is not in the snapshot")),
        };
        let parent = match parent {
            Ok(parent) => parent,
            Err(why) => {
                let path = EntryPath::from_names(entry.path.names().skip(self.scope.n_names));
                return Way::No(path, StepAction::Refuse(why));
            }
        };
        let destination = parent.join(name);
        match self.obstacle(entry, name) {
            Some(action) => Way::No(destination, action),
            None => Way::To(destination),
        }
    }

    /// Says what becomes of a directory, before the entries in it are asked for.
    pub(super) fn enter(&mut self, entry: &SnapshotEntry, way: &Way, decision: Option<&Decision>) {
        let destination = match (way, decision) {
            (Way::No(_, StepAction::Refuse(why)), _) | (_, Some(Decision::Refuse(why))) => {
                Err(why.clone())
            }
            (_, Some(Decision::Rename(path))) | (Way::To(path) | Way::No(path, _), _) => {
                Ok(path.clone())
            }
        };
        self.levels.push(Level { path: entry.path.clone(), destination });
    }

    /// What keeps an entry from being restored, whatever the target holds.
    fn obstacle(&self, entry: &SnapshotEntry, name: &[u8]) -> Option<StepAction> {
        if !is_plain_name(name) {
            let why = "its name is no name of a file";
            return Some(StepAction::Refuse(why.to_owned()));
        }
        match entry.kind {
            EntryKind::Socket => Some(StepAction::Skip),
            EntryKind::BlockDevice(_) | EntryKind::CharacterDevice(_) if !self.is_root => {
                let why = "only root may make device files";
                Some(StepAction::Refuse(why.to_owned()))
            }
            _ => None,
        }
    }
}
