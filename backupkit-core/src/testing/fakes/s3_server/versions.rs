//! Versions of objects, where a bucket keeps them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;

use super::S3ServerOptions;
use super::bucket::{Bucket, S3Object};
use super::reply::{Reply, encode_key, escape};
use super::request::Request;

/// A version, or a mark that there is none any more.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) id: String,
    pub(super) modified: Timestamp,
    /// Nothing for a mark.
    pub(super) object: Option<S3Object>,
}

/// Whether versions are kept.
pub(super) fn status(bucket: &Bucket) -> Reply {
    let status = if bucket.is_versioned { "<Status>Enabled</Status>" } else { "" };
    Reply::xml("VersioningConfiguration", status)
}

/// The listing of versions: of each key the newest first.
pub(super) fn list(bucket: &Bucket, request: &Request, options: &S3ServerOptions) -> Reply {
    let text = |name: &str| request.parameter(name).unwrap_or_default();
    let (prefix, key_marker, id_marker) =
        (text("prefix"), text("key-marker"), text("version-id-marker"));
    let asked = request.parameter("max-keys").and_then(|count| count.parse().ok());
    let most = asked.unwrap_or(options.page_keys).min(options.page_keys);
    let is_encoded = request.parameter("encoding-type") == Some("url");
    let encode = |key: &str| if is_encoded { encode_key(key) } else { escape(key) };
    let mut lines = Vec::new();
    for (key, versions) in bucket.history.range(prefix.to_owned()..) {
        if !key.starts_with(prefix) {
            break;
        }
        // Behind a key alone means behind all its versions.
        let is_split = key == key_marker && !id_marker.is_empty();
        if key.as_str() < key_marker || key == key_marker && !is_split {
            continue;
        }
        let mut is_behind = !is_split;
        for (place, version) in versions.iter().rev().enumerate() {
            if is_behind {
                lines.push((key, place == 0, version));
            }
            is_behind |= version.id == id_marker;
        }
    }
    let goes_on = lines.len() > most;
    lines.truncate(most);
    let mut content = format!("<IsTruncated>{goes_on}</IsTruncated>");
    if is_encoded {
        content.push_str("<EncodingType>url</EncodingType>");
    }
    if let Some((key, _, version)) = lines.last().filter(|_| goes_on) {
        _ = write!(
            content,
            "<NextKeyMarker>{}</NextKeyMarker><NextVersionIdMarker>{}</NextVersionIdMarker>",
            encode(key),
            version.id
        );
    }
    for (key, is_latest, Version { id, modified, object }) in lines {
        let key = encode(key);
        let head = format!(
            "<Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>{is_latest}</IsLatest>\
             <LastModified>{modified}</LastModified>"
        );
        _ = match object {
            Some(object) => write!(
                content,
                "<Version>{head}<ETag>{}</ETag><Size>{}</Size></Version>",
                escape(&object.etag),
                object.bytes.len()
            ),
            None => write!(content, "<DeleteMarker>{head}</DeleteMarker>"),
        };
    }
    Reply::xml("ListVersionsResult", &content)
}

impl Bucket {
    /// Stores an object, as the newest version where versions are kept.
    pub(super) fn store(&mut self, key: &str, object: S3Object) {
        self.note(key, object.modified, Some(object.clone()));
        self.objects.insert(key.to_owned(), object);
    }

    /// Removes an object: where versions are kept, only a mark comes to stand before them.
    pub(super) fn remove(&mut self, key: &str, now: Timestamp) {
        self.objects.remove(key);
        if self.is_versioned {
            self.note(key, now, None);
        } else {
            self.history.remove(key);
        }
    }

    /// Removes one version for good.
    pub(super) fn remove_version(&mut self, key: &str, id: &str) {
        let Some(versions) = self.history.get_mut(key) else { return };
        versions.retain(|version| version.id != id);
        match versions.last().and_then(|version| version.object.clone()) {
            Some(object) => self.objects.insert(key.to_owned(), object),
            None => self.objects.remove(key),
        };
    }

    /// Gives a version other headers; without an id what is there now.
    pub(super) fn set_headers(
        &mut self,
        key: &str,
        id: Option<&str>,
        headers: &BTreeMap<String, String>,
    ) {
        let versions = self.history.entry(key.to_owned()).or_default();
        let newest = versions.last().map(|version| version.id.clone());
        let id = id.map(str::to_owned).or_else(|| newest.clone());
        let changed = versions.iter_mut().find(|version| Some(&version.id) == id.as_ref());
        let kept = changed.and_then(|version| version.object.as_mut());
        let shown = self.objects.get_mut(key).filter(|_| id == newest);
        for object in kept.into_iter().chain(shown) {
            object.headers.clone_from(headers);
        }
    }

    pub(super) fn version(&self, key: &str, id: &str) -> Option<&Version> {
        self.history.get(key)?.iter().find(|version| version.id == id)
    }

    fn note(&mut self, key: &str, modified: Timestamp, object: Option<S3Object>) {
        let versions = self.history.entry(key.to_owned()).or_default();
        if self.is_versioned {
            self.made += 1;
            versions.push(Version { id: format!("v{}", self.made), modified, object });
        } else {
            *versions = vec![Version { id: "null".to_owned(), modified, object }];
        }
    }
}
