//! Writes objects: never over what the policy keeps.

use std::sync::atomic::Ordering;

use super::body::Pieces;
use super::content::{Content, is_same};
use super::kept::Kept;
use super::outgoing::{Outgoing, has_tags};
use super::session::Core;
use super::upload;
use crate::adapters::s3::bucket::{Condition, Looked};
use crate::adapters::s3::object::ObjectRecord;
use crate::adapters::s3::payload::Parts;
use crate::error::{Error, ErrorKind, Result};
use crate::target::{BodyReader, ConflictPolicy, Step, StepAction, Written};
use crate::token::WriteToken;

/// An object is written so often if another one comes or goes meanwhile.
pub(super) const MOST_WRITES: u32 = 3;
/// Larger objects are written in parts.
const MOST_WHOLE_BYTES: u64 = 16 << 20;

const HIDDEN_LOCKS: &str = "whether the server keeps the locks of what was restored is not known: let \
                            this key do s3:GetObjectRetention and s3:GetObjectLegalHold to have that checked";

/// Does a step.
pub(super) async fn write_step(
    core: &Core,
    step: &Step,
    body: BodyReader,
    from: Option<WriteToken>,
) -> Result<Written> {
    if let StepAction::Refuse(why) = &step.action {
        let message = format!("cannot restore {}: {why}", step.entry.path);
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let key = core.key_of(step);
    core.place.require_kept(&key).await?;
    let recorded = core.record_of(&step.entry)?;
    let part_bytes = upload::recorded_part_bytes(&recorded, step.bytes);
    let warnings = if from.is_some() || part_bytes.is_some() || step.bytes > MOST_WHOLE_BYTES {
        upload::write(core, step, &key, recorded, body, from).await?
    } else {
        write_whole(core, step, &key, recorded, body).await?
    };
    Ok(Written { bytes: step.bytes, warnings })
}

async fn write_whole(
    core: &Core,
    step: &Step,
    key: &str,
    recorded: ObjectRecord,
    body: BodyReader,
) -> Result<Vec<Error>> {
    let mut pieces = Pieces::new(body, 0, step.bytes);
    pieces.gather(step.bytes).await?;
    pieces.end().await?;
    let parts = Parts::new(pieces.take().into()).await?;
    let kept = core.place.keeps_of_writes().await?;
    let mut outgoing = Outgoing::of(core, recorded).await?;
    let mut way = Replacing::of(core, step, key);
    let mut is_written = false;
    loop {
        let content = Content::Parts(&parts);
        let Some(condition) = way.condition(kept, &outgoing.record, content).await? else { break };
        match core.place.bucket.put_object(key, &parts, &condition, &outgoing.record).await {
            Ok(()) => {
                is_written = true;
                break;
            }
            Err(error) if outgoing.yields_to(&error) => {}
            Err(error) => {
                if way.is_done_after(error, &outgoing.record, content).await? {
                    break;
                }
            }
        }
    }
    if key.ends_with('/') && step.bytes > 0 {
        require_bytes(core, key, step.bytes).await?;
    }
    check_tags(core, key, &mut outgoing).await?;
    check_protection(core, key, &mut outgoing, is_written).await?;
    Ok(outgoing.taken(core))
}

/// Some servers take what ends with `/` for a folder, and forget its bytes.
async fn require_bytes(core: &Core, key: &str, bytes: u64) -> Result<()> {
    let found = core.place.bucket.look(key).await?;
    if found.is_some_and(|found| found.len_bytes == bytes) {
        return Ok(());
    }
    let message = format!(
        "cannot write {}: this server keeps no bytes of objects whose keys end with /",
        key.escape_debug()
    );
    Err(Error::new(ErrorKind::Unsupported, message).with_code("s3-odd-key"))
}

/// Some servers take tags, and forget them.
pub(super) async fn check_tags(core: &Core, key: &str, outgoing: &mut Outgoing) -> Result<()> {
    if let Some(tags) = outgoing.record.tags.clone().filter(|_| has_tags(&outgoing.record))
        && !core.place.keeps_tags(key, &tags).await?
    {
        outgoing.record.tags = None;
    }
    Ok(())
}

/// Some servers take locks and access lists, and forget them. What was there already may be without its
/// lock, too.
pub(super) async fn check_protection(
    core: &Core,
    key: &str,
    outgoing: &mut Outgoing,
    is_written: bool,
) -> Result<()> {
    if let Some(lock) = &outgoing.record.lock {
        match core.place.has_lock(key, lock).await? {
            Some(true) => {}
            Some(false) => outgoing.lose_lock(),
            None => core.notes.warn(HIDDEN_LOCKS.to_owned()),
        }
    }
    let record = &mut outgoing.record;
    if is_written && record.acl.is_some() && !core.place.keeps_access_lists(key).await? {
        record.acl = None;
    }
    Ok(())
}

/// What may be replaced by an object, as its step and the policy say.
pub(super) struct Replacing<'a> {
    core: &'a Core,
    step: &'a Step,
    key: &'a str,
    replaces: bool,
    writes: u32,
}

impl<'a> Replacing<'a> {
    pub(super) fn of(core: &'a Core, step: &'a Step, key: &'a str) -> Self {
        let replaces = step.action == StepAction::Overwrite;
        Self { core, step, key, replaces, writes: 0 }
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
        if condition == Condition::None {
            self.core.notes.is_unconditional.store(true, Ordering::Relaxed);
        }
        Ok(Some(condition))
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
        if !matches!(refused.kind(), ErrorKind::Conflict | ErrorKind::NotFound) {
            return Err(refused);
        }
        self.writes += 1;
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
