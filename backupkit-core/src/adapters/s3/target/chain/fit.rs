//! Which versions of the snapshot the target has.

use std::collections::{HashMap, HashSet};

use super::{Own, Theirs, There};
use crate::adapters::s3::bucket::Looked;
use crate::adapters::s3::target::content::{is_checksum_of, read_back_version};
use crate::adapters::s3::target::session::Core;
use crate::error::Result;

/// What the target has of the versions of the snapshot.
#[derive(Debug, Default)]
pub(in crate::adapters::s3::target) struct Fit {
    /// Which version of the target each of the snapshot is, from the oldest on.
    found: Vec<Option<Found>>,
    /// Whether the target has no others.
    pub(in crate::adapters::s3::target) has_only_ours: bool,
}

/// A version that the target has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::adapters::s3::target) struct Found {
    /// Nothing if it was not listed since it was written.
    pub(in crate::adapters::s3::target) id: Option<String>,
}

impl Fit {
    /// Compares. Best is what the target has on top if it is an unbroken beginning of the snapshot's; else
    /// what is left if some of those are missing.
    pub(super) async fn of(core: &Core, key: &str, ours: &[Own], theirs: &Theirs) -> Result<Self> {
        let (same, looked) = (HashMap::new(), HashMap::new());
        let mut fitting = Fitting { core, key, ours, theirs, same, looked };
        let count = theirs.objects.len() + theirs.marks.len();
        for length in (1..=ours.len().min(count)).rev() {
            if let Some(found) = fitting.on_top(length).await? {
                let mut fit = Self::new(ours, found);
                fit.has_only_ours = length == count;
                return Ok(fit);
            }
        }
        let (found, is_all) = fitting.with_gaps().await?;
        let mut fit = Self::new(ours, Vec::new());
        if is_all {
            for (place, there) in found {
                fit.put(place, there);
            }
        }
        fit.has_only_ours = is_all;
        Ok(fit)
    }

    fn new(ours: &[Own], found: Vec<(usize, &There)>) -> Self {
        let mut fit = Self { found: vec![None; ours.len()], has_only_ours: false };
        for (place, there) in found {
            fit.put(place, there);
        }
        fit
    }

    fn put(&mut self, place: usize, there: &There) {
        if let Some(found) = self.found.get_mut(place) {
            *found = Some(Found { id: there.id.clone() });
        }
    }

    /// Says that a version was written.
    pub(super) fn set(&mut self, place: usize) {
        if let Some(found) = self.found.get_mut(place) {
            *found = Some(Found { id: None });
        }
    }

    /// The version of the target that one of the snapshot is.
    pub(in crate::adapters::s3::target) fn find(&self, place: usize) -> Option<&Found> {
        self.found.get(place)?.as_ref()
    }

    /// The versions of the target that are some of the snapshot.
    pub(super) fn ids(&self) -> HashSet<Option<&str>> {
        self.found.iter().flatten().map(|found| found.id.as_deref()).collect()
    }

    /// Whether the target has all.
    pub(in crate::adapters::s3::target) fn is_whole(&self) -> bool {
        self.found.iter().all(Option::is_some)
    }

    /// Whether the target has a version that comes later.
    pub(in crate::adapters::s3::target) fn has_later(&self, place: usize) -> bool {
        self.found.iter().skip(place + 1).any(Option::is_some)
    }
}

struct Fitting<'a> {
    core: &'a Core,
    key: &'a str,
    ours: &'a [Own],
    theirs: &'a Theirs,
    /// What was compared by more than tags.
    same: HashMap<(usize, usize), bool>,
    /// What the server keeps of objects that were looked at; nothing of those that are gone.
    looked: HashMap<usize, Option<Looked>>,
}

impl<'a> Fitting<'a> {
    /// The newest versions of the target, if they are the first `length` ones of the snapshot.
    async fn on_top(&mut self, length: usize) -> Result<Option<Vec<(usize, &'a There)>>> {
        let (mut pairs, mut n_objects, mut n_marks) = (Vec::new(), 0, 0);
        // First what costs nothing.
        for (place, own) in self.ours.iter().enumerate().take(length).rev() {
            let (object, mark) =
                (self.theirs.objects.get(n_objects), self.theirs.marks.get(n_marks));
            let (this, other) = if own.object.is_none() { (mark, object) } else { (object, mark) };
            let Some(this) = this else { return Ok(None) };
            // Of the same time they may have come in any order, but for the latest.
            let is_behind = other.is_some_and(|other| other.modified > this.modified);
            let is_latest = pairs.is_empty() == this.is_latest || !self.theirs.knows_latest();
            if is_behind || !is_latest || !may_be(own, this) {
                return Ok(None);
            }
            pairs.push((place, if own.object.is_none() { None } else { Some(n_objects) }, this));
            if own.object.is_none() { n_marks += 1 } else { n_objects += 1 }
        }
        for (place, object, there) in &pairs {
            if let Some(number) = object
                && !self.is_same(*place, *number, there).await?
            {
                return Ok(None);
            }
        }
        Ok(Some(pairs.into_iter().map(|(place, _, there)| (place, there)).collect()))
    }

    /// The versions of the target from the oldest on, each as the next one of the snapshot that is the
    /// same, and whether these are all.
    async fn with_gaps(&mut self) -> Result<(Vec<(usize, &'a There)>, bool)> {
        let mut found = Vec::new();
        let (mut n_objects, mut n_marks) = (self.theirs.objects.len(), self.theirs.marks.len());
        for (place, own) in self.ours.iter().enumerate() {
            let last = |list: &'a [There], count: usize| count.checked_sub(1).map(|n| &list[n]);
            let object = last(&self.theirs.objects, n_objects);
            let mark = last(&self.theirs.marks, n_marks);
            let (this, other) = if own.object.is_none() { (mark, object) } else { (object, mark) };
            let Some(this) = this else { continue };
            if other.is_some_and(|other| other.modified < this.modified) || !may_be(own, this) {
                continue;
            }
            if own.object.is_none() {
                n_marks -= 1;
            } else if self.is_same(place, n_objects - 1, this).await? {
                n_objects -= 1;
            } else {
                continue;
            }
            found.push((place, this));
        }
        Ok((found, n_objects == 0 && n_marks == 0))
    }

    /// Whether two versions of the same length are the same: by their entity tags, or else by their bytes.
    async fn is_same(&mut self, place: usize, number: usize, there: &There) -> Result<bool> {
        let ours: &'a [Own] = self.ours;
        let own = &ours[place];
        let is_tagged = |etag: &str| !etag.is_empty() && etag == there.etag;
        if own.object.as_ref().is_some_and(|object| is_tagged(&object.etag)) {
            return Ok(true);
        }
        if let Some(same) = self.same.get(&(place, number)) {
            return Ok(*same);
        }
        let same = self.has_bytes(own, number, there).await?;
        self.same.insert((place, number), same);
        Ok(same)
    }

    async fn has_bytes(&mut self, own: &Own, number: usize, there: &There) -> Result<bool> {
        let (core, key) = (self.core, self.key);
        let Some(id) = there.id.as_deref() else { return Ok(false) };
        if there.len_bytes == Some(0) {
            return Ok(true);
        }
        let known = self.looked.get(&number).cloned();
        let looked = if let Some(looked) = known {
            looked
        } else {
            let looking = core.place.bucket.look_at_version(key, id);
            let looked = core.cancel.unless_cancelled(looking).await?;
            self.looked.insert(number, looked.clone());
            looked
        };
        let Some(looked) = looked else { return Ok(false) };
        let Some(entry) = core.snapshot.find(&own.path).await? else { return Ok(false) };
        match is_checksum_of(core, looked.checksum.as_deref(), &entry)? {
            Some(is_same) => Ok(is_same),
            None => read_back_version(core, key, Some(id), &entry).await,
        }
    }
}

/// Whether two versions may be the same, as far as a listing tells.
fn may_be(own: &Own, there: &There) -> bool {
    own.object.as_ref().map(|object| object.len_bytes) == there.len_bytes
}
