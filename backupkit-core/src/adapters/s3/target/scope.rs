//! What of a snapshot is restored: of a bucket what was current, the older versions beside it, or both.

use futures::StreamExt as _;

use super::session::Core;
use crate::adapters::s3::keys::past::{
    is_versions, name_of_past, name_of_versions, past_of_object, past_side,
};
use crate::adapters::s3::keys::{Prefix, RANGE, undivided};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EntryKind, EntryPath};
use crate::snapshot::SnapshotEntry;

/// What snapshots of buckets name as their paths.
const SCHEME: &str = "s3://";

/// What is restored.
#[derive(Debug)]
pub(super) struct Scope {
    /// Of a snapshot of a bucket; else of folders.
    pub(super) is_of_bucket: bool,
    /// The directory whose content goes to the root of the target.
    pub(super) base: EntryPath,
    /// The first name is one of a bucket, and no part of keys.
    pub(super) skips_bucket: bool,
    /// What was current.
    pub(super) current: Current,
    /// The directories with older versions.
    pub(super) past: Vec<Past>,
}

/// What was current, as far as it is restored.
#[derive(Debug)]
pub(super) enum Current {
    /// All below the base, but for older versions.
    Below,
    /// One file.
    One(SnapshotEntry),
    /// One older version, as if it were current.
    OneVersion(SnapshotEntry),
    /// Nothing: only older versions are asked for.
    Nothing,
}

/// A directory with older versions.
#[derive(Debug, Clone)]
pub(super) struct Past {
    /// What is walked.
    pub(super) top: EntryPath,
    /// Whether it has the versions of one key, so that keys begin above it.
    pub(super) is_of_key: bool,
    /// The directory in which keys begin.
    pub(super) base: EntryPath,
    /// What they begin with.
    pub(super) outer: Prefix,
}

impl Scope {
    pub(super) async fn of(core: &Core) -> Result<Self> {
        let path = core.options.path.clone();
        let paths = core.snapshot.paths();
        let is_of_bucket = !paths.is_empty() && paths.iter().all(|path| path.starts_with(SCHEME));
        let mut scope = Self {
            is_of_bucket,
            skips_bucket: false,
            base: path.clone(),
            current: Current::Below,
            past: Vec::new(),
        };
        if path.is_empty() {
            scope.skips_bucket = is_of_bucket && paths.len() == 1;
            if is_of_bucket {
                scope.add_all_past(core).await?;
            }
            return Ok(scope);
        }
        let found = core.snapshot.find(&path).await?.ok_or_else(|| {
            let message = format!("cannot restore {path}: it is not in the snapshot");
            Error::new(ErrorKind::NotFound, message)
        })?;
        if is_of_bucket && path.names().next().is_some_and(is_versions) {
            return scope.within_past(core, found);
        }
        let place = undivided(&path);
        if found.kind != EntryKind::Directory {
            scope.base.pop();
            scope.current = Current::One(found);
        }
        // A directory that only divides others has no counterpart.
        let is_divider = path.name().is_some_and(|name| name.starts_with(RANGE.as_bytes()));
        if is_of_bucket && !is_divider {
            scope.add_past_of(core, &place).await?;
        }
        Ok(scope)
    }

    /// Whether current objects come behind their older versions.
    pub(super) fn has_current(&self) -> bool {
        matches!(self.current, Current::Below | Current::One(_))
    }

    async fn add_all_past(&mut self, core: &Core) -> Result<()> {
        let mut children = core.snapshot.children(&EntryPath::root());
        while let Some(top) = children.next().await {
            let top = top?;
            let name = top.path.name().unwrap_or_default();
            let Some(bucket) = name_of_versions(name) else { continue };
            if top.kind != EntryKind::Directory {
                continue;
            }
            let outer = Prefix::default();
            let outer = if self.skips_bucket { Some(outer) } else { outer.enter(bucket, None) };
            // Whatever else has such a name was not written by us.
            let outer = outer.unwrap_or_default();
            let base = top.path.clone();
            self.past.push(Past { top: top.path, is_of_key: false, base, outer });
        }
        Ok(())
    }

    /// Adds the older versions of what stands at an undivided place.
    async fn add_past_of(&mut self, core: &Core, place: &EntryPath) -> Result<()> {
        let is_of_key = matches!(self.current, Current::One(_));
        let places =
            if is_of_key { past_of_object(place, false).to_vec() } else { vec![past_side(place)] };
        for at in places {
            let found = core.lookup.find(&*core.snapshot, &at).await?;
            if let Some(found) = found.filter(|found| found.is_directory) {
                self.past.push(Past::of(found.path, is_of_key));
                break;
            }
        }
        Ok(())
    }

    /// Somebody has named one version, or a directory with some.
    fn within_past(mut self, core: &Core, found: SnapshotEntry) -> Result<Self> {
        if found.kind != EntryKind::Directory {
            self.base.pop();
            self.current = Current::OneVersion(found);
            return Ok(self);
        }
        let path = &found.path;
        if !core.place.options.versions {
            let message = format!("cannot restore {path}: these are older versions of objects");
            return Err(Error::new(ErrorKind::Unsupported, message)
                .with_code("s3-older-versions")
                .with_hint("ask for them with versions=true, or name one of them"));
        }
        let is_of_key = path.name().is_some_and(|name| name_of_past(name).is_some());
        self.past.push(Past::of(found.path, is_of_key));
        self.current = Current::Nothing;
        Ok(self)
    }
}

impl Past {
    fn of(top: EntryPath, is_of_key: bool) -> Self {
        let above = if is_of_key { top.parent() } else { None };
        let base = above.unwrap_or_else(|| top.clone());
        Self { top, is_of_key, base, outer: Prefix::default() }
    }
}
