//! What to do with what the target already has: decided once, before the first write.

mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

use super::mapping::{Mapped, Way, mapped};
use super::names::{beside, path_of, why_not};
use super::session::Core;
use super::{CONCURRENCY, guard};
use crate::adapters::s3::object::ObjectRecord;
use crate::error::{Error, Result};
use crate::model::{EntryKind, EntryPath};
use crate::target::{ConflictPolicy, StepAction};

/// Names tried for something that is restored beside what is there.
const NAMES_TRIED: u32 = 1000;
/// A target with more pages of keys is not listed: each key is looked at.
const MOST_PAGES: usize = 20;

/// What is to be done with an entry, if not to make it anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Decision {
    /// Replace what is there.
    Overwrite,
    /// Keep what is there.
    Skip,
    /// Restore it under this key.
    Rename(String),
    /// Do not restore it, for this reason.
    Refuse(String),
}

/// What is known of an object that is there.
#[derive(Debug, Clone)]
struct Seen {
    len_bytes: u64,
    etag: String,
    /// In seconds since 1970.
    modified: Option<i64>,
}

/// All keys below the prefix, or nothing if there are too many.
type Listed = Option<BTreeMap<String, Seen>>;

impl Decision {
    pub(super) fn into_action(self) -> StepAction {
        match self {
            Self::Overwrite => StepAction::Overwrite,
            Self::Skip => StepAction::Skip,
            Self::Rename(key) => StepAction::Rename(path_of(&key)),
            Self::Refuse(why) => StepAction::Refuse(why),
        }
    }
}

/// Takes all decisions, unless an earlier session did and has begun to write.
pub(super) async fn decide_once(core: &Arc<Core>) -> Result<()> {
    let mut stage = core.stage.lock().await;
    if stage.is_planned {
        return Ok(());
    }
    if core.place.options.versions {
        core.place.require_versions(&core.place.bucket).await?;
    }
    if !core.decisions.are_binding().await? {
        guard::refuse_unknown(&core.place).await?;
        core.decisions.clear().await?;
        decide(core).await?;
        core.decisions.set_planned().await?;
    }
    stage.is_planned = true;
    Ok(())
}

async fn decide(core: &Arc<Core>) -> Result<()> {
    let keeps_versions = core.place.options.versions;
    let listed = if keeps_versions { None } else { list(core).await? };
    let is_empty = match &listed {
        Some(listed) => listed.is_empty(),
        None => keeps_versions && versions::has_none(core).await?,
    };
    if is_empty {
        return Ok(());
    }
    let listed = &listed;
    let mut decisions = mapped(Arc::clone(core), core.cancel.clone())
        .map(|found| async move {
            let found = found?;
            let Way::To(key) = &found.way else { return Ok(None) };
            let decision = if keeps_versions {
                versions::judge(core, &found, key).await?
            } else {
                judge(core, listed, &found, key).await?
            };
            Ok::<_, Error>(decision.map(|decision| (found.number, decision)))
        })
        .buffered(CONCURRENCY)
        .boxed();
    let mut log = core.decisions.writer();
    while let Some(decided) = decisions.next().await {
        core.cancel.check()?;
        if let Some((number, decision)) = decided? {
            log.push(number, &decision).await?;
        }
    }
    // What is written must see what came meanwhile.
    core.chains.clear();
    log.flush().await
}

async fn list(core: &Core) -> Result<Listed> {
    let root = core.place.settings.root();
    let (mut keys, mut token) = (BTreeMap::new(), None);
    for _ in 0..MOST_PAGES {
        let page = core.place.bucket.list_page(&root, token.as_deref(), None);
        let page = core.cancel.unless_cancelled(page).await?;
        for found in page.keys {
            let key = found.key.strip_prefix(&root).unwrap_or(&found.key).to_owned();
            let (len_bytes, modified) = (found.len_bytes, found.modified);
            keys.insert(key, Seen { len_bytes, etag: found.etag, modified });
        }
        if page.next.is_none() {
            return Ok(Some(keys));
        }
        token = page.next;
    }
    Ok(None)
}

async fn see(core: &Core, listed: &Listed, key: &str) -> Result<Option<Seen>> {
    if let Some(listed) = listed {
        return Ok(listed.get(key).cloned());
    }
    let found = core.place.bucket.look(&core.place.whole(key)).await?;
    Ok(found.map(|found| Seen {
        len_bytes: found.len_bytes,
        etag: found.etag.unwrap_or_default(),
        modified: found.modified,
    }))
}

async fn judge(
    core: &Core,
    listed: &Listed,
    found: &Mapped,
    key: &str,
) -> Result<Option<Decision>> {
    let Some(seen) = see(core, listed, key).await? else { return Ok(None) };
    let entry = &found.entry;
    Ok(Some(match core.options.conflict {
        ConflictPolicy::Skip => Decision::Skip,
        ConflictPolicy::Overwrite | ConflictPolicy::Newer if is_same(&seen, found) => {
            Decision::Skip
        }
        ConflictPolicy::Overwrite => Decision::Overwrite,
        ConflictPolicy::Newer => {
            let recorded = entry.metadata.mtime.unix_seconds();
            if seen.modified.is_some_and(|modified| modified < recorded) {
                Decision::Overwrite
            } else {
                Decision::Skip
            }
        }
        // A marker has no bytes and stands for its folder: there is nothing to be kept apart.
        ConflictPolicy::Rename if entry.kind == EntryKind::Directory => Decision::Skip,
        ConflictPolicy::Rename => {
            let above = found.entry.path.parent().unwrap_or_default();
            renamed(core, listed, &above, key).await?
        }
    }))
}

/// Whether an object is certainly the one that was recorded.
fn is_same(seen: &Seen, found: &Mapped) -> bool {
    let record = ObjectRecord::of(&found.entry.metadata).ok().flatten();
    record.is_some_and(|record| {
        !record.etag.is_empty()
            && record.etag == seen.etag
            && found.entry.size_bytes == seen.len_bytes
            && found.entry.kind == EntryKind::File
    })
}

/// Finds a free key that tells which snapshot it is from: `a.restored-20261122T115840Z.txt`.
async fn renamed(core: &Core, listed: &Listed, above: &EntryPath, key: &str) -> Result<Decision> {
    let time = core.snapshot.time().timestamp().strftime("%Y%m%dT%H%M%SZ").to_string();
    for number in 1..=NAMES_TRIED {
        let middle = match number {
            1 => format!(".restored-{time}"),
            number => format!(".restored-{time}-{number}"),
        };
        let candidate = beside(key, &middle);
        if let Some(why) = why_not(&core.place.settings.root(), &candidate) {
            return Ok(Decision::Refuse(format!("beside {key}: {why}")));
        }
        // Nor may it be the place of another entry.
        let name = candidate.rsplit('/').next().unwrap_or_default();
        let name = core.name_in_snapshot(name);
        let is_free = see(core, listed, &candidate).await?.is_none()
            && core.snapshot.find(&above.join(name.as_bytes())).await?.is_none();
        if is_free {
            return Ok(Decision::Rename(candidate));
        }
    }
    Ok(Decision::Refuse(format!("no free key was found beside {key}")))
}
