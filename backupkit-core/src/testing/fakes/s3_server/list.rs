//! Listings, in pages.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::bucket::{Bucket, S3Object};
use super::faults::S3Effect;
use super::reply::{Reply, encode_key, escape};
use super::request::Request;
use super::{KeyOrder, S3ServerOptions};

/// One line of a page.
enum Line<'a> {
    Object(&'a String, &'a S3Object),
    Prefix(String),
}

/// The second version of the listing of objects.
pub(super) fn list(
    bucket: &Bucket,
    request: &Request,
    options: &S3ServerOptions,
    effect: Option<&S3Effect>,
) -> Reply {
    let prefix = request.parameter("prefix").unwrap_or_default();
    let delimiter = request.parameter("delimiter").filter(|delimiter| !delimiter.is_empty());
    let after = match request.parameter("continuation-token") {
        Some(token) => match hex::decode(token).ok().and_then(|key| String::from_utf8(key).ok()) {
            Some(key) => key,
            None => return Reply::error(400, "InvalidArgument"),
        },
        None => request.parameter("start-after").unwrap_or_default().to_owned(),
    };
    let asked = request.parameter("max-keys").and_then(|count| count.parse().ok());
    let most = asked.unwrap_or(options.page_keys).min(options.page_keys);
    let is_repeated = effect == Some(&S3Effect::RepeatKeys);
    let behind = if is_repeated { "" } else { after.as_str() };
    let is_begun = request.parameter("continuation-token").is_some();
    let (mut lines, last) = match options.key_order {
        KeyOrder::Bytes => page(&bucket.objects, prefix, delimiter, behind, most),
        KeyOrder::Directories => page_by_directory(&bucket.objects, prefix, behind, most, is_begun),
        KeyOrder::None => page_by_hash(&bucket.objects, prefix, is_begun.then_some(behind), most),
    };
    let is_emptied = effect == Some(&S3Effect::EmptyPage);
    if is_emptied {
        lines.clear();
    }
    let goes_on =
        is_emptied || last.is_some() && !is_repeated && effect != Some(&S3Effect::EndListing);
    let count = lines.len();
    if effect == Some(&S3Effect::DropKey) {
        lines.pop();
    }
    if !options.sorted || effect == Some(&S3Effect::ReversePage) {
        lines.reverse();
    }
    let is_encoded = request.parameter("encoding-type") == Some("url");
    let encode = |key: &str| if is_encoded { encode_key(key) } else { escape(key) };
    let mut content = format!(
        "<Name>{}</Name><Prefix>{}</Prefix>\
         <MaxKeys>{most}</MaxKeys><IsTruncated>{goes_on}</IsTruncated>",
        escape(&request.bucket),
        encode(prefix)
    );
    if options.counted {
        _ = write!(content, "<KeyCount>{count}</KeyCount>");
    }
    if is_encoded {
        content.push_str("<EncodingType>url</EncodingType>");
    }
    let next = match effect {
        Some(S3Effect::ForgetToken) => None,
        Some(S3Effect::RepeatPage) => Some(after),
        Some(S3Effect::EmptyPage) => Some(if after == "a" { "b" } else { "a" }.to_owned()),
        _ => last,
    };
    if let Some(next) = next.filter(|_| goes_on) {
        let token = hex::encode(next);
        _ = write!(content, "<NextContinuationToken>{token}</NextContinuationToken>");
    }
    for line in lines {
        _ = match line {
            Line::Object(key, object) => write!(
                content,
                "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>{}</ETag>\
                 <Size>{}</Size><StorageClass>{}</StorageClass></Contents>",
                encode(key),
                object.modified,
                escape(&object.etag),
                object.bytes.len(),
                object.headers.get("x-amz-storage-class").map_or("STANDARD", String::as_str)
            ),
            Line::Prefix(prefix) => write!(
                content,
                "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>",
                encode(&prefix)
            ),
        };
    }
    Reply::xml("ListBucketResult", &content)
}

/// The lines of a page, and the last key or prefix of it if there are more behind.
fn page<'a>(
    objects: &'a BTreeMap<String, S3Object>,
    prefix: &str,
    delimiter: Option<&str>,
    after: &str,
    most: usize,
) -> (Vec<Line<'a>>, Option<String>) {
    let mut lines: Vec<Line<'a>> = Vec::new();
    let mut last = String::new();
    let from = if after > prefix { after } else { prefix };
    for (key, object) in objects.range(from.to_owned()..) {
        let Some(rest) = key.strip_prefix(prefix) else { break };
        let group = delimiter.and_then(|delimiter| {
            let (name, _) = rest.split_once(delimiter)?;
            Some(format!("{prefix}{name}{delimiter}"))
        });
        // A group that was given is over, whatever stands in it.
        let is_given = key.as_str() <= after && !after.is_empty()
            || group.as_deref().is_some_and(|group| group == after || group == last);
        if is_given {
            continue;
        }
        if lines.len() == most {
            return (lines, Some(last));
        }
        (last, lines) = match group {
            Some(group) => (group.clone(), with(lines, Line::Prefix(group))),
            None => (key.clone(), with(lines, Line::Object(key, object))),
        };
    }
    (lines, None)
}

/// The same where `/` comes before all other characters. There are no groups. Behind a key means behind
/// the directory of its name, too, unless a page says so: `SeaweedFS` does that.
fn page_by_directory<'a>(
    objects: &'a BTreeMap<String, S3Object>,
    prefix: &str,
    after: &str,
    most: usize,
    is_begun: bool,
) -> (Vec<Line<'a>>, Option<String>) {
    let below = (!is_begun && !after.is_empty()).then(|| format!("{after}/"));
    let is_passed = |key: &str| below.as_ref().is_some_and(|below| key.starts_with(below));
    let rank = |key: &str| -> Vec<u16> {
        key.bytes().map(|byte| if byte == b'/' { 0 } else { u16::from(byte) + 1 }).collect()
    };
    let is_wanted =
        |key: &&String| key.starts_with(prefix) && rank(key) > rank(after) && !is_passed(key);
    let mut keys: Vec<&String> = objects.keys().filter(is_wanted).collect();
    keys.sort_by_cached_key(|key| rank(key));
    let goes_on = keys.len() > most;
    keys.truncate(most);
    let last = keys.last().filter(|_| goes_on).map(|key| (*key).clone());
    let lines = keys.into_iter().filter_map(|key| Some(Line::Object(key, objects.get(key)?)));
    (lines.collect(), last)
}

/// The same in the order of a hash. Where a listing begins cannot be said, but by a page.
fn page_by_hash<'a>(
    objects: &'a BTreeMap<String, S3Object>,
    prefix: &str,
    after: Option<&str>,
    most: usize,
) -> (Vec<Line<'a>>, Option<String>) {
    let rank = |key: &str| Sha256::digest(key).to_vec();
    let after = after.map(rank);
    let is_wanted = |key: &&String| {
        key.starts_with(prefix) && after.as_ref().is_none_or(|after| rank(key) > *after)
    };
    let mut keys: Vec<&String> = objects.keys().filter(is_wanted).collect();
    keys.sort_by_cached_key(|key| rank(key));
    let goes_on = keys.len() > most;
    keys.truncate(most);
    let last = keys.last().filter(|_| goes_on).map(|key| (*key).clone());
    let lines = keys.into_iter().filter_map(|key| Some(Line::Object(key, objects.get(key)?)));
    (lines.collect(), last)
}

fn with<'a>(mut lines: Vec<Line<'a>>, line: Line<'a>) -> Vec<Line<'a>> {
    lines.push(line);
    lines
}
