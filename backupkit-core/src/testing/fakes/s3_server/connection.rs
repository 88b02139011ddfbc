//! From the connection to the handlers and back.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Shared;
use super::faults::{S3Effect, S3Operation};
use super::reply::{Broken, Reply, ReplyBody};
use super::request::Request;
use super::{access, deleting, list, locks, multipart, objects, settings, signature, versions};
use crate::testing::lock;

/// Serves until told to stop.
pub(super) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut stop: oneshot::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = &mut stop => return,
            accepted = listener.accept() => accepted,
        };
        if let Ok((stream, _)) = accepted {
            shared.note_connection();
            connections.spawn(serve_one(stream, Arc::clone(&shared)));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_one(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| answer(&shared, request));
    // An error is a client that went away, or a fault that was asked for.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

async fn answer(
    shared: &Arc<Shared>,
    request: hyper::Request<Incoming>,
) -> Result<Response<ReplyBody>, Broken> {
    let (parts, body) = request.into_parts();
    // A request that breaks off has no effect.
    let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
    let mut request = Request::new(&parts, body);
    shared.note_request(&request);
    let effect = shared.faults.next(&request);
    let refusal = match &effect {
        Some(S3Effect::Refuse { status, code, retry_after_seconds, headers }) => {
            let mut reply = Reply::error(*status, code);
            if let Some(seconds) = retry_after_seconds {
                reply = reply.with("retry-after", seconds.to_string());
            }
            Some(headers.iter().fold(reply, |reply, (name, value)| reply.with(name, *value)))
        }
        Some(S3Effect::RefuseInHtml { status }) => Some(
            Reply::new(*status)
                .with("content-type", "text/html")
                .with_body("<html><body><h1>Gateway</h1></body></html>"),
        ),
        Some(S3Effect::RefuseWithOk { code }) => Some(Reply::error_document(code)),
        Some(S3Effect::Reset) => return Err(Broken),
        Some(S3Effect::Hold) => {
            shared.hold().await;
            None
        }
        _ => None,
    };
    let reply = match refusal {
        Some(reply) => reply,
        None => tamper(handle(shared, &mut request, effect.as_ref()), effect.as_ref())?,
    };
    let reply = match *lock(&shared.date) {
        Some(date) => reply.with("date", objects::http_date(date)),
        None => reply,
    };
    shared.note_reply(&request, &reply);
    reply.into_response(request.method == Method::HEAD)
}

fn handle(shared: &Shared, request: &mut Request, effect: Option<&S3Effect>) -> Reply {
    if let Some(keys) = &*lock(&shared.keys)
        && let Err(refusal) = signature::check(request, keys)
    {
        return refusal;
    }
    // They were signed.
    request.headers.retain(|name, _| {
        let is_forgotten =
            matches!(effect, Some(S3Effect::ForgetHeaders(part)) if name.contains(part));
        let mut forgotten = shared.options.forgotten_headers.iter();
        !is_forgotten && !forgotten.any(|part| name.contains(part.as_str()))
    });
    if shared.options.passes_over_versions {
        request.query.remove("versionId");
    }
    let request = &*request;
    let (options, now) = (&shared.options, *lock(&shared.now));
    let mut buckets = lock(&shared.buckets);
    let Some(bucket) = buckets.get_mut(&request.bucket) else {
        return Reply::error(404, "NoSuchBucket");
    };
    match request.operation {
        S3Operation::HeadBucket => Reply::new(200),
        S3Operation::ListObjects => list::list(bucket, request, options, effect),
        S3Operation::GetVersioning => versions::status(bucket),
        S3Operation::ListVersions => versions::list(bucket, request, options, effect),
        S3Operation::ListUploads => multipart::list_uploads(bucket, request, options),
        S3Operation::DeleteObjects => deleting::delete_many(bucket, request, &shared.faults, now),
        S3Operation::HeadObject | S3Operation::GetObject => objects::get(bucket, request, options),
        S3Operation::PutObject => objects::put(bucket, request, options, now),
        S3Operation::CopyObject => objects::copy(bucket, request, now),
        S3Operation::DeleteObject => objects::delete(bucket, request, now),
        S3Operation::GetTagging => objects::tagging(bucket, request),
        S3Operation::RestoreObject => objects::restore(bucket, request),
        S3Operation::GetRetention => locks::get(bucket, request, options),
        S3Operation::GetLegalHold => locks::get_hold(bucket, request, options),
        S3Operation::PutRetention => locks::put(bucket, request, options, now),
        S3Operation::GetAccessList => access::of_object(bucket, request),
        S3Operation::GetBucketSetting => settings::get(bucket, request, options),
        S3Operation::CreateUpload => {
            let id = shared.next_upload_id();
            let refused = objects::refuse_headers(request, options, now);
            refused.unwrap_or_else(|| multipart::create(bucket, request, &id, now))
        }
        S3Operation::UploadPart => multipart::put_part(bucket, request),
        S3Operation::ListParts => multipart::list_parts(bucket, request),
        S3Operation::CompleteUpload => multipart::complete(bucket, request, options, now),
        S3Operation::AbortUpload => multipart::abort(bucket, request),
        S3Operation::Other => Reply::error(501, "NotImplemented"),
    }
}

fn tamper(mut reply: Reply, effect: Option<&S3Effect>) -> Result<Reply, Broken> {
    match effect {
        Some(S3Effect::LoseReply) => return Err(Broken),
        Some(S3Effect::CutBody(bytes)) => reply.cut = Some(*bytes),
        Some(S3Effect::ShortenBody(bytes)) => {
            let end = reply.body.len().min(*bytes);
            reply.body = reply.body.slice(..end);
        }
        Some(S3Effect::ForgetLength) => reply.is_unsized = true,
        Some(S3Effect::FlipBit) => reply.body = objects::flip_bit(&reply.body),
        _ => {}
    }
    Ok(reply)
}
