//! Maintenance from outside: what goes, what stays, and when it is due.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod faulty;
mod world;

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use backupkit::ErrorKind;
use backupkit::destination::ObjectKey;
use backupkit::model::{MaintenanceSettings, MaintenanceStep, MaintenanceWork, RunState, Wanted};
use backupkit::repo::Repository;
use backupkit::state::{RunId, WorkerId};
use backupkit::testing::{Fault, Operation, PausePoint};

use crate::world::{DAY, World, checkpoints, start};

/// How much of what was found.
fn counts(steps: &[MaintenanceStep]) -> Vec<(MaintenanceWork, u64)> {
    steps.iter().map(|step| (step.work, step.count)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn old_logs_and_runs_go_and_what_is_young_or_has_not_ended_stays() {
    let world = World::new().await;
    let (old, queued) = (world.queued_run().await, world.queued_run().await);
    world.end(old, 3).await;
    world.after(89 * DAY);
    let young = world.queued_run().await;
    world.end(young, 2).await;
    assert_eq!(world.tidy().await, []);
    world.after(91 * DAY);
    // A dry run removes nothing.
    world.run_maintenance(true).await;
    assert_eq!(world.lines(old).await, 3);
    assert_eq!(counts(&world.tidy().await), [(MaintenanceWork::Logs, 3)]);
    assert_eq!((world.lines(old).await, world.lines(young).await), (0, 2));
    world.after(364 * DAY);
    world.tidy().await;
    assert!(world.is_known(old).await);
    world.after(366 * DAY);
    let known = world.runs().await;
    world.run_maintenance(true).await;
    assert!(world.is_known(old).await);
    assert_eq!(counts(&world.tidy().await), [(MaintenanceWork::Runs, 1)]);
    assert!(!world.is_known(old).await);
    for id in known.into_iter().filter(|id| *id != old) {
        assert!(world.is_known(id).await);
    }
    assert!(world.is_known(queued).await && world.is_known(young).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_writers_that_died_go_after_a_day() {
    let world = World::new().await;
    world.add_repository("repo").await;
    let name = "0123456789abcdef".repeat(2);
    let left = [
        format!("scratch/{name}.tmp"),
        format!("cache/{name}{name}.index-00ff.tmp"),
        "disk/repo/config-tmp-0011223344556677".to_owned(),
        "disk/repo/data/00/11-tmp-0011223344556677".to_owned(),
    ];
    let foreign = ["scratch/notes.tmp", "cache/README", "disk/repo/other-tmp-0011223344556677"];
    let hours = |n| Duration::from_hours(n);
    let young = world.write("disk/repo/data/00/22-tmp-0011223344556677", hours(23));
    let left = left.each_ref().map(|name| world.write(name, hours(25)));
    let foreign = foreign.map(|name| world.write(name, 1000 * DAY));
    world.run_maintenance(true).await;
    assert!(left.iter().all(|path| path.exists()));
    let steps = world.tidy().await;
    assert_eq!(counts(&steps), [1, 1, 2].map(|count| (MaintenanceWork::TemporaryFiles, count)));
    assert_eq!(steps[2].bytes, Some(8));
    assert_eq!(steps[2].place.as_deref(), Some("repository `repo`"));
    assert!(!left.iter().any(|path| path.exists()));
    assert!(young.exists() && foreign.iter().all(|path| path.exists()));
    assert_eq!(world.tidy().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_indexes_go_a_month_after_their_last_use() {
    let world = World::new().await;
    let repository = world.add_repository("repo").await;
    let back_up = async || {
        let (handle, point) = start(&world.engine, &repository, Vec::new());
        point.release();
        handle.wait().await.unwrap();
    };
    // The first has nothing to copy, the second copies it.
    back_up().await;
    back_up().await;
    let unused = world.write(&format!("cache/{}.index", "0".repeat(64)), 31 * DAY);
    let young = world.write(&format!("cache/{}.index", "1".repeat(64)), 29 * DAY);
    let copies = std::fs::read_dir(world.path("cache")).unwrap();
    let copies = copies.map(|entry| entry.unwrap().path());
    let used: Vec<_> = copies.filter(|path| *path != unused && *path != young).collect();
    assert_eq!(used.len(), 1, "{used:?}");
    let name = used[0].file_name().unwrap().to_str().unwrap();
    world.make_older(&format!("cache/{name}"), 40 * DAY);
    let written = used[0].metadata().unwrap().ino();
    back_up().await;
    assert_eq!(used[0].metadata().unwrap().ino(), written, "it was written anew, not used");
    assert_eq!(counts(&world.tidy().await), [(MaintenanceWork::Caches, 1)]);
    assert!(!unused.exists() && young.exists() && used[0].exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_that_nobody_goes_on_from_go_after_a_week() {
    let world = World::new().await;
    let (ended, active, late) =
        (world.queued_run().await, world.queued_run().await, world.queued_run().await);
    let unknown = RunId::random(&backupkit::Env::system()).unwrap();
    let mut repositories = Vec::new();
    for (name, run) in [
        ("active", Some(active)),
        ("ended", Some(ended)),
        ("late", Some(late)),
        ("nobody", None),
        ("unknown", Some(unknown)),
    ] {
        let repository = world.add_repository(name).await;
        let tags = run.map(|run| format!("run={run}")).into_iter().collect();
        world.leave_checkpoint(&repository, tags).await;
        repositories.push(repository);
    }
    let left = async || {
        let mut left = Vec::new();
        for repository in &repositories {
            assert_eq!(
                repository.snapshots().await.unwrap().len(),
                1 + checkpoints(repository).await
            );
            left.push(checkpoints(repository).await);
        }
        left
    };
    world.end(ended, 0).await;
    world.after(6 * DAY);
    world.end(late, 0).await;
    assert_eq!(world.tidy().await, []);
    world.after(8 * DAY);
    world.run_maintenance(true).await;
    assert_eq!(left().await, [1, 1, 1, 1, 1]);
    let places = ["repository `ended`", "repository `nobody`", "repository `unknown`"];
    let steps = world.tidy().await;
    assert_eq!(steps.iter().filter_map(|step| step.place.as_deref()).collect::<Vec<_>>(), places);
    assert!(counts(&steps).iter().all(|count| *count == (MaintenanceWork::Checkpoints, 1)));
    assert_eq!(left().await, [1, 0, 1, 0, 0]);
    world.after(14 * DAY);
    world.tidy().await;
    assert_eq!(left().await, [1, 0, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_of_dead_processes_go_after_a_week_and_others_never() {
    let world = World::new().await;
    let repository = world.add_repository("repo").await;
    let (dead, alive) = (world.process(), world.process());
    let (crashing, point) = start(&dead, &repository, Vec::new());
    point.reached().await;
    let (working, working_point) = start(&alive, &repository, Vec::new());
    working_point.reached().await;
    drop(crashing);
    dead.instance().crash();
    let locks = async || repository.locks(world.engine.instance()).await.unwrap().len();
    world.after(6 * DAY);
    assert_eq!(world.tidy().await, []);
    assert_eq!(locks().await, 2);
    world.after(8 * DAY);
    world.run_maintenance(true).await;
    assert_eq!(locks().await, 2);
    assert_eq!(counts(&world.tidy().await), [(MaintenanceWork::Locks, 1)]);
    assert_eq!(locks().await, 1);
    world.after(Duration::ZERO);
    working_point.release();
    working.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_out_of_reach_is_a_warning_and_the_others_are_tidied() {
    let world = World::new().await;
    for name in ["away", "here"] {
        world.add_repository(name).await;
        world.write(&format!("disk/{name}/data/11-tmp-0011223344556677"), 2 * DAY);
    }
    std::fs::rename(world.path("disk/away"), world.path("elsewhere")).unwrap();
    let (run, record) = world.run_maintenance(false).await;
    assert_eq!((run.state, record.problem_count), (RunState::Warnings, 1), "{run:#?}");
    assert_eq!(counts(&record.steps), [(MaintenanceWork::TemporaryFiles, 1)]);
    assert_eq!(record.steps[0].place.as_deref(), Some("repository `here`"));
    let filter = backupkit::state::LogFilter::default();
    let log = world.workspace.logs(run.new.id, &filter, 0, 100).await.unwrap();
    assert!(log.iter().any(|line| line.line.text.contains("`away`")), "{log:#?}");
    assert!(log.iter().any(|line| line.line.code == "tidied"), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_is_due_a_day_after_the_last_one_whoever_asks() {
    let world = World::new().await;
    let due = async || world.workspace.order_due_maintenance().await.unwrap().map(|run| run.new.id);
    world.after(10 * DAY);
    // There is nothing to tidy up yet.
    assert_eq!(due().await, None);
    world.queued_run().await;
    world.after(10 * DAY + DAY / 2);
    assert_eq!(due().await, None);
    world.after(11 * DAY + DAY / 2);
    // A dry run does not count.
    world.run_maintenance(true).await;
    let (first, same) = tokio::join!(due(), due());
    let first = first.or(same).expect("one is due");
    assert!(same.is_none_or(|same| same == first));
    assert_eq!(due().await, None);
    assert_eq!(world.execute(first).await.state, RunState::Succeeded);
    assert_eq!(due().await, None);
    world.after(13 * DAY);
    let off = |settings: &mut MaintenanceSettings| settings.automatic = false;
    world.workspace.change_maintenance_settings(off).await.unwrap();
    assert_eq!(due().await, None);
    let on = |settings: &mut MaintenanceSettings| settings.automatic = true;
    world.workspace.change_maintenance_settings(on).await.unwrap();
    assert!(due().await.is_some_and(|second| second != first));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_repeated_is_the_same_run_and_keeps_its_settings() {
    let world = World::new().await;
    let workspace = &world.workspace;
    let ordered = workspace.order_maintenance(true).await.unwrap();
    assert_eq!(workspace.order_maintenance(true).await.unwrap().new.id, ordered.new.id);
    // Who asked for a dry run gets no other.
    assert_eq!(workspace.order_maintenance(false).await.unwrap_err().code(), "run-active");
    assert_eq!(world.execute(ordered.new.id).await.state, RunState::Succeeded);
    let old = world.queued_run().await;
    world.end(old, 1).await;
    world.after(3 * DAY);
    let ordered = workspace.order_maintenance(false).await.unwrap();
    let settings = workspace.change_maintenance_settings(|settings| settings.logs_days = 2);
    assert_eq!(settings.await.unwrap().logs_days, 2);
    world.execute(ordered.new.id).await;
    assert_eq!(world.lines(old).await, 1);
    world.run_maintenance(false).await;
    assert_eq!(world.lines(old).await, 0);
    let refused = workspace.change_maintenance_settings(|settings| settings.runs_days = 0).await;
    assert!(refused.unwrap_err().is(ErrorKind::InvalidInput));
    assert_eq!(workspace.maintenance_settings().await.unwrap().logs_days, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_that_is_cancelled_before_it_begins_removes_nothing() {
    let world = World::new().await;
    world.add_repository("repo").await;
    let left = world.write("disk/repo/data/11-tmp-0011223344556677", 2 * DAY);
    let ordered = world.workspace.order_maintenance(false).await.unwrap().new.id;
    world.workspace.ask(ordered, Wanted::Cancel).await.unwrap();
    assert_eq!(world.execute(ordered).await.state, RunState::Cancelled);
    assert!(left.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_cannot_be_removed_is_a_warning() {
    let world = World::new().await;
    let repository = world.add_repository("repo").await;
    world.leave_checkpoint(&repository, Vec::new()).await;
    world.after(8 * DAY);
    let refused = Fault::fail(ErrorKind::PermissionDenied).on(Operation::Delete);
    world.faults.add(refused.with_prefix("snapshots"));
    let (run, record) = world.run_maintenance(false).await;
    assert_eq!((run.state, record.problem_count), (RunState::Warnings, 1), "{run:#?}");
    assert_eq!(checkpoints(&repository).await, 1);
    assert!(repository.locks(world.engine.instance()).await.unwrap().is_empty());
    world.tidy().await;
    assert_eq!(checkpoints(&repository).await, 0);
}

/// A repository with an old checkpoint, maintenance of it, and the point where that stops before it removes
/// anything.
async fn stopping(world: &World) -> (Repository, RunId, PausePoint) {
    let repository = world.add_repository("repo").await;
    world.leave_checkpoint(&repository, Vec::new()).await;
    world.after(8 * DAY);
    let ordered = world.workspace.order_maintenance(false).await.unwrap().new.id;
    let point = PausePoint::new();
    world.faults.add(Fault::pause(&point).on(Operation::List).with_prefix("snapshots"));
    (repository, ordered, point)
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_whose_run_was_taken_over_removes_nothing_more() {
    let world = World::new().await;
    let (repository, ordered, point) = stopping(&world).await;
    let take_over = async {
        point.reached().await;
        let dead = WorkerId::new(world.engine.instance().id()).unwrap();
        assert_eq!(world.store.sweep(&[dead], 10).await.unwrap(), 1);
    };
    let (lost, ()) = tokio::join!(world.try_execute(ordered), take_over);
    assert_eq!(lost.unwrap_err().code(), "lease-lost");
    point.release();
    assert_eq!(checkpoints(&repository).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_that_hangs_can_be_cancelled_and_leaves_no_lock() {
    let world = World::new().await;
    let (repository, ordered, point) = stopping(&world).await;
    let cancel = async {
        point.reached().await;
        world.workspace.ask(ordered, Wanted::Cancel).await.unwrap();
    };
    let (ended, ()) = tokio::join!(world.execute(ordered), cancel);
    assert_eq!(ended.state, RunState::Cancelled);
    assert_eq!(checkpoints(&repository).await, 1);
    assert!(repository.locks(world.engine.instance()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_holds_a_lease_and_gives_it_up() {
    let (world, leases) = World::with_leases().await;
    let repository = world.add_repository("repo").await;
    for n in 1..4 {
        world.leave_checkpoint(&repository, Vec::new()).await;
        world.after(n * 8 * DAY);
        world.tidy().await;
        assert_eq!(checkpoints(&repository).await, 0);
    }
    assert_eq!(leases.objects().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_whose_lease_was_taken_over_removes_nothing_more() {
    let (world, leases) = World::with_leases().await;
    let (repository, ordered, point) = stopping(&world).await;
    let lease = ObjectKey::new("backupkit/lease").unwrap();
    let take_over = async {
        point.reached().await;
        leases.put_raw(&lease, "of another program").expect("it was held");
        point.release();
    };
    let (ended, ()) = tokio::join!(world.execute(ordered), take_over);
    assert_eq!(ended.state, RunState::Warnings, "{ended:#?}");
    assert_eq!(checkpoints(&repository).await, 1);
    assert_eq!(leases.objects()[&lease], "of another program");
    assert!(repository.locks(world.engine.instance()).await.unwrap().is_empty());
}
