//! Versions of objects, where a bucket keeps them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::bucket::{Bucket, S3Object};
use super::faults::S3Effect;
use super::reply::{Reply, encode_key, escape};
use super::request::Request;
use super::{KeyOrder, S3ServerOptions};

/// A version, or a mark that there is none any more.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) id: String,
    pub(super) modified: Timestamp,
    /// Nothing for a mark.
    pub(super) object: Option<S3Object>,
}

/// What a bucket does with what is replaced and deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Versioning {
    #[default]
    Never,
    Enabled,
    /// What is replaced was written since, or before that began: there is one such version of each key.
    Suspended,
}

impl Versioning {
    pub(super) fn of(options: &S3ServerOptions) -> Self {
        if options.versioned { Self::Enabled } else { Self::Never }
    }
}

/// Whether versions are kept.
pub(super) fn status(bucket: &Bucket) -> Reply {
    let status = match bucket.versioning {
        Versioning::Never => "",
        Versioning::Enabled => "<Status>Enabled</Status>",
        Versioning::Suspended => "<Status>Suspended</Status>",
    };
    Reply::xml("VersioningConfiguration", status)
}

/// The listing of versions: of each key the newest first.
pub(super) fn list(
    bucket: &Bucket,
    request: &Request,
    options: &S3ServerOptions,
    effect: Option<&S3Effect>,
) -> Reply {
    let text = |name: &str| request.parameter(name).unwrap_or_default();
    let (prefix, key_marker, id_marker) =
        (text("prefix"), text("key-marker"), text("version-id-marker"));
    let asked = request.parameter("max-keys").and_then(|count| count.parse().ok());
    let most = asked.unwrap_or(options.page_keys).min(options.page_keys);
    let is_encoded = request.parameter("encoding-type") == Some("url") && options.encodes_versions;
    let encode = |key: &str| if is_encoded { encode_key(key) } else { escape(key) };
    let rank = |key: &str| match options.key_order {
        KeyOrder::Bytes => key.as_bytes().to_vec(),
        // `/` comes before all others, which leave it room: no key has such characters.
        KeyOrder::Directories => key.replace('/', "\0").into_bytes(),
        KeyOrder::None => Sha256::digest(key).to_vec(),
    };
    let from = rank(key_marker);
    let mut keys: Vec<_> =
        bucket.history.iter().filter(|(key, _)| key.starts_with(prefix)).collect();
    keys.sort_by_cached_key(|(key, _)| rank(key));
    let first = keys.first().and_then(|(key, versions)| Some((*key, true, versions.last()?)));
    let mut lines = Vec::new();
    for (key, versions) in keys {
        // Behind a key alone means behind all its versions.
        let is_split = key == key_marker && !id_marker.is_empty();
        if !key_marker.is_empty() && !is_split && rank(key) <= from {
            continue;
        }
        let from = if is_split { behind(versions, id_marker) } else { 0 };
        for (place, version) in versions.iter().rev().enumerate().skip(from) {
            lines.push((key, place == 0, version));
        }
    }
    let is_led_back = lines.len() <= most && effect == Some(&S3Effect::LeadBack);
    let goes_on = lines.len() > most || is_led_back;
    lines.truncate(most);
    let last = if is_led_back { first.as_ref() } else { lines.last() };
    let mut content = format!("<IsTruncated>{goes_on}</IsTruncated>");
    if is_encoded {
        content.push_str("<EncodingType>url</EncodingType>");
    }
    if let Some((key, _, version)) = last.filter(|_| goes_on) {
        _ = write!(content, "<NextKeyMarker>{}</NextKeyMarker>", encode(key));
        if effect != Some(&S3Effect::ForgetToken) {
            _ = write!(content, "<NextVersionIdMarker>{}</NextVersionIdMarker>", version.id);
        }
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
                "<Version>{head}<ETag>{}</ETag><Size>{}</Size>\
                 <StorageClass>{}</StorageClass></Version>",
                escape(&object.etag),
                object.bytes.len(),
                object.headers.get("x-amz-storage-class").map_or("STANDARD", String::as_str)
            ),
            None => write!(content, "<DeleteMarker>{head}</DeleteMarker>"),
        };
    }
    Reply::xml("ListVersionsResult", &content)
}

/// How many versions come before those behind one. It may be gone: its id says when it was made.
fn behind(versions: &[Version], id: &str) -> usize {
    let number = |id: &str| id.strip_prefix('v').and_then(|number| number.parse::<u64>().ok());
    if let Some(place) = versions.iter().rev().position(|version| version.id == id) {
        return place + 1;
    }
    let is_newer = |version: &&Version| number(&version.id) > number(id);
    versions.iter().rev().take_while(is_newer).count()
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
        if self.versioning == Versioning::Never {
            self.history.remove(key);
        } else {
            self.note(key, now, None);
        }
    }

    /// Changes what goes with a version of an object, or with the newest one.
    pub(super) fn change(&mut self, key: &str, id: Option<&str>, change: impl Fn(&mut S3Object)) {
        let versions = self.history.get_mut(key).map(Vec::as_mut_slice).unwrap_or_default();
        let newest = versions.last().map(|version| version.id.clone());
        let id = id.map(str::to_owned).or_else(|| newest.clone());
        let changed = versions.iter_mut().find(|version| Some(&version.id) == id.as_ref());
        if let Some(object) = changed.and_then(|version| version.object.as_mut()) {
            change(object);
        }
        if id == newest
            && let Some(object) = self.objects.get_mut(key)
        {
            change(object);
        }
    }

    /// Removes all versions of an object but the newest ones for good.
    pub(super) fn remove_old_versions(&mut self, key: &str, kept: usize) {
        if let Some(versions) = self.history.get_mut(key) {
            versions.drain(..versions.len().saturating_sub(kept));
        }
    }

    /// The version that a request is about, and its id; of a bucket without versions it has none.
    pub(super) fn find(&self, request: &Request) -> Result<(&S3Object, Option<&str>), Reply> {
        let key = request.object();
        match request.parameter("versionId") {
            None => {
                let object = self.objects.get(key).ok_or_else(|| Reply::error(404, "NoSuchKey"))?;
                let newest = self.history.get(key).and_then(|versions| versions.last());
                let newest = newest.filter(|_| self.versioning != Versioning::Never);
                Ok((object, newest.map(|version| version.id.as_str())))
            }
            Some(id) => {
                let version = self.version(key, id);
                let version = version.ok_or_else(|| Reply::error(404, "NoSuchVersion"))?;
                let object = version.object.as_ref();
                let object = object.ok_or_else(|| Reply::error(405, "MethodNotAllowed"))?;
                Ok((object, Some(&version.id)))
            }
        }
    }

    /// As [`Self::find`], for what belongs to an object: where its newest version is a mark of a
    /// deletion, that cannot be asked for what marks do not have.
    pub(super) fn find_owner(&self, request: &Request) -> Result<(&S3Object, Option<&str>), Reply> {
        let newest = self.history.get(request.object()).and_then(|versions| versions.last());
        let is_marked = newest.is_some_and(|version| version.object.is_none());
        if is_marked && request.parameter("versionId").is_none() {
            return Err(Reply::error(405, "MethodNotAllowed"));
        }
        self.find(request)
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
        let id = if self.versioning == Versioning::Enabled {
            self.made += 1;
            format!("v{}", self.made)
        } else {
            versions.retain(|version| version.id != "null");
            "null".to_owned()
        };
        versions.push(Version { id, modified, object });
    }
}
