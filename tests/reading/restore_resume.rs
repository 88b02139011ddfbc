//! A restore that was paused, or crashed, goes on: nothing is lost, little is read twice.

use std::sync::Arc;

use backupkit::adapters::fs::FsTarget;
use backupkit::model::EventKind;
use backupkit::state::{InMemoryJournal, RunJournal as _};
use backupkit::target::{ConflictPolicy, RestoreOptions};
use backupkit::testing::{Fault, MemorySource, MemoryTarget, Operation, PausePoint, random_bytes};
use backupkit::{Env, ErrorKind, RestoreRequest, RunStatus};
use bytes::Bytes;
use futures::StreamExt as _;
use tempfile::TempDir;

use crate::resumed::{
    Files, Place, Resumed, Stop, Then, backed_up, content, list, paused_in_a_large_file,
    undisturbed,
};
use crate::scene::{path, sentences};

const MIB: u64 = 1 << 20;
const WINDOW: u64 = 16 * MIB;
/// The last blob of a window may reach beyond it.
const BLOB: u64 = 8 * MIB;

fn below(seed: u64, limit: u64) -> u64 {
    let bytes = random_bytes(seed, 8);
    u64::from_be_bytes(bytes[..].try_into().unwrap()) % limit.max(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_paused_at_any_moment_goes_on() {
    let (scene, id) = backed_up().await;
    for kind in ["memory", "in order", "folder"] {
        let (expected, whole, gets) = undisturbed(&scene, id, kind).await;
        for seed in 0..12 {
            let stop = match seed % 2 {
                0 => Stop::Get(1 + below(seed, gets)),
                _ => Stop::Target(1 + below(seed, whole.gate.calls())),
            };
            let why = format!("{kind}, seed {seed}, {stop:?}");
            let mut resumed = Resumed::new(kind);
            let report = resumed.run(&scene, id, Some(stop), Then::Pause).await.unwrap().unwrap();
            if report.status != RunStatus::Paused {
                // It did not come by this place, or it was too late.
                resumed.assert_whole(&report, &expected, &why);
                continue;
            }
            assert!(!report.is_complete());
            assert!(
                report.counts.created <= expected.counts.created && report.verified.is_none(),
                "{why}"
            );
            resumed.finish(&scene, id, &expected, &why).await;
            let again = resumed.read_bytes.saturating_sub(whole.read_bytes);
            assert!(again <= WINDOW + 2 * BLOB, "{why}: {again} bytes were read again");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_may_pause_again_and_again() {
    let (scene, id) = backed_up().await;
    for kind in ["memory", "folder"] {
        let (expected, whole, _) = undisturbed(&scene, id, kind).await;
        let mut resumed = Resumed::new(kind);
        let mut pauses = 0;
        loop {
            // Later each time, so that each run comes further.
            let stop =
                if pauses % 2 == 0 { Stop::Get(2 + pauses) } else { Stop::Target(9 * pauses) };
            let report = resumed.run(&scene, id, Some(stop), Then::Pause).await.unwrap().unwrap();
            if report.status != RunStatus::Paused {
                resumed.assert_whole(&report, &expected, kind);
                break;
            }
            pauses += 1;
            assert!(pauses < 100, "{kind} does not come to an end");
        }
        assert!(pauses >= 3, "{kind}: {pauses}");
        let again = resumed.read_bytes.saturating_sub(whole.read_bytes);
        assert!(again <= pauses * (WINDOW + 2 * BLOB), "{kind}: {again} bytes were read again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_crashed_at_any_call_goes_on() {
    let (scene, id) = backed_up().await;
    for kind in ["memory", "folder"] {
        let (expected, whole, _) = undisturbed(&scene, id, kind).await;
        // Each read of a pack, and calls of the target all over the run.
        let gets = (1..8).map(Stop::Get);
        let calls = (1..whole.gate.calls()).step_by(19).map(Stop::Target);
        for stop in gets.chain(calls) {
            let why = format!("{kind}, {stop:?}");
            let mut resumed = Resumed::new(kind).periodic();
            let ended = resumed.run(&scene, id, Some(stop), Then::Drop).await;
            if let Some(report) = ended {
                resumed.assert_whole(&report.unwrap(), &expected, &why);
                continue;
            }
            for (key, _) in scene.objects("locks/") {
                scene.remove(&key);
            }
            resumed.finish(&scene, id, &expected, &why).await;
            let again = resumed.read_bytes.saturating_sub(whole.read_bytes);
            assert!(again <= 2 * (WINDOW + BLOB) + BLOB, "{why}: {again} bytes were read again");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_goes_on_where_it_was_paused() {
    let (scene, id) = backed_up().await;
    for kind in ["memory", "folder"] {
        let (expected, ..) = undisturbed(&scene, id, kind).await;
        let mut resumed = paused_in_a_large_file(&scene, id, kind).await;
        resumed.gate.take_log();
        resumed.finish(&scene, id, &expected, kind).await;
        let log = resumed.gate.take_log();
        let went_on = log.iter().filter(|call| call.starts_with("go on with ")).count();
        assert_eq!(went_on, 1, "{kind}: {log:?}");
        // What was done before is not done again.
        assert!(!log.contains(&"write /a/1/1".to_owned()), "{kind}: {log:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_tells_no_tokens_starts_a_large_file_again() {
    let (scene, id) = backed_up().await;
    let (expected, _, gets) = undisturbed(&scene, id, "memory").await;
    for get in 1..gets.min(8) {
        let mut resumed = Resumed::new("memory");
        resumed.gate.hide_tokens();
        let stop = Some(Stop::Get(get));
        resumed.run(&scene, id, stop, Then::Pause).await.unwrap().unwrap();
        assert!(resumed.journal.load_checkpoint().await.unwrap().is_some());
        resumed.finish(&scene, id, &expected, &format!("{stop:?}")).await;
        let log = resumed.gate.take_log();
        assert!(!log.iter().any(|call| call.starts_with("go on")), "{log:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_somebody_changed_is_written_anew() {
    let (scene, id) = backed_up().await;
    let (expected, ..) = undisturbed(&scene, id, "folder").await;
    let mut resumed = paused_in_a_large_file(&scene, id, "folder").await;
    let Place::Folder(folder) = &resumed.place else { panic!("a folder") };
    let target = folder.path().join("target");
    let left: Vec<_> =
        resumed.files().into_keys().filter(|name| name.contains(".backupkit-")).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let outside = folder.path().join("outside");
    std::fs::write(&outside, vec![7; 20 << 20]).unwrap();
    std::fs::remove_file(target.join(&left[0])).unwrap();
    std::os::unix::fs::symlink(&outside, target.join(&left[0])).unwrap();
    resumed.gate.take_log();
    resumed.finish(&scene, id, &expected, "a link in its place").await;
    let log = resumed.gate.take_log();
    assert!(!log.iter().any(|call| call.starts_with("go on")), "{log:?}");
    assert_eq!(std::fs::read(outside).unwrap(), vec![7; 20 << 20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_restore_is_over_and_leaves_only_what_is_whole() {
    let (scene, id) = backed_up().await;
    let (expected, ..) = undisturbed(&scene, id, "folder").await;
    let mut resumed = paused_in_a_large_file(&scene, id, "folder").await;
    assert!(resumed.files().keys().any(|name| name.contains(".backupkit-")));
    let stop = Some(Stop::Get(1));
    let error = resumed.run(&scene, id, stop, Then::Cancel).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let (files, wanted) = (resumed.files(), content());
    assert!(files.iter().all(|(name, bytes)| wanted.get(name) == Some(bytes)));
    let report = resumed.run(&scene, id, None, Then::Drop).await.unwrap().unwrap();
    assert_eq!(report.status, RunStatus::Succeeded);
    assert_eq!(report.counts.created + report.counts.overwritten, expected.counts.created);
    assert!(resumed.files() == *content());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_in_the_comparison_repeats_only_the_comparison() {
    let (scene, id) = backed_up().await;
    let (expected, whole, _) = undisturbed(&scene, id, "memory").await;
    let mut resumed = Resumed::new("memory");
    let stop = Some(Stop::Target(whole.gate.calls() - 20));
    let report = resumed.run(&scene, id, stop, Then::Pause).await.unwrap().unwrap();
    assert_eq!(report.status, RunStatus::Paused);
    assert_eq!(
        (report.counts.created, report.counts.written_bytes),
        (expected.counts.created, expected.counts.written_bytes)
    );
    resumed.gate.take_log();
    let read_before = resumed.read_bytes;
    resumed.finish(&scene, id, &expected, "compared again").await;
    assert_eq!(resumed.read_bytes, read_before);
    let log = resumed.gate.take_log();
    let is_change = |call: &&String| call.starts_with("write") || call.starts_with("end phase");
    assert_eq!(log.iter().filter(is_change).count(), 0, "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_failed_goes_on_once_the_repository_is_back() {
    let (scene, id) = backed_up().await;
    let (expected, ..) = undisturbed(&scene, id, "folder").await;
    for get in 2..6 {
        let mut resumed = Resumed::new("folder");
        let gone = Fault::fail(ErrorKind::Unavailable).on(Operation::Get).with_prefix("data/");
        scene.faults.add(gone.at_call(get).forever());
        let error = resumed.run(&scene, id, None, Then::Drop).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(!resumed.gate.take_log().contains(&"abort".to_owned()));
        resumed.finish(&scene, id, &expected, &format!("get {get}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_does_not_fit_starts_from_the_beginning() {
    let (scene, id) = backed_up().await;
    let (expected, ..) = undisturbed(&scene, id, "memory").await;
    let other = scene.back_up(&MemorySource::new().with_file(&path("other"), "1")).await;
    let paused = paused_in_a_large_file(&scene, id, "memory").await;
    let good = paused.journal.load_checkpoint().await.unwrap().unwrap();
    let mut cut = good.to_vec();
    cut.truncate(good.len() / 2);
    let odd =
        String::from_utf8_lossy(&good).replace("\"gaps\":[", "\"gaps\":[{\"start\":3,\"end\":2},");
    let odd = odd.replace("},]", "}]");
    let rows = [Bytes::new(), Bytes::from(cut), Bytes::from(odd), Bytes::from(vec![b' '; 2 << 20])];
    for row in rows {
        // The decisions and the part are there, but nobody knows what is done.
        let mut resumed = Resumed::new("memory");
        resumed.journal.save_checkpoint(row, 0).await.unwrap();
        resumed.finish(&scene, id, &expected, "damaged").await;
    }
    // Of another snapshot, and with other options.
    for (id, conflict, path) in [
        (other, ConflictPolicy::Overwrite, ""),
        (id, ConflictPolicy::Newer, ""),
        (id, ConflictPolicy::Overwrite, "a"),
    ] {
        let target = MemoryTarget::new();
        let path = crate::scene::path(path);
        let journal = InMemoryJournal::default();
        journal.save_checkpoint(good.clone(), 0).await.unwrap();
        let repository = scene.repository.clone();
        let mut run = scene.engine.restore(
            RestoreRequest::new(repository, id, Arc::new(target.clone()))
                .with_options(RestoreOptions { path, conflict, ..Default::default() })
                .with_journal(Arc::new(journal)),
        );
        let mut events = run.events();
        let report = run.wait().await.unwrap();
        assert!(report.is_complete() && report.counts.created > 0, "{report:?}");
        assert_eq!(report.counts.created, target.nodes().len() as u64);
        let mut dropped = 0;
        while let Some(event) = futures::FutureExt::now_or_never(events.next()).flatten() {
            dropped += u32::from(matches!(event.kind, EventKind::CheckpointDropped { .. }));
        }
        assert_eq!(dropped, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_is_another_one_starts_from_the_beginning() {
    let (scene, id) = backed_up().await;
    let mut resumed = paused_in_a_large_file(&scene, id, "memory").await;
    // The decisions are lost: what was made is now "there already".
    resumed.store = Arc::default();
    let report = resumed.run(&scene, id, None, Then::Drop).await.unwrap().unwrap();
    assert_eq!(report.status, RunStatus::Succeeded, "{report:?}");
    assert!(report.counts.overwritten > 0);
    assert!(resumed.files() == *content());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_stopped_while_it_passes_over_what_is_done_loses_nothing() {
    let (scene, id) = backed_up().await;
    for kind in ["memory", "folder"] {
        let (expected, whole, _) = undisturbed(&scene, id, kind).await;
        let mut resumed = Resumed::new(kind);
        let in_comparison = Some(Stop::Target(whole.gate.calls() - 20));
        let report = resumed.run(&scene, id, in_comparison, Then::Pause).await.unwrap().unwrap();
        assert_eq!(report.status, RunStatus::Paused);
        let read_before = resumed.read_bytes;
        for step in [0, 10, 100] {
            let stop = Some(Stop::Plan(step));
            let report = resumed.run(&scene, id, stop, Then::Pause).await.unwrap().unwrap();
            assert_eq!(report.status, RunStatus::Paused, "{kind}, {step}");
            resumed.gate.break_in_plan(step + 1);
            let error = resumed.run(&scene, id, None, Then::Drop).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{kind}, {step}");
        }
        resumed.gate.take_log();
        resumed.finish(&scene, id, &expected, kind).await;
        let log = resumed.gate.take_log();
        let is_change = |call: &&String| call.starts_with("write") || call.starts_with("end phase");
        assert_eq!(log.iter().filter(is_change).count(), 0, "{kind}: {log:?}");
        assert_eq!(resumed.read_bytes, read_before, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_tried_again_while_what_is_done_is_passed_over_is_kept() {
    let (scene, id) = backed_up().await;
    let (expected, whole, _) = undisturbed(&scene, id, "folder").await;
    let mut resumed = Resumed::new("folder");
    resumed.gate.fail_at("/f/1/1");
    let in_comparison = Some(Stop::Target(whole.gate.calls() - 20));
    let report = resumed.run(&scene, id, in_comparison, Then::Pause).await.unwrap().unwrap();
    assert_eq!((report.status, report.counts.failed), (RunStatus::Paused, 1));
    resumed.gate.fail_at("");
    resumed.gate.take_log();
    // The steps of the last phase are those of the folders once more: the file was written before.
    let entries = content().len() as u64 + 14 + 1;
    let stop = Some(Stop::Plan(entries + 3));
    let report = resumed.run(&scene, id, stop, Then::Pause).await.unwrap().unwrap();
    assert_eq!(report.status, RunStatus::Paused);
    let written = |log: &[String]| log.iter().filter(|call| *call == "write /f/1/1").count();
    assert_eq!(written(&resumed.gate.take_log()), 1);
    resumed.finish(&scene, id, &expected, "folder").await;
    assert_eq!(written(&resumed.gate.take_log()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_does_not_make_another_plan_the_one_that_was_followed() {
    let (scene, id) = backed_up().await;
    let mut resumed = paused_in_a_large_file(&scene, id, "memory").await.without_comparison();
    let Place::Memory(target) = &resumed.place else { panic!("in memory") };
    assert!(target.remove(&path("a/0/0")).is_some());
    // The decisions are lost, and what was done is partly gone.
    resumed.store = Arc::default();
    // Behind the folders and the first file.
    let stop = Some(Stop::Plan(20));
    let report = resumed.run(&scene, id, stop, Then::Pause).await.unwrap().unwrap();
    assert_eq!(report.status, RunStatus::Paused);
    let report = resumed.run(&scene, id, None, Then::Drop).await.unwrap().unwrap();
    assert_eq!(report.status, RunStatus::Succeeded, "{report:?}");
    assert!(resumed.files() == *content());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_restore_leaves_nothing_to_go_on_with() {
    let (scene, id) = backed_up().await;
    let (expected, mut whole, _) = undisturbed(&scene, id, "memory").await;
    whole.gate.take_log();
    let report = whole.run(&scene, id, None, Then::Drop).await.unwrap().unwrap();
    assert_eq!(report.status, RunStatus::Succeeded);
    assert_eq!(report.counts.written_bytes, expected.counts.written_bytes);
    assert!(whole.files() == *content());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_a_pause_leaves_only_what_is_whole() {
    let (scene, id) = backed_up().await;
    let folder = TempDir::new().unwrap();
    let target = FsTarget::new(folder.path(), Env::system());
    let point = PausePoint::new();
    let get = Fault::pause(&point).on(Operation::Get).with_prefix("data/");
    scene.faults.add(get.at_call(5));
    let run =
        scene.engine.restore(RestoreRequest::new(scene.repository.clone(), id, Arc::new(target)));
    point.reached().await;
    run.pause();
    point.release();
    assert_eq!(run.wait().await.unwrap().status, RunStatus::Paused);
    let mut files = Files::new();
    list(folder.path(), "", &mut files);
    let wanted = content();
    assert!(files.iter().all(|(name, bytes)| wanted.get(name) == Some(bytes)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_tried_again_and_what_follows_it_is_done_again() {
    let (scene, id) = backed_up().await;
    for kind in ["memory", "folder"] {
        let (expected, whole, _) = undisturbed(&scene, id, kind).await;
        let mut resumed = Resumed::new(kind);
        resumed.gate.fail_at("/f/1/1");
        // In the last phase, or in the comparison.
        let stop = Some(Stop::Target(whole.gate.calls() - 150));
        let report = resumed.run(&scene, id, stop, Then::Pause).await.unwrap().unwrap();
        assert_eq!((report.status, report.counts.failed), (RunStatus::Paused, 1), "{kind}");
        assert!(sentences(&report.problems)[0].starts_with("not restored: /f/1/1: "));
        resumed.gate.fail_at("");
        resumed.gate.take_log();
        resumed.finish(&scene, id, &expected, kind).await;
        let log = resumed.gate.take_log();
        let is_write = |call: &&String| call.starts_with("write ");
        let writes: Vec<_> = log.iter().filter(is_write).collect();
        assert!(writes.iter().any(|call| *call == "write /f/1/1"), "{kind}: {writes:?}");
        assert!(!writes.iter().any(|call| *call == "write /f/1/4"), "{kind}: {writes:?}");
        // The time of the folder that it stands in, among others.
        let described = writes.iter().filter(|call| **call == "write /f/1").count();
        assert_eq!(described, usize::from(kind == "folder"), "{kind}: {writes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_of_an_earlier_run_are_counted() {
    let (scene, id) = backed_up().await;
    let mut resumed = Resumed::new("memory");
    resumed.gate.warn_at("/a/1/1");
    let mut get = 2;
    let report = loop {
        let stop = Some(Stop::Get(get));
        let report = resumed.run(&scene, id, stop, Then::Pause).await.unwrap().unwrap();
        if report.problem_count > 0 {
            break report;
        }
        get += 1;
    };
    assert_eq!((report.status, report.problem_count), (RunStatus::Paused, 1));
    let report = resumed.run(&scene, id, None, Then::Drop).await.unwrap().unwrap();
    assert_eq!((report.status, report.problem_count), (RunStatus::Warnings, 1));
    assert!(report.is_complete());
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_of_the_target_at_the_end_are_counted() {
    let (scene, id) = backed_up().await;
    let mut resumed = paused_in_a_large_file(&scene, id, "memory").await;
    resumed.gate.warn_at_end("cannot set the mode of /a");
    let report = resumed.run(&scene, id, None, Then::Drop).await.unwrap().unwrap();
    assert_eq!((report.status, report.problem_count), (RunStatus::Warnings, 1));
    assert_eq!(report.notes, ["cannot set the mode of /a"]);
}
