//! Listing objects, a folder at a time.

use std::fs::{self, ReadDir};
use std::path::Path;
use std::sync::Arc;

use super::super::blocking::{BATCH_ITEMS, Batches};
use super::TEMPORARY_MARK;
use super::read::is_missing;
use crate::destination::{ObjectKey, ObjectMeta};
use crate::error::{Error, Result};

/// Walks the folders below a prefix. Holds one open folder per level and nothing else.
pub(super) struct ObjectWalk {
    root: Arc<Path>,
    prefix: Option<ObjectKey>,
    open: Vec<Folder>,
}

struct Folder {
    key: ObjectKey,
    entries: ReadDir,
}

impl ObjectWalk {
    pub(super) fn new(root: Arc<Path>, prefix: ObjectKey) -> Self {
        Self { root, prefix: Some(prefix), open: Vec::new() }
    }

    /// Descends into a folder, or gives an object. What vanished, or is no object, is `None`.
    fn visit(&mut self, key: ObjectKey) -> Result<Option<ObjectMeta>> {
        let path = self.root.join(key.as_str());
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(Error::io(format!("look at {}", path.display()), error)),
        };
        if metadata.is_file() {
            let size_bytes = metadata.len();
            return Ok(Some(ObjectMeta { key, size_bytes }));
        }
        if metadata.is_dir() {
            match fs::read_dir(&path) {
                Ok(entries) => self.open.push(Folder { key, entries }),
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(Error::io(format!("list {}", path.display()), error)),
            }
        }
        Ok(None)
    }

    fn next(&mut self) -> Result<Option<ObjectMeta>> {
        if let Some(prefix) = self.prefix.take()
            && let Some(object) = self.visit(prefix)?
        {
            return Ok(Some(object));
        }
        while let Some(folder) = self.open.last_mut() {
            let Some(entry) = folder.entries.next() else {
                self.open.pop();
                continue;
            };
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let path = self.root.join(folder.key.as_str());
                    return Err(Error::io(format!("list {}", path.display()), error));
                }
            };
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.contains(TEMPORARY_MARK)) else {
                continue;
            };
            // What cannot be a key was not created here.
            let Ok(key) = ObjectKey::new(format!("{}/{name}", folder.key)) else {
                continue;
            };
            if let Some(object) = self.visit(key)? {
                return Ok(Some(object));
            }
        }
        Ok(None)
    }
}

impl Batches for ObjectWalk {
    type Item = Result<ObjectMeta>;

    fn next_batch(&mut self, items: &mut Vec<Self::Item>) -> bool {
        while items.len() < BATCH_ITEMS {
            match self.next() {
                Ok(Some(object)) => items.push(Ok(object)),
                Ok(None) => return false,
                Err(error) => {
                    items.push(Err(error));
                    return false;
                }
            }
        }
        true
    }
}
