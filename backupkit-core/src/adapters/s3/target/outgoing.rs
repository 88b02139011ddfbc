//! What goes with an object when it is written, and what of it this server does not take.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::session::Core;
use crate::adapters::s3::errors::{NO_ACCESS_LISTS, NO_OBJECT_LOCK, NOT_IMPLEMENTED};
use crate::adapters::s3::object::ObjectRecord;
use crate::error::{Error, ErrorKind, Result};

/// Classes whose objects cannot be read before they are brought back.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

const NO_TAGS: &str = "this server keeps none";
const NO_LOCK: &str = "this bucket keeps none";
const NO_ACCESS_LIST: &str = "this bucket keeps none";

/// Something that an object was sent without, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeftOut {
    #[serde(rename = "f")]
    feature: Feature,
    #[serde(rename = "w")]
    why: String,
}

/// What goes with an object.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) record: ObjectRecord,
    /// All that could go.
    whole: ObjectRecord,
    /// What the server did not take.
    left_out: Vec<LeftOut>,
    /// What had to be left out before.
    warnings: Vec<Error>,
    /// How often the server said that it cannot do something of this.
    refusals: usize,
    /// Whether the bucket has refused what it refuses of all objects; it counts once the object is taken.
    lacks_locks: bool,
    lacks_access_lists: bool,
}

/// What a server may not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Feature {
    Tags,
    Redirect,
    Class,
    Lock,
    AccessList,
}

/// What is left out, try by try: one thing at a time, so that it is known what was refused.
const LEFT_OUT: [&[Feature]; 6] = [
    &[Feature::Tags],
    &[Feature::Redirect],
    &[Feature::Class],
    &[Feature::Lock],
    &[Feature::AccessList],
    &Feature::ALL,
];

impl Outgoing {
    /// Prepares what was recorded.
    ///
    /// # Errors
    /// If it cannot be found out who owns the bucket, which only access lists need.
    pub(super) async fn of(core: &Core, recorded: ObjectRecord) -> Result<Self> {
        let whole = ObjectRecord::default();
        let mut outgoing = Self {
            record: recorded,
            whole,
            left_out: Vec::new(),
            warnings: Vec::new(),
            refusals: 0,
            lacks_locks: false,
            lacks_access_lists: false,
        };
        if outgoing.record.is_incomplete {
            outgoing.warn("metadata that could not be read when it was backed up");
        }
        let class = outgoing.record.storage_class.as_deref();
        if class.is_some_and(|class| ARCHIVES.contains(&class)) {
            core.notes.n_thawed.fetch_add(1, Ordering::Relaxed);
            outgoing.record.storage_class = None;
        }
        outgoing.drop_unsendable();
        if core.place.is_without_tags() && has_tags(&outgoing.record) {
            outgoing.leave_out(Feature::Tags, NO_TAGS);
        }
        outgoing.prepare_lock(core);
        outgoing.prepare_access_list(core).await?;
        outgoing.whole = outgoing.record.clone();
        Ok(outgoing)
    }

    fn prepare_lock(&mut self, core: &Core) {
        let now = core.place.env.now().as_second();
        let Some(lock) = self.record.lock.take().and_then(|lock| lock.still_at(now)) else {
            return;
        };
        if !core.place.options.locks {
            core.notes.n_unlocked.fetch_add(1, Ordering::Relaxed);
        } else if core.place.is_without_locks() {
            self.leave_out(Feature::Lock, NO_LOCK);
        } else {
            self.record.lock = Some(lock);
        }
    }

    async fn prepare_access_list(&mut self, core: &Core) -> Result<()> {
        let Some(mut list) = self.record.acl.take() else { return Ok(()) };
        if !core.place.options.acls {
            core.notes.n_without_access_lists.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        if core.place.is_without_access_lists() {
            self.leave_out(Feature::AccessList, NO_ACCESS_LIST);
            return Ok(());
        }
        if !list.is_sendable() {
            self.leave_out(Feature::AccessList, "it cannot stand in headers");
            return Ok(());
        }
        let owner = core.place.owner().await?;
        if list.names_owner() {
            let Some(owner) = owner else {
                let why = "the server does not say who owns the bucket";
                self.leave_out(Feature::AccessList, why);
                return Ok(());
            };
            list.set_owner(owner);
        }
        // What the object has anyway. Read back, it would look like a list that was forgotten.
        if owner.is_some_and(|owner| list.is_usual_of(owner)) {
            return Ok(());
        }
        self.record.acl = Some(list);
        Ok(())
    }

    /// Whether the same object may be taken with less, which is left out now.
    pub(super) fn yields_to(&mut self, error: &Error) -> bool {
        let code = error.context().iter().find(|(name, _)| *name == "s3_code");
        match code.map(|(_, code)| code.as_str()) {
            Some("InvalidTag") if has_tags(&self.record) => {
                self.leave_out(Feature::Tags, "the server does not allow them");
            }
            Some("InvalidStorageClass") if self.record.storage_class.is_some() => {
                self.leave_out(Feature::Class, "the server does not know it");
            }
            _ if error.code() == NO_ACCESS_LISTS && self.record.acl.is_some() => {
                self.leave_out(Feature::AccessList, NO_ACCESS_LIST);
                self.lacks_access_lists = true;
            }
            // What servers say of an account that they do not know.
            Some("InvalidArgument" | "UnresolvableGrantByEmailAddress")
                if self.record.acl.is_some() =>
            {
                self.leave_out(Feature::AccessList, "the server refuses it");
            }
            _ if error.code() == NO_OBJECT_LOCK && self.record.lock.is_some() => {
                self.leave_out(Feature::Lock, NO_LOCK);
                self.lacks_locks = true;
            }
            // Other reasons may be those of this object alone.
            Some("InvalidArgument" | "InvalidRequest") if self.record.lock.is_some() => {
                self.leave_out(Feature::Lock, "the server refuses it");
            }
            _ if error.code() != NOT_IMPLEMENTED => return false,
            _ => return self.leave_out_next(),
        }
        (self.record, self.refusals) = (self.whole.clone(), 0);
        true
    }

    fn leave_out_next(&mut self) -> bool {
        while let Some(features) = LEFT_OUT.get(self.refusals) {
            self.refusals += 1;
            if features.iter().any(|feature| feature.is_in(&self.whole)) {
                self.record = self.whole.clone();
                features.iter().for_each(|feature| feature.drop_from(&mut self.record));
                return true;
            }
        }
        false
    }

    /// Gives up something for good.
    fn leave_out(&mut self, feature: Feature, why: &str) {
        feature.drop_from(&mut self.whole);
        feature.drop_from(&mut self.record);
        self.left_out.push(LeftOut { feature, why: why.to_owned() });
    }

    /// Says that an object does not have its lock although the server took it.
    pub(super) fn lose_lock(&mut self) {
        self.leave_out(Feature::Lock, "the server took it, and does not keep it");
    }

    /// What it goes without, as it is now. An upload that goes on later was begun without it, too.
    pub(super) fn left_out(&self) -> Vec<LeftOut> {
        let missing = Feature::ALL.into_iter().filter(|feature| self.lacks(*feature));
        let missing = missing.map(|feature| LeftOut { feature, why: feature.why_not().to_owned() });
        self.left_out.iter().cloned().chain(missing).collect()
    }

    /// Leaves out what an upload was begun without.
    pub(super) fn go_on_without(&mut self, left_out: &[LeftOut]) {
        for LeftOut { feature, why } in left_out {
            // It may be known by now anyway.
            if feature.is_in(&self.whole) {
                self.leave_out(*feature, why);
            }
        }
    }

    /// Whether the server took it without this, which could have gone.
    fn lacks(&self, feature: Feature) -> bool {
        feature.is_in(&self.whole) && !feature.is_in(&self.record)
    }

    /// Says that the server took the object as it is. Returns what it took it without.
    pub(super) fn taken(mut self, core: &Core) -> Vec<Error> {
        if self.lacks(Feature::Tags) {
            core.place.set_without_tags();
        }
        if self.lacks_locks || self.lacks(Feature::Lock) {
            core.place.set_without_locks();
        }
        if self.lacks_access_lists || self.lacks(Feature::AccessList) {
            core.place.set_without_access_lists();
        }
        for LeftOut { feature, why } in self.left_out() {
            self.warn(&format!("{}: {why}", feature.name()));
        }
        self.warnings
    }

    /// Leaves out what cannot stand in a header.
    fn drop_unsendable(&mut self) {
        let record = &mut self.record;
        let mut left_out = Vec::new();
        for (name, field) in [
            ("Content-Type", &mut record.content_type),
            ("Content-Encoding", &mut record.content_encoding),
            ("Content-Language", &mut record.content_language),
            ("Content-Disposition", &mut record.content_disposition),
            ("Cache-Control", &mut record.cache_control),
            ("Expires", &mut record.expires),
            ("the website redirect", &mut record.website_redirect),
        ] {
            if field.as_deref().is_some_and(|text| !is_sendable(text)) {
                *field = None;
                left_out.push(name.to_owned());
            }
        }
        record.user_metadata.retain(|name, value| {
            let is_kept = is_name(name) && is_sendable(value);
            if !is_kept {
                left_out.push(format!("its metadata {}", name.escape_debug()));
            }
            is_kept
        });
        for what in left_out {
            self.warn(&format!("{what}: it cannot stand in a header"));
        }
    }

    pub(super) fn warn(&mut self, what: &str) {
        let message = format!("restored without {what}");
        self.warnings.push(Error::new(ErrorKind::Unsupported, message));
    }
}

impl Feature {
    const ALL: [Self; 5] = [Self::Tags, Self::Redirect, Self::Class, Self::Lock, Self::AccessList];

    fn name(self) -> &'static str {
        match self {
            Self::Tags => "its tags",
            Self::Redirect => "the website redirect",
            Self::Class => "its storage class",
            Self::Lock => "its lock",
            Self::AccessList => "its access list",
        }
    }

    /// What it means if an object is taken without it alone.
    fn why_not(self) -> &'static str {
        match self {
            Self::Tags => NO_TAGS,
            Self::Redirect | Self::Class => "this server knows none",
            Self::Lock => NO_LOCK,
            Self::AccessList => NO_ACCESS_LIST,
        }
    }

    fn is_in(self, record: &ObjectRecord) -> bool {
        match self {
            Self::Tags => has_tags(record),
            Self::Redirect => record.website_redirect.is_some(),
            Self::Class => record.storage_class.is_some(),
            Self::Lock => record.lock.is_some(),
            Self::AccessList => record.acl.is_some(),
        }
    }

    fn drop_from(self, record: &mut ObjectRecord) {
        match self {
            Self::Tags => record.tags = None,
            Self::Redirect => record.website_redirect = None,
            Self::Class => record.storage_class = None,
            Self::Lock => record.lock = None,
            Self::AccessList => record.acl = None,
        }
    }
}

pub(super) fn has_tags(record: &ObjectRecord) -> bool {
    record.tags.as_ref().is_some_and(|tags| !tags.is_empty())
}

fn is_sendable(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || (0x20..0x7f).contains(&byte))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_take_what_can_be_seen() {
        assert!(is_sendable("text/plain; charset=\"x\""));
        assert!(!is_sendable("ä") && !is_sendable("a\nb"));
        assert!(is_name("a-b_c") && !is_name("") && !is_name("a b") && !is_name("ä"));
    }
}
