//! A repository in memory whose objects tests can damage, and an engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use backupkit::destination::{Destination, MemoryDestination, ObjectKey};
use backupkit::model::{EntryPath, Event, SnapshotId};
use backupkit::repo::{CheckOptions, CheckReport, InitOptions, ReaderOptions, Repository};
use backupkit::snapshot::SnapshotReader;
use backupkit::testing::{FaultDestination, FaultPlan, MemorySource, random_bytes};
use backupkit::{BackupRequest, CheckRequest, Engine, EngineBuilder, Env, RunStatus};

const PASSWORD: &str = "reading";

pub(crate) struct Scene {
    pub(crate) engine: Engine,
    pub(crate) repository: Repository,
    pub(crate) faults: FaultPlan,
    objects: MemoryDestination,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with_engine(|builder| builder).await
    }

    pub(crate) async fn with_engine(set: impl Fn(EngineBuilder) -> EngineBuilder) -> Self {
        let env = Env::system();
        let engine = set(Engine::builder().env(env.clone()).threads(2)).build().unwrap();
        let objects = MemoryDestination::new();
        let faults = FaultPlan::new();
        let destination: Arc<dyn Destination> =
            Arc::new(FaultDestination::new(Arc::new(objects.clone()), &faults));
        let options = InitOptions::default();
        let repository =
            Repository::init(destination, &PASSWORD.into(), options, &env).await.unwrap();
        Self { engine, repository, faults, objects }
    }

    /// Backs up, and returns the snapshot.
    pub(crate) async fn back_up(&self, source: &MemorySource) -> SnapshotId {
        let request = BackupRequest::new(Arc::new(source.clone()), vec![self.repository.clone()]);
        let report = self.engine.backup(request).wait().await.unwrap();
        assert_eq!(report.status, RunStatus::Succeeded, "{report:#?}");
        report.outputs[0].snapshot.unwrap()
    }

    pub(crate) async fn open(&self, id: SnapshotId) -> Arc<dyn SnapshotReader> {
        let reader = self.repository.reader(ReaderOptions::default()).await.unwrap();
        reader.snapshot(id).await.unwrap()
    }

    pub(crate) async fn check(&self, options: CheckOptions) -> CheckReport {
        let request = CheckRequest::new(self.repository.clone()).with_options(options);
        self.engine.check(request).wait().await.unwrap()
    }

    /// The objects below a prefix.
    pub(crate) fn objects(&self, prefix: &str) -> BTreeMap<ObjectKey, bytes::Bytes> {
        let mut objects = self.objects.objects();
        objects.retain(|key, _| key.as_str().starts_with(prefix));
        objects
    }

    /// The pack that begins with the trees: much shorter than that of large files.
    pub(crate) fn shortest_pack(&self) -> ObjectKey {
        let packs = self.objects("data/");
        packs.iter().min_by_key(|(_, bytes)| bytes.len()).unwrap().0.clone()
    }

    pub(crate) fn longest_pack(&self) -> ObjectKey {
        let packs = self.objects("data/");
        packs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().0.clone()
    }

    pub(crate) fn remove(&self, key: &ObjectKey) {
        assert!(self.objects.remove_raw(key).is_some());
    }

    /// Sets an object, also in place of another.
    pub(crate) fn put(&self, key: &ObjectKey, bytes: Vec<u8>) {
        self.objects.put_raw(key, bytes);
    }

    /// Changes the bytes of an object.
    pub(crate) fn change(&self, key: &ObjectKey, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.objects.objects()[key].to_vec();
        change(&mut bytes);
        self.objects.put_raw(key, bytes);
    }

    pub(crate) fn flip(&self, key: &ObjectKey, at: usize) {
        self.change(key, |bytes| bytes[at] ^= 1);
    }
}

pub(crate) fn path(text: &str) -> EntryPath {
    EntryPath::from_slashed(text.as_bytes())
}

pub(crate) fn random(seed: u64, len_bytes: usize) -> Vec<u8> {
    random_bytes(seed, len_bytes).to_vec()
}

/// The sentences of events.
pub(crate) fn sentences(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.kind.to_string()).collect()
}
