//! Uploads in parts.

use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, EncodingType};
use jiff::Timestamp;

use super::described::{Expires, described};
use super::pages::decode;
use super::{Bucket, Condition};
use crate::adapters::s3::errors::{NO_SUCH_UPLOAD, failed, odd_reply};
use crate::adapters::s3::object::ObjectRecord;
use crate::adapters::s3::payload::Parts;
use crate::adapters::s3::whole::Whole;
use crate::error::Result;

/// A part that the server has.
#[derive(Debug, Clone)]
pub(in crate::adapters::s3) struct UploadedPart {
    pub(in crate::adapters::s3) number: i32,
    pub(in crate::adapters::s3) etag: String,
    /// Its SHA-256; nothing if an earlier process has sent it, and the server does not keep it.
    pub(in crate::adapters::s3) checksum: Option<String>,
    pub(in crate::adapters::s3) len_bytes: u64,
}

/// An upload that has begun.
#[derive(Debug, Clone)]
pub(in crate::adapters::s3) struct BegunUpload {
    pub(in crate::adapters::s3) id: String,
    /// Whether it took several attempts: there may be others that nobody knows.
    pub(in crate::adapters::s3) is_repeated: bool,
}

/// An upload that is not complete.
#[derive(Debug, Clone)]
pub(in crate::adapters::s3) struct OpenUpload {
    /// Without the prefix of the bucket's settings.
    pub(in crate::adapters::s3) key: String,
    pub(in crate::adapters::s3) id: String,
    pub(in crate::adapters::s3) started: Option<Timestamp>,
}

impl Bucket {
    /// Begins an upload of an object of ours, with nothing special.
    pub(in crate::adapters::s3) async fn begin_upload(&self, key: &str) -> Result<BegunUpload> {
        self.begin_object(key, &ObjectRecord::of_ours(None)).await
    }

    /// Begins an upload of an object, with all that the record says of it.
    pub(in crate::adapters::s3) async fn begin_object(
        &self,
        key: &str,
        record: &ObjectRecord,
    ) -> Result<BegunUpload> {
        let doing = format!("write {}", key.escape_debug());
        let attempts = AtomicU32::new(0);
        let begun = self
            .0
            .calls
            .run(|| async {
                attempts.fetch_add(1, Ordering::Relaxed);
                let request = self
                    .0
                    .client
                    .create_multipart_upload()
                    .bucket(self.name())
                    .key(self.full_key(key));
                let mut request = described!(request, record);
                if self.0.settings.sends_checksums() {
                    request = request.checksum_algorithm(ChecksumAlgorithm::Sha256);
                }
                match request.customize().interceptor(Expires::of(record)).send().await {
                    Ok(begun) => Ok(begun.upload_id().unwrap_or_default().to_owned()),
                    Err(error) => match error.raw_response().and_then(misnamed_upload_id) {
                        Some(id) => Ok(id),
                        None => Err(failed(&doing, error)),
                    },
                }
            })
            .await?;
        let id = Some(begun).filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| odd_reply(&doing, "the upload has no id"))?;
        Ok(BegunUpload { id, is_repeated: attempts.into_inner() > 1 })
    }

    /// Sends a part.
    pub(in crate::adapters::s3) async fn put_part(
        &self,
        key: &str,
        id: &str,
        number: i32,
        parts: &Parts,
    ) -> Result<UploadedPart> {
        let doing = format!("write part {number} of {key}");
        let sent = self
            .0
            .calls
            .run(|| async {
                let mut request = self
                    .0
                    .client
                    .upload_part()
                    .bucket(self.name())
                    .key(self.full_key(key))
                    .upload_id(id)
                    .part_number(number)
                    .body(parts.body())
                    .content_length(parts.content_length());
                if self.0.settings.sends_checksums() {
                    request = request
                        .checksum_algorithm(ChecksumAlgorithm::Sha256)
                        .checksum_sha256(parts.checksum());
                }
                let sent = request.customize().interceptor(parts.signer()).send();
                sent.await.map_err(|error| failed(&doing, error))
            })
            .await?;
        let etag = sent.e_tag().ok_or_else(|| odd_reply(&doing, "the part has no entity tag"))?;
        let (checksum, len_bytes) = (Some(parts.checksum()), parts.len_bytes());
        Ok(UploadedPart { number, etag: etag.to_owned(), checksum, len_bytes })
    }

    /// Makes the object of the parts. Returns its entity tag, if the server says it.
    ///
    /// # Errors
    /// `Conflict` if the condition does not hold; `NotFound` if there is no such upload. Both may be
    /// because an earlier attempt had its effect and its reply was lost.
    pub(in crate::adapters::s3) async fn complete_upload(
        &self,
        key: &str,
        id: &str,
        parts: &[UploadedPart],
        condition: &Condition,
    ) -> Result<Option<String>> {
        let doing = format!("write {key}");
        // Of all parts or of none: some servers do not list them, and refuse to have a few.
        let has_all = parts.iter().all(|part| part.checksum.is_some());
        let checksums = self.0.settings.sends_checksums() && has_all;
        let completed = |part: &UploadedPart| {
            CompletedPart::builder()
                .part_number(part.number)
                .e_tag(&part.etag)
                .set_checksum_sha256(part.checksum.clone().filter(|_| checksums))
                .build()
        };
        let parts: Vec<_> = parts.iter().map(completed).collect();
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        self.0
            .calls
            .run(|| async {
                let request = self
                    .0
                    .client
                    .complete_multipart_upload()
                    .bucket(self.name())
                    .key(self.full_key(key))
                    .upload_id(id)
                    .multipart_upload(parts.clone());
                let request = match condition {
                    Condition::None => request,
                    Condition::Absent => request.if_none_match("*"),
                    Condition::Tag(etag) => request.if_match(etag),
                };
                let whole = Whole::default();
                let sent = request.customize().interceptor(whole.clone()).send();
                let reply = sent.await.map_err(|error| failed(&doing, error))?;
                whole.require(&doing)?;
                Ok(reply.e_tag().filter(|etag| !etag.is_empty()).map(str::to_owned))
            })
            .await
    }

    /// Drops an upload and its parts. One that is gone is fine.
    pub(in crate::adapters::s3) async fn abort_upload(&self, key: &str, id: &str) -> Result<()> {
        let doing = format!("drop the parts of {key}");
        let aborted = self
            .0
            .calls
            .run(|| async {
                let request = self
                    .0
                    .client
                    .abort_multipart_upload()
                    .bucket(self.name())
                    .key(self.full_key(key))
                    .upload_id(id);
                request.send().await.map(drop).map_err(|error| failed(&doing, error))
            })
            .await;
        match aborted {
            Err(error) if error.code() == NO_SUCH_UPLOAD => Ok(()),
            aborted => aborted,
        }
    }

    /// The uploads below a prefix that are not complete.
    pub(in crate::adapters::s3) async fn open_uploads(
        &self,
        prefix: &str,
    ) -> Result<Vec<OpenUpload>> {
        let doing = format!("list unfinished uploads below {prefix}");
        let mut found = Vec::new();
        let mut next: Option<(String, String)> = None;
        loop {
            let (key_marker, id_marker) = next.clone().unzip();
            let page = self
                .0
                .calls
                .run(|| async {
                    let request = self
                        .0
                        .client
                        .list_multipart_uploads()
                        .bucket(self.name())
                        .prefix(self.full_key(prefix))
                        .encoding_type(EncodingType::Url)
                        .set_key_marker(key_marker.clone())
                        .set_upload_id_marker(id_marker.clone());
                    let whole = Whole::default();
                    let sent = request.customize().interceptor(whole.clone()).send();
                    let page = sent.await.map_err(|error| failed(&doing, error))?;
                    whole.require(&doing)?;
                    Ok(page)
                })
                .await?;
            // Some servers do not encode, and say so by not repeating the word.
            let is_encoded = page.encoding_type() == Some(&EncodingType::Url);
            let plain = |key: &str| if is_encoded { decode(key) } else { Some(key.to_owned()) };
            for upload in page.uploads() {
                let key = upload.key().and_then(plain);
                let key = key.as_deref().and_then(|key| key.strip_prefix(self.0.root.as_str()));
                if let (Some(key), Some(id)) = (key, upload.upload_id()) {
                    let started = upload
                        .initiated()
                        .and_then(|time| Timestamp::from_second(time.secs()).ok());
                    let (key, id) = (key.to_owned(), id.to_owned());
                    found.push(OpenUpload { key, id, started });
                }
            }
            let markers = page.next_key_marker().and_then(plain).zip(page.next_upload_id_marker());
            let markers = markers.map(|(key, id)| (key, id.to_owned()));
            if !page.is_truncated().unwrap_or_default() || markers.is_none() || markers == next {
                return Ok(found);
            }
            next = markers;
        }
    }

    /// How many bytes the parts of an upload have; nothing if it is gone.
    pub(in crate::adapters::s3) async fn uploaded_bytes(&self, key: &str, id: &str) -> Result<u64> {
        let parts = self.uploaded_parts(key, id).await?.unwrap_or_default();
        Ok(parts.iter().fold(0, |bytes, part| bytes.saturating_add(part.len_bytes)))
    }

    /// The parts that an upload has, in order; nothing if it is gone.
    pub(in crate::adapters::s3) async fn uploaded_parts(
        &self,
        key: &str,
        id: &str,
    ) -> Result<Option<Vec<UploadedPart>>> {
        let doing = format!("look at the parts of {}", key.escape_debug());
        let mut found = Vec::new();
        let mut marker: Option<String> = None;
        loop {
            let page = self
                .0
                .calls
                .run(|| async {
                    let request = self
                        .0
                        .client
                        .list_parts()
                        .bucket(self.name())
                        .key(self.full_key(key))
                        .upload_id(id)
                        .set_part_number_marker(marker.clone());
                    let whole = Whole::default();
                    let sent = request.customize().interceptor(whole.clone()).send();
                    match sent.await {
                        Ok(page) => whole.require(&doing).map(|()| Ok(page)),
                        Err(error) => match error.raw_response().and_then(misnamed_parts) {
                            Some(parts) => Ok(Err(parts)),
                            None => Err(failed(&doing, error)),
                        },
                    }
                })
                .await;
            let page = match page {
                Err(error) if error.code() == NO_SUCH_UPLOAD => return Ok(None),
                page => match page? {
                    Ok(page) => page,
                    Err(parts) => return Ok(Some(parts)),
                },
            };
            for part in page.parts() {
                let size = part.size().and_then(|size| u64::try_from(size).ok());
                found.push(UploadedPart {
                    number: part.part_number().unwrap_or_default(),
                    etag: part.e_tag().unwrap_or_default().to_owned(),
                    checksum: part.checksum_sha256().map(str::to_owned),
                    len_bytes: size.unwrap_or_default(),
                });
            }
            let next = page.next_part_number_marker().map(str::to_owned);
            if !page.is_truncated().unwrap_or_default() || next.is_none() || next == marker {
                found.sort_by_key(|part| part.number);
                return Ok(Some(found));
            }
            marker = next;
        }
    }
}

/// The parts in a reply whose root has another name than the client expects: moto says
/// `ListPartsResponse`. Nothing if there are more.
fn misnamed_parts(reply: &HttpResponse) -> Option<Vec<UploadedPart>> {
    let document = reply.body().bytes().filter(|_| reply.status().is_success())?;
    let (_, inside) = std::str::from_utf8(document).ok()?.split_once("<ListPartsResponse")?;
    let (inside, _) = inside.split_once("</ListPartsResponse>")?;
    if !inside.contains("<IsTruncated>false<") {
        return None;
    }
    let part = |text: &str| {
        let field = |name: &str| {
            let (_, value) = text.split_once(&format!("<{name}>"))?;
            Some(value.split_once('<')?.0.trim().replace("&quot;", "\""))
        };
        Some(UploadedPart {
            number: field("PartNumber")?.parse().ok()?,
            etag: field("ETag")?,
            checksum: field("ChecksumSHA256"),
            len_bytes: field("Size")?.parse().ok()?,
        })
    };
    inside.split("<Part>").skip(1).map(part).collect()
}

/// The id of an upload that has begun, in a reply whose root has another name than the client expects:
/// the server that rclone is built on says `InitiateMultipartUpload`.
fn misnamed_upload_id(reply: &HttpResponse) -> Option<String> {
    let document = reply.body().bytes().filter(|_| reply.status().is_success())?;
    let text = std::str::from_utf8(document).ok()?;
    let (_, inside) = text.split_once("<InitiateMultipartUpload>")?;
    let (_, id) = inside.split_once("<UploadId>")?;
    let (id, _) = id.split_once("</UploadId>")?;
    // An entity would have to be read; nobody uses one here.
    Some(id.trim()).filter(|id| !id.contains(['<', '&'])).map(str::to_owned)
}
