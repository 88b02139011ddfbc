//! Uploads in parts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::BytesMut;
use jiff::Timestamp;

use super::S3ServerOptions;
use super::bucket::{Bucket, S3Object, Upload, entity_tag, granted, kept_headers};
use super::objects::{refuse_write, wrong_checksum};
use super::reply::{Reply, elements, encode_key, escape};
use super::request::Request;

/// No part but the last may be smaller.
const LEAST_PART_BYTES: usize = 5 << 20;

pub(super) fn create(bucket: &mut Bucket, request: &Request, id: &str, now: Timestamp) -> Reply {
    let upload = Upload {
        key: request.object().to_owned(),
        started: now,
        headers: kept_headers(&request.headers),
        tags: request.header("x-amz-tagging").unwrap_or_default().to_owned(),
        grants: granted(&request.headers),
        parts: BTreeMap::new(),
    };
    bucket.uploads.insert(id.to_owned(), upload);
    let (name, key) = (escape(&request.bucket), escape(request.object()));
    let content = format!("<Bucket>{name}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId>");
    Reply::xml("InitiateMultipartUploadResult", &content)
}

pub(super) fn put_part(bucket: &mut Bucket, request: &Request) -> Reply {
    let number = request.parameter("partNumber").and_then(|number| number.parse().ok());
    let Some(number) = number.filter(|number| (1..=10_000).contains(number)) else {
        return Reply::error(400, "InvalidArgument");
    };
    if let Some(reply) = wrong_checksum(request) {
        return reply;
    }
    let Some(upload) = upload(bucket, request) else {
        return Reply::error(404, "NoSuchUpload");
    };
    upload.parts.insert(number, request.body.clone());
    Reply::new(200).with("etag", entity_tag(&request.body))
}

pub(super) fn list_parts(bucket: &mut Bucket, request: &Request) -> Reply {
    let Some(upload) = upload(bucket, request) else {
        return Reply::error(404, "NoSuchUpload");
    };
    let mut content = String::from("<IsTruncated>false</IsTruncated>");
    for (number, bytes) in &upload.parts {
        _ = write!(
            content,
            "<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag><Size>{}</Size></Part>",
            escape(&entity_tag(bytes)),
            bytes.len()
        );
    }
    Reply::xml("ListPartsResult", &content)
}

pub(super) fn complete(
    bucket: &mut Bucket,
    request: &Request,
    options: &S3ServerOptions,
    now: Timestamp,
) -> Reply {
    let Some(upload) = upload(bucket, request).cloned() else {
        return Reply::error(404, "NoSuchUpload");
    };
    if let Some(reply) = refuse_write(bucket, request, options) {
        return reply;
    }
    let text = request.text();
    let numbers = elements(&text, "PartNumber");
    let (mut bytes, mut parts) = (BytesMut::new(), Vec::new());
    for (index, (number, etag)) in numbers.iter().zip(elements(&text, "ETag")).enumerate() {
        let part = number.parse().ok().and_then(|number: u32| upload.parts.get(&number));
        let Some(part) = part.filter(|part| entity_tag(part) == etag) else {
            return Reply::error(400, "InvalidPart");
        };
        if part.len() < LEAST_PART_BYTES && index + 1 < numbers.len() {
            return Reply::error(400, "EntityTooSmall");
        }
        bytes.extend_from_slice(part);
        parts.push(part.len());
    }
    let mut object = S3Object::new(bytes.freeze(), now);
    object.etag = format!("{}-{}\"", object.etag.trim_end_matches('"'), numbers.len());
    object.parts = parts;
    (object.headers, object.tags, object.grants) = (upload.headers, upload.tags, upload.grants);
    let (key, etag) = (escape(request.object()), escape(&object.etag));
    let content = format!("<Key>{key}</Key><ETag>{etag}</ETag>");
    bucket.store(request.object(), object);
    if let Some(id) = request.parameter("uploadId") {
        bucket.uploads.remove(id);
    }
    Reply::xml("CompleteMultipartUploadResult", &content)
}

pub(super) fn abort(bucket: &mut Bucket, request: &Request) -> Reply {
    let id = request.parameter("uploadId").unwrap_or_default();
    match bucket.uploads.remove(id) {
        Some(_) => Reply::new(204),
        None => Reply::error(404, "NoSuchUpload"),
    }
}

pub(super) fn list_uploads(bucket: &Bucket, request: &Request, options: &S3ServerOptions) -> Reply {
    let text = |name: &str| request.parameter(name).unwrap_or_default();
    let (prefix, behind) = (text("prefix"), (text("key-marker"), text("upload-id-marker")));
    let is_encoded = request.parameter("encoding-type") == Some("url");
    let encode = |key: &str| if is_encoded { encode_key(key) } else { escape(key) };
    let mut found: Vec<_> = bucket
        .uploads
        .iter()
        .map(|(id, upload)| (upload.key.as_str(), id.as_str(), upload.started))
        .filter(|(key, id, _)| key.starts_with(prefix) && (*key, *id) > behind)
        .collect();
    found.sort_unstable();
    let goes_on = found.len() > options.page_keys;
    found.truncate(options.page_keys);
    let mut content = format!("<IsTruncated>{goes_on}</IsTruncated>");
    if is_encoded {
        content.push_str("<EncodingType>url</EncodingType>");
    }
    if let Some((key, id, _)) = found.last().filter(|_| goes_on) {
        _ = write!(
            content,
            "<NextKeyMarker>{}</NextKeyMarker><NextUploadIdMarker>{id}</NextUploadIdMarker>",
            encode(key)
        );
    }
    for (key, id, started) in found {
        _ = write!(
            content,
            "<Upload><Key>{}</Key><UploadId>{id}</UploadId>\
             <Initiated>{started}</Initiated></Upload>",
            encode(key)
        );
    }
    Reply::xml("ListMultipartUploadsResult", &content)
}

fn upload<'a>(bucket: &'a mut Bucket, request: &Request) -> Option<&'a mut Upload> {
    let id = request.parameter("uploadId")?;
    bucket.uploads.get_mut(id).filter(|upload| Some(&upload.key) == request.key.as_ref())
}
