//! Pages of listings.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::EncodingType;
use serde::{Deserialize, Serialize};

use super::Bucket;
use crate::adapters::s3::errors::failed;
use crate::adapters::s3::whole::Whole;
use crate::error::{Error, ErrorKind, Result};

/// A page.
#[derive(Debug)]
pub(in crate::adapters::s3) struct Page {
    pub(in crate::adapters::s3) keys: Vec<PagedKey>,
    /// Where to go on; nothing if this is the last page.
    pub(in crate::adapters::s3) next: Option<String>,
}

/// A key as a page has it, without the prefix of the bucket's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::adapters::s3) struct PagedKey {
    pub(in crate::adapters::s3) key: String,
    pub(in crate::adapters::s3) len_bytes: u64,
    /// The entity tag in quotes; empty if the page has none.
    pub(in crate::adapters::s3) etag: String,
    /// In seconds since 1970; nothing if the page does not say.
    pub(in crate::adapters::s3) modified: Option<i64>,
    /// Nothing if the page does not say.
    pub(in crate::adapters::s3) storage_class: Option<String>,
    /// The version that is meant; nothing in a listing of what there is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::adapters::s3) version: Option<String>,
}

impl Bucket {
    /// A page of the keys that begin with `prefix`.
    ///
    /// # Errors
    /// Also for a page that contradicts itself: fewer keys than it counts, keys of another prefix, more
    /// to come without saying where, or not whether; and for one that is cut off.
    pub(in crate::adapters::s3) async fn list_page(
        &self,
        prefix: &str,
        token: Option<&str>,
        most: Option<i32>,
    ) -> Result<Page> {
        self.list_page_behind(prefix, None, token, most).await
    }

    /// As [`Self::list_page`]; without a token, behind a whole key.
    pub(in crate::adapters::s3) async fn list_page_behind(
        &self,
        prefix: &str,
        behind: Option<&str>,
        token: Option<&str>,
        most: Option<i32>,
    ) -> Result<Page> {
        let what = if prefix.is_empty() { "the bucket" } else { prefix };
        let doing = format!("list {what}");
        self.0
            .calls
            .run(|| async {
                let request = self
                    .0
                    .client
                    .list_objects_v2()
                    .bucket(self.name())
                    .prefix(self.full_key(prefix))
                    // Else one key with a control character makes a page that is no XML.
                    .encoding_type(EncodingType::Url)
                    .set_max_keys(most)
                    .set_start_after(behind.filter(|_| token.is_none()).map(str::to_owned))
                    .set_continuation_token(token.map(str::to_owned));
                let whole = Whole::default();
                let sent = request.customize().interceptor(whole.clone()).send();
                let reply = sent.await.map_err(|error| failed(&doing, error))?;
                whole.require(&doing)?;
                self.read_page(&reply, prefix, token, &doing)
            })
            .await
    }

    /// Whether the listing has this whole key now.
    ///
    /// # Errors
    /// Those of [`Self::list_page`].
    pub(in crate::adapters::s3) async fn is_listed(&self, key: &str) -> Result<bool> {
        let key = key.strip_prefix(self.0.root.as_str()).unwrap_or(key);
        // In every order the beginning of a key comes before it: the key is on the first page, if
        // anywhere.
        let page = self.list_page(key, None, None).await?;
        Ok(page.keys.iter().any(|listed| listed.key == key))
    }

    fn read_page(
        &self,
        reply: &ListObjectsV2Output,
        prefix: &str,
        token: Option<&str>,
        doing: &str,
    ) -> Result<Page> {
        // Some servers do not encode, and say so by not repeating the word.
        let is_encoded = reply.encoding_type() == Some(&EncodingType::Url);
        let counted = reply.key_count().and_then(|count| usize::try_from(count).ok());
        if counted.is_some_and(|count| count != reply.contents().len()) {
            return Err(incomplete(doing, "the page has other keys than it counts"));
        }
        let mut keys = Vec::with_capacity(reply.contents().len());
        for object in reply.contents() {
            let raw = object.key().unwrap_or_default();
            let key = if is_encoded { decode(raw) } else { Some(raw.to_owned()) };
            let key = key.as_deref().and_then(|key| key.strip_prefix(self.0.root.as_str()));
            let Some(key) = key.filter(|key| key.starts_with(prefix)) else {
                return Err(incomplete(doing, "the page has keys that were not asked for"));
            };
            let size = object.size().and_then(|size| u64::try_from(size).ok());
            let len_bytes = size.ok_or_else(|| incomplete(doing, "a key has no size"))?;
            let etag = object.e_tag().unwrap_or_default().to_owned();
            let modified = object.last_modified().map(DateTime::secs);
            let storage_class = object.storage_class().map(|class| class.as_str().to_owned());
            let (key, version) = (key.to_owned(), None);
            keys.push(PagedKey { key, len_bytes, etag, modified, storage_class, version });
        }
        let next = reply.next_continuation_token().filter(|next| !next.is_empty());
        let Some(goes_on) = reply.is_truncated() else {
            return Err(incomplete(doing, "the page does not say whether there is more"));
        };
        let next = match (goes_on, next) {
            (false, None) => None,
            (false, Some(_)) => {
                return Err(incomplete(doing, "it is the last page, and says what comes next"));
            }
            (true, None) => return Err(incomplete(doing, "there is more, but not where")),
            (true, Some(next)) if Some(next) == token => {
                return Err(incomplete(doing, "the next page is the same one"));
            }
            (true, Some(next)) => Some(next.to_owned()),
        };
        Ok(Page { keys, next })
    }
}

/// A listing that may not be the whole one.
pub(in crate::adapters::s3) fn incomplete(doing: &str, why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("cannot {doing}: {why}"))
        .with_code("s3-listing-incomplete")
}

/// Text as forms encode it: `%` and two digits for a byte, `+` for a space. Nothing if it is no such
/// text.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let (digits, after) = rest.split_first_chunk::<2>()?;
                let digits = std::str::from_utf8(digits).ok()?;
                decoded.push(u8::from_str_radix(digits, 16).ok()?);
                rest = after;
            }
            b'+' => decoded.push(b' '),
            other => decoded.push(other),
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decoded_as_forms_are() {
        assert_eq!(decode("a%2Fb+c%2Bd%C3%A4%01").as_deref(), Some("a/b c+dä\u{1}"));
        for text in ["%", "%4", "%zz", "%FF"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
