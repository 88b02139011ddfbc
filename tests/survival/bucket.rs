//! A large object of a bucket, on a server in this process that sees what is read of it.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use backupkit::adapters::s3::S3Kind;
use backupkit::manage::{ConnectionBody, NewRepository};
use backupkit::model::{RunState, Wanted};
use backupkit::repo::KeyOwner;
use backupkit::source::SourceCapabilities;
use backupkit::state::Run;
use backupkit::testing::fakes::S3Server;
use backupkit::testing::random_bytes;
use secrecy::SecretString;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use crate::coverage::{Coverage, Read};
use crate::judge::{CHUNK_BYTES, kept};
use crate::pauses::RANGES_ON_THEIR_WAY;
use crate::source::WatchedKind;
use crate::support::process::Running;
use crate::support::restic::Restic;
use crate::world::{CHECKPOINT_BYTES, Desk, PASSWORD, PATIENCE, PLAN, worker, write_key};

const MIB: u64 = 1 << 20;
const OBJECT_BYTES: u64 = 2 << 30;
const INTERVAL_BYTES: u64 = 64 * MIB;
/// What is on its way into packs when a checkpoint is due: it holds what is stored.
const LAG_BYTES: u64 = 128 * MIB;
const POLL: Duration = Duration::from_millis(5);

/// A bucket, where it is backed up to, and the worker processes so far.
struct Place {
    server: S3Server,
    folder: tempfile::TempDir,
    desk: Desk,
    attempts: u32,
    coverage: Coverage,
    /// What the next worker may read again.
    allowed_bytes: u64,
}

impl Place {
    /// With one object of so many bytes. The repository lies in a folder, or in another bucket.
    async fn new(object_bytes: u64, is_in_bucket: bool) -> Self {
        let server = S3Server::start("bucket");
        server.make_bucket("repository");
        server.take_everybody();
        server.put("bucket", "large", random_bytes(1, object_bytes.try_into().unwrap()));
        let folder = tempfile::tempdir().unwrap();
        write_key(folder.path());
        let desk = Desk::of_a_person(folder.path()).await;
        let in_bucket = |name: &str| {
            let endpoint = server.endpoint();
            let fields = json!({ "bucket": name, "endpoint": endpoint, "auth": "anonymous" });
            ConnectionBody::new(S3Kind::NAME, settings(&fields))
        };
        let in_folder = ConnectionBody::new(
            WatchedKind::NAME,
            settings(&json!(folder.path().join("repo").to_str().unwrap())),
        );
        let place = if is_in_bucket { in_bucket("repository") } else { in_folder };
        for (name, body) in [("source", &in_bucket("bucket")), ("disk", &place)] {
            desk.workspace.add_connection(name, body).await.unwrap();
        }
        let repository = NewRepository {
            name: "repository",
            connection: "disk",
            path: "",
            password: Some(SecretString::from(PASSWORD)),
            owner: KeyOwner::default(),
        };
        desk.workspace.add_repository(repository).await.unwrap();
        let to = ["repository".to_owned()];
        desk.workspace.add_plan(PLAN, &["source".to_owned()], &to, Vec::new()).await.unwrap();
        Self { server, folder, desk, attempts: 0, coverage: Coverage::default(), allowed_bytes: 0 }
    }

    fn start(&mut self) -> Running {
        let mut command = worker(self.folder.path(), self.attempts);
        self.attempts += 1;
        Running::start(command.env(CHECKPOINT_BYTES, INTERVAL_BYTES.to_string()))
    }

    /// Lets a worker run until so many bytes of the object were sent, by all workers.
    fn let_read(&mut self, worker: &Running, bytes: u64) {
        while self.server.counters().sent_bytes < bytes {
            assert!(!worker.has_ended(), "it ended before {bytes} bytes were sent");
            worker.let_run(POLL);
        }
    }

    /// Counts what was sent since the last time, of which no more than is allowed may have been sent before.
    fn judge_reads(&mut self, why: &str) {
        let mut again = 0;
        for read in self.server.take_reads() {
            assert_eq!(read.key, "large");
            let (start, end) = (read.bytes.start, read.bytes.end);
            // What is asked for with the headers.
            if end == 1 {
                continue;
            }
            again += self.coverage.add(&Read { entry: 0, start, end, at_nanos: 0 });
        }
        let allowed = self.allowed_bytes;
        eprintln!("{why}: {} MiB read again, allowed {}", again / MIB, allowed / MIB);
        assert!(again <= allowed, "{why}: {again} bytes were read again, allowed {allowed}");
    }

    async fn at_rest(&self, run: &Run) -> Run {
        loop {
            let run = self.desk.workspace.run(run.new.id).await.unwrap();
            if run.state == RunState::Paused || run.state.is_terminal() {
                return run;
            }
            self.desk.engine.env().clock().sleep(POLL).await;
        }
    }
}

fn settings(value: &serde_json::Value) -> Arc<RawValue> {
    to_raw_value(value).unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_2_gib_is_hardly_read_again_after_kills_and_pauses() {
    let mut place = Place::new(OBJECT_BYTES, false).await;
    let repository = place.folder.path().join("repo");
    let Some(restic) = Restic::find(&place.folder.path().join("restic"), &repository, PASSWORD)
    else {
        return;
    };
    let run = place.desk.workspace.order_backup(PLAN).await.unwrap();
    let on_their_way = RANGES_ON_THEIR_WAY * SourceCapabilities::new(1).range_bytes;
    let (mut worker, mut lags_bytes) = (Some(place.start()), Vec::new());
    for (number, is_killed) in (1..).zip([true, false, true, false]) {
        let sent = number * (OBJECT_BYTES / 5) + 7 * MIB;
        let what = if is_killed { "a kill" } else { "a pause" };
        let why = format!("{what} at {} MiB", sent / MIB);
        place.let_read(worker.as_ref().unwrap(), sent);
        if is_killed {
            let mut killed = worker.take().unwrap();
            killed.kill();
            assert_eq!(killed.finish(PATIENCE).signal(), Some(9), "{why}");
        } else {
            place.desk.workspace.ask(run.new.id, Wanted::Pause).await.unwrap();
            assert_eq!(place.at_rest(&run).await.state, RunState::Paused, "{why}");
        }
        place.judge_reads(&format!("before {why}"));
        let kept = kept(place.folder.path(), 1, &why).await;
        let lag = place.coverage.bytes() - kept.covered_bytes;
        eprintln!("{why}: {} MiB in no checkpoint", lag / MIB);
        if is_killed {
            lags_bytes.push(lag);
            place.allowed_bytes = lag + CHUNK_BYTES;
            worker = Some(place.start());
        } else {
            place.allowed_bytes = CHUNK_BYTES + on_their_way;
            place.desk.workspace.ask(run.new.id, Wanted::Run).await.unwrap();
        }
    }
    // How long the disk takes is not in our hands.
    let least = lags_bytes.into_iter().min().unwrap();
    assert!(least <= 2 * INTERVAL_BYTES + LAG_BYTES, "checkpoints come too late: {least} bytes");
    worker.unwrap().finish(PATIENCE).expect_success();
    place.judge_reads("at the end");
    assert_eq!(place.coverage.bytes(), OBJECT_BYTES);
    let run = place.desk.workspace.run(run.new.id).await.unwrap();
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.cause);
    assert_eq!(restic.snapshots_json().len(), 1);
    restic.check_read_data();
    assert!(restic.list("locks").is_empty(), "a lock stayed");
    let restored = place.folder.path().join("restored");
    restic.restore("latest", &restored);
    let file = fs::read(restored.join("bucket/large")).unwrap();
    assert!(file == place.server.object("bucket", "large").unwrap().bytes, "other bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_between_buckets_that_is_cancelled_leaves_nothing_that_locks() {
    let mut place = Place::new(200 * MIB, true).await;
    for cancelled_at in [MIB, 60 * MIB, 150 * MIB] {
        place.server.reset_counters();
        let run = place.desk.workspace.order_backup(PLAN).await.unwrap();
        let worker = place.start();
        place.let_read(&worker, cancelled_at);
        place.desk.workspace.ask(run.new.id, Wanted::Cancel).await.unwrap();
        assert_eq!(place.at_rest(&run).await.state, RunState::Cancelled);
        worker.finish(PATIENCE).expect_success();
        assert_eq!(place.server.open_uploads("repository"), 0);
        let keys = place.server.keys("repository");
        let is_left = |key: &&String| {
            ["locks/", "snapshots/", "backupkit/lease"].iter().any(|one| key.starts_with(one))
        };
        let left: Vec<&String> = keys.iter().filter(is_left).collect();
        assert!(left.is_empty(), "cancelled at {} MiB: {left:?}", cancelled_at / MIB);
    }
    place.desk.workspace.order_backup(PLAN).await.unwrap();
    place.start().finish(PATIENCE).expect_success();
    assert_eq!(place.desk.latest().await.state, RunState::Succeeded);
}
