//! Settings of buckets. They can be read, and mean nothing.

use super::S3ServerOptions;
use super::access;
use super::bucket::Bucket;
use super::reply::Reply;
use super::request::Request;

/// What a server says of a setting.
#[derive(Debug, Clone)]
pub(super) enum BucketSetting {
    /// This document.
    Document(String),
    /// It refuses to say anything, with this status and code.
    Refused(u16, &'static str),
}

/// What is said of what nobody has set.
enum Unset {
    /// A document with this root and content.
    Content(&'static str, &'static str),
    /// A refusal with this code.
    Missing(&'static str),
}

const ENCRYPTED: &str = "<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm>\
     </ApplyServerSideEncryptionByDefault></Rule>";
const COMPLETE: &str = "<IsTruncated>false</IsTruncated>";

/// All settings, by the parameter that asks for them.
const UNSET: [(&str, Unset); 20] = [
    ("accelerate", Unset::Content("AccelerateConfiguration", "")),
    ("analytics", Unset::Content("ListBucketAnalyticsConfigurationResult", COMPLETE)),
    ("cors", Unset::Missing("NoSuchCORSConfiguration")),
    ("encryption", Unset::Content("ServerSideEncryptionConfiguration", ENCRYPTED)),
    (
        "intelligent-tiering",
        Unset::Content("ListBucketIntelligentTieringConfigurationsOutput", COMPLETE),
    ),
    ("inventory", Unset::Content("ListInventoryConfigurationsResult", COMPLETE)),
    ("lifecycle", Unset::Missing("NoSuchLifecycleConfiguration")),
    ("location", Unset::Content("LocationConstraint", "")),
    ("logging", Unset::Content("BucketLoggingStatus", "")),
    ("metrics", Unset::Content("ListMetricsConfigurationsResult", COMPLETE)),
    ("notification", Unset::Content("NotificationConfiguration", "")),
    ("object-lock", Unset::Missing("ObjectLockConfigurationNotFoundError")),
    ("ownershipControls", Unset::Missing("OwnershipControlsNotFoundError")),
    ("policy", Unset::Missing("NoSuchBucketPolicy")),
    ("publicAccessBlock", Unset::Missing("NoSuchPublicAccessBlockConfiguration")),
    ("replication", Unset::Missing("ReplicationConfigurationNotFoundError")),
    ("requestPayment", Unset::Content("RequestPaymentConfiguration", "<Payer>BucketOwner</Payer>")),
    ("tagging", Unset::Missing("NoSuchTagSet")),
    ("versioning", Unset::Content("VersioningConfiguration", "")),
    ("website", Unset::Missing("NoSuchWebsiteConfiguration")),
];

/// Whether parameters ask for a setting.
pub(super) fn is_asked_for(has: impl Fn(&str) -> bool) -> bool {
    has("acl") || UNSET.iter().any(|(name, _)| has(name))
}

pub(super) fn get(bucket: &Bucket, request: &Request, options: &S3ServerOptions) -> Reply {
    let set = bucket.settings.iter().find(|(name, _)| request.parameter(name).is_some());
    match set {
        Some((_, BucketSetting::Refused(status, code))) => return Reply::error(*status, code),
        Some((_, BucketSetting::Document(text))) => {
            return Reply::new(200).with_body(text.clone());
        }
        None => {}
    }
    if options.object_lock && request.parameter("object-lock").is_some() {
        let enabled = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>";
        return Reply::xml("ObjectLockConfiguration", enabled);
    }
    let unset = UNSET.iter().find(|(name, _)| request.parameter(name).is_some());
    match unset {
        Some((_, Unset::Content(root, content))) => Reply::xml(root, content),
        Some((_, Unset::Missing(code))) => Reply::error(404, code),
        None => access::of_bucket(),
    }
}
