//! How buckets are read and restored into, as settings say it.

use super::Reader;
use crate::adapters::s3::{ArchivedObjects, S3SourceOptions, S3TargetOptions};

impl Reader {
    pub(super) fn source_options(&mut self) -> S3SourceOptions {
        let archived = self.text("archived", |word| {
            (!matches!(word, "skip" | "fail")).then_some("is none of skip and fail")
        });
        let archived = match archived.as_deref() {
            Some("fail") => ArchivedObjects::Fail,
            _ => ArchivedObjects::Skip,
        };
        S3SourceOptions {
            tags: self.flag("tags").unwrap_or_default(),
            acls: self.flag("acls").unwrap_or_default(),
            bucket_settings: self.flag("bucket_settings").unwrap_or(true),
            archived,
            filter: self.filter(),
        }
    }

    pub(super) fn target_options(&mut self) -> S3TargetOptions {
        S3TargetOptions {
            locks: self.flag("restore_locks").unwrap_or_default(),
            acls: self.flag("restore_acls").unwrap_or_default(),
        }
    }
}
