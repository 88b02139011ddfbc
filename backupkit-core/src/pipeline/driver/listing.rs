//! What the driver does with what the source lists.

use super::{Driver, Stage};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Entry, EntryKind, EntryPath, Fingerprint, Metadata};
use crate::pipeline::node::finish_entry;
use crate::pipeline::parent::Known;
use crate::pipeline::read::SharedProgress;
use crate::source::{ListError, Listed, ListedItem};

impl Driver {
    /// Opens the listing of the stage, behind the last token.
    pub(super) fn open_listing(&mut self) {
        if self.listing.is_some() {
            return;
        }
        match self.stage {
            Stage::Main if !self.main_listed => {
                self.listing = Some(self.reading.view.list(self.list_token.as_ref()));
            }
            // Only once all else is read.
            Stage::Late if !self.late_listed && self.unfinished.is_empty() => {
                self.listing = Some(self.reading.view.late());
            }
            _ => {}
        }
    }

    /// All of the stage is listed and finished.
    pub(super) fn end_stage(&mut self) -> Result<()> {
        match self.stage {
            Stage::Main => self.stage = Stage::Late,
            Stage::Late => {
                self.stage = Stage::Ended;
                self.reading.counters.set_listing_done();
                for closing in self.directories.complete_all() {
                    self.store_tree(closing);
                }
            }
            Stage::Ended => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "all is listed and read, but a directory is not complete",
                ));
            }
        }
        Ok(())
    }

    pub(super) async fn take_listed(
        &mut self,
        listed: Option<Result<Listed, ListError>>,
    ) -> Result<()> {
        match listed {
            None => {
                self.listing = None;
                match self.stage {
                    Stage::Main => {
                        self.main_listed = true;
                        // What is listed late is little, and must not keep totals unknown until then.
                        self.reading.counters.set_listing_done();
                    }
                    Stage::Late => self.late_listed = true,
                    Stage::Ended => {}
                }
                Ok(())
            }
            Some(Ok(Listed { item, token })) => {
                if self.stage == Stage::Main {
                    self.list_token = Some(token);
                }
                if self.stage == Stage::Late && !self.late_seen.insert(path_of(&item).clone()) {
                    // Late listings have no tokens: after a pause they start over.
                    return Ok(());
                }
                match item {
                    ListedItem::Entry(entry) => self.take_entry(*entry).await,
                    ListedItem::DirDone { path, metadata } => {
                        self.take_directory(path, *metadata).await
                    }
                }
            }
            Some(Err(ListError { path: Some(path), error })) => {
                self.tally.files_failed += 1;
                self.events.entry_failed(&path, &error);
                Ok(())
            }
            Some(Err(ListError { path: None, error })) => Err(error.while_doing("list the source")),
        }
    }

    async fn take_entry(&mut self, mut entry: Entry) -> Result<()> {
        if !self.is_acceptable(&entry.path) {
            return Ok(());
        }
        self.directories.expect(&entry.path)?;
        self.reading.counters.add_listed(1);
        if entry.kind != EntryKind::File {
            self.reading.counters.add_finished(1);
            let node = finish_entry(&entry, None, 0, self.reading.store.lanes())?;
            let closing = self.directories.finish(&entry.path, Some(node))?;
            self.store_closing(closing);
            return Ok(());
        }
        self.reading.counters.add_listed_bytes(entry.size_bytes);
        match self.parents.look_up(&entry).await {
            Known::Unchanged { content, extended_attributes, attribute, size_bytes } => {
                self.tally.files_unmodified += 1;
                if entry.metadata.extended_attributes.is_none() {
                    entry.metadata.extended_attributes = extended_attributes;
                }
                if let Fingerprint::Attribute { attribute: name, .. } = &entry.fingerprint
                    && let Some(value) = attribute
                {
                    entry.metadata.attributes.entry(name.clone()).or_insert(value);
                }
                self.finish_file(&entry, &content, size_bytes)
            }
            known => {
                let changed = matches!(known, Known::Changed);
                self.enqueue(entry, SharedProgress::default(), changed);
                Ok(())
            }
        }
    }

    async fn take_directory(&mut self, path: EntryPath, metadata: Metadata) -> Result<()> {
        if path.is_empty() || !self.is_acceptable(&path) {
            return Ok(());
        }
        // An empty directory is announced by this alone; looking it up lets it count as known.
        self.parents.visit(&path).await;
        let closing = self.directories.complete(path, metadata)?;
        self.store_closing(closing);
        Ok(())
    }

    /// A name that no tree can hold is the entry's failure, not the run's.
    fn is_acceptable(&mut self, path: &EntryPath) -> bool {
        if !path.is_empty() && path.names().all(|name| !name.is_empty()) {
            return true;
        }
        let error = Error::new(ErrorKind::Unsupported, "an entry without a name");
        self.tally.files_failed += 1;
        self.events.entry_failed(path, &error);
        false
    }
}

fn path_of(item: &ListedItem) -> &EntryPath {
    match item {
        ListedItem::Entry(entry) => &entry.path,
        ListedItem::DirDone { path, .. } => path,
    }
}
