//! What goes with an object, as headers of the request that writes it.

use std::collections::HashMap;

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

use crate::adapters::s3::object::ObjectRecord;
use crate::adapters::s3::percent::encode;

/// Adds what a record says to a request. Those that write in one go and in parts have no type in common.
macro_rules! described {
    ($request:expr, $record:expr) => {{
        let record: &$crate::adapters::s3::object::ObjectRecord = $record;
        let class = record.storage_class.as_deref();
        let lock = record.lock.as_ref();
        let granted = |permission| record.acl.as_ref().and_then(|acl| acl.header(permission));
        $request
            .content_type(record.content_type())
            .set_storage_class(class.map(aws_sdk_s3::types::StorageClass::from))
            .set_content_encoding(record.content_encoding.clone())
            .set_content_language(record.content_language.clone())
            .set_content_disposition(record.content_disposition.clone())
            .set_cache_control(record.cache_control.clone())
            .set_website_redirect_location(record.website_redirect.clone())
            .set_metadata($crate::adapters::s3::bucket::described::metadata(record))
            .set_tagging($crate::adapters::s3::bucket::described::tagging(record))
            .set_object_lock_mode(
                lock.and_then(|lock| lock.mode.as_deref())
                    .map(aws_sdk_s3::types::ObjectLockMode::from),
            )
            .set_object_lock_retain_until_date(lock.and_then(|lock| lock.until()))
            .set_object_lock_legal_hold_status(
                lock.filter(|lock| lock.is_held)
                    .map(|_| aws_sdk_s3::types::ObjectLockLegalHoldStatus::On),
            )
            .set_grant_full_control(granted("FULL_CONTROL"))
            .set_grant_read(granted("READ"))
            .set_grant_read_acp(granted("READ_ACP"))
            .set_grant_write_acp(granted("WRITE_ACP"))
    }};
}
pub(super) use described;

pub(super) fn metadata(record: &ObjectRecord) -> Option<HashMap<String, String>> {
    let metadata = &record.user_metadata;
    let pairs = metadata.iter().map(|(name, value)| (name.clone(), value.clone()));
    (!metadata.is_empty()).then(|| pairs.collect())
}

/// Tags as the parameters of an address.
pub(super) fn tagging(record: &ObjectRecord) -> Option<String> {
    let tags = record.tags.as_ref().filter(|tags| !tags.is_empty())?;
    let mut text = String::new();
    for (name, value) in tags {
        if !text.is_empty() {
            text.push('&');
        }
        encode(name, &mut text);
        text.push('=');
        encode(value, &mut text);
    }
    Some(text)
}

/// `Expires` as it was, which need not be a date. The client takes only dates.
#[derive(Debug)]
pub(super) struct Expires(Option<String>);

impl Expires {
    pub(super) fn of(record: &ObjectRecord) -> Self {
        Self(record.expires.clone())
    }
}

impl Intercept for Expires {
    fn name(&self) -> &'static str {
        "Expires"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(expires) = &self.0 {
            context.request_mut().headers_mut().try_insert("expires", expires.clone())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_written_as_parameters() {
        let tags = [("a b", "ü&=+"), ("c", "")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let record = ObjectRecord { tags: Some(tags.into()), ..ObjectRecord::new() };
        assert_eq!(tagging(&record).unwrap(), "a%20b=%C3%BC%26%3D%2B&c=");
        let none = ObjectRecord { tags: Some([].into()), ..ObjectRecord::new() };
        assert_eq!(tagging(&none), None);
    }
}
