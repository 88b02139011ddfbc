//! What goes with an object when it is written, and what of it this server does not take.

use std::sync::atomic::Ordering;

use super::session::Core;
use crate::adapters::s3::errors::NOT_IMPLEMENTED;
use crate::adapters::s3::object::ObjectRecord;
use crate::error::{Error, ErrorKind};

/// Classes whose objects cannot be read before they are brought back.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// What goes with an object.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) record: ObjectRecord,
    /// All that could go.
    whole: ObjectRecord,
    /// What had to be left out.
    warnings: Vec<Error>,
    /// How often the server said that it cannot do something of this.
    refusals: usize,
}

/// What a server may not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feature {
    Tags,
    Redirect,
    Class,
}

/// What is left out, try by try: one thing at a time, so that it is known what was refused.
const LEFT_OUT: [&[Feature]; 4] = [
    &[Feature::Tags],
    &[Feature::Redirect],
    &[Feature::Class],
    &[Feature::Tags, Feature::Redirect, Feature::Class],
];

impl Outgoing {
    /// Prepares what was recorded.
    pub(super) fn of(core: &Core, recorded: ObjectRecord) -> Self {
        let whole = ObjectRecord::default();
        let mut outgoing = Self { record: recorded, whole, warnings: Vec::new(), refusals: 0 };
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
            outgoing.record.tags = None;
            outgoing.warn("its tags: this server keeps none");
        }
        outgoing.whole = outgoing.record.clone();
        outgoing
    }

    /// Whether the same object may be taken with less, which is left out now.
    pub(super) fn yields_to(&mut self, error: &Error) -> bool {
        let code = error.context().iter().find(|(name, _)| *name == "s3_code");
        match code.map(|(_, code)| code.as_str()) {
            Some("InvalidTag") if has_tags(&self.record) => {
                self.whole.tags = None;
                self.warn("its tags: the server does not allow them");
            }
            Some("InvalidStorageClass") if self.record.storage_class.is_some() => {
                self.whole.storage_class = None;
                self.warn("its storage class: the server does not know it");
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

    /// Says that the server took the object as it is. Returns what it took it without.
    pub(super) fn taken(mut self, core: &Core) -> Vec<Error> {
        for (feature, what) in [
            (Feature::Tags, "its tags: this server keeps none"),
            (Feature::Redirect, "the website redirect: this server knows none"),
            (Feature::Class, "its storage class: this server knows none"),
        ] {
            if feature.is_in(&self.whole) && !feature.is_in(&self.record) {
                self.warn(what);
                if feature == Feature::Tags {
                    core.place.set_without_tags();
                }
            }
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
    fn is_in(self, record: &ObjectRecord) -> bool {
        match self {
            Self::Tags => has_tags(record),
            Self::Redirect => record.website_redirect.is_some(),
            Self::Class => record.storage_class.is_some(),
        }
    }

    fn drop_from(self, record: &mut ObjectRecord) {
        match self {
            Self::Tags => record.tags = None,
            Self::Redirect => record.website_redirect = None,
            Self::Class => record.storage_class = None,
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
