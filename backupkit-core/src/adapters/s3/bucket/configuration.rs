//! How a bucket is set up, in the words of the server.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use serde::Serialize;

use super::Bucket;
use crate::adapters::s3::errors::{REFUSED, UNREADABLE, failed, odd_reply};
use crate::adapters::s3::whole::is_whole;
use crate::error::{Error, ErrorKind, Result};

const DOING: &str = "read the settings of the bucket";
/// Pages of a list that are asked for at most; servers have few.
const MOST_PAGES: usize = 100;

/// What a server says of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::adapters::s3) enum Configured {
    /// The document of the server; of a list of several pages, one in each line.
    Value(String),
    /// Nothing is set.
    Absent,
    /// This key may not know.
    Denied,
    /// The server knows no such setting.
    Unsupported,
    /// It could not be found out now.
    Failed,
}

/// What can be set of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::adapters::s3) enum Setting {
    Accelerate,
    Acl,
    Analytics,
    Cors,
    Encryption,
    IntelligentTiering,
    Inventory,
    Lifecycle,
    Location,
    Logging,
    Metrics,
    Notification,
    ObjectLock,
    Ownership,
    Policy,
    PublicAccessBlock,
    Replication,
    RequestPayment,
    Tags,
    Versioning,
    Website,
}

impl Setting {
    pub(in crate::adapters::s3) const ALL: [Self; 21] = [
        Self::Accelerate,
        Self::Acl,
        Self::Analytics,
        Self::Cors,
        Self::Encryption,
        Self::IntelligentTiering,
        Self::Inventory,
        Self::Lifecycle,
        Self::Location,
        Self::Logging,
        Self::Metrics,
        Self::Notification,
        Self::ObjectLock,
        Self::Ownership,
        Self::Policy,
        Self::PublicAccessBlock,
        Self::Replication,
        Self::RequestPayment,
        Self::Tags,
        Self::Versioning,
        Self::Website,
    ];

    pub(in crate::adapters::s3) fn name(self) -> &'static str {
        match self {
            Self::Accelerate => "accelerate",
            Self::Acl => "acl",
            Self::Analytics => "analytics",
            Self::Cors => "cors",
            Self::Encryption => "encryption",
            Self::IntelligentTiering => "intelligent_tiering",
            Self::Inventory => "inventory",
            Self::Lifecycle => "lifecycle",
            Self::Location => "location",
            Self::Logging => "logging",
            Self::Metrics => "metrics",
            Self::Notification => "notification",
            Self::ObjectLock => "object_lock",
            Self::Ownership => "ownership",
            Self::Policy => "policy",
            Self::PublicAccessBlock => "public_access_block",
            Self::Replication => "replication",
            Self::RequestPayment => "request_payment",
            Self::Tags => "tags",
            Self::Versioning => "versioning",
            Self::Website => "website",
        }
    }

    /// The action that lets a key know it; nothing more is needed for those of a list.
    pub(in crate::adapters::s3) fn action(self) -> &'static str {
        match self {
            Self::Accelerate => "s3:GetAccelerateConfiguration",
            Self::Acl => "s3:GetBucketAcl",
            Self::Analytics => "s3:GetAnalyticsConfiguration",
            Self::Cors => "s3:GetBucketCORS",
            Self::Encryption => "s3:GetEncryptionConfiguration",
            Self::IntelligentTiering => "s3:GetIntelligentTieringConfiguration",
            Self::Inventory => "s3:GetInventoryConfiguration",
            Self::Lifecycle => "s3:GetLifecycleConfiguration",
            Self::Location => "s3:GetBucketLocation",
            Self::Logging => "s3:GetBucketLogging",
            Self::Metrics => "s3:GetMetricsConfiguration",
            Self::Notification => "s3:GetBucketNotification",
            Self::ObjectLock => "s3:GetBucketObjectLockConfiguration",
            Self::Ownership => "s3:GetBucketOwnershipControls",
            Self::Policy => "s3:GetBucketPolicy",
            Self::PublicAccessBlock => "s3:GetBucketPublicAccessBlock",
            Self::Replication => "s3:GetReplicationConfiguration",
            Self::RequestPayment => "s3:GetBucketRequestPayment",
            Self::Tags => "s3:GetBucketTagging",
            Self::Versioning => "s3:GetBucketVersioning",
            Self::Website => "s3:GetBucketWebsite",
        }
    }
}

/// Asks for a document. Those that are asked for have no type in common.
macro_rules! ask {
    ($bucket:expr, $operation:ident) => {{
        let document = Document::default();
        let request = $bucket.0.client.$operation().bucket($bucket.name());
        let sent = request.customize().interceptor(document.clone()).send().await;
        sent.map_err(|error| failed(DOING, error))?;
        document.take()
    }};
}

/// Asks for all pages of a list.
macro_rules! ask_all {
    ($bucket:expr, $operation:ident, $list:ident) => {{
        let (mut pages, mut token) = (Vec::new(), None::<String>);
        for _ in 0..MOST_PAGES {
            let document = Document::default();
            let request = $bucket.0.client.$operation().bucket($bucket.name());
            let request = request.set_continuation_token(token.take());
            let sent = request.customize().interceptor(document.clone()).send().await;
            let page = sent.map_err(|error| failed(DOING, error))?;
            let text = document.take()?;
            if !page.$list().is_empty() {
                pages.extend(text);
            }
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() {
                break;
            }
        }
        match token {
            Some(_) => Err(odd_reply(DOING, "the server gives page after page")),
            None => Ok((!pages.is_empty()).then(|| pages.join("\n"))),
        }
    }};
}

impl Bucket {
    /// What the server says of a setting. It is never a failure not to know.
    pub(in crate::adapters::s3) async fn configured(&self, setting: Setting) -> Configured {
        match self.0.calls.run(|| self.ask(setting)).await {
            Ok(Some(text)) => Configured::Value(text),
            Ok(None) => Configured::Absent,
            Err(error) => why_not(&error),
        }
    }

    async fn ask(&self, setting: Setting) -> Result<Option<String>> {
        match setting {
            Setting::Accelerate => ask!(self, get_bucket_accelerate_configuration),
            Setting::Acl => ask!(self, get_bucket_acl),
            Setting::Analytics => {
                ask_all!(self, list_bucket_analytics_configurations, analytics_configuration_list)
            }
            Setting::Cors => ask!(self, get_bucket_cors),
            Setting::Encryption => ask!(self, get_bucket_encryption),
            Setting::IntelligentTiering => ask_all!(
                self,
                list_bucket_intelligent_tiering_configurations,
                intelligent_tiering_configuration_list
            ),
            Setting::Inventory => {
                ask_all!(self, list_bucket_inventory_configurations, inventory_configuration_list)
            }
            Setting::Lifecycle => ask!(self, get_bucket_lifecycle_configuration),
            Setting::Location => ask!(self, get_bucket_location),
            Setting::Logging => ask!(self, get_bucket_logging),
            Setting::Metrics => {
                ask_all!(self, list_bucket_metrics_configurations, metrics_configuration_list)
            }
            Setting::Notification => ask!(self, get_bucket_notification_configuration),
            Setting::ObjectLock => ask!(self, get_object_lock_configuration),
            Setting::Ownership => ask!(self, get_bucket_ownership_controls),
            Setting::Policy => ask!(self, get_bucket_policy),
            Setting::PublicAccessBlock => ask!(self, get_public_access_block),
            Setting::Replication => ask!(self, get_bucket_replication),
            Setting::RequestPayment => ask!(self, get_bucket_request_payment),
            Setting::Tags => ask!(self, get_bucket_tagging),
            Setting::Versioning => ask!(self, get_bucket_versioning),
            Setting::Website => ask!(self, get_bucket_website),
        }
    }
}

fn why_not(error: &Error) -> Configured {
    let told = |name: &str| error.context().iter().find(|(known, _)| *known == name);
    // A server says what is not there in many words, with this status.
    let is_not_there = told("status").is_some_and(|(_, status)| status == "404");
    if is_not_there && told("s3_code").is_some_and(|(_, code)| code != "NoSuchBucket") {
        return Configured::Absent;
    }
    match error.kind() {
        ErrorKind::PermissionDenied => Configured::Denied,
        ErrorKind::Unsupported => Configured::Unsupported,
        // Some servers answer with a listing, or refuse what they do not know in other words.
        _ if [REFUSED, UNREADABLE].contains(&error.code()) => Configured::Unsupported,
        _ => Configured::Failed,
    }
}

/// The document of a reply as it came. The client understands only what it knows of it.
#[derive(Debug, Clone, Default)]
struct Document(Arc<Mutex<Option<String>>>);

impl Document {
    /// Takes it; nothing if it says nothing.
    ///
    /// # Errors
    /// If it is cut off.
    fn take(&self) -> Result<Option<String>> {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let text = text.unwrap_or_default();
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Ok(None);
        }
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        if !is_json && !is_whole(text.as_bytes()) {
            return Err(odd_reply(DOING, "the reply is cut off"));
        }
        let text = match text.strip_prefix("<?xml").and_then(|rest| rest.split_once("?>")) {
            Some((_, document)) => document.trim_start(),
            None => text,
        };
        Ok((is_json || says_something(text)).then(|| text.to_owned()))
    }
}

impl Intercept for Document {
    fn name(&self) -> &'static str {
        "Document"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let bytes = context.response().body().bytes();
        let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).map(str::to_owned);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
        Ok(())
    }
}

/// Whether the first element of a document has anything in it.
fn says_something(document: &str) -> bool {
    let Some((start, rest)) = document.split_once('>') else { return false };
    !start.ends_with('/') && !rest.trim_start().starts_with("</")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> Result<Option<String>, ()> {
        Document(Arc::new(Mutex::new(Some(text.to_owned())))).take().map_err(drop)
    }

    #[test]
    fn documents_are_kept_as_they_are_unless_they_say_nothing() {
        let whole = "<A xmlns=\"x\">\n <B>1</B></A>";
        assert_eq!(taken(&format!("<?xml version=\"1.0\"?>\n{whole}\n")), Ok(Some(whole.into())));
        assert_eq!(taken("{\"a\": [1]}"), Ok(Some("{\"a\": [1]}".into())));
        for text in ["", " ", "<A/>", "<A xmlns='x'/>", "<?xml?><A xmlns='x'></A>", "<A> </A>"] {
            assert_eq!(taken(text), Ok(None), "{text}");
        }
        for text in ["<A><B>1</B>", "{\"a\": ", "<A"] {
            assert_eq!(taken(text), Err(()), "{text}");
        }
    }
}
