//! Versions of objects: what is there, what was replaced, and what was deleted.

use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{BucketVersioningStatus, EncodingType};
use jiff::Timestamp;

use super::Bucket;
use super::pages::{decode, incomplete};
use super::version_order::Lines;
use crate::adapters::s3::errors::failed;
use crate::adapters::s3::whole::Whole;
use crate::error::Result;

/// A page of versions.
#[derive(Debug)]
pub(in crate::adapters::s3) struct VersionsPage {
    /// In the order of keys of the server, of each key the newest first.
    pub(in crate::adapters::s3) versions: Vec<PagedVersion>,
    /// Where to go on; nothing if this is the last page.
    pub(in crate::adapters::s3) next: Option<VersionMarker>,
    /// Whether any key could be told: else one with control characters is another one, or breaks the page.
    pub(in crate::adapters::s3) is_encoded: bool,
}

/// The last version of a page: the next page may have more of its key.
#[derive(Debug, Clone)]
pub(in crate::adapters::s3) struct VersionMarker {
    /// Without the prefix of the bucket's settings.
    pub(in crate::adapters::s3) key: String,
    /// Nothing if the server does not say.
    id: Option<String>,
    trail: Trail,
}

/// Where pages have led: enough to notice, some rounds later, that they go in circles.
#[derive(Debug, Clone, Default)]
struct Trail {
    /// An earlier marker: each time twice as many pages are compared with it as with the one before.
    key: String,
    id: Option<String>,
    compared: u64,
    most_compared: u64,
}

/// A version, or the mark of a deletion.
#[derive(Debug)]
pub(in crate::adapters::s3) struct PagedVersion {
    /// Without the prefix of the bucket's settings.
    pub(in crate::adapters::s3) key: String,
    pub(in crate::adapters::s3) id: Option<String>,
    pub(in crate::adapters::s3) modified: Timestamp,
    pub(in crate::adapters::s3) is_latest: bool,
    /// Nothing for the mark of a deletion.
    pub(in crate::adapters::s3) len_bytes: Option<u64>,
    /// The entity tag in quotes; empty if the page has none.
    pub(in crate::adapters::s3) etag: String,
    /// Nothing if the page does not say.
    pub(in crate::adapters::s3) storage_class: Option<String>,
}

/// What a bucket does with what is replaced and deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::adapters::s3) enum Versioning {
    /// It keeps it.
    Enabled,
    /// It keeps what it kept once, and nothing new.
    Suspended,
    /// It never kept anything.
    Never,
}

impl VersionMarker {
    /// Behind all versions of a key, which is without the prefix of the settings.
    pub(in crate::adapters::s3) fn behind(key: &str) -> Self {
        Self { key: key.to_owned(), id: None, trail: Trail::default() }
    }

    /// The marker that a page behind another one ends with; nothing if it leads back.
    fn following(behind: Option<&Self>, key: String, id: Option<String>) -> Option<Self> {
        let Some(behind) = behind else {
            return Some(Self { key, id, trail: Trail::default() });
        };
        // Without an id it means all that is left of a key, and the page did not come to its end.
        if behind.key == key && (id.is_none() || behind.id == id) {
            return None;
        }
        let mut trail = behind.trail.clone();
        if trail.most_compared > 0 && trail.key == key && trail.id == id {
            return None;
        }
        trail.compared += 1;
        if trail.compared > trail.most_compared {
            let most_compared = trail.most_compared.saturating_mul(2).max(1);
            (trail.key, trail.id) = (key.clone(), id.clone());
            (trail.compared, trail.most_compared) = (0, most_compared);
        }
        Some(Self { key, id, trail })
    }
}

impl PagedVersion {
    /// Whether it is the mark of a deletion.
    pub(in crate::adapters::s3) fn is_mark(&self) -> bool {
        self.len_bytes.is_none()
    }
}

impl Bucket {
    /// Whether the listing has this version of a whole key now.
    ///
    /// # Errors
    /// Those of [`Self::versions_page`].
    pub(in crate::adapters::s3) async fn has_version(&self, key: &str, id: &str) -> Result<bool> {
        let key = key.strip_prefix(self.0.root.as_str()).unwrap_or(key);
        let mut behind = None;
        loop {
            let page = self.versions_page(key, behind.as_ref()).await?;
            let is_it =
                |version: &PagedVersion| version.key == key && version.id.as_deref() == Some(id);
            if page.versions.iter().any(is_it) {
                return Ok(true);
            }
            // A key comes before all that begin with it.
            behind = page.next.filter(|next| next.key == key);
            if behind.is_none() {
                return Ok(false);
            }
        }
    }

    /// Whether the bucket keeps what is replaced and deleted.
    ///
    /// # Errors
    /// `PermissionDenied` without `s3:GetBucketVersioning`; `Unsupported` by servers without versions.
    pub(in crate::adapters::s3) async fn versioning(&self) -> Result<Versioning> {
        let doing = "ask whether the bucket keeps versions";
        self.0
            .calls
            .run(|| async {
                let request = self.0.client.get_bucket_versioning().bucket(self.name());
                let reply = request.send().await.map_err(|error| failed(doing, error))?;
                Ok(match reply.status() {
                    Some(BucketVersioningStatus::Enabled) => Versioning::Enabled,
                    Some(_) => Versioning::Suspended,
                    None => Versioning::Never,
                })
            })
            .await
    }

    /// A page of the versions of all keys that begin with `prefix`.
    ///
    /// # Errors
    /// Also for a page that contradicts itself or is cut off.
    pub(in crate::adapters::s3) async fn versions_page(
        &self,
        prefix: &str,
        behind: Option<&VersionMarker>,
    ) -> Result<VersionsPage> {
        let doing = format!("list versions of {prefix}");
        self.0
            .calls
            .run(|| async {
                let request = self
                    .0
                    .client
                    .list_object_versions()
                    .bucket(self.name())
                    .prefix(self.full_key(prefix))
                    .encoding_type(EncodingType::Url)
                    .set_key_marker(behind.map(|marker| self.full_key(&marker.key)))
                    .set_version_id_marker(behind.and_then(|marker| marker.id.clone()));
                let (whole, lines) = (Whole::default(), Lines::default());
                let request = request.customize().interceptor(whole.clone());
                let sent = request.interceptor(lines.clone()).send();
                let reply = sent.await.map_err(|error| failed(&doing, error))?;
                whole.require(&doing)?;
                self.read_versions(&reply, &lines, prefix, behind, &doing)
            })
            .await
    }

    fn read_versions(
        &self,
        reply: &ListObjectVersionsOutput,
        lines: &Lines,
        prefix: &str,
        behind: Option<&VersionMarker>,
        doing: &str,
    ) -> Result<VersionsPage> {
        // Some servers do not encode, and say so by not repeating the word.
        let is_encoded = reply.encoding_type() == Some(&EncodingType::Url);
        let key_of = |raw: Option<&str>| {
            let raw = raw.unwrap_or_default();
            let key = if is_encoded { decode(raw) } else { Some(raw.to_owned()) };
            let key = key.as_deref().and_then(|key| key.strip_prefix(self.0.root.as_str()));
            key.filter(|key| key.starts_with(prefix))
                .map(str::to_owned)
                .ok_or_else(|| incomplete(doing, "the page has keys that were not asked for"))
        };
        let time_of = |time: Option<&DateTime>| {
            let nanoseconds = time.map(DateTime::as_nanos);
            nanoseconds
                .and_then(|nanoseconds| Timestamp::from_nanosecond(nanoseconds).ok())
                .ok_or_else(|| incomplete(doing, "a version has no time"))
        };
        let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let id_of = |id: Option<&str>| {
            // Without one the newest would be read in its place.
            text(id).ok_or_else(|| incomplete(doing, "a version has no id"))
        };
        let (mut versions, mut marks) = (Vec::new(), Vec::new());
        for version in reply.versions() {
            let size = version.size().and_then(|size| u64::try_from(size).ok());
            versions.push(PagedVersion {
                key: key_of(version.key())?,
                id: Some(id_of(version.version_id())?),
                modified: time_of(version.last_modified())?,
                is_latest: version.is_latest() == Some(true),
                len_bytes: Some(size.ok_or_else(|| incomplete(doing, "a version has no size"))?),
                etag: version.e_tag().unwrap_or_default().to_owned(),
                storage_class: version.storage_class().map(|class| class.as_str().to_owned()),
            });
        }
        for mark in reply.delete_markers() {
            marks.push(PagedVersion {
                key: key_of(mark.key())?,
                id: text(mark.version_id()),
                modified: time_of(mark.last_modified())?,
                is_latest: mark.is_latest() == Some(true),
                len_bytes: None,
                etag: String::new(),
                storage_class: None,
            });
        }
        let versions = lines.in_order(versions, marks);
        let next = match (reply.is_truncated(), reply.next_key_marker()) {
            (None, _) => {
                return Err(incomplete(doing, "the page does not say whether there is more"));
            }
            (Some(false), _) => None,
            (Some(true), None) => return Err(incomplete(doing, "there is more, but not where")),
            (Some(true), key) => {
                let (key, mut id) = (key_of(key)?, text(reply.next_version_id_marker()));
                // Without an id it would mean all of the key, of which there may be more.
                if let Some(last) = versions.last().filter(|last| id.is_none() && last.key == key) {
                    let why = "there is more of a key, but not where";
                    id = Some(last.id.clone().ok_or_else(|| incomplete(doing, why))?);
                }
                let next = VersionMarker::following(behind, key, id);
                let why = "the pages lead back to where they were";
                Some(next.ok_or_else(|| incomplete(doing, why))?)
            }
        };
        Ok(VersionsPage { versions, next, is_encoded })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many pages are read that end with these markers, again and again, before that is noticed.
    fn followed(markers: &[(&str, Option<&str>)]) -> usize {
        let mut behind = None;
        for count in 0..1_000 {
            let (key, id) = markers[count % markers.len()];
            let id = id.map(str::to_owned);
            match VersionMarker::following(behind.as_ref(), key.to_owned(), id) {
                Some(next) => behind = Some(next),
                None => return count,
            }
        }
        1_000
    }

    #[test]
    fn pages_that_go_in_circles_come_to_an_end() {
        assert_eq!(followed(&[("a", Some("1"))]), 1);
        for length in 2..40 {
            let ids: Vec<_> = (0..length).map(|number| number.to_string()).collect();
            let markers: Vec<_> = ids.iter().map(|id| ("a", Some(id.as_str()))).collect();
            let count = followed(&markers);
            assert!((length..=4 * length).contains(&count), "{length}: {count}");
        }
    }

    #[test]
    fn a_key_that_is_left_in_its_middle_has_to_be_gone_on_with() {
        let first = VersionMarker::following(None, "a".to_owned(), Some("1".to_owned())).unwrap();
        let next = |key: &str, id| VersionMarker::following(Some(&first), key.to_owned(), id);
        assert!(next("a", None).is_none(), "whatever is left of it would be passed by");
        assert!(next("a", Some("2".to_owned())).is_some());
        assert!(next("b", None).is_some());
    }
}
