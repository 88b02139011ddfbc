//! Writes objects: never over what the policy keeps.

use super::body::Pieces;
use super::chain::is_mark;
use super::content::Content;
use super::outgoing::{Outgoing, has_tags};
use super::replacing::{MOST_WRITES, Replacing};
use super::session::Core;
use super::upload;
use crate::adapters::s3::object::ObjectRecord;
use crate::adapters::s3::payload::Parts;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::target::{BodyReader, Step, StepAction, Written};
use crate::token::WriteToken;

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
    core.compared.forget(&key);
    let mut way = Replacing::of(core, step, &key).await?;
    if way.is_there().await? {
        return Ok(Written { bytes: step.bytes, warnings: Vec::new() });
    }
    if is_mark(step) {
        return delete(core, &key, &mut way).await;
    }
    let recorded = core.record_of(&step.entry)?;
    let part_bytes = upload::recorded_part_bytes(&recorded, step.bytes);
    let warnings = if from.is_some() || part_bytes.is_some() || step.bytes > MOST_WHOLE_BYTES {
        upload::write(core, step, &mut way, recorded, body, from).await?
    } else {
        write_whole(core, step, &mut way, recorded, body).await?
    };
    Ok(Written { bytes: step.bytes, warnings })
}

async fn write_whole(
    core: &Core,
    step: &Step,
    way: &mut Replacing<'_>,
    recorded: ObjectRecord,
    body: BodyReader,
) -> Result<Vec<Error>> {
    let key = way.key();
    let mut pieces = Pieces::new(body, 0, step.bytes);
    pieces.gather(step.bytes).await?;
    pieces.end().await?;
    let parts = Parts::new(pieces.take().into()).await?;
    let kept = core.place.keeps_of_writes().await?;
    let mut outgoing = Outgoing::of(core, recorded).await?;
    let mut is_written = false;
    loop {
        let content = Content::Parts(&parts);
        let Some(condition) = way.condition(kept, &outgoing.record, content).await? else { break };
        match core.place.bucket.put_object(key, &parts, &condition, &outgoing.record).await {
            Ok(etag) => {
                way.wrote(etag).await?;
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

/// Puts the mark of a deletion on top of a key. Nothing is deleted for good: it names no version.
async fn delete(core: &Core, key: &str, way: &mut Replacing<'_>) -> Result<Written> {
    let mut tries = 0;
    loop {
        tries += 1;
        let is_last = tries >= MOST_WRITES;
        // Deletions have no conditions: what came meanwhile must be seen before, and each try after one
        // whose reply was lost would make another mark.
        way.look_again().await;
        if way.is_there().await? {
            break;
        }
        let bucket = if is_last { &core.place.bucket } else { &core.place.hasty };
        match bucket.delete(key).await {
            Ok(()) => {
                way.wrote_mark().await?;
                break;
            }
            Err(error) if error.retry() == Retry::Never || is_last => return Err(error),
            Err(_) => {}
        }
    }
    Ok(Written::default())
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
