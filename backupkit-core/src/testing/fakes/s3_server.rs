//! An S3 server: a bucket with a network in front, and faults on request.

mod access;
mod bucket;
mod connection;
mod deleting;
mod faults;
mod lender;
mod list;
mod locks;
mod multipart;
mod objects;
mod options;
mod reply;
mod request;
mod settings;
mod signature;
mod versions;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{Semaphore, oneshot, watch};

pub use bucket::S3Object;
pub use faults::{S3Effect, S3Fault, S3Operation};
pub use lender::S3Lender;
pub use options::{AccessLists, ConditionalWrites, KeyOrder, ReadVersions, S3ServerOptions};

use self::bucket::Bucket;
use self::faults::FaultScript;
use self::reply::Reply;
use self::request::Request;
use self::settings::BucketSetting;
use self::signature::Keys;
use self::versions::Versioning;
use crate::testing::lock;

/// An S3 server on a free port of the loopback address, on a thread of its own. It knows addresses
/// with the bucket in the path, checks signatures and checksums, lists in the order of bytes, and
/// decides about conditional writes without races. It ends when it is dropped.
///
/// Entity tags are not MD5, and a completed upload cannot be completed again.
pub struct S3Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a server was asked so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct S3Counters {
    /// Connections that clients made.
    pub connections: u64,
    /// Requests, whatever came of them.
    pub requests: u64,
    /// Writes of objects without a condition.
    pub unconditional_writes: u64,
    /// Requests of each kind.
    pub by_operation: BTreeMap<S3Operation, u64>,
    /// Bytes of bodies that arrived.
    pub received_bytes: u64,
    /// Bytes of bodies that were sent.
    pub sent_bytes: u64,
}

impl S3Counters {
    /// How many requests of a kind came.
    pub fn of(&self, operation: S3Operation) -> u64 {
        self.by_operation.get(&operation).copied().unwrap_or_default()
    }
}

/// Bytes of an object that were sent, whether they arrived or not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct S3Read {
    /// The key.
    pub key: String,
    /// Which bytes of the object.
    pub bytes: Range<u64>,
}

struct Shared {
    options: S3ServerOptions,
    buckets: Mutex<BTreeMap<String, Bucket>>,
    keys: Mutex<Option<Keys>>,
    now: Mutex<Timestamp>,
    /// What its clock shows; nothing: the time.
    date: Mutex<Option<Timestamp>>,
    faults: FaultScript,
    counters: Mutex<S3Counters>,
    reads: Mutex<Vec<S3Read>>,
    /// How many uploads were begun.
    uploads: AtomicU64,
    held: watch::Sender<u64>,
    gate: Semaphore,
}

impl S3Server {
    /// The key that a server takes at first.
    pub const ACCESS_KEY_ID: &str = "FAKEKEYID";
    /// The secret of that key.
    pub const SECRET_ACCESS_KEY: &str = "fake-secret-access-key";

    /// Starts a server that does as AWS does, with one empty bucket of this name.
    ///
    /// # Panics
    /// If there is no port or no thread for it.
    pub fn start(bucket: &str) -> Self {
        Self::start_with(bucket, S3ServerOptions::default())
    }

    /// Starts a server, with one empty bucket of this name.
    ///
    /// # Panics
    /// If there is no port or no thread for it.
    pub fn start_with(bucket: &str, options: S3ServerOptions) -> Self {
        let first = Bucket { versioning: Versioning::of(&options), ..Bucket::default() };
        let shared = Arc::new(Shared {
            options,
            buckets: Mutex::new([(bucket.to_owned(), first)].into()),
            keys: Mutex::new(Some(Keys {
                access_key_id: Self::ACCESS_KEY_ID.to_owned(),
                secret_access_key: Self::SECRET_ACCESS_KEY.to_owned(),
                session_token: None,
            })),
            // 2026-01-01T00:00:00Z.
            now: Mutex::new(Timestamp::constant(1_767_225_600, 0)),
            date: Mutex::default(),
            faults: FaultScript::default(),
            counters: Mutex::default(),
            reads: Mutex::default(),
            uploads: AtomicU64::new(0),
            held: watch::Sender::new(0),
            gate: Semaphore::new(0),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket that can be waited for");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be started");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                connection::serve(listener, served, stopped).await;
            });
            runtime.shutdown_timeout(Duration::ZERO);
        });
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens, such as `http://127.0.0.1:4711`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds an empty bucket.
    pub fn make_bucket(&self, bucket: &str) {
        let versioning = Versioning::of(&self.shared.options);
        let made = || Bucket { versioning, ..Bucket::default() };
        lock(&self.shared.buckets).entry(bucket.to_owned()).or_insert_with(made);
    }

    /// Keeps what is replaced and deleted in a bucket from now on, or not any more. What was kept stays.
    pub fn keep_versions(&self, bucket: &str, are_kept: bool) {
        if let Some(bucket) = lock(&self.shared.buckets).get_mut(bucket) {
            bucket.versioning = if are_kept { Versioning::Enabled } else { Versioning::Suspended };
        }
    }

    /// Removes all versions of an object for good, but for the newest so many.
    pub fn remove_old_versions(&self, bucket: &str, key: &str, kept: usize) {
        if let Some(bucket) = lock(&self.shared.buckets).get_mut(bucket) {
            bucket.remove_old_versions(key, kept);
        }
    }

    /// Removes a version of an object for good, or the mark of a deletion.
    pub fn remove_version(&self, bucket: &str, key: &str, id: &str) {
        if let Some(bucket) = lock(&self.shared.buckets).get_mut(bucket) {
            bucket.remove_version(key, id);
        }
    }

    /// Takes only this key from now on.
    pub fn take_only(&self, access_key_id: &str, secret_access_key: &str, token: Option<&str>) {
        *lock(&self.shared.keys) = Some(Keys {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: secret_access_key.to_owned(),
            session_token: token.map(str::to_owned),
        });
    }

    /// Takes requests from anybody from now on.
    pub fn take_everybody(&self) {
        *lock(&self.shared.keys) = None;
    }

    /// Makes something go wrong.
    pub fn add_fault(&self, fault: S3Fault) {
        self.shared.faults.add(fault);
    }

    /// Makes nothing go wrong any more.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// What it was asked so far.
    pub fn counters(&self) -> S3Counters {
        lock(&self.shared.counters).clone()
    }

    /// The bytes of objects that were sent since this was last asked, in the order of the requests.
    pub fn take_reads(&self) -> Vec<S3Read> {
        std::mem::take(&mut lock(&self.shared.reads))
    }

    /// Starts to count anew.
    pub fn reset_counters(&self) {
        *lock(&self.shared.counters) = S3Counters::default();
    }

    /// Sets the time of what is made from now on, and of the server's own clock, which is right without
    /// this.
    pub fn set_now(&self, now: Timestamp) {
        *lock(&self.shared.now) = now;
        *lock(&self.shared.date) = Some(now);
    }

    /// Stores an object as if it had been there always.
    pub fn put(&self, bucket: &str, key: &str, bytes: impl Into<Bytes>) {
        let object = S3Object::new(bytes.into(), *lock(&self.shared.now));
        if let Some(bucket) = lock(&self.shared.buckets).get_mut(bucket) {
            bucket.store(key, object);
        }
    }

    /// Stores an object with headers, such as `content-type` and `x-amz-meta-owner`, and tags, such as
    /// `a=1&b=2`. One whose `x-amz-storage-class` is an archive cannot be read.
    pub fn put_with(
        &self,
        bucket: &str,
        key: &str,
        bytes: impl Into<Bytes>,
        headers: &[(&str, &str)],
        tags: &str,
    ) {
        let mut object = S3Object::new(bytes.into(), *lock(&self.shared.now));
        let owned = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        object.headers.extend(owned);
        tags.clone_into(&mut object.tags);
        if let Some(bucket) = lock(&self.shared.buckets).get_mut(bucket) {
            bucket.store(key, object);
        }
    }

    /// Stores an object as if it had been written in parts of so many bytes.
    pub fn put_in_parts(&self, bucket: &str, key: &str, bytes: Bytes, part_bytes: usize) {
        let mut object = S3Object::new(bytes, *lock(&self.shared.now));
        object.parts = object.bytes.chunks(part_bytes).map(<[u8]>::len).collect();
        object.etag = format!("{}-{}\"", object.etag.trim_end_matches('"'), object.parts.len());
        if let Some(bucket) = lock(&self.shared.buckets).get_mut(bucket) {
            bucket.store(key, object);
        }
    }

    /// Ends the restores of all objects of a bucket that were asked for from their archives.
    pub fn end_restores(&self, bucket: &str) {
        if let Some(bucket) = lock(&self.shared.buckets).get_mut(bucket) {
            objects::end_restores(bucket);
        }
    }

    /// Grants something of an object by a header, such as `x-amz-grant-read` and `id="you"`.
    pub fn grant(&self, bucket: &str, key: &str, header: &str, grantees: &str) {
        if let Some(bucket) = lock(&self.shared.buckets).get_mut(bucket) {
            let grant = |object: &mut S3Object| {
                object.grants.insert(header.to_owned(), grantees.to_owned());
            };
            bucket.change(key, None, grant);
        }
    }

    /// Replaces the tags of an object, such as `a=1&b=2`, which makes no version of it.
    pub fn tag(&self, bucket: &str, key: &str, tags: &str) {
        if let Some(bucket) = lock(&self.shared.buckets).get_mut(bucket) {
            bucket.change(key, None, |object| tags.clone_into(&mut object.tags));
        }
    }

    /// Sets something of a bucket: what is asked for with this parameter, such as `cors`, is this document.
    pub fn set_bucket_setting(&self, bucket: &str, name: &str, document: &str) {
        self.set_setting(bucket, name, BucketSetting::Document(document.to_owned()));
    }

    /// Refuses to say anything of a setting of a bucket.
    pub fn refuse_bucket_setting(&self, bucket: &str, name: &str, status: u16, code: &'static str) {
        self.set_setting(bucket, name, BucketSetting::Refused(status, code));
    }

    fn set_setting(&self, bucket: &str, name: &str, setting: BucketSetting) {
        if let Some(bucket) = lock(&self.shared.buckets).get_mut(bucket) {
            bucket.settings.insert(name.to_owned(), setting);
        }
    }

    /// Removes an object.
    pub fn remove(&self, bucket: &str, key: &str) {
        if let Some(bucket) = lock(&self.shared.buckets).get_mut(bucket) {
            bucket.remove(key, *lock(&self.shared.now));
        }
    }

    /// An object.
    pub fn object(&self, bucket: &str, key: &str) -> Option<S3Object> {
        lock(&self.shared.buckets).get(bucket)?.objects.get(key).cloned()
    }

    /// All versions of an object, from the oldest to the newest. Nothing stands for the mark of a deletion.
    pub fn versions(&self, bucket: &str, key: &str) -> Vec<Option<S3Object>> {
        let buckets = lock(&self.shared.buckets);
        let versions = buckets.get(bucket).and_then(|bucket| bucket.history.get(key));
        versions.into_iter().flatten().map(|version| version.object.clone()).collect()
    }

    /// All keys of a bucket, in the order of bytes.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let buckets = lock(&self.shared.buckets);
        buckets.get(bucket).map(|found| found.objects.keys().cloned().collect()).unwrap_or_default()
    }

    /// How many uploads in parts are not complete.
    pub fn open_uploads(&self, bucket: &str) -> usize {
        lock(&self.shared.buckets).get(bucket).map_or(0, |bucket| bucket.uploads.len())
    }

    /// Waits until so many requests have been held, counted from the start.
    pub async fn held(&self, count: u64) {
        let mut held = self.shared.held.subscribe();
        // The sender lives in `self`, so this ends by the condition only.
        let _reached = held.wait_for(|held| *held >= count).await;
    }

    /// Lets so many held requests go on, now or when they come.
    pub fn release(&self, count: usize) {
        self.shared.gate.add_permits(count);
    }
}

impl Shared {
    fn note_connection(&self) {
        lock(&self.counters).connections += 1;
    }

    fn note_request(&self, request: &Request) {
        let mut counters = lock(&self.counters);
        counters.requests += 1;
        *counters.by_operation.entry(request.operation).or_default() += 1;
        let has_condition =
            request.header("if-none-match").is_some() || request.header("if-match").is_some();
        if request.operation == S3Operation::PutObject && !has_condition {
            counters.unconditional_writes += 1;
        }
        counters.received_bytes += request.body.len() as u64;
    }

    fn note_reply(&self, request: &Request, reply: &Reply) {
        let sent = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len()) as u64;
        lock(&self.counters).sent_bytes += sent;
        if request.operation == S3Operation::GetObject && matches!(reply.status, 200 | 206) {
            let start = reply.range_start().unwrap_or_default();
            let (key, bytes) = (request.object().to_owned(), start..start + sent);
            lock(&self.reads).push(S3Read { key, bytes });
        }
    }

    fn next_upload_id(&self) -> String {
        format!("upload-{}", self.uploads.fetch_add(1, Ordering::Relaxed))
    }

    async fn hold(&self) {
        self.held.send_modify(|held| *held += 1);
        if let Ok(permit) = self.gate.acquire().await {
            permit.forget();
        }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // Its receiver is gone only if the thread is.
        let _told = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl fmt::Debug for S3Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Server").field("address", &self.address).finish_non_exhaustive()
    }
}
