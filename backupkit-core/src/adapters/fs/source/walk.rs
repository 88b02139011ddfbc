//! Listing, depth first and in the order of names.

mod frame;
mod visit;

use std::sync::Arc;

use self::frame::Frame;
use self::visit::Visitor;
use super::super::blocking::{BATCH_ITEMS, Batches};
use super::layout::TOP;
use super::{Shared, encode_token};
use crate::error::{Error, ErrorKind};
use crate::model::{EntryPath, Metadata};
use crate::source::{ListError, Listed, ListedItem};

/// Directories held open at the same time. Those above are opened again through `..` when the walk
/// comes back to them.
const OPEN_DIRECTORIES: usize = 64;

/// A walk over all roots. Memory grows with the names of the directories that are being listed, and
/// with nothing else.
pub(super) struct Walk {
    shared: Arc<Shared>,
    visitor: Visitor,
    frames: Vec<Frame>,
    /// The path of the last frame.
    path: EntryPath,
    start: Option<Start>,
}

/// Where to begin.
enum Start {
    Beginning,
    Behind(EntryPath),
}

type Item = Result<Listed, ListError>;

impl Walk {
    pub(super) fn new(shared: Arc<Shared>, after: Option<EntryPath>) -> Self {
        Self {
            visitor: Visitor::new(Arc::clone(&shared)),
            shared,
            frames: Vec::new(),
            path: EntryPath::root(),
            start: Some(after.map_or(Start::Beginning, Start::Behind)),
        }
    }

    fn begin(&mut self, items: &mut Vec<Item>) {
        let Some(start) = self.start.take() else {
            return;
        };
        let overlay = self.shared.layout.node(TOP).path().map(<[u8]>::to_vec);
        match self.visitor.above_roots(&self.path, TOP, overlay, None, items) {
            Some(frame) => self.frames.push(frame),
            None => return,
        }
        if let Start::Behind(path) = start {
            self.skip_to(&path, items);
        }
    }

    /// Opens the directories on the way to `path` and leaves out all up to and including it.
    fn skip_to(&mut self, path: &EntryPath, items: &mut Vec<Item>) {
        let n_above = path.len().saturating_sub(1);
        for (depth, name) in path.names().enumerate() {
            let Some(frame) = self.frames.last_mut() else {
                return;
            };
            frame.next = frame.names.index_behind(name);
            if depth == n_above {
                return;
            }
            // What happens on the way was told when the walk first came here.
            let mut told = Vec::new();
            let child = self.path.join(name);
            let Some(frame) = self.visit(name, &child, &mut told) else {
                let error = Error::new(
                    ErrorKind::NotFound,
                    format!("cannot go on listing {child}: it is no longer there"),
                );
                items.push(Err(ListError { path: Some(child), error }));
                return;
            };
            self.enter(frame, child);
        }
    }

    /// One name further. `false` at the end.
    fn step(&mut self, items: &mut Vec<Item>) -> bool {
        let Some(frame) = self.frames.last_mut() else {
            return false;
        };
        match frame.names.get(frame.next) {
            Some(name) => {
                let name = name.to_vec();
                frame.next += 1;
                let child = self.path.join(&name);
                if let Some(frame) = self.visit(&name, &child, items) {
                    self.enter(frame, child);
                }
            }
            None => self.leave(items),
        }
        true
    }

    fn visit(&mut self, name: &[u8], path: &EntryPath, items: &mut Vec<Item>) -> Option<Frame> {
        let frame = self.frames.last()?;
        let child = frame.node.and_then(|node| self.shared.layout.node(node).child(name));
        if let Some(child) = child {
            let node = self.shared.layout.node(child);
            let overlay = node.path_below(frame.overlay.as_deref(), name);
            if node.is_root() {
                return self.visitor.root(path, &overlay?, items);
            }
            let described_by = node.described_by().map(<[u8]>::to_vec);
            return self.visitor.above_roots(path, child, overlay, described_by.as_deref(), items);
        }
        self.visitor.below(frame, name, path, items)
    }

    fn enter(&mut self, frame: Frame, path: EntryPath) {
        self.frames.push(frame);
        self.path = path;
        if let Some(far) = self.frames.len().checked_sub(OPEN_DIRECTORIES + 1) {
            self.frames[far].close();
        }
    }

    fn leave(&mut self, items: &mut Vec<Item>) {
        let Some(mut left) = self.frames.pop() else {
            return;
        };
        if let Some(metadata) = left.metadata.take() {
            items.push(Ok(directory_done(&self.path, metadata)));
        }
        self.path.pop();
        if let Some(parent) = self.frames.last_mut()
            && let Err(error) = parent.reopen_from(&left)
        {
            parent.next = usize::MAX;
            let path = self.path.clone();
            let error = Error::new(
                ErrorKind::SourceChanged,
                format!("cannot go on listing {path}: it was moved ({error})"),
            );
            items.push(Err(ListError { path: Some(path), error }));
        }
    }
}

impl Batches for Walk {
    type Item = Item;

    fn next_batch(&mut self, items: &mut Vec<Item>) -> bool {
        if let Err(error) = self.shared.cancel.check() {
            items.push(Err(error.into()));
            return false;
        }
        self.begin(items);
        while items.len() < BATCH_ITEMS {
            if !self.step(items) {
                return false;
            }
        }
        true
    }
}

fn directory_done(path: &EntryPath, metadata: Box<Metadata>) -> Listed {
    Listed { token: encode_token(path), item: ListedItem::DirDone { path: path.clone(), metadata } }
}
