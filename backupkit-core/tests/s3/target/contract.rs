//! The contract of targets: on the server of the tests, and on real ones where they are started.

use std::sync::Arc;

use async_trait::async_trait;
use backupkit_core::adapters::s3::{S3Credentials, S3Destination, S3Settings, S3Source, S3Target};
use backupkit_core::destination::{Destination as _, ObjectKey};
use backupkit_core::model::{EntryPath, FileTime};
use backupkit_core::source::Source as _;
use backupkit_core::testing::conformance::{Found, Setup, TargetFixture, TargetProbe};
use backupkit_core::testing::fakes::{
    ConditionalWrites, S3Effect, S3Fault, S3Operation, S3Server, S3ServerOptions,
};
use backupkit_core::{Env, target_conformance};
use bytes::Bytes;
use futures::TryStreamExt as _;
use jiff::Timestamp;

use super::Place;
use crate::real_server::place_on;
use crate::scene::BUCKET;
use crate::source;

#[derive(Debug)]
struct FakeProbe {
    server: Arc<S3Server>,
    root: String,
}

impl FakeProbe {
    fn key(&self, path: &EntryPath) -> String {
        let names: Vec<_> = path.names().map(String::from_utf8_lossy).collect();
        self.root.clone() + &names.join("/")
    }
}

#[async_trait]
impl TargetProbe for FakeProbe {
    async fn read(&self, path: &EntryPath) -> Option<Found> {
        let object = self.server.object(BUCKET, &self.key(path))?;
        Some(Found::File(object.bytes))
    }

    async fn put(&self, path: &EntryPath, bytes: Bytes, mtime: FileTime) {
        self.server.set_now(Timestamp::from_second(mtime.unix_seconds()).unwrap());
        self.server.put(BUCKET, &self.key(path), bytes);
        self.server.set_now(Timestamp::constant(1_767_225_600, 0));
    }

    async fn files(&self) -> Vec<EntryPath> {
        let keys = self.server.keys(BUCKET);
        let below = keys.iter().filter_map(|key| key.strip_prefix(&self.root));
        below.map(|key| EntryPath::from_slashed(key.as_bytes())).collect()
    }

    async fn outside(&self) -> String {
        let mut keys = self.server.keys(BUCKET);
        keys.retain(|key| !key.starts_with(&self.root));
        format!("{keys:?}")
    }
}

fn fixture(options: S3ServerOptions, change: impl Fn(S3Settings) -> S3Settings) -> TargetFixture {
    let place = Place::with(options);
    let target = place.target(&change);
    let prefix = change(S3Settings::new(BUCKET)).prefix;
    let root = if prefix.is_empty() { prefix } else { format!("{prefix}/") };
    let probe = FakeProbe { server: Arc::clone(&place.server), root };
    place.server.put(BUCKET, "x2/one", "not ours");
    if probe.root.is_empty() {
        place.server.remove(BUCKET, "x2/one");
    }
    TargetFixture::new(target, probe).with_plain_files_only().keeping(place)
}

target_conformance!(s3, async || fixture(S3ServerOptions::default(), |settings| settings));

target_conformance!(s3_below_a_prefix_in_small_pages, async || {
    let options = S3ServerOptions::default().with_page_keys(3);
    fixture(options, |settings| settings.with_prefix("x/of ü"))
});

target_conformance!(s3_that_does_not_know_conditions, async || {
    let options = S3ServerOptions::default().with_conditional_writes(ConditionalWrites::Ignored);
    fixture(options, |settings| settings)
});

target_conformance!(s3_that_refuses_conditions, async || {
    let options = S3ServerOptions::default().with_conditional_writes(ConditionalWrites::Refused);
    fixture(options, |settings| settings)
});

target_conformance!(s3_that_knows_one_condition, async || {
    let options = S3ServerOptions::default().with_conditional_writes(ConditionalWrites::OnlyAbsent);
    fixture(options, S3Settings::without_checksums)
});

target_conformance!(s3_on_a_bad_day, async || {
    use S3Operation::{
        AbortUpload, CompleteUpload, CreateUpload, GetObject, HeadObject, PutObject, UploadPart,
    };
    let place = Place::new();
    for operation in
        [GetObject, HeadObject, PutObject, CreateUpload, UploadPart, CompleteUpload, AbortUpload]
    {
        for k in 0..20u64 {
            // Not at once: a check tries each step once.
            let fault = |effect, n: u64| S3Fault::new(effect).on(operation).after(11 * k + n + 6);
            place.server.add_fault(fault(S3Effect::slow_down(), 1));
            place.server.add_fault(fault(S3Effect::LoseReply, 3));
            place.server.add_fault(fault(S3Effect::refuse(500, "InternalError"), 5));
            place.server.add_fault(fault(S3Effect::Reset, 6));
        }
    }
    let probe = FakeProbe { server: Arc::clone(&place.server), root: String::new() };
    TargetFixture::new(place.target(|settings| settings), probe)
        .with_plain_files_only()
        .keeping(place)
});

/// Looks at a real server as a destination does.
#[derive(Debug)]
struct RealProbe {
    destination: S3Destination,
    /// For keys that no destination has.
    source: S3Source,
}

fn object_key(path: &EntryPath) -> Option<ObjectKey> {
    let names: Vec<_> = path.names().map(String::from_utf8_lossy).collect();
    ObjectKey::new(names.join("/")).ok()
}

#[async_trait]
impl TargetProbe for RealProbe {
    async fn read(&self, path: &EntryPath) -> Option<Found> {
        if let Some(key) = object_key(path) {
            return self.destination.get(&key, None).await.ok().map(Found::File);
        }
        let view = self.source.open(source::context()).await.unwrap();
        let listed = source::list(&*view, None).await.unwrap();
        let mut entries = source::entries(&listed).into_iter();
        let entry = entries.find(|entry| entry.path.name() == path.name())?;
        Some(Found::File(source::read(&*view, &entry).await.unwrap().1))
    }

    async fn put(&self, path: &EntryPath, bytes: Bytes, _mtime: FileTime) {
        let key = object_key(path).unwrap();
        self.destination.delete(&key).await.unwrap();
        self.destination.create(&key, bytes.into()).await.unwrap();
    }

    async fn files(&self) -> Vec<EntryPath> {
        let mut found = Vec::new();
        for top in ["one", "folder", "sizes", "three", "other", "a", "ok"] {
            let key = ObjectKey::new(top).unwrap();
            let below: Vec<_> = self.destination.list(&key).try_collect().await.unwrap();
            found.extend(below.iter().map(|meta| meta.key.as_str().to_owned()));
            if self.destination.stat(&key).await.is_ok() && !found.iter().any(|known| known == top)
            {
                found.push(top.to_owned());
            }
        }
        found.iter().map(|key| EntryPath::from_slashed(key.as_bytes())).collect()
    }
}

/// A prefix of its own for each case.
async fn real(server: &str, adapt: impl Fn(S3Settings) -> S3Settings) -> Setup<TargetFixture> {
    let (settings, id, secret) = match place_on(server, |settings| settings) {
        Err(why) => return Setup::Unavailable(why),
        Ok(place) => place,
    };
    let credentials = S3Credentials::keys(id, secret);
    let open = |settings| S3Destination::new(adapt(settings), &credentials, Env::system()).unwrap();
    // Some make the bucket with the first object.
    let made = open(settings.clone().with_prefix("made"));
    let bytes = Bytes::from_static(b"made");
    made.create(&ObjectKey::new("here").unwrap(), bytes.into()).await.unwrap();
    let source = S3Source::new(settings.clone(), &credentials, Env::system(), "host").unwrap();
    let probe = RealProbe { destination: open(settings.clone()), source };
    let target = S3Target::new(settings, &credentials, Env::system()).unwrap();
    TargetFixture::new(target, probe).with_plain_files_only().with_own_times().into()
}

target_conformance!(minio, async || -> Setup<TargetFixture> {
    real("BACKUPKIT_TEST_S3_MINIO", |settings| settings).await
});

target_conformance!(seaweedfs, async || -> Setup<TargetFixture> {
    real("BACKUPKIT_TEST_S3_SEAWEEDFS", |settings| settings).await
});

target_conformance!(moto, async || -> Setup<TargetFixture> {
    real("BACKUPKIT_TEST_S3_MOTO", |settings| settings).await
});

// It keeps no conditions of writes, which is found out.
target_conformance!(rclone, async || -> Setup<TargetFixture> {
    real("BACKUPKIT_TEST_S3_RCLONE", S3Settings::without_conditional_writes).await
});
