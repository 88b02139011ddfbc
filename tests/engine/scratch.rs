//! What does not fit into memory goes to the scratch folder, and nobody can tell from the result.

use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use backupkit::model::{BlobId, EventKind};
use backupkit::repo::{InitOptions, Repository};
use backupkit::state::{CheckpointInterval, InMemoryJournal, RunJournal as _};
use backupkit::testing::{MemorySource, PausePoint, ScratchTuning};
use backupkit::{BackupRequest, Clock, Engine, Env, ErrorKind, RunStatus};
use futures::future::BoxFuture;

use crate::scene::{
    PASSWORD, Scene, back_up, checkpoints, latest_tree, path, random, small_packs, start, trees,
    watched,
};
use crate::support::random::Random;
use crate::waiting::Waiting;

const NODE_BYTES: u64 = 48 << 10;
/// What a batch of finished entries may bring before anybody looks.
const BATCH_NODE_BYTES: u64 = 64 * 1024;

/// Directories of all sizes, some deep, with a few hundred to a few thousand entries.
fn random_source(random: &mut Random) -> MemorySource {
    let mut folders = vec![path("data")];
    for number in 0..random.below(40) {
        let parent = random.pick(&folders).clone();
        folders.push(parent.join(format!("folder {number}").as_bytes()));
    }
    let mut source = MemorySource::new().with_late_file(&path("late"), random.bytes(5000));
    for number in 0..300 + random.below(2000) {
        // Half of them in one directory.
        let folder = if random.below(2) == 0 { &folders[0] } else { random.pick(&folders) };
        let name = format!("{:x} {number}", random.below(1 << 40));
        let file = folder.join(name.as_bytes());
        source = match random.below(20) {
            0 => source.with_link(&file, "elsewhere"),
            1 => source.with_directory(&file),
            2 => source.with_stream(&file, random.bytes(20_000), 3000),
            _ => source.with_file(&file, random.bytes(usize::try_from(number % 60).unwrap())),
        };
    }
    for number in 0..3 {
        let file = random.pick(&folders).join(format!("big {number}").as_bytes());
        source = source.with_file(&file, random.bytes(3 << 20));
    }
    source
}

/// An engine that holds few nodes in memory, and its gauge.
fn tight(scene: &Scene, folder: &tempfile::TempDir) -> (Engine, ScratchTuning) {
    let tuning = ScratchTuning::new().with_node_bytes(NODE_BYTES);
    let engine =
        scene.engine_with(|builder| builder.scratch_folder(folder.path()).scratch_tuning(&tuning));
    (engine, tuning)
}

fn assert_bounded(tuning: &ScratchTuning, folder: &tempfile::TempDir, context: &str) {
    let most = tuning.most_node_bytes();
    let bound = NODE_BYTES + NODE_BYTES / 8 + BATCH_NODE_BYTES;
    assert!(most <= bound, "{context}: {most} bytes of nodes in memory");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{context}: files stay");
}

/// Two repositories that cut at different places, so that nodes differ between them.
async fn pair(scene: &Scene, cuts: &[Repository; 2]) -> [Repository; 2] {
    let mut pair = Vec::new();
    for cut in cuts {
        let options = InitOptions { polynomial_of: Some(cut.clone()), ..InitOptions::default() };
        let destination = Arc::new(small_packs());
        let made = Repository::init(destination, &PASSWORD.into(), options, &scene.env).await;
        pair.push(made.unwrap());
    }
    pair.try_into().unwrap()
}

async fn cuts(scene: &Scene) -> [Repository; 2] {
    let foreign = scene.foreign_repository_in(Arc::new(small_packs())).await;
    [scene.repository().await, foreign]
}

async fn latest_trees(pair: &[Repository; 2]) -> [BlobId; 2] {
    [latest_tree(&pair[0]).await, latest_tree(&pair[1]).await]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_with_little_memory_makes_the_same_trees() {
    let (scene, folder) = (Scene::new().await, tempfile::tempdir().unwrap());
    let cuts = cuts(&scene).await;
    let mut spilled = 0;
    for seed in 0..6 {
        let source = random_source(&mut Random::new(seed));
        let expected = pair(&scene, &cuts).await;
        scene.back_up(&source, &expected).await;
        let (engine, tuning) = tight(&scene, &folder);
        let repositories = pair(&scene, &cuts).await;
        back_up(&engine, &source, &repositories).await;
        assert_eq!(latest_trees(&repositories).await, latest_trees(&expected).await, "seed {seed}");
        assert_bounded(&tuning, &folder, &format!("seed {seed}"));
        spilled += tuning.runs();
    }
    assert!(spilled > 20, "{spilled} runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_backup_with_little_memory_goes_on_and_makes_the_same_trees() {
    let (scene, folder) = (Scene::new().await, tempfile::tempdir().unwrap());
    let cuts = cuts(&scene).await;
    for seed in 10..14 {
        let mut random = Random::new(seed);
        let source = random_source(&mut random);
        let expected = pair(&scene, &cuts).await;
        scene.back_up(&source, &expected).await;
        let repositories = pair(&scene, &cuts).await;
        let mut pauses = 0;
        for round in 0..5 {
            let (engine, tuning) = tight(&scene, &folder);
            let point = PausePoint::new();
            let waiting = Waiting::at_body(&source, 1 + random.below(400), &point);
            let run = start(&engine, &waiting, &repositories);
            let control = run.control();
            let mut end = Box::pin(run.wait());
            let report = tokio::select! {
                report = &mut end => report,
                () = point.reached() => {
                    control.pause();
                    point.release();
                    end.await
                }
            };
            let context = format!("seed {seed}, round {round}");
            assert_bounded(&tuning, &folder, &context);
            match report.unwrap().status {
                RunStatus::Paused => pauses += 1,
                status => {
                    assert_eq!(status, RunStatus::Succeeded, "{context}");
                    break;
                }
            }
        }
        assert!(pauses > 0, "seed {seed}");
        // One process with a scratch folder, the next without: the checkpoint is the same.
        if seed % 2 == 0 {
            scene.back_up(&source, &repositories).await;
        } else {
            let (engine, tuning) = tight(&scene, &folder);
            back_up(&engine, &source, &repositories).await;
            assert_bounded(&tuning, &folder, &format!("seed {seed}, last"));
        }
        assert_eq!(latest_trees(&repositories).await, latest_trees(&expected).await, "seed {seed}");
        for repository in &repositories {
            assert_eq!(checkpoints(repository).await, 0, "seed {seed}");
        }
    }
}

/// A clock on which all takes a fraction of its time: packs that are open for 5 minutes are closed
/// after a second, and checkpoints become durable.
#[derive(Debug)]
struct HurriedClock(Arc<dyn Clock>);

const HURRY: u32 = 300;

impl Clock for HurriedClock {
    fn now(&self) -> jiff::Timestamp {
        self.0.now()
    }

    fn elapsed_since_boot(&self) -> Duration {
        self.0.elapsed_since_boot() * HURRY
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(duration / HURRY)
    }
}

/// How many finished entries the checkpoint knows.
async fn entries_in(journal: &InMemoryJournal) -> u64 {
    let row = journal.load_checkpoint().await.unwrap().unwrap_or_default();
    let row: serde_json::Value = serde_json::from_slice(&row).unwrap_or_default();
    row["tally"]["files_new"].as_u64().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_while_it_reads_hold_what_was_spilled() {
    let env = Env::system();
    let clock = HurriedClock(Arc::clone(env.clock()));
    let scene = Scene::with_env(env.with_clock(Arc::new(clock))).await;
    let folder = tempfile::tempdir().unwrap();
    for seed in 20..24 {
        let mut random = Random::new(seed);
        let source = random_source(&mut random);
        let expected = scene.undisturbed(&source).await;
        let rig = scene.rig().await;
        let interval = CheckpointInterval { time: Duration::from_secs(20), bytes: 1 << 30 };
        let journal = Arc::new(InMemoryJournal::with_interval(interval));
        let (engine, tuning) = tight(&scene, &folder);
        let point = PausePoint::new();
        let waiting = Waiting::at_body(&source, 100 + random.below(50), &point);
        let request = BackupRequest::new(Arc::new(waiting), from_ref(&rig.repository));
        let run = engine.backup(request.with_journal(Arc::<InMemoryJournal>::clone(&journal)));
        point.reached().await;
        while entries_in(&journal).await < 100 {
            tokio::task::yield_now().await;
        }
        drop(run);
        engine.instance().crash();
        point.release();
        assert!(tuning.runs() > 0, "seed {seed}");
        assert_bounded(&tuning, &folder, &format!("seed {seed}"));
        let (engine, _) = tight(&scene, &folder);
        let request = BackupRequest::new(Arc::new(source.clone()), from_ref(&rig.repository));
        let (report, events) = watched(engine.backup(request.with_journal(journal))).await;
        assert_eq!(report.unwrap().status, RunStatus::Succeeded, "seed {seed}");
        let resumed =
            |event: &EventKind| matches!(event, EventKind::Resumed { entries: 100.., .. });
        assert!(events.iter().any(resumed), "seed {seed}: {events:#?}");
        assert_eq!(latest_tree(&rig.repository).await, expected, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scratch_folder_that_is_full_ends_the_backup_and_says_so() {
    let (scene, folder) = (Scene::new().await, tempfile::tempdir().unwrap());
    let source = random_source(&mut Random::new(30));
    for capacity in [0, 20_000, 150_000] {
        let tuning = ScratchTuning::new().with_node_bytes(NODE_BYTES).with_capacity_bytes(capacity);
        let engine = scene
            .engine_with(|builder| builder.scratch_folder(folder.path()).scratch_tuning(&tuning));
        let rig = scene.rig().await;
        let error = start(&engine, &source, from_ref(&rig.repository)).wait().await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::StorageFull, "scratch-failed"));
        let report = error.report();
        assert!(report.contains(&folder.path().display().to_string()), "{report}");
        assert!(report.contains("make room"), "{report}");
        assert_eq!(trees(&rig.repository).await, []);
        // With room, all is well.
        let (engine, _) = tight(&scene, &folder);
        back_up(&engine, &source, from_ref(&rig.repository)).await;
        rig.assert_tidy(&format!("capacity {capacity}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scratch_folder_that_fills_at_a_resume_keeps_the_checkpoint() {
    let (scene, folder) = (Scene::new().await, tempfile::tempdir().unwrap());
    let source = (0..1500_usize).fold(MemorySource::new(), |source, number| {
        source.with_file(&path(&format!("data/{number}")), random(number as u64, 20))
    });
    let repository = scene.repository().await;
    let point = PausePoint::new();
    let run = scene.start(&Waiting::at_body(&source, 1400, &point), from_ref(&repository));
    point.reached().await;
    run.pause();
    point.release();
    assert_eq!(run.wait().await.unwrap().status, RunStatus::Paused);
    let full = ScratchTuning::new().with_node_bytes(NODE_BYTES).with_capacity_bytes(0);
    let engine =
        scene.engine_with(|builder| builder.scratch_folder(folder.path()).scratch_tuning(&full));
    let error = start(&engine, &source, from_ref(&repository)).wait().await.unwrap_err();
    assert_eq!(error.code(), "scratch-failed", "{error}");
    assert_eq!(checkpoints(&repository).await, 1);
    let (engine, tuning) = tight(&scene, &folder);
    let before = source.bytes_read();
    back_up(&engine, &source, from_ref(&repository)).await;
    assert!(source.bytes_read() - before < 20 * 500, "all was read again");
    assert_bounded(&tuning, &folder, "resumed");
    assert_eq!(latest_tree(&repository).await, scene.undisturbed(&source).await);
}

#[tokio::test]
async fn a_scratch_folder_that_is_none_is_refused_at_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Engine::builder().scratch_folder(file.path()).build().unwrap_err();
    assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
}
