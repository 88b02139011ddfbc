//! Those who lend keys: STS, the metadata service of machines, and the one of containers.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::reply::{Broken, Reply};
use super::request::{Request, decode};
use super::signature::{self, Keys};
use crate::testing::lock;

/// What its clock shows, always.
const NOW: Timestamp = Timestamp::constant(1_767_225_600, 0);
const DATE: &str = "Thu, 01 Jan 2026 00:00:00 GMT";
const TOKEN_OF_MACHINES: &str = "fake-metadata-token";

/// A server on a free port of the loopback address that lends keys, as STS, EC2 and ECS do. It ends when
/// it is dropped.
///
/// It lends the keys that it was [given](Self::lend), each once, and the last one on and on. Whoever takes
/// on a role signs with the key of [`S3Server`](super::S3Server).
pub struct S3Lender {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    keys: Mutex<VecDeque<LentKey>>,
    refusals: Mutex<VecDeque<(u16, &'static str)>>,
    asked: Mutex<Vec<BTreeMap<String, String>>>,
}

#[derive(Debug, Clone)]
struct LentKey {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    lasts: Duration,
}

impl S3Lender {
    /// The only role there is.
    pub const ROLE: &str = "arn:aws:iam::123456789012:role/backup";
    /// What outsiders have to say.
    pub const EXTERNAL_ID: &str = "fake-external-id";
    /// The token of whoever is known elsewhere, and of containers.
    pub const TOKEN: &str = "fake-identity-token";

    /// Starts a server that has no key to lend yet.
    ///
    /// # Panics
    /// If there is no port or no thread for it.
    pub fn start() -> Self {
        let shared = Arc::<Shared>::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket that can be waited for");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be started");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = serve(listener, served) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_timeout(Duration::ZERO);
        });
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens, such as `http://127.0.0.1:4711`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lends a key for so long, when those before it are lent.
    pub fn lend(&self, access_key_id: &str, secret: &str, token: &str, lasts: Duration) {
        lock(&self.shared.keys).push_back(LentKey {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: secret.to_owned(),
            session_token: token.to_owned(),
            lasts,
        });
    }

    /// Refuses the next request.
    pub fn refuse(&self, status: u16, code: &'static str) {
        lock(&self.shared.refusals).push_back((status, code));
    }

    /// What it was asked so far: the fields of forms, and `path` and `method` of each request.
    pub fn asked(&self) -> Vec<BTreeMap<String, String>> {
        lock(&self.shared.asked).clone()
    }
}

impl Drop for S3Lender {
    fn drop(&mut self) {
        // Its receiver is gone only if the thread is.
        let _told = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl fmt::Debug for S3Lender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Lender").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| async {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
                let reply = answer(&shared, &Request::new(&parts, body));
                reply.with("date", DATE).into_response(false)
            });
            // An error is a client that went away.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

fn answer(shared: &Shared, request: &Request) -> Reply {
    let mut fields: BTreeMap<_, _> = request
        .text()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decode(value, true)))
        .collect();
    fields.insert("path".to_owned(), request.raw_path.clone());
    fields.insert("method".to_owned(), request.method.to_string());
    lock(&shared.asked).push(fields.clone());
    if let Some((status, code)) = lock(&shared.refusals).pop_front() {
        return refusal(status, code);
    }
    match (&request.method, request.raw_path.as_str()) {
        (&Method::POST, "/") => role(shared, request, &fields),
        (&Method::PUT, "/latest/api/token") => {
            match request.header("x-aws-ec2-metadata-token-ttl-seconds") {
                Some(_) => Reply::new(200).with_body(TOKEN_OF_MACHINES),
                None => Reply::new(400),
            }
        }
        (&Method::GET, path) if path.starts_with("/latest/meta-data/iam/") => {
            if request.header("x-aws-ec2-metadata-token") != Some(TOKEN_OF_MACHINES) {
                return Reply::new(401);
            }
            match path.strip_prefix("/latest/meta-data/iam/security-credentials/") {
                Some("") => Reply::new(200).with_body("backup-role"),
                Some("backup-role") => document(shared),
                _ => Reply::new(404),
            }
        }
        (&Method::GET, "/container") => {
            if request.header("authorization") != Some(S3Lender::TOKEN) {
                return Reply::new(401);
            }
            document(shared)
        }
        _ => Reply::new(404),
    }
}

/// As STS answers.
fn role(shared: &Shared, request: &Request, fields: &BTreeMap<String, String>) -> Reply {
    let field = |name: &str| fields.get(name).map(String::as_str);
    if field("RoleArn") != Some(S3Lender::ROLE) || field("RoleSessionName").is_none() {
        return refusal(403, "AccessDenied");
    }
    let action = field("Action").unwrap_or_default();
    match action {
        "AssumeRole" => {
            let base = Keys {
                access_key_id: super::S3Server::ACCESS_KEY_ID.to_owned(),
                secret_access_key: super::S3Server::SECRET_ACCESS_KEY.to_owned(),
                session_token: None,
            };
            if signature::check(request, &base).is_err() {
                return refusal(403, "SignatureDoesNotMatch");
            }
            if field("ExternalId") != Some(S3Lender::EXTERNAL_ID) {
                return refusal(403, "AccessDenied");
            }
        }
        "AssumeRoleWithWebIdentity" => {
            if field("WebIdentityToken") != Some(S3Lender::TOKEN) {
                return refusal(400, "InvalidIdentityToken");
            }
        }
        _ => return refusal(400, "InvalidAction"),
    }
    let Some((key, ends)) = next(shared) else { return refusal(500, "InternalFailure") };
    let text = format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>\
         <AssumedRoleUser><Arn>{role}</Arn></AssumedRoleUser><Credentials>\
         <AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
         <SessionToken>{}</SessionToken><Expiration>{ends}</Expiration></Credentials>\
         </{action}Result></{action}Response>",
        key.access_key_id,
        key.secret_access_key,
        key.session_token,
        role = S3Lender::ROLE,
    );
    Reply::new(200).with("content-type", "text/xml").with_body(text)
}

/// As services on machines answer.
fn document(shared: &Shared) -> Reply {
    let Some((key, ends)) = next(shared) else { return Reply::new(404) };
    let document = serde_json::json!({
        "Code": "Success",
        "Type": "AWS-HMAC",
        "AccessKeyId": key.access_key_id,
        "SecretAccessKey": key.secret_access_key,
        "Token": key.session_token,
        "Expiration": ends.to_string(),
    });
    Reply::new(200).with_body(document.to_string())
}

/// The key that is next, and when it ends by the clock that replies show.
fn next(shared: &Shared) -> Option<(LentKey, Timestamp)> {
    let mut keys = lock(&shared.keys);
    let key = if keys.len() > 1 { keys.pop_front()? } else { keys.front()?.clone() };
    let ends = NOW.saturating_add(key.lasts).ok()?;
    Some((key, ends))
}

fn refusal(status: u16, code: &str) -> Reply {
    let text = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>\
         <Type>Sender</Type><Code>{code}</Code><Message>The fake says {code}.</Message></Error>\
         <RequestId>FAKE</RequestId></ErrorResponse>"
    );
    Reply::new(status).with("content-type", "text/xml").with_body(text)
}
