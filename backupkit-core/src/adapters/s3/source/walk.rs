//! Keys in the order of a listing become entries and directories.
//!
//! Servers list by the bytes of whole keys (`a-b`, `a/x`), some of them directory by directory (`a/x`,
//! `a-b`). In either order all that is in a directory comes together, so a directory is done when a key
//! comes that is not in it, and memory does not grow with the number of keys. A listing in another order
//! is refused: a key that comes too late could belong to a directory that is done.
//!
//! An object has another name if there is a directory of its name (see [`keys`](super::super::keys)).
//! Whether there is one shows later: between `a` and `a/x` may come `a-b`. So an object waits for as long
//! as keys begin with its own. Those that wait are beginnings of each other, thus few.

use std::cmp::Ordering;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::super::keys::{Name, divide};
use crate::error::{Error, ErrorKind, Result};
use crate::model::EntryPath;

/// Keys that may be held back when a listing goes on; they came or went meanwhile.
const MOST_UNCLEAR: usize = 100_000;

/// An object as the listing has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListedObject {
    /// The whole key.
    #[serde(rename = "k")]
    pub(super) key: String,
    #[serde(rename = "s")]
    pub(super) len_bytes: u64,
    /// In quotes; empty if the server gives none.
    #[serde(rename = "e")]
    pub(super) etag: String,
    /// In seconds since 1970.
    #[serde(rename = "m")]
    pub(super) modified: i64,
}

/// What a walk finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Object {
        path: EntryPath,
        /// The part of the key that its name does not tell.
        part: Option<String>,
        object: ListedObject,
    },
    /// A directory of which all was found.
    Directory {
        path: EntryPath,
        /// The part of the key that its name does not tell.
        part: Option<String>,
        /// The object without bytes that stands for it.
        marker: Option<ListedObject>,
        /// When it last changed, in seconds since 1970.
        modified: i64,
    },
}

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
    waiting: Vec<ListedObject>,
    #[serde(skip)]
    path: EntryPath,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    #[serde(rename = "m")]
    modified: i64,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    marker: Option<ListedObject>,
}

/// Which orders the keys so far agree with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Order {
    bytes: bool,
    tree: bool,
}

impl Walk {
    /// Begins in the directory of a bucket.
    pub(super) fn new(bucket: &str) -> Self {
        let mut path = EntryPath::root();
        path.push(Name::of(bucket).text.as_bytes());
        Self {
            last: None,
            floor: None,
            next: VecDeque::new(),
            again: Again::default(),
            has_ended: false,
            order: Order { bytes: true, tree: true },
            prefix: String::new(),
            open: vec![Open { modified: 0, marker: None }],
            waiting: Vec::new(),
            path,
        }
    }

    /// Goes on where the walk stood that was serialised.
    ///
    /// # Errors
    /// `SourceChanged` for what is not such a text.
    pub(super) fn resume(bucket: &str, text: &[u8]) -> Result<Self> {
        let read = serde_json::from_slice::<Self>(text).ok();
        let read = read.filter(|walk| {
            let deep = walk.prefix.bytes().filter(|byte| *byte == b'/').count();
            (walk.prefix.is_empty() || walk.prefix.ends_with('/'))
                && if walk.open.is_empty() { walk.has_ended } else { walk.open.len() == deep + 1 }
        });
        let mut walk = read.ok_or_else(|| {
            let why = "cannot go on with the listing: its token is of another version";
            Error::new(ErrorKind::SourceChanged, why)
        })?;
        // What is due is not in the text, and listed again.
        walk.has_ended &= walk.floor.is_none();
        walk.path = EntryPath::root();
        walk.path.push(Name::of(bucket).text.as_bytes());
        for part in walk.prefix.split_terminator('/') {
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

    /// Behind which key to list, so that nothing is missed. Where it is not known yet that the server
    /// lists by bytes, it may understand something else by "behind", as `SeaweedFS` does, for which `a/x`
    /// is not behind `a`: then all is listed again.
    pub(super) fn behind(&self, lists_by_bytes: bool) -> Option<&str> {
        let is_known = lists_by_bytes || (self.order.bytes && !self.order.tree);
        self.last.as_deref().filter(|_| is_known)
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
            let key = self.next.front().map(|object| object.key.as_str());
            if key.is_none() && !self.has_ended {
                return None;
            }
            let is_over =
                |object: &ListedObject| match key.and_then(|key| key.strip_prefix(&*object.key)) {
                    None => true,
                    Some(rest) => rest.starts_with('/'),
                };
            if let Some(place) = self.waiting.iter().position(is_over) {
                let is_beside = key.is_some_and(|key| key.starts_with(&*self.waiting[place].key));
                let object = self.waiting.remove(place);
                return Some(self.object(object, is_beside));
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
            self.path.push(Name::of(part).text.as_bytes());
            self.open.push(Open { modified: 0, marker: None });
        }
        prefix.clone_into(&mut self.prefix);
        self.last = Some(object.key.clone());
        self.floor = self.next.front().map(|object| object.key.clone());
        let is_marker = last.is_empty() && object.len_bytes == 0 && self.open.len() > 1;
        match self.open.last_mut() {
            Some(directory) if is_marker => directory.marker = Some(object),
            _ => self.waiting.push(object),
        }
    }

    fn object(&mut self, object: ListedObject, is_beside: bool) -> Found {
        let (prefix, part) = divide(&object.key);
        let name = Name::of(part);
        let part = name.is_shortened.then(|| part.to_owned());
        let name = if is_beside { name.beside_directory() } else { name };
        // It may wait while directories beside it are open: `a`, `a-b/c`, `a/x`.
        let depth = prefix.bytes().filter(|byte| *byte == b'/').count();
        if let Some(directory) = self.open.get_mut(depth) {
            directory.modified = directory.modified.max(object.modified);
        }
        let mut path = EntryPath::from_names(self.path.names().take(depth + 1));
        path.push(name.text.as_bytes());
        Found::Object { path, part, object }
    }

    fn close(&mut self) -> Option<Found> {
        let Open { modified, marker } = self.open.pop()?;
        let path = self.path.clone();
        self.path.pop();
        let part = self.prefix.strip_suffix('/').map(|whole| divide(whole).1.to_owned());
        let kept = part.clone().filter(|part| Name::of(part).is_shortened);
        if let Some(part) = part {
            self.prefix.truncate(self.prefix.len() - part.len() - 1);
        }
        let modified = marker.as_ref().map_or(modified, |marker| marker.modified);
        if let Some(above) = self.open.last_mut() {
            above.modified = above.modified.max(modified);
        }
        Some(Found::Directory { path, part: kept, marker, modified })
    }
}

impl Order {
    /// Takes note of two keys that follow each other.
    fn take(&mut self, last: &str, next: &str) -> Result<()> {
        self.bytes &= last < next;
        self.tree &= by_tree(last, next) == Ordering::Less;
        if self.bytes || self.tree {
            return Ok(());
        }
        let why = "cannot list the bucket: the server gives keys twice or without an order";
        Err(Error::new(ErrorKind::Unsupported, why)
            .with_code("s3-unordered")
            .with_context("behind", last.escape_debug())
            .with_context("comes", next.escape_debug())
            .with_hint(
                "directory buckets cannot be backed up: copy them to a bucket that lists in order",
            ))
    }

    /// How a key comes to another one; nothing if that depends on which order it is.
    fn compare(self, key: &str, other: &str) -> Option<Ordering> {
        let (by_bytes, by_tree) = (key.cmp(other), by_tree(key, other));
        match self {
            Self { bytes: true, tree: true } => (by_bytes == by_tree).then_some(by_bytes),
            Self { bytes: true, .. } => Some(by_bytes),
            _ => Some(by_tree),
        }
    }
}

/// The order of directories: `/` comes before all other characters.
fn by_tree(one: &str, other: &str) -> Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { u16::from(byte) + 1 };
    one.bytes().map(rank).cmp(other.bytes().map(rank))
}

#[cfg(test)]
mod tests;
