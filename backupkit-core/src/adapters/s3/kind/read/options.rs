//! How buckets are read and restored into, as settings say it.

use super::Reader;
use crate::adapters::s3::{
    ArchivedObjects, ConsistentAt, ListingOrder, S3SourceOptions, S3TargetOptions, ThawTier,
};

/// For how many days objects are there that are asked for from an archive: a backup a day finds them.
const USUAL_THAW_DAYS: u16 = 7;

impl Reader {
    pub(super) fn source_options(&mut self) -> S3SourceOptions {
        let archived = self.archived();
        S3SourceOptions {
            tags: self.flag("tags").unwrap_or_default(),
            acls: self.flag("acls").unwrap_or_default(),
            bucket_settings: self.flag("bucket_settings").unwrap_or(true),
            order: if self.flag("unordered") == Some(true) {
                ListingOrder::Any
            } else {
                ListingOrder::Found
            },
            archived,
            filter: self.filter(),
            consistent_at: self.consistent_at(),
            versions: self.flag("versions").unwrap_or_default(),
        }
    }

    fn consistent_at(&mut self) -> Option<ConsistentAt> {
        let read = |text: &str| match text {
            "now" => Some(ConsistentAt::Now),
            text => text.parse().ok().map(ConsistentAt::Time),
        };
        let text = self.text("consistent_at", |text| {
            let why = "is neither now nor a time with its zone, such as 2026-03-01T14:00:00Z";
            read(text).is_none().then_some(why)
        });
        read(&text?)
    }

    fn archived(&mut self) -> ArchivedObjects {
        let archived = self.text("archived", |word| {
            let is_known = matches!(word, "skip" | "thaw" | "fail");
            (!is_known).then_some("is none of skip, thaw and fail")
        });
        let tier = self.text("thaw_tier", |word| {
            let is_known = matches!(word, "standard" | "bulk" | "expedited");
            (!is_known).then_some("is none of standard, bulk and expedited")
        });
        let tier = match tier.as_deref() {
            Some("bulk") => ThawTier::Bulk,
            Some("expedited") => ThawTier::Expedited,
            _ => ThawTier::Standard,
        };
        let days = match self.number("thaw_days").map(u16::try_from) {
            None => USUAL_THAW_DAYS,
            Some(Ok(days)) if days > 0 => days,
            Some(_) => {
                self.errors.add("thaw_days", "is not from 1 to 65535");
                USUAL_THAW_DAYS
            }
        };
        match archived.as_deref() {
            Some("thaw") => return ArchivedObjects::Thaw { tier, days },
            // Nothing is known of what is wrong.
            None if self.fields.contains_key("archived") => return ArchivedObjects::Skip,
            _ => {}
        }
        for name in ["thaw_tier", "thaw_days"] {
            if self.fields.contains_key(name) {
                self.errors.add(name, "means nothing without archived = thaw");
            }
        }
        match archived.as_deref() {
            Some("fail") => ArchivedObjects::Fail,
            _ => ArchivedObjects::Skip,
        }
    }

    pub(super) fn target_options(&mut self) -> S3TargetOptions {
        S3TargetOptions {
            locks: self.flag("restore_locks").unwrap_or_default(),
            acls: self.flag("restore_acls").unwrap_or_default(),
            versions: self.flag("versions").unwrap_or_default(),
        }
    }
}
