//! A restore that runs several times, and what it is compared with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use backupkit::adapters::fs::FsTarget;
use backupkit::model::{EntryKind, SnapshotId};
use backupkit::state::{CheckpointInterval, InMemoryJournal, RunJournal as _};
use backupkit::store::InMemoryAdapterStore;
use backupkit::target::{TargetCapabilities, VerifyLevel};
use backupkit::testing::{Fault, MemorySource, MemoryTarget, Operation, PausePoint};
use backupkit::{Env, RestoreReport, RestoreRequest, RunHandle, RunStatus};
use tempfile::TempDir;

use crate::gate::Gate;
use crate::scene::{Scene, path, random};

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Two files that span windows, and small ones around them.
pub(crate) fn content() -> &'static Files {
    static CONTENT: OnceLock<Files> = OnceLock::new();
    CONTENT.get_or_init(make_content)
}

fn make_content() -> Files {
    let mut files = BTreeMap::new();
    for (seed, name) in (1..).zip(["d/large", "m/larger"]) {
        files.insert(name.to_owned(), random(seed, 20 << 20));
    }
    for number in 0..40_usize {
        for folder in ["a", "f", "z"] {
            let size = (number * 977) % 9000;
            let bytes = random(1000 + number as u64, size);
            files.insert(format!("{folder}/{}/{number}", number % 3), bytes);
        }
    }
    files
}

pub(crate) async fn backed_up() -> (Scene, SnapshotId) {
    let scene = Scene::new().await;
    let source = MemorySource::new();
    for (name, bytes) in content() {
        source.set(&path(name), bytes.clone());
    }
    let id = scene.back_up(&source.with_link(&path("z/link"), "1/1")).await;
    (scene, id)
}

/// What restores can be looked at in.
pub(crate) enum Place {
    Memory(MemoryTarget),
    Folder(TempDir),
}

/// One restore, which runs several times.
pub(crate) struct Resumed {
    pub(crate) place: Place,
    pub(crate) gate: Gate,
    pub(crate) journal: Arc<InMemoryJournal>,
    pub(crate) store: Arc<InMemoryAdapterStore>,
    verify: Option<VerifyLevel>,
    /// What the runs read so far.
    pub(crate) read_bytes: u64,
}

/// Where a run is stopped: this call of the backend, or of the target, or this step of the plan.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stop {
    Get(u64),
    Target(u64),
    Plan(u64),
}

impl Resumed {
    pub(crate) fn new(kind: &str) -> Self {
        let (place, gate) = match kind {
            "folder" => {
                let folder = TempDir::new().unwrap();
                let target = FsTarget::new(folder.path().join("target"), Env::system());
                (Place::Folder(folder), Gate::new(target))
            }
            kind => {
                let mut target = MemoryTarget::new();
                if kind == "in order" {
                    target = target.with_capabilities(TargetCapabilities::new(2));
                }
                (Place::Memory(target.clone()), Gate::new(target))
            }
        };
        let (journal, store) = (Arc::default(), Arc::default());
        Self { place, gate, journal, store, verify: Some(VerifyLevel::Bytes), read_bytes: 0 }
    }

    /// Rows are saved at each window.
    pub(crate) fn periodic(mut self) -> Self {
        let time = std::time::Duration::MAX;
        let interval = CheckpointInterval { time, bytes: 1 };
        self.journal = Arc::new(InMemoryJournal::with_interval(interval));
        self
    }

    /// What was restored is not compared.
    pub(crate) fn without_comparison(mut self) -> Self {
        self.verify = None;
        self
    }

    fn request(&self, scene: &Scene, id: SnapshotId) -> RestoreRequest {
        RestoreRequest::new(scene.repository.clone(), id, Arc::new(self.gate.clone()))
            .with_verify(self.verify)
            .with_journal(Arc::<InMemoryJournal>::clone(&self.journal))
            .with_adapter_store(Arc::<InMemoryAdapterStore>::clone(&self.store))
    }

    /// Runs, and when it comes by there, does this. Returns the report unless the run was given up.
    pub(crate) async fn run(
        &mut self,
        scene: &Scene,
        id: SnapshotId,
        stop: Option<Stop>,
        then: Then,
    ) -> Option<backupkit::Result<RestoreReport>> {
        let point = PausePoint::new();
        match stop {
            Some(Stop::Get(k)) => {
                let get = Fault::pause(&point).on(Operation::Get).with_prefix("data/");
                scene.faults.add(get.at_call(k));
            }
            Some(Stop::Target(k)) => self.gate.stop_at(k, &point),
            Some(Stop::Plan(k)) => self.gate.stop_in_plan(k, &point),
            None => {}
        }
        let run: RunHandle<RestoreReport> = scene.engine.restore(self.request(scene, id));
        let control = run.control();
        let mut waiting = Box::pin(run.wait());
        let ended = tokio::select! {
            ended = &mut waiting => Some(ended),
            () = point.reached() => match then {
                Then::Drop => None,
                Then::Pause => {
                    control.pause();
                    point.release();
                    Some(waiting.as_mut().await)
                }
                Then::Cancel => {
                    control.cancel();
                    point.release();
                    Some(waiting.as_mut().await)
                }
            },
        };
        drop(waiting);
        self.read_bytes += control.progress().read_bytes;
        scene.faults.clear();
        point.release();
        if ended.is_some() {
            assert!(scene.objects("locks/").is_empty(), "{stop:?}");
        }
        ended
    }

    /// Runs to the end, and looks at everything.
    pub(crate) async fn finish(
        &mut self,
        scene: &Scene,
        id: SnapshotId,
        expected: &RestoreReport,
        why: &str,
    ) {
        let report = self.run(scene, id, None, Then::Drop).await.unwrap().unwrap();
        self.assert_whole(&report, expected, why);
    }

    pub(crate) fn assert_whole(&self, report: &RestoreReport, expected: &RestoreReport, why: &str) {
        assert_eq!(report.status, RunStatus::Succeeded, "{why}: {report:#?}");
        let counts = |report: &RestoreReport| {
            (
                report.counts.created,
                report.counts.overwritten,
                report.counts.skipped,
                report.counts.written_bytes,
                report.verified,
            )
        };
        assert_eq!(counts(report), counts(expected), "{why}");
        assert!(self.files() == *content(), "{why}: the target has other files");
    }

    /// All files, unfinished ones too.
    pub(crate) fn files(&self) -> Files {
        match &self.place {
            Place::Memory(target) => {
                assert_eq!(target.unfinished_files(), 0);
                let nodes = target.nodes().into_iter();
                let files = nodes.filter(|(_, node)| node.kind == EntryKind::File);
                let name = |path: String| path.trim_start_matches('/').to_owned();
                files.map(|(path, node)| (name(path.to_string()), node.bytes.to_vec())).collect()
            }
            Place::Folder(folder) => {
                let mut files = BTreeMap::new();
                list(&folder.path().join("target"), "", &mut files);
                files
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Then {
    Pause,
    Cancel,
    Drop,
}

pub(crate) fn list(folder: &Path, prefix: &str, files: &mut Files) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.map(Result::unwrap) {
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            list(&entry.path(), &format!("{name}/"), files);
        } else if kind.is_file() {
            files.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
}

/// A restore that nothing disturbs, and how often it calls its target and reads packs.
pub(crate) async fn undisturbed(
    scene: &Scene,
    id: SnapshotId,
    kind: &str,
) -> (RestoreReport, Resumed, u64) {
    let gets = scene.faults.calls_of(Operation::Get);
    let mut whole = Resumed::new(kind);
    let report = whole.run(scene, id, None, Then::Drop).await.unwrap().unwrap();
    whole.assert_whole(&report, &report, kind);
    let gets = scene.faults.calls_of(Operation::Get) - gets;
    (report, whole, gets)
}

/// Pauses in the middle of the first large file.
pub(crate) async fn paused_in_a_large_file(scene: &Scene, id: SnapshotId, kind: &str) -> Resumed {
    let mut resumed = Resumed::new(kind);
    for get in 2..20 {
        let stop = Some(Stop::Get(get));
        let report = resumed.run(scene, id, stop, Then::Pause).await.unwrap().unwrap();
        assert_eq!(report.status, RunStatus::Paused);
        let row = resumed.journal.load_checkpoint().await.unwrap().unwrap();
        if !String::from_utf8_lossy(&row).contains("\"tokens\":[]") {
            return resumed;
        }
        resumed = Resumed::new(kind);
    }
    panic!("no pause was in a large file");
}
