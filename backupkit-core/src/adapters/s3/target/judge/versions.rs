//! What to do with keys whose older versions are restored, too: with all versions of a key the same.

use super::{Decision, renamed};
use crate::adapters::s3::keys::past::object_of_past;
use crate::adapters::s3::keys::undivided;
use crate::adapters::s3::target::chain::{Chain, Newest};
use crate::adapters::s3::target::mapping::{Age, Mapped};
use crate::adapters::s3::target::session::Core;
use crate::error::Result;
use crate::model::EntryPath;
use crate::target::ConflictPolicy;

/// Whether the target has no versions at all, not even marks of deletions.
pub(super) async fn has_none(core: &Core) -> Result<bool> {
    let root = core.place.settings.root();
    let listing = core.place.bucket.versions_page(&root, None);
    Ok(core.cancel.unless_cancelled(listing).await?.versions.is_empty())
}

/// What is to be done with a version.
pub(super) async fn judge(core: &Core, found: &Mapped, key: &str) -> Result<Option<Decision>> {
    let whole = core.place.whole(key);
    let slot = core.chains.slot(&whole);
    let mut slot = slot.lock().await;
    let chain = match &mut *slot {
        Some(chain) => chain,
        empty => empty.insert(Chain::read(core, &whole, &found.entry).await?),
    };
    if chain.newest == Newest::Nothing {
        return Ok(None);
    }
    let place = chain.place(&found.entry)?;
    let is_there = chain.fit.find(place).is_some();
    if chain.fit.has_only_ours {
        // They are a beginning of ours, but for what failed.
        return Ok(if is_there {
            Some(Decision::Skip)
        } else if chain.fit.has_later(place) {
            Some(Decision::Refuse("a later version is there already".to_owned()))
        } else {
            None
        });
    }
    let is_older = chain.is_older_there();
    Ok(Some(match core.options.conflict {
        ConflictPolicy::Overwrite if is_there => Decision::Skip,
        ConflictPolicy::Newer if is_there && is_older => Decision::Skip,
        ConflictPolicy::Overwrite => Decision::Overwrite,
        ConflictPolicy::Newer if is_older => Decision::Overwrite,
        ConflictPolicy::Skip | ConflictPolicy::Newer => Decision::Skip,
        ConflictPolicy::Rename if chain.fit.is_whole() || key.ends_with('/') => Decision::Skip,
        ConflictPolicy::Rename => renamed(core, &None, &above(found), key).await?,
    }))
}

/// The directory of an object, also for its older versions: all of them get the same name.
fn above(found: &Mapped) -> EntryPath {
    let place = undivided(&found.entry.path);
    let place = match found.age {
        Age::Current => Some(place),
        _ => place.parent().as_ref().and_then(object_of_past),
    };
    place.and_then(|place| place.parent()).unwrap_or_default()
}
