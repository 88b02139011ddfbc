//! Entries that cannot be read, that change, and sources that break their word.

use std::sync::Arc;

use backupkit::model::EventKind;
use backupkit::testing::{FaultSource, MemorySource, PausePoint, SourceFaults, random_bytes};
use backupkit::{BackupReport, ErrorKind, RunStatus};

use crate::scene::{Rig, Scene, latest_tree, path, random};
use crate::scripted::Scripted;

const MIB: usize = 1 << 20;

pub(crate) fn source() -> MemorySource {
    let mut source = MemorySource::new()
        .with_file(&path("data/big"), random(1, 10 << 20))
        .with_stream(&path("data/stream"), random(2, 5 << 20), 70_000);
    for number in 0..100 {
        let file = path(&format!("data/small/{number}"));
        source = source.with_file(&file, random(500 + number, 3000));
    }
    source
}

fn failures(report: &BackupReport) -> Vec<(String, &'static str)> {
    let problems = report.problems.iter().filter_map(|event| match &event.kind {
        EventKind::EntryFailed { path, error, .. } => Some((path.to_string(), *error)),
        _ => None,
    });
    problems.collect()
}

fn changed(report: &BackupReport) -> usize {
    let changed =
        |event: &&backupkit::model::Event| matches!(event.kind, EventKind::EntryChanged { .. });
    report.problems.iter().filter(changed).count()
}

async fn run_with(scene: &Scene, rig: &Rig, faults: &SourceFaults) -> BackupReport {
    let source = FaultSource::new(Arc::new(source()), faults);
    let run = scene.start(&source, std::slice::from_ref(&rig.repository));
    let report = run.wait().await.unwrap();
    rig.assert_tidy("after faults of the source").await;
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_cannot_be_read_is_left_out_and_named() {
    let scene = Scene::new().await;
    let without = |name: &str| {
        let source = source();
        source.remove(&path(name));
        source
    };
    for name in ["data/big", "data/stream", "data/small/7"] {
        let expected = scene.undisturbed(&without(name)).await;
        for (kind, opens) in [
            (ErrorKind::PermissionDenied, false),
            (ErrorKind::NotFound, false),
            (ErrorKind::Unavailable, true),
        ] {
            let (rig, faults) = (scene.rig().await, SourceFaults::new());
            if opens {
                // In the middle of it, with chunks under way.
                faults.fail_read_at(path(name), 2000, kind, u64::MAX);
            } else {
                faults.fail_body(path(name), kind, u64::MAX);
            }
            let report = run_with(&scene, &rig, &faults).await;
            assert_eq!(report.status, RunStatus::Warnings, "{name} {kind}: {report:#?}");
            assert_eq!(failures(&report), [(format!("/{name}"), kind.as_str())]);
            assert_eq!(report.summary.files_failed, 1);
            assert_eq!(latest_tree(&rig.repository).await, expected, "{name} {kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_can_be_read_no_more_ends_the_run_without_a_snapshot() {
    let scene = Scene::new().await;
    for name in ["data/big", "data/stream", "data/small/7"] {
        for (kind, opens) in [(ErrorKind::Unauthenticated, true), (ErrorKind::InvalidConfig, false)]
        {
            let (rig, faults) = (scene.rig().await, SourceFaults::new());
            if opens {
                faults.fail_read_at(path(name), 2000, kind, u64::MAX);
            } else {
                faults.fail_body(path(name), kind, u64::MAX);
            }
            let source = FaultSource::new(Arc::new(source()), &faults);
            let run = scene.start(&source, std::slice::from_ref(&rig.repository));
            let error = run.wait().await.unwrap_err();
            assert!(error.is(kind), "{name}: {}", error.report());
            assert_eq!(rig.repository.snapshots().await.unwrap().len(), 0, "{name} {kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_vanishes_is_left_out_and_named() {
    let scene = Scene::new().await;
    // As many large ones are read at a time as there are threads.
    let gone = path("data/third");
    let source = source().with_file(&gone, random(3, 3 * MIB));
    let (rig, points) = (scene.rig().await, [PausePoint::new(), PausePoint::new()]);
    source.pause_at(&path("data/big"), 0, &points[0]);
    source.pause_at(&path("data/stream"), 0, &points[1]);
    let run = scene.start(&source, std::slice::from_ref(&rig.repository));
    for point in &points {
        point.reached().await;
    }
    source.remove(&gone);
    points.iter().for_each(PausePoint::release);
    let report = run.wait().await.unwrap();
    assert_eq!(failures(&report), [("/data/third".to_owned(), "not-found")]);
    assert_eq!(report.status, RunStatus::Warnings);
    rig.assert_tidy("vanished").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_changes_once_is_read_again() {
    let scene = Scene::new().await;
    for (name, offset) in [("data/big", 9 * MIB), ("data/stream", 4 * MIB), ("data/small/5", 0)] {
        for source in [source(), source().with_validators()] {
            let (rig, point) = (scene.rig().await, PausePoint::new());
            source.pause_at(&path(name), offset as u64, &point);
            let run = scene.start(&source, std::slice::from_ref(&rig.repository));
            point.reached().await;
            let old = if name == "data/small/5" { 505 } else { 1 };
            // Its first part is the one of before: those blobs are on their way.
            let mut bytes = random(old, 9 << 20);
            bytes.extend(random(77, 2 << 20));
            source.set(&path(name), bytes);
            point.release();
            let report = run.wait().await.unwrap();
            rig.assert_tidy(name).await;
            // A stream of a file system cannot tell; a body keeps what it had when opened.
            if report.status == RunStatus::Succeeded && source.bytes_read_of(&path(name)) > 9 << 20
            {
                let expected = scene.undisturbed(&source).await;
                assert_eq!(latest_tree(&rig.repository).await, expected, "{name}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_always_changes_is_stored_as_one_look_gave_it_with_a_warning() {
    let scene = Scene::new().await;
    for len_bytes in [100, 3 * MIB] {
        let rig = scene.rig().await;
        let bytes = random(3, len_bytes);
        let calm = Scripted::default().file("a/file", bytes.clone()).done("a");
        let restless = calm.clone().restless();
        let run = scene.start(&restless, std::slice::from_ref(&rig.repository));
        let report = run.wait().await.unwrap();
        assert_eq!((report.status, changed(&report)), (RunStatus::Warnings, 1), "{report:#?}");
        assert_eq!(restless.opened("a/file"), 2);
        let expected = scene.undisturbed(&calm).await;
        assert_eq!(latest_tree(&rig.repository).await, expected);
        rig.assert_tidy("restless").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_whose_listed_version_is_gone_for_good_is_left_out_and_named() {
    let (scene, faults) = (Scene::new().await, SourceFaults::new());
    let rig = scene.rig().await;
    for name in ["data/big", "data/stream", "data/small/7"] {
        faults.fail_read_at(path(name), 0, ErrorKind::SourceChanged, u64::MAX);
    }
    let report = run_with(&scene, &rig, &faults).await;
    assert_eq!(report.status, RunStatus::Warnings);
    assert_eq!(failures(&report).len(), 3);
}

/// A chunk that was begun for an entry which then failed is promised to all others.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_entry_began_to_store_gets_there_though_that_entry_fails() {
    let scene = Scene::new().await;
    for round in 0..5 {
        let rig = scene.rig().await;
        let bytes = random(round, 12 * MIB);
        let mut source = MemorySource::new();
        for name in ["a", "b", "c", "d"] {
            source = source.with_file(&path(&format!("data/{name}")), bytes.clone());
        }
        let faults = SourceFaults::new();
        let last = 9 * MIB as u64;
        faults.fail_read_at(path("data/a"), last, ErrorKind::Unavailable, u64::MAX);
        faults.fail_read_at(path("data/b"), last, ErrorKind::SourceChanged, 1);
        faults.fail_read_at(path("data/c"), last, ErrorKind::SourceChanged, 2);
        let source = FaultSource::new(Arc::new(source), &faults);
        let run = scene.start(&source, std::slice::from_ref(&rig.repository));
        let report = run.wait().await.unwrap();
        assert_eq!(failures(&report).len(), 2, "{report:#?}");
        rig.assert_tidy(&format!("round {round}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_listed_is_named_and_the_rest_is_stored() {
    let (scene, denied) = (Scene::new().await, ErrorKind::PermissionDenied);
    let rig = scene.rig().await;
    let source = Scripted::default()
        .file("a/one", random(1, 100))
        .fails(Some("a/closed"), denied)
        .file("a/two", random(2, 100))
        .done("a");
    let run = scene.start(&source, std::slice::from_ref(&rig.repository));
    let report = run.wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Warnings);
    assert_eq!(failures(&report), [("/a/closed".to_owned(), denied.as_str())]);
    assert_eq!(report.summary.files_new, 2);
    rig.assert_tidy("closed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_breaks_its_word_gets_a_clear_error_and_no_snapshot() {
    let scene = Scene::new().await;
    let (small, large) = (random(1, 100), random(2, 2 * MIB));
    let base = || Scripted::default().file("a/x", small.clone());
    let cases = [
        ("fatal", base().fails(None, ErrorKind::Unavailable).done("a"), "list"),
        ("twice", base().file("a/x", large.clone()).done("a"), "twice"),
        ("twice far apart", base().file("b/x", small.clone()).link("a/x").done("a"), "twice"),
        ("file and directory", base().file("a/x/y", small.clone()).done("a/x").done("a"), "twice"),
        ("link below", base().file("a/y", large.clone()).done("a").link("a/z"), "listed"),
        ("file below", base().done("a").file("a/z", small.clone()), "listed"),
        ("large below", base().done("a").file("a/z", large.clone()), "listed"),
        ("deeper below", base().done("a").file("a/b/z", small.clone()).done("a/b"), "listed"),
        ("empty directory below", base().done("a").done("a/b"), "listed"),
        ("done twice", base().done("a").done("a"), "twice"),
    ];
    for (name, source, word) in cases {
        // Also when the directory has been stored by then.
        let points = [None, Some(PausePoint::new())];
        for point in points {
            let rig = scene.rig().await;
            let source = match &point {
                Some(point) => source.clone().waits_before(2, point),
                None => source.clone(),
            };
            let run = scene.start(&source, std::slice::from_ref(&rig.repository));
            if let Some(point) = point {
                let control = run.control();
                let release = async {
                    point.reached().await;
                    while control.progress().finished_entries < 1 {
                        tokio::task::yield_now().await;
                    }
                    for _ in 0..2000 {
                        tokio::task::yield_now().await;
                    }
                    point.release();
                    std::future::pending::<()>().await;
                };
                let end = tokio::select! {
                    end = run.wait() => end,
                    () = release => unreachable!("it goes on for ever"),
                };
                assert_refused(&rig, end, name, word);
            } else {
                assert_refused(&rig, run.wait().await, name, word);
            }
        }
    }
}

fn assert_refused(rig: &Rig, end: backupkit::Result<BackupReport>, name: &str, word: &str) {
    let error = end.map(|report| format!("{report:#?}")).expect_err(name);
    assert!(error.to_string().contains(word), "{name}: {error}");
    assert_eq!(rig.count("snapshots") + rig.count("locks"), 0, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_content_at_the_same_time_is_stored_once() {
    let scene = Scene::new().await;
    let rigs = [scene.rig().await, scene.foreign_rig().await];
    let (small, large) = (random(1, 200_000), random(2, 6 * MIB));
    let mut source = MemorySource::new();
    for number in 0..40 {
        source = source.with_file(&path(&format!("a/{number}")), small.clone());
    }
    for number in 0..4 {
        source = source.with_file(&path(&format!("b/{number}")), large.clone());
        source = source.with_stream(&path(&format!("c/{number}")), large.clone(), 90_000);
    }
    let both = [rigs[0].repository.clone(), rigs[1].repository.clone()];
    let report = scene.back_up(&source, &both).await;
    for (rig, output) in rigs.iter().zip(&report.outputs) {
        rig.assert_tidy("once").await;
        assert!(output.added_bytes < (small.len() + large.len() + 50_000) as u64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_memory_is_enough_and_kept_to() {
    let budget = 16 * MIB;
    for streams in [false, true] {
        for two_cuts in [false, true] {
            for threads in [1, 2] {
                let mut scene = Scene::new().await;
                scene.engine =
                    scene.engine_with(|engine| engine.threads(threads).memory_bytes(budget as u64));
                let (first, second) = (scene.rig().await, scene.foreign_rig().await);
                let mut source = Scripted::default();
                for number in 0..3 {
                    source = source.file(&format!("a/{number}"), random(number, 9 * MIB + 5));
                    source = source.file(&format!("b/{number}"), random(number, 500_000));
                    // Listed as empty, as where sizes are not known beforehand.
                    let unknown = random_bytes(number + 50, 400_000);
                    source = source.file_listed_with(&format!("c/{number}"), 0, unknown);
                }
                // More than fits into the memory, while all readers are busy.
                for number in 0..70 {
                    source = source.file(&format!("d/{number}"), random(99, 250_000));
                }
                if streams {
                    source = source.streams();
                }
                let mut repositories = vec![first.repository.clone()];
                if two_cuts {
                    repositories.push(second.repository.clone());
                }
                let source = source.done("a").done("b").done("c").done("d");
                scene.back_up(&source, &repositories).await;
                let context = format!("streams {streams}, cuts {two_cuts}, threads {threads}");
                let most = source.most_bytes_alive();
                // The unfinished chunk of the one reader that fits has room for its own bytes, and
                // may keep the two ranges alive that it lies in: one range more.
                assert!(most <= budget + 8 * MIB, "{context}: {most} bytes at once");
                first.assert_tidy(&context).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_thread_is_enough() {
    let mut scene = Scene::new().await;
    let expected = scene.undisturbed(&source()).await;
    scene.engine = scene.engine_with(|engine| engine.threads(1));
    let rigs = [scene.rig().await, scene.foreign_rig().await];
    let both = [rigs[0].repository.clone(), rigs[1].repository.clone()];
    scene.back_up(&source(), &both).await;
    assert_eq!(latest_tree(&rigs[0].repository).await, expected);
    rigs[1].assert_tidy("one thread").await;
}
