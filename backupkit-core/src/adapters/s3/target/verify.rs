//! Comparing what stands in the target with what a step should have made.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::content::read_back;
use super::session::Core;
use crate::error::Result;
use crate::target::{Step, StepAction, Verdict, VerifyLevel};

/// Looks at an object, and reads it if nothing that the server keeps is proof enough.
pub(super) async fn verify_step(core: &Core, step: &Step, level: VerifyLevel) -> Result<Verdict> {
    match &step.action {
        StepAction::Skip => return Ok(Verdict::Cannot(String::from("it was left alone"))),
        StepAction::Refuse(why) => return Ok(Verdict::Cannot(why.clone())),
        _ => {}
    }
    let (key, entry) = (core.key_of(step), &step.entry);
    let looking = core.place.bucket.look(&key);
    let Some(found) = core.cancel.unless_cancelled(looking).await? else {
        return Ok(Verdict::Differs(String::from("it is missing")));
    };
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
        if let (Some(checksum), Some(stretches)) =
            (&found.checksum, core.snapshot.stretches(entry)?)
            && let [whole] = &stretches[..]
        {
            return Ok(if *checksum == STANDARD.encode(whole.sha256) {
                Verdict::Same(level)
            } else {
                Verdict::Differs(String::from("its checksum is another one"))
            });
        }
    }
    Ok(if read_back(core, &key, entry).await? {
        Verdict::Same(level)
    } else {
        Verdict::Differs(String::from("its bytes are other ones"))
    })
}
