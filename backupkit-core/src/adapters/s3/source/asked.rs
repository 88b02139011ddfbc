//! What is known of objects only by requests of its own, if that is wanted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::sync::OnceCell;

use super::super::bucket::{ObjectRef, Tagged, Version};
use super::super::object::{ObjectRecord, parts_of};
use super::Shared;
use super::found::ListedObject;
use crate::error::{Error, ErrorKind, Result, Retry};

/// So many objects that it may not be had of are enough, if it was had of none: one may be an exception.
const MOST_REFUSALS: u32 = 3;

/// What is asked for besides the objects themselves.
#[derive(Debug)]
pub(super) struct Asked {
    tags: Wish,
    access_lists: Wish,
    /// Whether it was found out if they can be had at all.
    is_tried: OnceCell<()>,
}

/// Something that is asked of each object, unless it cannot be had of any.
#[derive(Debug)]
struct Wish {
    wanted: bool,
    granted: AtomicBool,
    /// How many objects it could not be had of.
    refusals: AtomicU32,
    refused: AtomicBool,
    /// Whether it may be had of what there is now, and not of a version.
    newest_only: AtomicBool,
}

/// Of what something is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking<'a> {
    object: ObjectRef<'a>,
    /// Whether nothing else will do than the version.
    is_fixed: bool,
}

/// What is known of one object besides what every reply tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extras {
    tags: bool,
    access_lists: bool,
}

impl Asked {
    pub(super) fn new(tags: bool, access_lists: bool) -> Self {
        let (tags, access_lists) = (Wish::new(tags), Wish::new(access_lists));
        Self { tags, access_lists, is_tried: OnceCell::new() }
    }

    /// Whether anything is wanted.
    pub(super) fn is_wanting(&self) -> bool {
        self.tags.wanted || self.access_lists.wanted
    }

    pub(super) fn wanted(&self) -> Extras {
        Extras { tags: self.tags.wanted, access_lists: self.access_lists.wanted }
    }

    /// What an earlier backup may have kept instead of all that is wanted, since there is no more to be
    /// had now.
    pub(super) fn enough(&self) -> Vec<Extras> {
        let wanted = self.wanted();
        let (tags, access_lists) = (self.tags.or_less(), self.access_lists.or_less());
        let mut enough = Vec::new();
        for &tags in tags {
            let extras = access_lists.iter().map(|&access_lists| Extras { tags, access_lists });
            enough.extend(extras.filter(|extras| *extras != wanted));
        }
        enough
    }
}

impl Wish {
    fn new(wanted: bool) -> Self {
        Self {
            wanted,
            granted: AtomicBool::new(false),
            refusals: AtomicU32::new(0),
            refused: AtomicBool::new(false),
            newest_only: AtomicBool::new(false),
        }
    }

    fn is_asked(&self) -> bool {
        self.wanted && !self.refused.load(Ordering::Relaxed)
    }

    fn grant(&self) {
        self.granted.store(true, Ordering::Relaxed);
    }

    /// Takes note that it cannot be had of an object. Where others were had, it is the object; the first
    /// ones may be exceptions, but a server that cannot is none.
    fn refuse(&self, is_of_server: bool) {
        let refusals = self.refusals.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if is_of_server || refusals >= MOST_REFUSALS {
            self.conclude();
        }
    }

    /// Gives it up if it was asked for and never had.
    fn conclude(&self) {
        let is_granted = self.granted.load(Ordering::Relaxed);
        if !is_granted && self.refusals.load(Ordering::Relaxed) > 0 {
            self.refused.store(true, Ordering::Relaxed);
        }
    }

    /// Whether there is nothing to be found out.
    fn is_known(&self) -> bool {
        !self.is_asked() || self.granted.load(Ordering::Relaxed)
    }

    /// Asks of the version, or of what there is now where that is all that this key may, or the server can.
    async fn ask<'a, T, F: Future<Output = Result<T>>>(
        &self,
        Asking { object, is_fixed }: Asking<'a>,
        ask: impl Fn(ObjectRef<'a>) -> F,
    ) -> Result<T> {
        let newest = ObjectRef::newest(object.key);
        if !is_fixed && self.newest_only.load(Ordering::Relaxed) {
            return ask(newest).await;
        }
        let refused = match ask(object).await {
            Err(error)
                if object.version.is_some() && !is_fixed && error.retry() == Retry::Never =>
            {
                error
            }
            asked => return asked,
        };
        let had = ask(newest).await?;
        // One version may be gone.
        if !refused.is(ErrorKind::NotFound) {
            self.newest_only.store(true, Ordering::Relaxed);
        }
        Ok(had)
    }

    /// Which objects are as they would be read now: those with it, those without, or both.
    fn or_less(&self) -> &'static [bool] {
        match (self.wanted, self.is_asked()) {
            (false, _) => &[false],
            (true, true) => &[true],
            (true, false) => &[true, false],
        }
    }
}

impl<'a> Asking<'a> {
    /// Asks of the version that was read, where the server names it. A key that may not ask of versions asks
    /// of what there is now.
    pub(super) fn of(object: &'a ListedObject, read: Option<&'a str>) -> Self {
        let ListedObject { key, version, .. } = object;
        let object = ObjectRef { key, version: version.as_deref().or(read) };
        Self { object, is_fixed: version.is_some() }
    }
}

impl Extras {
    /// What they add to a fingerprint: what was read without them is read again once they can be had.
    pub(super) fn words(self) -> &'static str {
        match (self.tags, self.access_lists) {
            (false, false) => "",
            (true, false) => " tags",
            (false, true) => " acls",
            (true, true) => " tags acls",
        }
    }
}

/// Adds to what is known of an object whatever else is wanted, and says what was had of that. `read` is the
/// version that was read.
///
/// # Errors
/// `SourceChanged` if only what there is now may be asked for, and that is another version; the last time it
/// is left out, and told.
pub(super) async fn complete(
    shared: &Shared,
    object: &ListedObject,
    read: Option<&str>,
    mut record: ObjectRecord,
    is_last: bool,
) -> Result<(ObjectRecord, Extras)> {
    let asking = Asking::of(object, read);
    let tags = match add_tags(shared, asking, &mut record).await {
        // It changes all the time. Its bytes are worth more than its tags, and the next backup asks again.
        Err(error) if error.is(ErrorKind::SourceChanged) && is_last => {
            record.is_incomplete = true;
            false
        }
        tags => tags?,
    };
    let access_lists = add_access_list(shared, asking, &mut record).await?;
    if record.is_incomplete {
        shared.notes.incomplete(&object.key);
    }
    Ok((record, Extras { tags, access_lists }))
}

/// Finds out, once, whether what is wanted can be had: before objects are compared with what an earlier
/// backup kept of them. Some are tried that lie apart, as one may be an exception.
pub(super) async fn try_on(shared: &Shared, objects: &[&ListedObject]) {
    let Asked { tags, access_lists, is_tried } = &shared.asked;
    let trial = async {
        let mut places = vec![0, objects.len() / 2, objects.len().saturating_sub(1)];
        places.dedup();
        for object in places.into_iter().filter_map(|place| objects.get(place)) {
            let (asking, mut record) = (Asking::of(object, None), ObjectRecord::new());
            // Other errors tell nothing of it.
            if !tags.is_known() {
                drop(add_tags(shared, asking, &mut record).await);
            }
            if !access_lists.is_known() {
                drop(add_access_list(shared, asking, &mut record).await);
            }
        }
        tags.conclude();
        access_lists.conclude();
    };
    is_tried.get_or_init(|| trial).await;
}

/// Adds how large the parts of an object are that was written in parts: with the same ones its entity tag
/// is the same again. Nothing is added that does not fit its length.
pub(super) async fn add_parts(
    shared: &Shared,
    object: &ListedObject,
    version: &Version,
    record: &mut ObjectRecord,
) {
    let Some(etag) = &version.etag else { return };
    let Some(count) = parts_of(etag) else { return };
    let first = shared.bucket.first_part_bytes(object.named(), etag).await;
    record.part_bytes =
        first.filter(|bytes| *bytes > 0 && version.len_bytes.div_ceil(*bytes) == count);
}

/// Whether they are known then.
async fn add_tags(shared: &Shared, asking: Asking<'_>, record: &mut ObjectRecord) -> Result<bool> {
    let wish = &shared.asked.tags;
    if !wish.is_asked() {
        return Ok(false);
    }
    match wish.ask(asking, |object| tags_of(shared, object, asking.object.version)).await {
        Ok(tags) => {
            wish.grant();
            record.tags = Some(tags).filter(|tags| !tags.is_empty());
        }
        // The bytes that were read are still those of a version.
        Err(error) if error.is(ErrorKind::NotFound) => {}
        Err(error) => {
            let hint = if asking.is_fixed {
                "let this key do s3:GetObjectVersionTagging, or do not ask for tags"
            } else {
                "let this key do s3:GetObjectTagging, or do not ask for tags"
            };
            let is_of_server = error.is(ErrorKind::Unsupported);
            shared.notes.no_tags(why_not(error, hint, "this server has none")?);
            wish.refuse(is_of_server);
            return Ok(false);
        }
    }
    Ok(true)
}

/// The tags of an object, or of that version of it which was read.
async fn tags_of(
    shared: &Shared,
    object: ObjectRef<'_>,
    read: Option<&str>,
) -> Result<BTreeMap<String, String>> {
    let Tagged { tags, version } = shared.bucket.tags(object).await?;
    let is_other = read.zip(version.as_deref()).is_some_and(|(read, version)| read != version);
    if object.version.is_none() && is_other {
        let key = object.key.escape_debug();
        let message = format!("cannot read the tags of {key}: it was replaced meanwhile");
        return Err(Error::new(ErrorKind::SourceChanged, message).with_code("s3-replaced"));
    }
    Ok(tags)
}

/// Whether it is known then.
async fn add_access_list(
    shared: &Shared,
    asking: Asking<'_>,
    record: &mut ObjectRecord,
) -> Result<bool> {
    let wish = &shared.asked.access_lists;
    if !wish.is_asked() {
        return Ok(false);
    }
    match wish.ask(asking, |object| shared.bucket.access_list(object)).await {
        Ok((list, is_whole)) => {
            wish.grant();
            record.is_incomplete |= !is_whole;
            record.acl = Some(list).filter(|list| !list.is_usual());
        }
        Err(error) if error.is(ErrorKind::NotFound) => {}
        Err(error) => {
            let hint = if asking.is_fixed {
                "let this key do s3:GetObjectVersionAcl, or do not ask for access lists"
            } else {
                "let this key do s3:GetObjectAcl, or do not ask for access lists"
            };
            let is_of_server = error.is(ErrorKind::Unsupported);
            shared.notes.no_access_lists(why_not(error, hint, "this bucket has none")?);
            wish.refuse(is_of_server);
            return Ok(false);
        }
    }
    Ok(true)
}

/// Why it is not to be had.
///
/// # Errors
/// The error, if it says nothing of that.
fn why_not(error: Error, denied: &'static str, unsupported: &'static str) -> Result<&'static str> {
    match error.kind() {
        ErrorKind::PermissionDenied => Ok(denied),
        ErrorKind::Unsupported => Ok(unsupported),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enough(asked: &Asked) -> Vec<&'static str> {
        asked.enough().into_iter().map(Extras::words).collect()
    }

    #[test]
    fn less_is_enough_only_of_what_cannot_be_had() {
        let asked = Asked::new(true, true);
        assert_eq!(asked.wanted().words(), " tags acls");
        assert_eq!(enough(&asked), [""; 0]);
        asked.tags.refuse(false);
        asked.tags.refuse(false);
        assert_eq!(enough(&asked), [""; 0], "they may be exceptions");
        asked.tags.refuse(false);
        assert_eq!(enough(&asked), [" acls"]);
        asked.access_lists.refuse(true);
        assert_eq!(enough(&asked), [" tags", " acls", ""]);
        let unwanted = Asked::new(false, false);
        unwanted.tags.refuse(true);
        assert_eq!(enough(&unwanted), [""; 0]);
    }

    #[test]
    fn what_was_had_of_one_object_is_asked_of_the_others() {
        let asked = Asked::new(true, false);
        asked.tags.refuse(false);
        asked.tags.grant();
        asked.tags.refuse(true);
        asked.tags.conclude();
        assert!(asked.tags.is_asked());
    }
}
