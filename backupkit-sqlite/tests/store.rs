//! The store against its contract, and what people do to its file.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backupkit_core::model::{
    BlobId, CANCEL_GRACE, IndexId, Level, LockId, PackId, RunInput, RunKind, RunOutcome, RunState,
    SnapshotId, Wanted,
};
use backupkit_core::state::{
    Actor, Catalogue as _, Checkpoints as _, Claim, Draft, Lease, Leases as _, LogFilter,
    Logs as _, NewLogLine, NewRun, RecordId, RecordKind, RecordRef, Report, RunId, Runs as _,
    Scope, SealedOutput, Slot, WorkerId,
};
use backupkit_core::testing::ManualClock;
use backupkit_core::testing::conformance::{CatalogueFixture, RunsFixture};
use backupkit_core::{Env, ErrorKind, Retry, catalogue_conformance, runs_conformance};
use backupkit_sqlite::SqliteStore;
use bytes::Bytes;
use serde_json::value::RawValue;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};

const LEASE: Duration = Duration::from_mins(1);

async fn open(folder: &Path) -> SqliteStore {
    SqliteStore::open(folder.join("state.db"), &Env::system()).await.unwrap()
}

catalogue_conformance!(catalogue, async || {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    CatalogueFixture::new(store).keeping(folder)
});

runs_conformance!(runs, async || {
    let folder = tempfile::tempdir().unwrap();
    let (clock, env) = manual();
    let store = SqliteStore::open(folder.path().join("state.db"), &env).await.unwrap();
    RunsFixture::new(store, clock).keeping(folder)
});

fn manual() -> (ManualClock, Env) {
    let clock = ManualClock::default();
    let env = Env::system().with_clock(Arc::new(clock.clone()));
    (clock, env)
}

fn draft(name: &str) -> Draft {
    let body = serde_json::value::RawValue::from_string("{}".to_owned()).unwrap();
    let secrets = BTreeMap::new();
    Draft { name: name.to_owned(), body: body.into(), secrets, needs: Vec::new() }
}

fn new_plan() -> RecordRef {
    RecordRef { kind: RecordKind::Plan, id: RecordId::random(&Env::system()).unwrap() }
}

#[tokio::test]
async fn what_was_kept_is_there_after_the_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let (scope, actor) = (Scope::default(), Actor::new("test").unwrap());
    let store = open(folder.path()).await;
    let made = store.create(&scope, &actor, new_plan(), draft("nightly")).await.unwrap();
    store.close().await;
    let again = open(folder.path()).await;
    let found = again.get(&scope, made.itself).await.unwrap().unwrap();
    assert_eq!((found.content, found.created_at), (made.content, made.created_at));
}

#[tokio::test]
async fn two_handles_on_one_file_see_each_others_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (scope, actor) = (Scope::default(), Actor::new("test").unwrap());
    let (one, other) = (open(folder.path()).await, open(folder.path()).await);
    for (number, store) in [&one, &other].iter().cycle().take(6).enumerate() {
        let name = format!("plan {number}");
        store.create(&scope, &actor, new_plan(), draft(&name)).await.unwrap();
        for reader in [&one, &other] {
            assert!(reader.find(&scope, RecordKind::Plan, &name).await.unwrap().is_some());
        }
    }
    assert_eq!(one.changes(&scope, 0, 100).await.unwrap().len(), 6);
}

#[tokio::test]
async fn nobody_else_may_read_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let (scope, actor) = (Scope::default(), Actor::new("test").unwrap());
    store.create(&scope, &actor, new_plan(), draft("nightly")).await.unwrap();
    let mut files = 0;
    for file in fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
        files += 1;
    }
    assert!(files >= 2, "the store and its log");
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let text = "not a database, but somebody's notes. ".repeat(100);
    fs::write(&path, &text).unwrap();
    let error = SqliteStore::open(&path, &Env::system()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.report());
    assert!(error.report().contains("state.db"), "{}", error.report());
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gone/state.db");
    let error = SqliteStore::open(&path, &Env::system()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.report());
}

fn new_run(title: &str) -> NewRun {
    let id = RunId::random(&Env::system()).unwrap();
    let slots = vec![Slot { resource: "nas".to_owned(), most: 1 }];
    NewRun { slots, ..NewRun::new(id, RunKind::Backup, title, json("{}")) }
}

fn json(text: &str) -> Arc<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap().into()
}

fn line(text: &str) -> NewLogLine {
    NewLogLine {
        at: Env::system().now(),
        level: Level::Warning,
        code: "entry-unreadable".to_owned(),
        text: text.to_owned(),
        body: json("{\"path\": \"a\"}"),
    }
}

fn output() -> SealedOutput {
    SealedOutput {
        repository_id: "r".to_owned(),
        snapshot: SnapshotId::of(b"snapshot"),
        sealed: Bytes::from_static(b"sealed"),
        tree: BlobId::of(b"tree"),
        lock: LockId::of(b"lock"),
        index_files: vec![IndexId::of(b"1"), IndexId::of(b"2")],
        problems: 3,
    }
}

/// A run that is claimed, with something of all that is kept of it.
async fn claimed(store: &SqliteStore) -> Lease {
    let (scope, actor) = (Scope::default(), Actor::new("test").unwrap());
    let run = store.create_run(&scope, &actor, new_run("nightly")).await.unwrap();
    let claim = Claim::new(WorkerId::new("one").unwrap(), LEASE).only(run.new.id);
    let lease = store.claim(&claim).await.unwrap().unwrap();
    let held = &lease.lease;
    store.save_checkpoint(held, 0, Bytes::from_static(b"checkpoint"), 1).await.unwrap();
    store.record_packs(held, 0, "r", &[PackId::of(b"pack")]).await.unwrap();
    store.record_outputs(held, 0, &[output()]).await.unwrap();
    store.append_logs(held, &[line("one"), line("two")]).await.unwrap();
    lease
}

#[tokio::test]
async fn a_run_is_there_after_the_file_is_opened_again_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let held = claimed(&store).await.lease;
    let before = store.run(&Scope::default(), held.run()).await.unwrap();
    store.close().await;
    let again = open(folder.path()).await;
    let found = again.run(&Scope::default(), held.run()).await.unwrap();
    assert_eq!(format!("{found:?}"), format!("{before:?}"));
    // The machine runs on, so the lease does.
    assert_eq!(again.sweep(&[], 9).await.unwrap(), 0);
    let checkpoint = again.load_checkpoint(&held, 0).await.unwrap();
    assert_eq!(checkpoint.as_deref(), Some(&b"checkpoint"[..]));
    assert_eq!(again.recorded_packs(&held, 0, "r").await.unwrap(), [PackId::of(b"pack")]);
    assert_eq!(again.recorded_outputs(&held, 0).await.unwrap(), [output()]);
    let lines =
        again.logs(&Scope::default(), held.run(), &LogFilter::default(), 0, 9).await.unwrap();
    let texts: Vec<_> = lines.iter().map(|line| (line.number, &line.line.text[..])).collect();
    assert_eq!(texts, [(1, "one"), (2, "two")]);
}

#[tokio::test]
async fn a_lease_is_over_after_the_machine_was_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, env) = manual();
    let path = folder.path().join("state.db");
    let store = SqliteStore::open(&path, &env).await.unwrap();
    let held = claimed(&store).await.lease;
    store.close().await;
    clock.reboot();
    let again = SqliteStore::open(&path, &env).await.unwrap();
    assert_eq!(again.sweep(&[], 9).await.unwrap(), 1);
    let error = again.renewal(&held).await.unwrap_err();
    assert_eq!(error.code(), "lease-lost");
    let run = again.run(&Scope::default(), held.run()).await.unwrap().unwrap();
    assert_eq!((run.state, run.worker), (RunState::Queued, None));
}

#[tokio::test]
async fn the_version_tells_of_changes_by_any_handle() {
    let folder = tempfile::tempdir().unwrap();
    let (scope, actor) = (Scope::default(), Actor::new("test").unwrap());
    let handles = [open(folder.path()).await, open(folder.path()).await];
    let version = async |handle: usize| handles[handle].version().await.unwrap();
    for writer in [0, 1, 1, 0] {
        let before = [version(0).await, version(1).await];
        assert_eq!(before, [version(0).await, version(1).await]);
        handles[writer].create_run(&scope, &actor, new_run("run")).await.unwrap();
        for (handle, before) in before.into_iter().enumerate() {
            assert_ne!(version(handle).await, before, "{writer} wrote, {handle} is asked");
        }
    }
    let claim = Claim::new(WorkerId::new("one").unwrap(), LEASE);
    let held = handles[0].claim(&claim).await.unwrap().unwrap().lease;
    let before = version(1).await;
    handles[1].ask(&scope, &actor, held.run(), Wanted::Pause).await.unwrap();
    assert_eq!(handles[0].renewal(&held).await.unwrap().wanted, Wanted::Pause);
    assert_ne!(version(1).await, before);
}

/// The rows of all tables that belong to runs, besides runs and their numbers.
async fn rows(path: &Path) -> Vec<(String, i64)> {
    let pool = sqlx::SqlitePool::connect(path.to_str().unwrap()).await.unwrap();
    let rows = sqlx::query_as(
        "SELECT 'held_slots', COUNT(*) FROM held_slots UNION ALL \
         SELECT 'checkpoints', COUNT(*) FROM checkpoints UNION ALL \
         SELECT 'noted_packs', COUNT(*) FROM noted_packs UNION ALL \
         SELECT 'sealed_outputs', COUNT(*) FROM sealed_outputs UNION ALL \
         SELECT 'log_lines', COUNT(*) FROM log_lines",
    );
    let rows = rows.fetch_all(&pool).await.unwrap();
    pool.close().await;
    rows
}

#[tokio::test]
async fn what_only_a_run_needs_is_gone_once_it_ended_and_its_log_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, env) = manual();
    let path = folder.path().join("state.db");
    let store = SqliteStore::open(&path, &env).await.unwrap();
    let count = async || rows(&path).await.into_iter().map(|(_, rows)| rows).collect::<Vec<_>>();
    let failed = RunInput::Failed { kind: ErrorKind::Corrupt, retry: Retry::Never };
    let finished = RunInput::Finished(RunOutcome::Succeeded);
    for inputs in [&[failed][..], &[RunInput::CommitRecorded, finished]] {
        let held = claimed(&store).await.lease;
        assert_eq!(count().await, [1, 1, 1, 1, 2]);
        for input in inputs {
            store.report(&held, *input, Report::default()).await.unwrap();
        }
        assert_eq!(count().await, [0, 0, 0, 0, 2]);
        clock.advance(LEASE);
        let removed = store.remove_ended(&Scope::default(), env.now(), 9).await.unwrap();
        assert_eq!(removed, [held.run()]);
        assert_eq!(count().await, [0; 5]);
    }
    // Cancelled by time, too.
    let held = claimed(&store).await.lease;
    let actor = Actor::new("test").unwrap();
    store.ask(&Scope::default(), &actor, held.run(), Wanted::Cancel).await.unwrap();
    clock.advance(CANCEL_GRACE);
    assert_eq!(store.sweep(&[], 9).await.unwrap(), 1);
    assert_eq!(count().await, [0, 0, 0, 0, 2]);
}

#[tokio::test]
async fn a_damaged_run_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let (scope, actor) = (Scope::default(), Actor::new("test").unwrap());
    let mut ids = Vec::new();
    for title in ["damaged", "whole"] {
        let id = RunId::random(&Env::system()).unwrap();
        let settings = RawValue::from_string("{}".to_owned()).unwrap();
        let run = NewRun::new(id, RunKind::Backup, title, settings.into());
        store.create_run(&scope, &actor, run).await.unwrap();
        ids.push(id);
    }
    let options = SqliteConnectOptions::new().filename(folder.path().join("state.db"));
    let mut database = SqliteConnection::connect_with(&options).await.unwrap();
    let damage = sqlx::query("UPDATE runs SET kind = 'nonsense' WHERE id = ?");
    damage.bind(ids[0].to_string()).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
    let claim = Claim::new(WorkerId::new("one").unwrap(), LEASE);
    let lease = store.claim(&claim).await.unwrap().expect("the other run");
    assert_eq!(lease.run.new.id, ids[1]);
    // Nothing else is left to be claimed, and that is said.
    let error = store.claim(&claim).await.unwrap_err();
    assert!(error.is(ErrorKind::Corrupt), "{}", error.report());
}
