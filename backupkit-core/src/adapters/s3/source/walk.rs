//! Keys in the order of a listing become entries and directories.
//!
//! Servers list by the bytes of whole keys (`a-b`, `a/x`), some of them directory by directory (`a/x`,
//! `a-b`). In either order all that is in a directory comes together, so a directory is done when a key
//! comes that is not in it, and memory does not grow with the number of keys. A listing in another order
//! is refused: a key that comes too late could belong to a directory that is done. It has to be
//! [`sorted`](super::sorted) before.
//!
//! An object has another name if there is a directory of its name (see [`keys`](super::super::keys)).
//! Whether there is one shows later: between `a` and `a/x` may come `a-b`. So an object waits for as long
//! as keys begin with its own. Those that wait are beginnings of each other, thus few.
//!
//! Directories of very many entries are divided (see [`shards`](super::shards)).

use std::cmp::Ordering;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::super::keys::past::versions_name;
use super::super::keys::{Name, divide};
pub(super) use super::found::{Found, ListedObject};
use super::order::Order;
use super::shards::{Kind, Sequence, Shard, Sizes};
use crate::error::{Error, ErrorKind, Result};
use crate::model::EntryPath;

/// Keys held back when a listing goes on; they came or went meanwhile.
const MOST_UNCLEAR: usize = 100_000;

/// A walk through the keys of a bucket. Its serialised form continues it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Walk {
    /// The last key that was taken in.
    last: Option<String>,
    /// The key that comes next, which was not taken in yet. None before it counts.
    floor: Option<String>,
    /// Keys that come next, whole.
    #[serde(skip)]
    next: VecDeque<ListedObject>,
    #[serde(skip)]
    again: Again,
    has_ended: bool,
    order: Order,
    /// The key of the innermost open directory: empty, or ends with `/`.
    prefix: String,
    /// The open directories, from the bucket inward.
    open: Vec<Open>,
    waiting: Vec<Waiting>,
    /// Shards that get no more entries, and may have objects that wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    over: Vec<Over>,
    #[serde(skip)]
    sizes: Sizes,
    /// Whether names are final without knowing what comes.
    #[serde(skip)]
    is_of_histories: bool,
    #[serde(skip)]
    path: EntryPath,
}

/// An object whose name is not known yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    #[serde(rename = "o")]
    object: ListedObject,
    /// The shard of its directory in which it stands.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    shard: Option<String>,
}

/// A shard of which all was listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Over {
    /// How deep the directory is that is divided.
    #[serde(rename = "d")]
    depth: usize,
    #[serde(flatten)]
    shard: Shard,
}

/// What is listed again after a break, up to where the walk stood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Again {
    /// The key before.
    last: Option<String>,
    /// Keys that came meanwhile, or of which it is not clear whether they were taken in: that depends on
    /// the order of the listing, which so far may be one or the other.
    unclear: VecDeque<ListedObject>,
}

/// A directory that may hold more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    #[serde(rename = "m")]
    modified: i64,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    marker: Option<ListedObject>,
    #[serde(rename = "f", default, skip_serializing_if = "Sequence::is_empty")]
    objects: Sequence,
    #[serde(rename = "d", default, skip_serializing_if = "Sequence::is_empty")]
    directories: Sequence,
    /// The shard of the directory above in which it stands.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    shard: Option<String>,
}

impl Walk {
    /// Begins in the directory of a bucket.
    pub(super) fn new(bucket: &str) -> Self {
        Self::begin(EntryPath::from_names([Name::of(bucket).text]), false)
    }

    /// Begins in the directory of older versions of a bucket, to find where those of each key stand.
    /// They stand in a directory of their own, whose name nothing else has, so no object waits.
    pub(super) fn of_histories(bucket: &str) -> Self {
        Self::begin(EntryPath::from_names([versions_name(bucket)]), true)
    }

    fn begin(path: EntryPath, is_of_histories: bool) -> Self {
        Self {
            last: None,
            floor: None,
            next: VecDeque::new(),
            again: Again::default(),
            has_ended: false,
            order: Order::unknown(),
            prefix: String::new(),
            open: vec![Open::default()],
            waiting: Vec::new(),
            over: Vec::new(),
            sizes: Sizes::default(),
            is_of_histories,
            path,
        }
    }

    /// Divides directories earlier than they need to be.
    #[cfg(test)]
    fn with_sizes(mut self, sizes: Sizes) -> Self {
        self.sizes = sizes;
        self
    }

    /// Goes on where the walk stood that was serialised.
    ///
    /// # Errors
    /// `SourceChanged` for what is not such a text.
    pub(super) fn resume(bucket: &str, text: &[u8]) -> Result<Self> {
        let read = serde_json::from_slice::<Self>(text).map_err(|_| of_another_version())?;
        read.go_on_from(Self::new(bucket))
    }

    /// Goes on with a walk through histories that was serialised.
    ///
    /// # Errors
    /// `SourceChanged` for what was none.
    pub(super) fn resume_histories(self, bucket: &str) -> Result<Self> {
        self.go_on_from(Self::of_histories(bucket))
    }

    fn go_on_from(self, begun: Self) -> Result<Self> {
        let Self { is_of_histories, path, .. } = begun;
        let mut walk = Self { is_of_histories, path, ..self };
        let is_right = (walk.prefix.is_empty() || walk.prefix.ends_with('/'))
            && walk.over.iter().all(|over| over.depth < walk.open.len())
            && if walk.open.is_empty() {
                walk.has_ended
            } else {
                walk.open.len() == depth(&walk.prefix) + 1
            };
        if !is_right {
            return Err(of_another_version());
        }
        // What is due is not in the text, and listed again.
        walk.has_ended &= walk.floor.is_none();
        for (part, open) in walk.prefix.split_terminator('/').zip(walk.open.iter().skip(1)) {
            if let Some(shard) = &open.shard {
                walk.path.push(shard.as_bytes());
            }
            walk.path.push(Name::of(part).text.as_bytes());
        }
        Ok(walk)
    }

    /// The serialised form.
    pub(super) fn to_text(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| {
            Error::new(ErrorKind::Internal, "cannot write where a listing is").with_source(error)
        })
    }

    /// Whether there are no more keys.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether there was a key.
    pub(super) fn has_keys(&self) -> bool {
        self.last.is_some()
    }

    /// Whether the keys so far show that the server lists by bytes.
    pub(super) fn is_by_bytes(&self) -> bool {
        self.order.is_by_bytes()
    }

    /// Says that keys come in the order of their bytes, whatever the server does.
    pub(super) fn expect_sorted(&mut self) {
        self.order = Order::by_bytes();
    }

    /// Behind which key to list, so that nothing is missed. Where it is not known yet that the server
    /// lists by bytes, it may understand something else by "behind", as `SeaweedFS` does, for which `a/x`
    /// is not behind `a`: then all is listed again.
    pub(super) fn behind(&self, lists_by_bytes: bool) -> Option<&str> {
        let is_known = lists_by_bytes || self.is_by_bytes();
        self.last.as_deref().filter(|_| is_known)
    }

    /// Whether a key was certainly taken in before a break.
    pub(super) fn has_passed(&self, key: &str) -> bool {
        let floor = self.floor.as_deref();
        floor.is_some_and(|floor| self.order.compare(key, floor) == Some(Ordering::Less))
    }

    /// Gives the next key of the listing; all was found before.
    ///
    /// # Errors
    /// `Unsupported` if it comes in no order, `SourceChanged` if too much changed since the walk was
    /// serialised.
    pub(super) fn offer(&mut self, object: ListedObject) -> Result<()> {
        let Some(floor) = &self.floor else {
            return self.queue([object]);
        };
        // Listed again after a break.
        if let Some(last) = self.again.last.replace(object.key.clone()) {
            self.order.take(&last, &object.key)?;
        }
        match self.order.compare(&object.key, floor) {
            Some(Ordering::Less) => Ok(()),
            None if self.again.unclear.len() < MOST_UNCLEAR => {
                self.again.unclear.push_back(object);
                Ok(())
            }
            None => {
                let why = "cannot go on with the listing: too many keys came meanwhile";
                Err(Error::new(ErrorKind::SourceChanged, why))
            }
            Some(_) => self.catch_up(Some(object)),
        }
    }

    /// Says that there are no more keys.
    ///
    /// # Errors
    /// `Unsupported` if keys come in no order.
    pub(super) fn end(&mut self) -> Result<()> {
        self.has_ended = true;
        self.catch_up(None)
    }

    /// All that was taken in has been listed again: goes on with what follows. By now it may be known
    /// whether what was not clear was taken in. Else it was not: in the one order it came meanwhile, and
    /// in the other it is due.
    fn catch_up(&mut self, next: Option<ListedObject>) -> Result<()> {
        let Again { unclear, .. } = std::mem::take(&mut self.again);
        let (order, floor) = (self.order, self.floor.take());
        let is_due = |object: &ListedObject| {
            let floor = floor.as_deref();
            floor.is_none_or(|floor| order.compare(&object.key, floor) != Some(Ordering::Less))
        };
        self.queue(unclear.into_iter().filter(is_due).chain(next))
    }

    fn queue(&mut self, objects: impl IntoIterator<Item = ListedObject>) -> Result<()> {
        for object in objects {
            let last = self.next.back().map(|object| &object.key).or(self.last.as_ref());
            if let Some(last) = last {
                self.order.take(last, &object.key)?;
            }
            self.next.push_back(object);
        }
        self.floor = self.next.front().map(|object| object.key.clone());
        Ok(())
    }

    /// Gives what is found with the keys that were offered; nothing when the next one is needed.
    pub(super) fn step(&mut self) -> Option<Found> {
        loop {
            if self.is_of_histories
                && let Some(waiting) = self.waiting.pop()
            {
                return Some(self.object(waiting, false));
            }
            let key = self.next.front().map(|object| object.key.as_str());
            if key.is_none() && !self.has_ended {
                return None;
            }
            let is_over = |waiting: &Waiting| match key
                .and_then(|key| key.strip_prefix(&*waiting.object.key))
            {
                None => true,
                Some(rest) => rest.starts_with('/'),
            };
            if let Some(place) = self.waiting.iter().position(is_over) {
                let own = &*self.waiting[place].object.key;
                let is_beside = key.is_some_and(|key| key.starts_with(own));
                let waiting = self.waiting.remove(place);
                return Some(self.object(waiting, is_beside));
            }
            if let Some(place) = self.over.iter().position(|over| !self.is_waited_for(over)) {
                let Over { depth, shard } = self.over.remove(place);
                return Some(Self::shard(self.path_at(depth), &shard));
            }
            if !self.open.is_empty() && key.is_none_or(|key| !key.starts_with(&*self.prefix)) {
                return self.close();
            }
            let object = self.next.pop_front()?;
            self.take_in(object);
        }
    }

    fn take_in(&mut self, object: ListedObject) {
        let (prefix, last) = divide(&object.key);
        for part in prefix[self.prefix.len()..].split_terminator('/') {
            let shard = self.place(part, Kind::Directories);
            if let Some(shard) = &shard {
                self.path.push(shard.as_bytes());
            }
            self.path.push(Name::of(part).text.as_bytes());
            self.open.push(Open { shard, ..Open::default() });
        }
        prefix.clone_into(&mut self.prefix);
        self.last = Some(object.key.clone());
        self.floor = self.next.front().map(|object| object.key.clone());
        if last.is_empty()
            && object.len_bytes == 0
            && self.open.len() > 1
            && let Some(directory) = self.open.last_mut()
        {
            directory.marker = Some(object);
            return;
        }
        let shard = self.place(last, Kind::Objects);
        if let Some(directory) = self.open.last_mut() {
            directory.modified = directory.modified.max(object.modified);
            directory.objects.note_change(object.modified);
        }
        self.waiting.push(Waiting { object, shard });
    }

    /// In which shard of the innermost open directory something stands that comes next in it.
    fn place(&mut self, part: &str, kind: Kind) -> Option<String> {
        let depth = self.open.len().checked_sub(1)?;
        let directory = self.open.last_mut()?;
        let sequence = match kind {
            Kind::Objects => &mut directory.objects,
            Kind::Directories => &mut directory.directories,
        };
        let (shard, over) = sequence.take(part, kind, self.sizes);
        self.over.extend(over.map(|shard| Over { depth, shard }));
        shard
    }

    /// Whether an object waits that stands in this shard.
    fn is_waited_for(&self, over: &Over) -> bool {
        let is_in = |waiting: &Waiting| {
            waiting.shard.as_ref() == Some(&over.shard.name)
                && depth(&waiting.object.key) == over.depth
        };
        self.waiting.iter().any(is_in)
    }

    /// The path of the open directory that is so deep.
    fn path_at(&self, depth: usize) -> EntryPath {
        let inside = self.open.iter().skip(1).take(depth);
        let names = 1 + inside.map(|open| 1 + usize::from(open.shard.is_some())).sum::<usize>();
        EntryPath::from_names(self.path.names().take(names))
    }

    fn object(&self, Waiting { object, shard }: Waiting, is_beside: bool) -> Found {
        let (_, part) = divide(&object.key);
        let name = Name::of(part);
        let part = name.is_shortened.then(|| part.to_owned());
        let name = if is_beside { name.beside_directory() } else { name };
        // It may wait while directories beside it are open: `a`, `a-b/c`, `a/x`.
        let mut path = self.path_at(depth(&object.key));
        if let Some(shard) = shard {
            path.push(shard.as_bytes());
        }
        path.push(name.text.as_bytes());
        Found::Object { path, part, object }
    }

    fn shard(mut path: EntryPath, shard: &Shard) -> Found {
        path.push(shard.name.as_bytes());
        Found::Directory { path, part: None, marker: None, modified: shard.modified }
    }

    fn close(&mut self) -> Option<Found> {
        let last = self.open.last_mut()?;
        if let Some(shard) = last.objects.end().or_else(|| last.directories.end()) {
            return Some(Self::shard(self.path.clone(), &shard));
        }
        let Open { modified, marker, shard, .. } = self.open.pop()?;
        let path = self.path.clone();
        self.path.pop();
        if shard.is_some() {
            self.path.pop();
        }
        let part = self.prefix.strip_suffix('/').map(|whole| divide(whole).1.to_owned());
        let kept = part.clone().filter(|part| Name::of(part).is_shortened);
        if let Some(part) = part {
            self.prefix.truncate(self.prefix.len() - part.len() - 1);
        }
        let modified = marker.as_ref().map_or(modified, |marker| marker.modified);
        if let Some(above) = self.open.last_mut() {
            above.modified = above.modified.max(modified);
            above.directories.note_change(modified);
        }
        Some(Found::Directory { path, part: kept, marker, modified })
    }
}

/// The error of a token that cannot be read.
pub(super) fn of_another_version() -> Error {
    let why = "cannot go on with the listing: its token is of another version";
    Error::new(ErrorKind::SourceChanged, why)
}

/// How deep the directory is that holds an object.
fn depth(key: &str) -> usize {
    key.bytes().filter(|byte| *byte == b'/').count()
}

#[cfg(test)]
mod division_tests;
#[cfg(test)]
mod tests;
