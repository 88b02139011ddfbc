//! Comparing what stands in the target with what a step should have made.

use super::chain::{Chain, Found, is_mark, is_past};
use super::content::{is_checksum_of, read_back_version};
use super::session::Core;
use crate::error::Result;
use crate::snapshot::SnapshotEntry;
use crate::target::{Step, StepAction, Verdict, VerifyLevel};

/// Looks at an object, and reads it if nothing that the server keeps is proof enough.
pub(super) async fn verify_step(core: &Core, step: &Step, level: VerifyLevel) -> Result<Verdict> {
    match &step.action {
        StepAction::Skip => return Ok(Verdict::Cannot(String::from("it was left alone"))),
        StepAction::Refuse(why) => return Ok(Verdict::Cannot(why.clone())),
        _ => {}
    }
    let (key, entry) = (core.key_of(step), &step.entry);
    let missing = || Ok(Verdict::Differs(String::from("it is missing")));
    let version = if is_past(step) {
        let Some(found) = find_version(core, &key, entry).await? else { return missing() };
        if is_mark(step) {
            return Ok(Verdict::Same(level));
        }
        found.id
    } else {
        None
    };
    let version = version.as_deref();
    let looking = async {
        match version {
            Some(version) => core.place.bucket.look_at_version(&key, version).await,
            None => core.place.bucket.look(&key).await,
        }
    };
    let Some(found) = core.cancel.unless_cancelled(looking).await? else { return missing() };
    if found.len_bytes != entry.size_bytes {
        return Ok(Verdict::Differs(format!(
            "it has {} bytes and should have {}",
            found.len_bytes, entry.size_bytes
        )));
    }
    if level == VerifyLevel::Count || entry.size_bytes == 0 {
        return Ok(Verdict::Same(level));
    }
    if level == VerifyLevel::Checksum {
        let recorded = core.record_of(entry)?.etag;
        if !recorded.is_empty() && found.etag.as_ref() == Some(&recorded) {
            return Ok(Verdict::Same(level));
        }
        if let Some(is_same) = is_checksum_of(core, found.checksum.as_deref(), entry)? {
            return Ok(if is_same {
                Verdict::Same(level)
            } else {
                Verdict::Differs(String::from("its checksum is another one"))
            });
        }
    }
    Ok(if read_back_version(core, &key, version, entry).await? {
        Verdict::Same(level)
    } else {
        Verdict::Differs(String::from("its bytes are other ones"))
    })
}

/// The version of the target that an older one of the snapshot should be.
async fn find_version(core: &Core, key: &str, entry: &SnapshotEntry) -> Result<Option<Found>> {
    let slot = core.compared.slot(key);
    let mut slot = slot.lock().await;
    let chain = match &mut *slot {
        Some(chain) => chain,
        empty => empty.insert(Chain::read(core, key, entry).await?),
    };
    let place = chain.place(entry)?;
    Ok(chain.fit.find(place).cloned())
}
