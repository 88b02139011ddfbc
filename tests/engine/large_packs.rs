//! Packs above 32 MiB, for destinations that prefer few large files.

use std::ops::Range;
use std::path::Path;
use std::slice::from_ref;
use std::sync::Arc;

use async_trait::async_trait;
use backupkit::adapters::fs::FsDestination;
use backupkit::destination::{
    Destination, DestinationCapabilities, MemoryDestination, ObjectKey, ObjectMeta, Payload,
    RetryDestination, RetryPolicy,
};
use backupkit::testing::{
    Fault, FaultDestination, FaultPlan, MemorySource, Operation, ScratchTuning,
};
use backupkit::{ErrorKind, Probe, Result, RunStatus};
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::scene::{PASSWORD, Scene, assert_whole, back_up, latest_tree, path, random, start};
use crate::support::restic::Restic;

const MIB: u64 = 1 << 20;

/// A destination that prefers packs of another size.
#[derive(Debug)]
struct Prefers(FsDestination, u64);

#[async_trait]
impl Destination for Prefers {
    fn capabilities(&self) -> DestinationCapabilities {
        self.0.capabilities().with_preferred_pack_bytes(self.1)
    }

    fn location(&self) -> String {
        self.0.location()
    }

    async fn check(&self) -> Result<Probe> {
        self.0.check().await
    }

    async fn create(&self, key: &ObjectKey, payload: Payload) -> Result<()> {
        self.0.create(key, payload).await
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes> {
        self.0.get(key, range).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.0.stat(key).await
    }

    fn list(&self, prefix: &ObjectKey) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.0.delete(key).await
    }
}

fn source() -> MemorySource {
    let mut source = MemorySource::new().with_file(&path("data/big"), random(1, 150 << 20));
    for number in 0..300 {
        source = source.with_file(&path(&format!("data/{number}")), random(2 + number, 9000));
    }
    source
}

/// The sizes of all packs, largest first.
fn pack_sizes(repository: &Path) -> Vec<u64> {
    let mut sizes = Vec::new();
    for folder in std::fs::read_dir(repository.join("data")).unwrap() {
        for pack in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            sizes.push(pack.unwrap().metadata().unwrap().len());
        }
    }
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    sizes
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_are_large_are_files_and_restic_reads_them() {
    let home = tempfile::tempdir().unwrap();
    let scratch = home.path().join("scratch");
    let (scene, source) = (Scene::new().await, source());
    let expected = scene.undisturbed(&source).await;
    let tuning = ScratchTuning::new();
    let engine =
        scene.engine_with(|builder| builder.scratch_folder(&scratch).scratch_tuning(&tuning));
    let folder = home.path().join("large");
    let large = Prefers(FsDestination::new(&folder, scene.env.clone()), 64 * MIB);
    let repository = scene.repository_in(Arc::new(large)).await;
    back_up(&engine, &source, from_ref(&repository)).await;
    assert_eq!(latest_tree(&repository).await, expected);
    let sizes = pack_sizes(&folder);
    assert!(sizes[0] > 64 * MIB && sizes[0] < 73 * MIB, "{sizes:?}");
    // The data, and the trees: what was left half full was joined.
    assert!(sizes.len() <= 4, "{sizes:?}");
    assert!(tuning.written_bytes() >= 150 * MIB);
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
    assert_whole(&repository, "large packs").await;
    if let Some(restic) = Restic::find(&home.path().join("home"), &folder, PASSWORD) {
        restic.check_read_data();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_scratch_folder_packs_stay_within_memory() {
    let home = tempfile::tempdir().unwrap();
    let (scene, source) = (Scene::new().await, source());
    let large = Prefers(FsDestination::new(home.path(), scene.env.clone()), 64 * MIB);
    let repository = scene.repository_in(Arc::new(large)).await;
    scene.back_up(&source, from_ref(&repository)).await;
    let sizes = pack_sizes(home.path());
    assert!(sizes[0] > 32 * MIB && sizes[0] < 41 * MIB, "{sizes:?}");
}

/// A memory that prefers large packs.
fn large_packs() -> MemoryDestination {
    let capabilities = DestinationCapabilities::new(8).with_preferred_pack_bytes(40 * MIB);
    MemoryDestination::new().with_capabilities(capabilities)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_pack_is_sent_again_after_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let (scene, plan) = (Scene::new().await, FaultPlan::new());
    let source = MemorySource::new().with_file(&path("big"), random(1, 60 << 20));
    let destination = FaultDestination::new(Arc::new(large_packs()), &plan);
    let policy = RetryPolicy::new();
    let destination = RetryDestination::new(Arc::new(destination), policy, scene.env.clone());
    let repository = scene.repository_in(Arc::new(destination)).await;
    let create = |fault: Fault| fault.on(Operation::Create).with_prefix("data/");
    plan.add(create(Fault::fail(ErrorKind::Unavailable)).times(2));
    plan.add(create(Fault::lose_reply(ErrorKind::Unavailable)).at_call(2));
    let engine = scene.engine_with(|builder| builder.scratch_folder(folder.path()));
    back_up(&engine, &source, from_ref(&repository)).await;
    let inventory = assert_whole(&repository, "sent again").await;
    assert_eq!(inventory.repeated(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_scratch_folder_sets_aside_only_what_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::new().await;
    let source = MemorySource::new().with_file(&path("big"), random(1, 20 << 20));
    let tuning = ScratchTuning::new().with_capacity_bytes(5 * MIB);
    let engine =
        scene.engine_with(|builder| builder.scratch_folder(folder.path()).scratch_tuning(&tuning));
    let needy = scene.repository_in(Arc::new(large_packs())).await;
    let error = start(&engine, &source, from_ref(&needy)).wait().await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::StorageFull, "scratch-failed"));
    assert!(error.report().contains(&folder.path().display().to_string()), "{error}");
    let both = [needy, scene.repository().await];
    let report = start(&engine, &source, &both).wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Partial);
    assert_eq!(report.outputs[0].error.as_ref().unwrap().code(), "scratch-failed");
    assert!(report.outputs[1].snapshot.is_some());
}
