//! Restores when something is damaged, refuses or goes away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use backupkit::model::{EntryPath, SnapshotId};
use backupkit::repo::CheckOptions;
use backupkit::target::{
    BodyReader, Phase, RestoreContext, RestoreNotes, RestoreSession, RestoreTarget, Step,
    TargetCapabilities, Verdict, VerifyLevel, Written,
};
use backupkit::testing::{Fault, MemorySource, MemoryTarget, Operation, PausePoint};
use backupkit::{
    Error, ErrorKind, Probe, ProbeOutcome, ProbeStep, RestoreReport, RestoreRequest, Result,
    WriteToken,
};
use futures::stream::BoxStream;

use crate::scene::{Scene, path, random, sentences};

/// A target that fails at chosen paths, and notes what it is told.
#[derive(Debug, Clone, Default)]
struct OddTarget {
    inner: MemoryTarget,
    is_lost: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    failures: BTreeMap<EntryPath, ErrorKind>,
    told: Vec<String>,
}

impl OddTarget {
    fn failing_at(name: &str, kind: ErrorKind) -> Self {
        let target = Self::default();
        target.state.lock().unwrap().failures.insert(path(name), kind);
        target
    }

    fn told(&self) -> Vec<String> {
        self.state.lock().unwrap().told.clone()
    }

    fn tell(&self, what: impl Into<String>) {
        self.state.lock().unwrap().told.push(what.into());
    }
}

#[derive(Debug)]
struct OddSession(OddTarget, Arc<dyn RestoreSession>);

#[async_trait]
impl RestoreTarget for OddTarget {
    fn capabilities(&self) -> TargetCapabilities {
        self.inner.capabilities()
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    async fn check(&self) -> Result<Probe> {
        let outcome =
            if self.is_lost { ProbeOutcome::Failed("gone".to_owned()) } else { ProbeOutcome::Ok };
        let took = std::time::Duration::ZERO;
        let step = ProbeStep { name: "write".to_owned(), outcome, took, hint: None };
        Ok(Probe { steps: vec![step] })
    }

    async fn open(&self, cx: RestoreContext) -> Result<Arc<dyn RestoreSession>> {
        Ok(Arc::new(OddSession(self.clone(), self.inner.open(cx).await?)))
    }
}

#[async_trait]
impl RestoreSession for OddSession {
    fn plan(&self) -> BoxStream<'static, Result<Step>> {
        self.1.plan()
    }

    async fn write(
        &self,
        step: &Step,
        body: BodyReader,
        from: Option<WriteToken>,
    ) -> Result<Written> {
        let failure = self.0.state.lock().unwrap().failures.get(&step.entry.path).copied();
        if let Some(kind) = failure {
            return Err(Error::new(kind, "cannot write it"));
        }
        let mut written = self.1.write(step, body, from).await?;
        if step.entry.path == path("ownerless") {
            written.warnings.push(Error::new(ErrorKind::PermissionDenied, "cannot set the owner"));
        }
        Ok(written)
    }

    async fn end_phase(&self, phase: Phase) -> Result<()> {
        self.0.tell(format!("end of phase {}", phase.0));
        self.1.end_phase(phase).await
    }

    async fn verify(&self, step: &Step, level: VerifyLevel) -> Result<Verdict> {
        match step.entry.path.to_string().as_str() {
            "/differs" => Ok(Verdict::Differs("it has another size".to_owned())),
            "/unknown" => Ok(Verdict::Cannot("it is a fifo".to_owned())),
            _ => self.1.verify(step, level).await,
        }
    }

    async fn finish(&self) -> Result<RestoreNotes> {
        self.0.tell("finish");
        self.1.finish().await
    }

    async fn abort(&self) -> Result<()> {
        self.0.tell("abort");
        self.1.abort().await
    }
}

async fn restore(scene: &Scene, id: SnapshotId, target: &OddTarget) -> Result<RestoreReport> {
    let target = Arc::new(target.clone());
    let request = RestoreRequest::new(scene.repository.clone(), id, target);
    let result = scene.engine.restore(request).wait().await;
    assert!(scene.objects("locks/").is_empty());
    result
}

async fn three_files() -> (Scene, SnapshotId) {
    let scene = Scene::new().await;
    let source = MemorySource::new();
    for name in ["a", "b", "c"] {
        source.set(&path(name), name);
    }
    let id = scene.back_up(&source).await;
    (scene, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn phases_end_in_order_and_then_the_restore() {
    let scene = Scene::new().await;
    let source = MemorySource::new().with_file(&path("d/a"), "a").with_link(&path("l"), "a");
    let id = scene.back_up(&source).await;
    let target = OddTarget::default();
    restore(&scene, id, &target).await.unwrap();
    let told = ["end of phase 0", "end of phase 1", "end of phase 2", "finish"];
    assert_eq!(target.told(), told);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_the_target_does_not_take_is_told_and_the_rest_goes_on() {
    let (scene, id) = three_files().await;
    // `Unavailable` may be one odd file too, as long as the target is well.
    for kind in [ErrorKind::PermissionDenied, ErrorKind::Unavailable] {
        let target = OddTarget::failing_at("b", kind);
        let report = restore(&scene, id, &target).await.unwrap();
        assert_eq!((report.counts.created, report.counts.failed), (2, 1));
        assert!(!report.is_complete());
        assert_eq!(report.verified.unwrap().same, 2);
        assert_eq!(sentences(&report.problems), ["not restored: /b: cannot write it"]);
        assert_eq!(target.told().last().unwrap(), "finish");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_full_or_lost_ends_the_restore() {
    let (scene, id) = three_files().await;
    for kind in [ErrorKind::StorageFull, ErrorKind::Unavailable] {
        let mut target = OddTarget::failing_at("b", kind);
        target.is_lost = true;
        let error = restore(&scene, id, &target).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(error.to_string(), "restore /b into memory:: cannot write it");
        assert_eq!(target.told(), ["abort"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_or_cannot_be_compared_is_told() {
    let scene = Scene::new().await;
    let source = MemorySource::new();
    for name in ["differs", "ownerless", "same", "unknown"] {
        source.set(&path(name), name);
    }
    let id = scene.back_up(&source).await;
    let report = restore(&scene, id, &OddTarget::default()).await.unwrap();
    let verified = report.verified.unwrap();
    assert_eq!((verified.same, verified.differs, verified.cannot), (2, 1, 1));
    assert!(!report.is_complete());
    let mut told = sentences(&report.problems);
    told.sort();
    assert_eq!(
        told,
        [
            "/ownerless: cannot set the owner",
            "differs: /differs: it has another size",
            "not compared: /unknown: it is a fifo",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_costs_its_file_only_and_is_named() {
    let scene = Scene::new().await;
    let source = MemorySource::new()
        .with_file(&path("a"), random(1, 3 << 20))
        .with_file(&path("b"), random(2, 3 << 20))
        .with_file(&path("large"), random(3, 70 << 20));
    let id = scene.back_up(&source).await;
    let packs = scene.objects("data/");
    let large = packs.iter().filter(|(_, bytes)| bytes.len() > 3 << 20);
    for (key, bytes) in large {
        // The blob in the middle of each pack, one pack at a time.
        scene.flip(key, bytes.len() / 2);
        let target = OddTarget::default();
        let report = restore(&scene, id, &target).await.unwrap();
        assert_eq!((report.counts.created, report.counts.failed), (2, 1), "{report:?}");
        assert_eq!(report.verified.unwrap().same, 2);
        assert_eq!(target.inner.nodes().len(), 2);
        let told = sentences(&report.problems).concat();
        assert!(told.contains("data blob ") && told.contains(key.name()), "{told}");
        scene.put(key, bytes.to_vec());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_pack_costs_the_files_in_it_only() {
    let scene = Scene::new().await;
    let source = MemorySource::new().with_file(&path("a"), "a");
    let first = scene.back_up(&source).await;
    let pack = scene.longest_pack();
    source.set(&path("b"), random(4, 10_000));
    let second = scene.back_up(&source).await;
    assert_ne!(first, second);
    let removed = scene.longest_pack();
    assert_ne!(removed, pack);
    scene.remove(&removed);
    let report = restore(&scene, second, &OddTarget::default()).await.unwrap();
    assert_eq!((report.counts.created, report.counts.failed), (1, 1));
    let told = sentences(&report.problems).concat();
    assert!(told.contains("the pack is missing"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_directory_costs_what_is_in_it_only() {
    let scene = Scene::new().await;
    let source = MemorySource::new().with_file(&path("z"), random(5, 1 << 20));
    for name in ["a/1", "b/1", "c/1"] {
        source.set(&path(name), name);
    }
    let id = scene.back_up(&source).await;
    scene.flip(&scene.shortest_pack(), 20);
    let target = OddTarget::default();
    let report = restore(&scene, id, &target).await.unwrap();
    // Three directories, of which one is empty now.
    assert_eq!((report.counts.created, report.counts.failed), (3 + 2 + 1, 1), "{report:?}");
    let told = sentences(&report.problems);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("not restored: read directory /"), "{told:?}");
    assert_eq!(target.told().last().unwrap(), "finish");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_directory_needs_nothing_stored() {
    let scene = Scene::new().await;
    let source = MemorySource::new().with_directory(&path("d/empty"));
    scene.back_up(&source).await;
    // All that there is of the first backup; of the second one only the empty directory is in it.
    let pack = scene.shortest_pack();
    source.set(&path("d/file"), "content");
    let id = scene.back_up(&source).await;
    scene.remove(&pack);
    let target = OddTarget::default();
    let report = restore(&scene, id, &target).await.unwrap();
    assert!(report.is_complete(), "{report:#?}");
    let nodes = target.inner.nodes();
    assert!(nodes.contains_key(&path("d/empty")) && nodes.contains_key(&path("d/file")));
    // Other programs look for it in the repository.
    assert!(!scene.check(CheckOptions::default()).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_out_of_reach_ends_the_restore() {
    let (scene, id) = three_files().await;
    scene.faults.add(Fault::fail(ErrorKind::Unavailable).with_prefix("data/").forever());
    let target = OddTarget::default();
    let error = restore(&scene, id, &target).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(target.told(), ["abort"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_stops_when_told_and_leaves_nothing_half_written() {
    let scene = Scene::new().await;
    let source = MemorySource::new()
        .with_file(&path("a"), "a")
        .with_file(&path("large"), random(6, 100 << 20));
    let id = scene.back_up(&source).await;
    let point = PausePoint::new();
    let get = Fault::pause(&point).on(Operation::Get).with_prefix("data/");
    // The tree and the first window are read; then it hangs in the middle of the large file.
    scene.faults.add(get.at_call(6).forever());
    let target = OddTarget::default();
    let request = RestoreRequest::new(scene.repository.clone(), id, Arc::new(target.clone()));
    let run = scene.engine.restore(request);
    point.reached().await;
    run.cancel();
    assert_eq!(run.wait().await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(target.told().last().unwrap(), "abort");
    assert!(!target.inner.nodes().contains_key(&path("large")));
    assert!(scene.objects("locks/").is_empty());
}
