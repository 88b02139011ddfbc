//! What may be replaced, or covered by a further version.

use std::sync::atomic::Ordering;

use super::chain::{Chain, Newest, Slot, is_past};
use super::content::{Content, is_same};
use super::kept::Kept;
use super::session::Core;
use crate::adapters::s3::bucket::{Condition, Looked};
use crate::adapters::s3::object::ObjectRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::target::{ConflictPolicy, Step, StepAction};

/// An object is written so often if another one comes or goes meanwhile.
pub(super) const MOST_WRITES: u32 = 3;

/// What may be replaced by an object, as its step and the policy say.
pub(super) struct Replacing<'a> {
    core: &'a Core,
    step: &'a Step,
    key: &'a str,
    replaces: bool,
    writes: u32,
    /// The versions of the key, if those that were replaced are restored, too.
    chain: Option<Slot>,
}

impl<'a> Replacing<'a> {
    pub(super) async fn of(core: &'a Core, step: &'a Step, key: &'a str) -> Result<Self> {
        let replaces = step.action == StepAction::Overwrite;
        // What replaces something is not to be put there twice.
        let keeps_versions = core.place.options.versions;
        let has_chain = keeps_versions && replaces || core.has_past(step).await?;
        let chain = has_chain.then(|| core.chain_of(key));
        Ok(Self { core, step, key, replaces, writes: 0, chain })
    }

    pub(super) fn key(&self) -> &'a str {
        self.key
    }

    /// Whether an older version, or an object behind such, is there already, so that nothing is to be done.
    ///
    /// # Errors
    /// `Conflict` if it may not be put there any more.
    pub(super) async fn is_there(&self) -> Result<bool> {
        match &self.chain {
            Some(chain) => Ok(self.newest(chain).await?.is_none()),
            None => Ok(false),
        }
    }

    /// Says that the object was written, and has this entity tag.
    pub(super) async fn wrote(&self, etag: Option<String>) -> Result<()> {
        self.put_on_top(Newest::Object(etag.unwrap_or_default())).await
    }

    /// Says that the mark of a deletion was written.
    pub(super) async fn wrote_mark(&self) -> Result<()> {
        self.put_on_top(Newest::Mark).await
    }

    /// Says that it is not known any more what is there.
    pub(super) async fn look_again(&self) {
        if let Some(chain) = &self.chain {
            *chain.lock().await = None;
        }
    }

    async fn put_on_top(&self, newest: Newest) -> Result<()> {
        let Some(chain) = &self.chain else { return Ok(()) };
        if is_past(self.step) {
            self.core.notes.n_replayed.fetch_add(1, Ordering::Relaxed);
        }
        let mut slot = chain.lock().await;
        // Without its tag nobody can write only if it is still there.
        if newest == Newest::Object(String::new()) {
            *slot = None;
        } else if let Some(chain) = &mut *slot {
            let place = chain.place(&self.step.entry)?;
            chain.wrote(place, newest);
        }
        Ok(())
    }

    /// What the version comes to stand on; nothing if it is there.
    async fn newest(&self, chain: &Slot) -> Result<Option<Newest>> {
        let mut slot = chain.lock().await;
        let chain = match &mut *slot {
            Some(chain) => chain,
            empty => empty.insert(Chain::read(self.core, self.key, &self.step.entry).await?),
        };
        let place = chain.place(&self.step.entry)?;
        if chain.fit.find(place).is_some() {
            return Ok(None);
        }
        if chain.fit.has_later(place) {
            let message = format!(
                "cannot restore {}: a later version of {} is there already",
                self.step.entry.path,
                self.key.escape_debug()
            );
            return Err(Error::new(ErrorKind::Conflict, message)
                .with_code("s3-later-version")
                .with_hint("restore into an empty prefix to have all versions in their order"));
        }
        let may_cover = match self.core.options.conflict {
            ConflictPolicy::Overwrite => true,
            ConflictPolicy::Newer => self.replaces && chain.is_older_there(),
            ConflictPolicy::Skip | ConflictPolicy::Rename => false,
        };
        let is_ours = chain.fit.has_only_ours || chain.newest == Newest::Nothing;
        if is_ours || may_cover { Ok(Some(chain.newest.clone())) } else { Err(self.taken()) }
    }

    /// The condition of the next write; nothing if the object is there as it should be.
    ///
    /// # Errors
    /// `Conflict` if what is there must not be replaced.
    pub(super) async fn condition(
        &self,
        kept: Kept,
        record: &ObjectRecord,
        content: Content<'_>,
    ) -> Result<Option<Condition>> {
        if let Some(chain) = &self.chain {
            let condition = |newest| match newest {
                Newest::Nothing | Newest::Mark if kept.absent => Condition::Absent,
                Newest::Object(etag) if kept.tag && !etag.is_empty() => Condition::Tag(etag),
                _ => Condition::None,
            };
            let Some(newest) = self.newest(chain).await? else { return Ok(None) };
            let mut conditional = condition(newest);
            if conditional == Condition::None {
                // The server holds nobody off, so what came since the last look must be seen here.
                self.look_again().await;
                let Some(newest) = self.newest(chain).await? else { return Ok(None) };
                conditional = condition(newest);
            }
            self.note(&conditional);
            return Ok(Some(conditional));
        }
        if kept.absent && !self.replaces {
            return Ok(Some(Condition::Absent));
        }
        let found = self.core.place.bucket.look(self.key).await?;
        let condition = match found {
            None if kept.absent => Condition::Absent,
            None => Condition::None,
            Some(found) if self.may_replace(&found) => match found.etag {
                Some(etag) if kept.tag => Condition::Tag(etag),
                _ => Condition::None,
            },
            Some(found) if is_same(self.core, self.key, &found, record, content).await? => {
                return Ok(None);
            }
            Some(_) => return Err(self.taken()),
        };
        self.note(&condition);
        Ok(Some(condition))
    }

    fn note(&self, condition: &Condition) {
        if *condition == Condition::None {
            self.core.notes.is_unconditional.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the object is there as it should be after a write was refused; else it is tried again.
    ///
    /// # Errors
    /// The one of the write if that has other reasons; `Conflict` if what is there must not be replaced.
    pub(super) async fn is_done_after(
        &mut self,
        refused: Error,
        record: &ObjectRecord,
        content: Content<'_>,
    ) -> Result<bool> {
        self.look_again().await;
        if !matches!(refused.kind(), ErrorKind::Conflict | ErrorKind::NotFound) {
            return Err(refused);
        }
        self.writes += 1;
        if self.chain.is_some() {
            if self.is_there().await? {
                return Ok(true);
            }
            return if self.writes < MOST_WRITES { Ok(false) } else { Err(refused) };
        }
        // It may be our own: of an attempt whose reply was lost, or before a crash.
        if let Some(found) = self.core.place.bucket.look(self.key).await? {
            if is_same(self.core, self.key, &found, record, content).await? {
                return Ok(true);
            }
            self.replaces |= self.core.options.conflict == ConflictPolicy::Overwrite;
            if !self.replaces {
                return Err(self.taken());
            }
        }
        if self.writes < MOST_WRITES { Ok(false) } else { Err(refused) }
    }

    fn may_replace(&self, found: &Looked) -> bool {
        let recorded = self.step.entry.metadata.mtime.unix_seconds();
        match self.core.options.conflict {
            ConflictPolicy::Overwrite => true,
            ConflictPolicy::Newer => {
                self.replaces && found.modified.is_some_and(|modified| modified < recorded)
            }
            ConflictPolicy::Skip | ConflictPolicy::Rename => false,
        }
    }

    fn taken(&self) -> Error {
        let message = format!(
            "cannot restore {}: another object came there since the restore was planned",
            self.key.escape_debug()
        );
        Error::new(ErrorKind::Conflict, message)
            .with_code("s3-came-meanwhile")
            .with_hint("restore again to decide about it anew")
    }
}
